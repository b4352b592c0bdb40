"""Multi-task learning with personas reconstruction: one set of parameters, two tasks.

Lee, Lee and Gan, 2021, https://arxiv.org/abs/2108.03377, as the paper has it among its
baselines (section 4.2): maximises alpha log P(partner persona | self persona, context)
+ (1 - alpha) log P(response | self persona, context), both by the same decoder, which
is told no partner persona. The cue of the partner's persona, behind the context, tells
it which of the two is asked. Alpha is the one whose responses have the lowest
validation perplexity; each is trained from the same weights on the same batches, for as
many updates.

Differs from what is published, of which there is no code: a decoder as the other
generators are, in place of an encoder and a decoder with GloVe's embeddings, without
meta-learning; each task's loss is a mean over the target tokens of its batch.

Axes: A alphas.
"""

import dataclasses
import functools
import math
import sys
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ppg_jax import run_dir
from ppg_jax.config import DTYPES, require_count, require_one_of, require_positive
from ppg_jax.data.batching import Batch, Batches
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.examples import checked, examples
from ppg_jax.data.passes import Example
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.data.said import ORDERS
from ppg_jax.inference.scoring import Scorer, mean_nll, target_log_probs
from ppg_jax.losses import cross_entropy
from ppg_jax.models import adapters, pretrained, starts
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.models.llama import LlamaConfig
from ppg_jax.models.quantize import quantize
from ppg_jax.training import loop
from ppg_jax.training.best import Best, copied
from ppg_jax.training.train_state import (
    OptimizerConfig,
    TrainState,
    learning_rate_schedule,
    make_optimizer,
    params_sha256,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """One model of both tasks.

    name: its folder in the run directory. alphas: tried one after the other; the share
    of the persona's loss. tokenizer, init, init_stage, model, adapter_rank,
    persona_order and branches: as of a generator (`stages.supervised`). batch_size:
    dialogues, of each task. epochs: of each alpha, up to a whole number of validations.
    validation_dialogues: the first so many; 0 is all.
    """

    name: str
    alphas: tuple[float, ...] = (0.1, 0.5, 0.9)
    data: DataConfig = DataConfig()
    prompts: PromptConfig = PromptConfig()
    tokenizer: str = "bpe:8192"
    persona_order: str = "as_given"
    init: str = ""
    init_stage: str = ""
    model: GPT2Config | LlamaConfig = GPT2Config()
    adapter_rank: int = 0
    dtype: str = "float32"  # that it computes in; its weights are float32
    dropout: bool = True  # the model's own rates, or none
    branches: int = 0
    batch_size: int = 4
    widths: int = 8  # padded lengths that the batches of a task have at most
    epochs: float = 2.0
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: int = 0  # of the weights, the order and dropout
    validation_dialogues: int = 128
    evaluate_every: int = 500  # updates, or all of an alpha's if fewer
    checkpoint_every: int = 500  # updates; what a kill may cost
    log_every: int = 20  # updates

    task: ClassVar[str] = "both tasks"

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages of the run directory that have to be finished before."""
        return (self.init_stage,) if self.init_stage else ()

    def __post_init__(self):
        require_one_of(self, dtype=DTYPES, persona_order=ORDERS)
        require_positive(self, "batch_size", "widths", "epochs")
        require_positive(self, "evaluate_every", "log_every")
        require_count(self, "adapter_rank", "branches", "seed")
        require_count(self, "validation_dialogues", "checkpoint_every")
        sound = {a for a in self.alphas if type(a) in (int, float) and 0 <= a < 1}
        if not sound or len(sound) < len(self.alphas):
            raise ValueError(
                f"alphas={self.alphas} must be one or more different numbers from 0 to "
                "below 1; give for example alphas=(0.1, 0.5, 0.9)."
            )
        starts.require_one_start(self)


class Tasks(NamedTuple):
    """The same of both."""

    persona: Any
    response: Any


@flax.struct.dataclass
class GridState:
    """What training changes: the model of the present alpha, and the best so far."""

    step: jax.Array  # int32 scalar; updates of all alphas together
    training: TrainState  # of the present alpha
    best: Best  # of all, by the responses' NLL
    alpha: jax.Array  # int32 scalar; the number of the best one's
    # float32 [A, 2]; NLL of responses and personas, where each alpha's responses had
    # their lowest, 0 before its first validation.
    found: jax.Array

    @classmethod
    def create(cls, params, tx, alphas: int) -> "GridState":
        zero = jnp.zeros((), jnp.int32)
        best = Best.create(copied(params))
        found = jnp.zeros((alphas, 2))
        return cls(zero, TrainState.create(params, tx), best, jnp.array(zero), found)

    def seen(self, number: int, nll: Tasks) -> "GridState":
        """After a validation of the alpha of that number."""
        best = self.best.seen(nll.response, self.step, self.training.params)
        is_best = int(best.step) == int(self.step)
        before, found = float(self.found[number, 0]), self.found
        if not before or nll.response < before:
            found = found.at[number].set(jnp.array([nll.response, nll.persona]))
        alpha = jnp.array(number, jnp.int32) if is_best else self.alpha
        return self.replace(best=best, alpha=alpha, found=found)


def run(config: Config, workdir: Path) -> dict:
    """Trains the model in `workdir`/`config.name`, or goes on, or says it is done.

    Returns the content of result.json: steps, alpha, the validation of each alpha,
    params_sha256.
    """
    workdir = Path(workdir)
    splits, tokenizer, first, read = starts.begin(config, workdir)
    folder = workdir / config.name

    def make() -> dict:
        return train(config, folder, splits, tokenizer, first)

    return run_dir.once(folder, config, read, make, pretrained.load)


def train(config: Config, folder: Path, splits, tokenizer, first: list) -> dict:
    """Trains all alphas, exports the best one's model; returns its result.

    first: what `starts.start_of` gives, popped.
    """
    prompts = Prompts(tokenizer, config.prompts)
    model, params = starts.initial(config, tokenizer, first.pop())
    batches = batches_of(config, prompts, splits)
    every, steps = lengths(config, batches.response.steps_per_epoch)
    tx = make_optimizer(config.optimizer, steps)
    train_step = make_train_step(model, tx, config.seed, config.dropout)
    learning, base = adapters.split(params)
    base = quantize(base, "float32", model.dtype) if base else base
    parameters = sum(p.size for p in jax.tree.leaves(params))
    begin = jax.device_get(learning)  # what each alpha starts from
    measure = make_measure(config, model, base, examples_of(config, prompts, splits))

    def take_step(state: GridState, step: int):
        number, done = divmod(step, steps)
        training = state.training
        if step and not done:
            training = TrainState.create(copied(begin), tx)
        both = Tasks(*(make(done) for make in batches))
        alpha = np.float32(config.alphas[number])
        training, metrics = train_step(training, alpha, both, base)
        state = state.replace(step=state.step + 1, training=training)
        return state, metrics | {"alpha": alpha}

    rate = learning_rate_schedule(config.optimizer, steps)
    schedule = loop.Schedule(
        steps * len(config.alphas),
        config.log_every,
        config.checkpoint_every,
        every,
        batches.response.steps_per_epoch,
        lambda step: rate(step % steps),
    )
    state = [GridState.create(learning, tx, len(config.alphas))]
    del params, learning
    state = loop.train(
        config.name,
        folder,
        state.pop(),
        take_step,
        schedule,
        make_evaluate(config, measure, steps),
    )
    source = starts.source_of(folder.parent, config.init, config.init_stage)
    based = starts.base_of(source, config.adapter_rank)
    kept = state.best.params
    pretrained.export(model, kept, tokenizer, folder / run_dir.MODEL, based)
    sizes = sum(p.size for p in jax.tree.leaves(kept))
    return result_of(config, state) | {
        "parameters": parameters,
        "trained_parameters": sizes,
        "params_sha256": params_sha256(kept),
    }


def result_of(config: Config, state: GridState) -> dict:
    """What validation found: of each alpha, and which was chosen."""
    ppl = np.exp(np.asarray(state.found, np.float64))
    found = [
        {"alpha": alpha, "valid_ppl": float(response), "valid_persona_ppl": float(p)}
        for alpha, (response, p) in zip(config.alphas, ppl, strict=True)
    ]
    chosen = found[int(state.alpha)]
    kept = {"steps": int(state.step), "kept_step": int(state.best.step)}
    return kept | chosen | {"alphas": found}


def lengths(config: Config, epoch: int) -> tuple[int, int]:
    """Updates between two validations, and of each alpha: it ends with one."""
    asked = max(1, round(config.epochs * epoch))
    every = min(config.evaluate_every, asked)
    return every, math.ceil(asked / every) * every


def examples_of(config: Config, prompts: Prompts, splits, split="valid") -> Tasks:
    """What both tasks learn of a split, or validate: passes over whole dialogues."""
    limit = config.validation_dialogues if split == "valid" else 0
    dialogues = splits[split][: limit or None]

    def made(task: str, *order: str) -> list[Example]:
        each = examples(prompts, dialogues, task, "dialogue", "none", *order)
        return checked(each, split, config.data.source)

    return Tasks(made("persona", config.persona_order), made("response"))


def batches_of(config: Config, prompts: Prompts, splits) -> Tasks:
    """Step -> batch, of each task."""
    persona, response = examples_of(config, prompts, splits, "train")
    how = config.batch_size, config.seed, config.widths
    return Tasks(Batches(persona, *how, config.branches), Batches(response, *how))


def make_measure(config: Config, model, base: dict, valid: Tasks):
    """What is trained of the parameters -> NLL of both tasks, in nats per token."""
    scorer = Scorer(model, config.batch_size, config.widths)

    def measure(learned: dict) -> Tasks:
        params = adapters.join(learned, base)
        return Tasks(*(mean_nll(scorer(params, some).values()) for some in valid))

    return measure


def make_evaluate(config: Config, measure, steps: int):
    """state -> (state, metrics): both perplexities, and the best one kept.

    Weights that no alpha has changed are measured and not kept.
    """

    def evaluate(state: GridState):
        done, nll = int(state.step), measure(state.training.params)
        ppl = Tasks(*np.exp(nll))
        metrics = {"valid_nll": nll.response, "valid_ppl": ppl.response}
        metrics["valid_persona_ppl"] = ppl.persona
        told = f"valid perplexity {ppl.response:.3f}, of personas {ppl.persona:.3f}"
        if done:
            number = (done - 1) // steps
            state = state.seen(number, nll)
            metrics["alpha"] = config.alphas[number]
            told = f"alpha {config.alphas[number]}, {told}"
        print(f"{config.name}: {told}", file=sys.stderr)
        return state, metrics

    return evaluate


def make_train_step(model, tx, seed: int, dropout: bool):
    """(state, alpha, batches of both tasks, base) -> (state, metrics).

    The state is donated; its parameters are what is trained, `base` the others
    (`models.adapters`), {} if there are none. Each task has its own program, so that
    there is one for each shape of a batch and not for each pair of them.
    """

    @jax.jit
    def slope(learned: dict, base: dict, batch: Batch, rng):
        def nll(learned: dict):
            params = adapters.join(learned, base)
            log_probs = target_log_probs(model, params, batch, rng if dropout else None)
            return cross_entropy(log_probs, batch.target_mask)

        return jax.value_and_grad(nll)(learned)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: TrainState, alpha, grads: Tasks, losses: Tasks):
        def both(persona, response):
            return alpha * persona + (1 - alpha) * response

        grads = jax.tree.map(both, *grads)
        norm = optax.tree.norm(grads)
        told = {"persona_loss": losses.persona, "response_loss": losses.response}
        metrics = {"loss": both(*losses), **told, "grad_norm": norm}
        return state.apply_gradients(grads, tx), metrics

    def train_step(state: TrainState, alpha, batches: Tasks, base: dict):
        # A key derived from the step makes a resumed run repeat the original one, so
        # the checkpoint does not have to carry a PRNG state.
        rngs = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        found = [
            slope(state.params, base, batch, rng)
            for batch, rng in zip(batches, rngs, strict=True)
        ]
        losses, grads = (Tasks(*each) for each in zip(*found, strict=True))
        return update(state, alpha, grads, losses)

    return train_step
