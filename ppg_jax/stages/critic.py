"""The critic: does this response come from a speaker with this profile? (section 3.3)

A DistilBERT reads `[CLS] profile [SEP] response [SEP]`, or a decoder the two with its
end token after each (`models.classifier`). It learns from one related and one unrelated
pair per instance: (sA, rA) and (sB, rB) against (sA, rB) and (sB, rA). What the other
stages load is `ppg_jax.inference.critic.Critic`.

Differs from the paper: its binary cross entropy is written as that of a softmax over
two labels, as DistilBERT's classifier has them.

Axes: B pairs, T tokens, N pairs of any number.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ppg_jax import run_dir
from ppg_jax.config import DTYPES, require_count, require_one_of, require_positive
from ppg_jax.data import corpus, tokenization
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue
from ppg_jax.data.pairs import (
    COUPLE,
    KINDS,
    LENGTH_STEP,
    LIMITS,
    Pair,
    PairBatch,
    PairBatches,
    PairEncoder,
    pairs,
)
from ppg_jax.errors import UserError
from ppg_jax.inference.critic import Critic, check_classifier
from ppg_jax.inference.judging import accuracies, accuracy_and_nll, asked_pairs
from ppg_jax.losses import token_log_probs
from ppg_jax.models import adapters, pretrained, starts
from ppg_jax.models.classifier import new_classifier
from ppg_jax.models.decoder import Decoder
from ppg_jax.models.distilbert import DistilBert, DistilBertConfig
from ppg_jax.models.quantize import quantize
from ppg_jax.training import loop
from ppg_jax.training.train_state import (
    OptimizerConfig,
    TrainState,
    make_optimizer,
    params_sha256,
)

PERSONAS = (*KINDS, "both")
HALVES = {"": (0, 1), "even": (0,), "odd": (1,)}


@dataclasses.dataclass(frozen=True)
class Config:
    """One critic.

    name: its folder in the run directory. persona: whose profile it reads in training:
    that of the response's speaker ("self"), of the other ("partner"), or of "both".
    init: a folder, a hub id, "minilm" or "smollm2", with its tokenizer. init_stage:
    instead, a generator of the same run directory. tokenizer: instead of both, a
    DistilBERT from scratch, as `model` has it: "wordpiece:SIZE" or a folder.
    init_layers: how many layers of a DistilBERT to keep, evenly spaced, as it came from
    BERT; 0: all. adapter_rank: of low-rank adapters of a decoder, which are trained
    with the head in place of all weights; 0 trains all.
    half: of the training dialogues, every other one, "even" or "odd", so that a critic
    can judge what another was paid for; "" is all. People's base personas recur in both
    halves, sentences of a dialogue do not. max_instances: of these dialogues, drawn by
    the seed; 0: all.
    validation_instances: for the curve; 0: all. evaluate_instances: of each split, for
    result.json; 0: all. batch_size: pairs, a multiple of 4.
    """

    name: str = "critic"
    persona: str = "self"
    data: DataConfig = DataConfig()
    init: str = "distilbert-base-uncased"
    init_stage: str = ""
    init_layers: int = 0
    adapter_rank: int = 0
    tokenizer: str = ""
    model: DistilBertConfig = DistilBertConfig()
    max_length: int = 128
    dtype: str = "float32"
    dropout: bool = True
    batch_size: int = 32
    epochs: float = 1.0
    half: str = ""
    max_instances: int = 0
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-6)
    seed: int = 0  # of the pairs, the weights and dropout
    validation_instances: int = 256
    evaluate_instances: int = 0
    evaluate_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 20

    def __post_init__(self):
        require_one_of(self, persona=PERSONAS, dtype=DTYPES, half=HALVES)
        require_positive(self, "batch_size", "epochs", "log_every")
        require_count(self, "evaluate_every", "checkpoint_every", "seed")
        require_count(self, "init_layers", "adapter_rank")
        for field in LIMITS:
            if (number := getattr(self, field)) < 0 or number == 1:
                told = "must be 2 or more, for a stranger's profile, or 0 for all."
                raise ValueError(f"{field}={number} {told}")
        if self.init_layers and not self.init:
            raise ValueError("init_layers is of init, which is empty; leave it 0.")
        if self.adapter_rank and self.tokenizer:
            raise ValueError(
                f"adapter_rank={self.adapter_rank} adapts what training starts from; "
                "give init or init_stage."
            )
        if self.batch_size % COUPLE:
            told = f"batch_size={self.batch_size} is not a multiple of {COUPLE}."
            raise ValueError(told)
        if sum(map(bool, (self.init, self.init_stage, self.tokenizer))) != 1:
            raise ValueError(
                f"init={self.init!r}, init_stage={self.init_stage!r}, tokenizer="
                f"{self.tokenizer!r}: give one of the three; what training starts from "
                "brings its own tokenizer."
            )

    task: ClassVar[str] = "critic"

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages of the run directory that have to be finished before."""
        return (self.init_stage,) if self.init_stage else ()

    @property
    def kinds(self) -> tuple[str, ...]:
        return KINDS if self.persona == "both" else (self.persona,)


