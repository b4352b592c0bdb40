"""What a stage's training starts from: another model, or fresh weights.

Its vocabulary is made to fit the tokenizer, and adapters are added where they alone are
to be trained. A stage that asks for all of it at once has a config with the fields
name, tokenizer, init, init_stage, model, adapter_rank, dtype, seed and prompts.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppg_jax import run_dir
from ppg_jax.data import corpus, tokenization
from ppg_jax.data.dialogue import Dialogue
from ppg_jax.errors import UserError
from ppg_jax.models import adapters, config_json, pretrained
from ppg_jax.models.decoder import Decoder
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.models.llama import LlamaConfig
from ppg_jax.models.quantize import table_of
from ppg_jax.training.train_state import params_sha256


def require_one_start(config) -> None:
    """Raises ValueError unless the config says what training starts from, once."""
    if not (config.tokenizer or config.init):
        raise ValueError(
            'tokenizer="" takes that of init, and init is empty, too; give '
            '"bpe:8192", a folder, or what the stage in init_stage was given.'
        )
    tokenization.require_fitting(config.tokenizer, config.init)
    if config.init and config.init_stage:
        raise ValueError("init and init_stage are both given; leave one empty.")
    if config.adapter_rank and not (config.init or config.init_stage):
        raise ValueError(
            f"adapter_rank={config.adapter_rank} adapts what training starts from; "
            "give init or init_stage."
        )


def begin(config, workdir: Path) -> tuple[dict, Any, list, dict[str, str]]:
    """(splits, tokenizer, [`start_of`], sums of them all) of a stage of generators.

    In a list, so that training can pop it and nobody keeps the first weights.
    """
    splits = corpus.load_splits(config.data)
    tokenizer = run_tokenizer(config, workdir, splits["train"])
    start = start_of(config, workdir)
    read = corpus.sums_of(splits, "train", "valid")
    read["tokenizer"] = tokenization.sha256(tokenizer)
    if config.init_stage:
        require_one_tokenizer(workdir, config.init_stage, read["tokenizer"])
    read |= sums_of(start[1]) if start else {}
    return splits, tokenizer, [start], read


def run_tokenizer(config, workdir: Path, train: Sequence[Dialogue]):
    """The tokenizer that all generators of a run directory share."""
    return tokenization.of_run(
        config.tokenizer or config.init,
        Path(workdir) / "tokenizer",
        train,
        config.prompts.special_tokens,
        pretrained.load_tokenizer,
        config.init,
    )


def tokenizer_of(workdir: Path, stage: str) -> str | None:
    """The SHA-256 of a stage's tokenizer; None where it does not say, as older ones."""
    folder = Path(workdir) / stage
    known = (folder / run_dir.FINGERPRINT).exists()
    made = run_dir.settings_of(folder) if known else {}
    return made.get("sha256 of the tokenizer")


def require_one_tokenizer(workdir: Path, stage: str, other: str | None) -> None:
    """Raises UserError where a stage has another tokenizer than what reads it.

    other: its SHA-256; None is not known.
    """
    if other and tokenizer_of(workdir, stage) not in (None, other):
        raise UserError(
            f"{Path(workdir) / stage} was trained with another tokenizer than what "
            "would read it; delete that folder and train the stage again."
        )


def start_of(config, workdir: Path):
    """(model, params) that training starts from; None to start from scratch."""
    source = source_of(workdir, config.init, config.init_stage)
    return load(source, config.name) if source else None


def sums_of(params: dict) -> dict[str, str]:
    """The weights that training starts from, as inputs of a stage (`run_dir.claim`)."""
    learned, base = adapters.split(params)
    read = {"initial weights": params_sha256(learned)}
    return read | ({"base weights": params_sha256(base)} if base else {})


def initial(config, tokenizer, start):
    """(model, params) of the first update: `start`, or fresh from the seed."""
    fresh = Fresh(config.model, config.dtype, config.seed)
    rank, size = config.adapter_rank, tokenization.size_of(tokenizer)
    model, params = with_vocabulary(start, fresh, size, rank)
    longest = config.prompts.max_length
    if longest > model.config.n_positions:
        raise UserError(
            f"prompts.max_length={longest} is more than the {model.config.n_positions} "
            f"positions of the model of {config.name}; lower it or raise n_positions."
        )
    return model, adapted(params, rank, config.seed, config.name)


