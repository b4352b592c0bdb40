"""Supervised training of the two generators (paper, sections 3.1 and 3.2).

The persona generator learns P(partner persona | self persona, context), the response
generator P(response | self persona, partner persona, context); the loss counts the
target and its end token only. Differs from the paper: by default one pass over a
dialogue serves all its instances (the same losses, several times fewer tokens).
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ppg_jax import run_dir
from ppg_jax.config import DTYPES, require_count, require_one_of, require_positive
from ppg_jax.data import corpus
from ppg_jax.data.batching import Batches
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import instances
from ppg_jax.data.examples import (
    BATCHINGS,
    TASKS,
    checked,
    examples,
    require_room,
    tell_form,
)
from ppg_jax.data.passes import Example
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.data.retrieval import TOLD
from ppg_jax.data.said import ORDERS
from ppg_jax.inference.exposure import Exposure, inferred
from ppg_jax.inference.scoring import Scorer, mean_nll, target_log_probs
from ppg_jax.models import adapters, pretrained, starts
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.models.llama import LlamaConfig
from ppg_jax.models.quantize import quantize
from ppg_jax.models.starts import initial, require_one_start
from ppg_jax.training.best import KEPT, BestState, train_best, validating
from ppg_jax.training.train_state import (
    OptimizerConfig,
    TrainState,
    accumulate,
    make_optimizer,
    params_sha256,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """One generator.

    name: its folder in the run directory. task: what it writes; a dialogue is written
    with its personas before it. partner_persona: what a response generator is told, all
    gold sentences, the three that BM25 finds for the context, or nothing. exposure:
    whose inferred personas it is told in place of these, of how many instances.
    persona_order: how a persona generator learns these, as given or those said so far
    first. tokenizer: "bpe:SIZE" or a folder; empty takes that of `init`.
    init: a folder or hub id to start from; empty starts from scratch with `model`.
    init_stage: instead, a stage of the same run directory to start from.
    adapter_rank: of low-rank adapters, which are trained in place of the weights that
    it starts from; 0 trains all. branches: persona targets of a dialogue that a pass
    learns, drawn anew each epoch; 0 is all.
    batch_size: dialogues or instances, after `batching`. micro_batches: parts the
    gradient is summed over. widths: how many padded lengths the batches have.
    *_dialogues: the first so many; 0 is all. keep: which weights become the model,
    those with the best validation perplexity, or the last ones. patience: after how
    many validations in a row without a better one training stops; 0 is never.
    """

    name: str
    task: str
    data: DataConfig = DataConfig()
    prompts: PromptConfig = PromptConfig()
    tokenizer: str = "bpe:8192"
    partner_persona: str = "gold"
    exposure: Exposure = Exposure()
    persona_order: str = "as_given"
    init: str = ""
    init_stage: str = ""
    model: GPT2Config | LlamaConfig = GPT2Config()
    adapter_rank: int = 0
    dtype: str = "float32"  # that it computes in; its weights are float32
    dropout: bool = True  # the model's own rates, or none
    batching: str = "dialogue"  # one pass for all instances of one, or "instance"
    branches: int = 0
    batch_size: int = 4
    micro_batches: int = 1
    widths: int = 8
    epochs: float = 2.0  # a part of one will do
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: int = 0  # of the weights, the order and dropout
    training_dialogues: int = 0
    validation_dialogues: int = 128
    evaluate_every: int = 500  # updates; 0 is never
    keep: str = "best"
    patience: int = 0
    checkpoint_every: int = 500  # updates; what a kill may cost
    log_every: int = 20  # updates

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages of the run directory that have to be finished before."""
        return tuple(filter(None, (self.init_stage, self.exposure.persona)))

    def __post_init__(self):
        require_one_of(
            self,
            task=TASKS,
            partner_persona=TOLD,
            persona_order=ORDERS,
            batching=BATCHINGS,
            dtype=DTYPES,
            keep=KEPT,
        )
        require_positive(self, "batch_size", "micro_batches", "widths", "log_every")
        require_positive(self, "epochs")
        require_count(self, "checkpoint_every", "evaluate_every", "patience", "seed")
        require_count(self, "training_dialogues", "validation_dialogues")
        require_count(self, "adapter_rank", "branches")
        if not self.evaluate_every and (self.keep == "best" or self.patience):
            raise ValueError(
                f"evaluate_every={self.evaluate_every} is never, but keep='best' and "
                "patience need validations; give keep='last' and patience=0."
            )
        require_one_start(self)
        if self.persona_order != "as_given" and self.task != "persona":
            told = 'is for task="persona"; leave it "as_given".'
            raise ValueError(f"persona_order={self.persona_order!r} {told}")
        if self.partner_persona != "gold" and self.task == "persona":
            told = f"partner_persona={self.partner_persona!r} is told to a response"
            raise ValueError(f'{told} generator; leave it "gold" for task="persona".')
        if self.branches and (self.task, self.batching) != ("persona", "dialogue"):
            raise ValueError(
                f'branches={self.branches} is for task="persona" with '
                'batching="dialogue"; leave it 0.'
            )
        if self.task == "dialogue" and self.batching == "instance":
            raise ValueError('task="dialogue" is not learned by batching="instance".')
        if self.batch_size % self.micro_batches:
            raise ValueError(
                f"batch_size={self.batch_size} is not a multiple of "
                f"micro_batches={self.micro_batches}."
            )
        told = 'partner_persona="top3"' if self.partner_persona == "top3" else ""
        told = "a persona inferred" if self.exposure.persona else told
        if told and (self.task, self.batching) != ("response", "instance"):
            told += " differs from turn to turn and is told to a response generator"
            raise ValueError(f'{told}: task="response" and batching="instance".')