def run(config: Config, workdir: Path) -> dict:
    """Trains the critic in `workdir`/`config.name`, or goes on, or says it is done.

    Returns the content of result.json: steps, accuracies beside those of the controls,
    params_sha256.
    """
    workdir = Path(workdir)
    splits = corpus.load_splits(config.data)
    start = start_of(config, workdir, splits["train"])
    read = corpus.sums_of(splits, "train", "valid", "test")
    read["tokenizer"] = tokenization.sha256(start[2])
    read |= {} if config.tokenizer else starts.sums_of(start[1])
    model, params, tokenizer = initial(config, start)
    folder, first = workdir / config.name, [params]
    # `make` pops it: nothing here keeps the first weights in training.
    del start, params

    def make() -> dict:
        return train(config, folder, splits, tokenizer, model, first)

    return run_dir.once(folder, config, read, make, pretrained.load)


def train(config: Config, folder: Path, splits, tokenizer, model, first: list) -> dict:
    """Trains and exports the critic; returns its result.

    first: its first weights, popped, so that nobody keeps them.
    """
    encoder = PairEncoder(tokenizer, config.max_length)
    heard = half_of(splits["train"], config.half)
    made = pairs(heard, config.persona, config.seed, config.max_instances)
    batches = PairBatches(encoder, made, config.batch_size, config.seed)
    steps = max(1, round(config.epochs * batches.steps_per_epoch))
    tx = make_optimizer(config.optimizer, steps)
    train_step = make_train_step(model, tx, config.seed, config.dropout)
    valid = pairs(
        splits["valid"], config.persona, config.seed, config.validation_instances
    )
    # Now, not after hours: what cannot be asked is told before the first update.
    some = config.seed, config.evaluate_instances
    asked = asked_pairs(splits, config.kinds, *some)
    learning, base = adapters.split(first.pop())
    ready = quantize(base, "float32", model.dtype) if base else base
    sizes = [sum(p.size for p in jax.tree.leaves(t)) for t in (learning, base)]
    state = [TrainState.create(learning, tx)]
    del learning, base

    def judge(learned: dict) -> Critic:
        return Critic(model, adapters.join(learned, ready), encoder)

    state = loop.train(
        config.name,
        folder,
        state.pop(),
        lambda state, step: train_step(state, batches(step), ready),
        loop.Schedule.of(config, steps, batches.steps_per_epoch),
        lambda state: (state, validate(config, judge(state.params), valid)),
    )
    # `Critic.load` reads it there.
    getattr(tokenizer, "whole", tokenizer).model_max_length = config.max_length
    started = starts.source_of(folder.parent, config.init, config.init_stage)
    based = starts.base_of(started, config.adapter_rank)
    pretrained.export(model, state.params, tokenizer, folder / "model", based)
    table = accuracies(judge(state.params), made, splits, asked, config.seed)
    return {
        "steps": steps,
        "parameters": sum(sizes),
        "trained_parameters": sizes[0],
        "train_pairs": len(made),
        **headline(config, table),
        "accuracy": table,
        "params_sha256": params_sha256(state.params),
    }


def half_of(dialogues: Sequence[Dialogue], half: str) -> list[Dialogue]:
    """Every second conversation, from both sides where it is there so; "" for all."""
    numbers: dict[tuple[str, ...], int] = {}
    for dialogue in dialogues:
        numbers.setdefault(dialogue.utterances, len(numbers))
    return [d for d in dialogues if numbers[d.utterances] % 2 in HALVES[half]]


def start_of(config: Config, workdir: Path, train: Sequence[Dialogue]):
    """(model, params, tokenizer) that training starts from, or fresh from the seed."""
    dtype = jnp.dtype(config.dtype)
    source = starts.source_of(workdir, config.init, config.init_stage)
    if source:
        return pretrained.load(source, dtype=dtype, seed=config.seed)
    tokenizer = tokenization.of_run(
        config.tokenizer, workdir / "critic_tokenizer", train
    )
    sizes = dataclasses.replace(
        config.model, vocab_size=tokenization.size_of(tokenizer)
    )
    model = DistilBert(sizes, dtype)
    return model, starts.initial_params(model, config.seed), tokenizer