class Fresh(NamedTuple):
    """How a model from scratch is made; of another one, only the type is asked."""

    config: GPT2Config | LlamaConfig
    dtype: str  # that it computes in
    seed: int


def source_of(workdir: Path, init: str, init_stage: str) -> str:
    """The folder or the name that training starts from, "" to start from scratch.

    UserError for a stage that has not finished.
    """
    if not init_stage:
        return init
    return str(run_dir.finished_stage(workdir, init_stage) / run_dir.MODEL)


def base_of(source: str, rank: int) -> str:
    """What adapters of that rank, trained from there, name as their base; "" of rank 0,
    which makes a whole model."""
    return (pretrained.base_of(source) or source) if rank else ""


def load(source: str, name: str) -> tuple:
    """(model, params) of `pretrained.load`, for the stage of that name."""
    model, params, _ = pretrained.load(source)
    if not isinstance(model, Decoder):
        raise UserError(
            f"{source} is no language model, but an encoder or a classifier; {name} "
            "starts from a GPT-2 or a Llama that speaks."
        )
    return model, params


def with_vocabulary(
    start: tuple | None, fresh: Fresh, size: int, rank: int = 0
) -> tuple:
    """(model, params): `start` with a row for each of `size` tokens at least, or a
    fresh model of `size` tokens.

    rank: of adapters; UserError if it is to have these and more rows, too.
    """
    if start is None:
        config = dataclasses.replace(fresh.config, vocab_size=size)
        model = config_json.module_of(config, fresh.dtype)
        return model, initial_params(model, fresh.seed)
    model, params = start
    size = max(size, model.config.vocab_size)
    if size > model.config.vocab_size:
        if rank:
            raise UserError(
                f"the tokenizer has {size} tokens, the model {model.config.vocab_size}"
                ", and adapters add none; give prompts.style=text, or adapter_rank=0."
            )
        params = resize_vocabulary(params, size)
    config = dataclasses.replace(model.config, vocab_size=size)
    return config_json.module_of(config, fresh.dtype), params


def resize_vocabulary(params: dict, size: int) -> dict:
    """Appends rows to the token embedding, each the mean of the trained ones.

    For special tokens added to a pretrained model: a mean row starts as an average
    token instead of an unlikely one. Returns the params tree; the input is unchanged.
    """
    name = table_of(params)
    rows = {name: {"embedding": _with_means(params[name]["embedding"], size)}}
    if "lm_head" in params:
        rows["lm_head"] = {"kernel": _with_means(params["lm_head"]["kernel"].T, size).T}
    return params | rows


def _with_means(table: jax.Array, size: int) -> jax.Array:
    extra = jnp.tile(table.mean(axis=0, keepdims=True), (size - table.shape[0], 1))
    return jnp.concatenate([table, extra])


def adapted(params: dict, rank: int, seed: int, name: str) -> dict:
    """The parameters with adapters of that rank, drawn from the seed unless they have
    some; of rank 0 without any, those that they have merged into them.

    name: of the stage. Raises UserError for adapters of another rank.
    """
    if not rank:
        return adapters.merge(params)
    if not adapters.has(params):
        return adapters.add(params, rank, seed)
    if adapters.rank(params) != rank:
        raise UserError(
            f"{name}: adapter_rank={rank}, but what it starts from has adapters of "
            f"rank {adapters.rank(params)}; give that rank."
        )
    return params


def initial_params(model, seed: int) -> dict:
    """float32 parameters of a model of tokens, as `drawn`."""
    # A GPU's attention, which bfloat16 would ask for, is not one of the CPU.
    tokens = jnp.zeros((1, 8), jnp.int32)
    return drawn(model.clone(dtype=jnp.float32).init, seed, tokens)


def drawn(init: Callable, seed: int, *example) -> dict:
    """The parameters that a module's `init` gives, on the device that computes.

    They are drawn on the CPU where JAX has one: the same ones wherever training runs,
    and sooner, for a program of many small draws takes long to compile for a GPU.
    """
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        device = None
    with jax.default_device(device):
        params = jax.jit(init)(jax.random.key(seed), *example)["params"]
    return jax.tree.map(jnp.asarray, jax.device_get(params))