def run(config: Config, workdir: Path) -> dict:
    """Trains the generator in `workdir`/`config.name`, or goes on, or says it is done.

    Returns the content of result.json: steps, validation perplexity, params_sha256.
    """
    workdir = Path(workdir)
    splits, tokenizer, first, read = starts.begin(config, workdir)
    folder = workdir / config.name
    if not (folder / run_dir.FINGERPRINT).exists():  # of one that has begun it is known
        whole = (d for split in splits.values() for d in split)
        told = config.task, config.partner_persona
        require_room(Prompts(tokenizer, config.prompts), whole, *told)
        tell_form(config.prompts.text, splits["train"])
    read |= config.exposure.sums(workdir)
    if asked := config.exposure.persona:  # by prompts and tokens that it has learned
        train_data = corpus.sums_of(splits, "train")
        run_dir.agree(workdir / asked, config, train_data, "prompts")
        starts.require_one_tokenizer(workdir, asked, read["tokenizer"])

    def make() -> dict:
        return train(config, folder, splits, tokenizer, first)

    return run_dir.once(folder, config, read, make, pretrained.load)


def train(config: Config, folder: Path, splits, tokenizer, first: list) -> dict:
    """Trains and exports the model; returns its result.

    first: what `start_of` gives, popped, so that nobody keeps the first weights.
    """
    prompts = Prompts(tokenizer, config.prompts)
    model, params = initial(config, tokenizer, first.pop())
    learned = checked_examples(config, prompts, splits, "train", folder.parent)
    how = config.batch_size, config.seed, config.widths, config.branches
    batches = Batches(learned, *how, parts=config.micro_batches)
    steps = max(1, round(config.epochs * batches.steps_per_epoch))
    tx = make_optimizer(config.optimizer, steps)
    train_step = make_train_step(
        model, tx, config.micro_batches, config.seed, config.dropout
    )
    valid = checked_examples(config, prompts, splits, "valid", folder.parent)
    learning, base = adapters.split(params)
    ready = quantize(base, "float32", model.dtype) if base else base
    del base
    measure = make_measure(config, model, ready, valid)

    def take_step(state: BestState, step: int):
        trained, metrics = train_step(state.training, batches(step), ready)
        return state.replace(training=trained), metrics

    parameters = sum(p.size for p in jax.tree.leaves(params))
    first = [BestState.create(learning, tx, config.keep)]
    del params, learning
    state, told = train_best(
        config,
        folder,
        first,
        take_step,
        steps,
        batches.steps_per_epoch,
        validating(config.name, measure),
    )
    _, learned = state.kept
    started = starts.source_of(folder.parent, config.init, config.init_stage)
    base = starts.base_of(started, config.adapter_rank)
    pretrained.export(model, learned, tokenizer, folder / "model", base)
    # Of the best weights the last validation is known.
    nll = float(state.best.nll) if state.best.params else measure(learned)
    return told | {
        "parameters": parameters,
        "trained_parameters": sum(p.size for p in jax.tree.leaves(learned)),
        "valid_ppl": float(np.exp(nll)),
        "params_sha256": params_sha256(learned),
    }


def make_measure(config: Config, model, base: dict, valid: Sequence[Example]):
    """What is trained of the parameters -> NLL of `valid`, in nats per token."""
    rows = config.batch_size // config.micro_batches  # what memory has room for
    scorer = Scorer(model, rows, config.widths)

    def measure(learned: dict) -> float:
        return mean_nll(scorer(adapters.join(learned, base), valid).values())

    return measure


def checked_examples(config: Config, prompts: Prompts, splits, split, workdir: Path):
    """The examples of a split, of as many dialogues as the config says; never none."""
    most = {"train": config.training_dialogues, "valid": config.validation_dialogues}
    dialogues = splits[split][: most[split] or None]
    given = split, config.seed, config.dtype
    heard = inferred(config.exposure, workdir, prompts, instances(dialogues), *given)
    told = config.batching, config.partner_persona, config.persona_order, heard
    made = examples(prompts, dialogues, config.task, *told)
    return checked(made, split, config.data.source, config.task)


def make_train_step(model, tx, micro_batches: int, seed: int, dropout: bool):
    """(state, batch, base) -> (state, metrics), jitted; the state is donated.

    The state's parameters are what is trained, `base` the others (`models.adapters`),
    {} if there are none.

    The loss is the mean over all targets of the batch, however it is cut into parts.
    """

    def summed_nll(params, batch, rng):
        log_probs = target_log_probs(model, params, batch, rng if dropout else None)
        return -jnp.sum(log_probs, where=batch.target_mask)

    def part_of(batch, rng, learned, base):
        return jax.value_and_grad(
            lambda learned: summed_nll(adapters.join(learned, base), batch, rng)
        )(learned)

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch, base: dict):
        # A key derived from the step makes a resumed run repeat the original one, so
        # the checkpoint does not have to carry a PRNG state.
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        nll, grads = accumulate(
            functools.partial(part_of, learned=state.params, base=base),
            batch,
            rng,
            micro_batches,
        )
        targets = jnp.sum(batch.target_mask)
        grads = jax.tree.map(lambda g: g / targets, grads)
        norm = optax.tree.norm(grads)
        metrics = {"loss": nll / targets, "grad_norm": norm, "targets": targets}
        return state.apply_gradients(grads, tx), metrics

    return train_step