def initial(config: Config, start: tuple):
    """(model, params, tokenizer) of the first update: those of `start_of`, with a head
    where they are a decoder's, and adapters where these are asked for."""
    model, params, tokenizer = start
    speaks, rank = isinstance(model, Decoder), config.adapter_rank
    source = config.init or config.init_stage or config.tokenizer
    if rank and not (speaks or adapters.has(params)):
        told = f"adapter_rank={rank} of {config.name} adapts a GPT-2 or a Llama"
        raise UserError(f"{told}, and {source} is no such language model; give 0.")
    if speaks:
        model, params = new_classifier(model, params, config.seed)
    check_classifier(model, tokenizer, source)
    if config.init_layers:
        model, params = keep_layers(model, params, config.init_layers)
    params = starts.adapted(params, rank, config.seed, config.name)
    limit = model.config.n_positions // LENGTH_STEP * LENGTH_STEP
    if not 3 < config.max_length <= limit:
        raise UserError(
            f"max_length={config.max_length} of the critic must be more than 3 and at "
            f"most {limit}, the model's positions, in steps of {LENGTH_STEP}."
        )
    return model, params, tokenizer


def keep_layers(model: DistilBert, params, number: int):
    """(model, params) with `number` of the layers, evenly spaced from the first on.

    So Sanh et al. (2019, section 3) start DistilBERT from one layer of two of BERT.
    """
    if not isinstance(model, DistilBert):
        raise UserError("init_layers of the critic is for a DistilBERT; leave it 0.")
    layers = model.config.n_layers
    if not 0 < number <= layers:
        raise UserError(
            f"init_layers={number} of the critic must be between 1 and {layers}, the "
            "layers of init, or 0 for all."
        )
    kept = {
        f"layer_{i}": params["transformer"][f"layer_{i * layers // number}"]
        for i in range(number)
    }
    sizes = dataclasses.replace(model.config, n_layers=number)
    return DistilBert(sizes, model.dtype), {**params, "transformer": kept}


def pair_loss(model, params, batch: PairBatch, dropout_rng=None):
    """Binary cross entropy and accuracy, means over the pairs: two scalars.

    dropout_rng: a key turns dropout on.
    """
    logits = model.apply(
        {"params": params},
        batch.tokens,
        batch.attention_mask,
        deterministic=dropout_rng is None,
        rngs=None if dropout_rng is None else {"dropout": dropout_rng},
    )
    nll = -token_log_probs(logits, batch.labels)
    right = jnp.argmax(logits, axis=-1) == batch.labels
    counted = batch.lengths > 0
    return jnp.mean(nll, where=counted), jnp.mean(right, where=counted)


def make_train_step(
    model, tx, seed: int, dropout: bool
) -> Callable[[TrainState, PairBatch, dict], tuple[TrainState, dict]]:
    """(state, batch, base) -> (state, metrics), jitted; the state is donated.

    The state's parameters are what is trained, `base` the others (`models.adapters`),
    {} if there are none.
    """

    def loss(learned: dict, base: dict, batch: PairBatch, rng):
        return pair_loss(model, adapters.join(learned, base), batch, rng)

    loss_and_grads = jax.value_and_grad(loss, has_aux=True)

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch: PairBatch, base: dict):
        # A key derived from the step makes a resumed run repeat the original one, so
        # the checkpoint does not have to carry a PRNG state.
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        (nll, accuracy), grads = loss_and_grads(
            state.params, base, batch, rng if dropout else None
        )
        norm = optax.tree.norm(grads)
        metrics = {"loss": nll, "accuracy": accuracy, "grad_norm": norm}
        return state.apply_gradients(grads, tx), metrics

    return train_step


def validate(config: Config, judge: Critic, valid: Sequence[Pair]) -> dict:
    """Accuracy and nats per pair, the first of which it also prints."""
    accuracy, nll = accuracy_and_nll(judge, valid)
    print(f"{config.name}: valid accuracy {accuracy:.3f}", file=sys.stderr)
    return {"valid_accuracy": accuracy, "valid_nll": nll}


def headline(config: Config, table: dict) -> dict[str, float]:
    """The critic's accuracies on the persona it was trained on ("both": their mean)."""
    return {
        f"{split}_accuracy": float(
            np.mean([kinds[kind]["critic"]["accuracy"] for kind in config.kinds])
        )
        for split, kinds in table.items()
    }
