"""PAML's training by meta-learning (Madotto et al., 2019; `ppg_jax.models.paml`).

A task is a speaker. The weights become those of the speaker by gradient descent on one
of their dialogues, and learn from how well these say another one:

    adapted = w - inner_rate grad loss(w, one dialogue)      (`inner_steps` times)
    loss    = mean over tasks of loss(adapted, another dialogue)

With `second_order` the gradient goes through the steps (Finn et al., 2017); without,
as published, it is the gradient at the adapted weights. The kept weights, and early
stopping, are by the validation loss after such an adaptation.

Differs: their code puts the old weights back before the backward pass, which then uses
them beside the states of the adapted ones; here both are of the adapted ones. Words are
split as in `data.vocabulary`, which is of what is said in the training split alone,
without candidates or personas.
Speakers are base personas where theirs are clusters by K-means. No dialogue in
validation is drawn, and what is kept has the least mean loss per word.

Axes: M tasks, B turns of a dialogue.
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
from ppg_jax.config import require_count, require_positive
from ppg_jax.data import corpus
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue
from ppg_jax.data.speaker_tasks import TaskBatches, Turns, read_tasks, tasks, texts
from ppg_jax.data.vocabulary import Vocabulary
from ppg_jax.errors import UserError
from ppg_jax.inference import adapting
from ppg_jax.models import paml
from ppg_jax.models.paml import PAML, PAMLConfig
from ppg_jax.training.best import BestState, train_best
from ppg_jax.training.train_state import (
    OptimizerConfig,
    TrainState,
    make_optimizer,
    params_sha256,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """One PAML.

    name: its folder in the run directory. vocabulary_most: the most frequent words so
    many; 0: all. vocabulary_least: that occur so often. tasks: speakers in an update.
    turns: responses of a dialogue, the first ones. inner_rate, inner_steps: of the
    gradient descent that adapts. second_order: see the module's docstring. epochs: of
    all speakers, not of all dialogues. validation_dialogues: the first so many; 0 is
    all. patience: after how many validations in a row without a better one training
    stops; 0 is never.
    """

    name: str
    data: DataConfig = DataConfig()
    vocabulary_most: int = 20000
    vocabulary_least: int = 1
    model: PAMLConfig = PAMLConfig()
    tasks: int = 16
    turns: int = 16
    inner_rate: float = 0.01
    inner_steps: int = 1
    second_order: bool = False
    epochs: float = 100.0
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-4, clip_norm=2.0)
    seed: int = 0  # of the weights, the order and the dialogues
    validation_dialogues: int = 0
    evaluate_every: int = 10  # updates
    patience: int = 0
    checkpoint_every: int = 500
    log_every: int = 20
    task: ClassVar[str] = "response"
    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        require_positive(self, "vocabulary_least", "tasks", "turns", "inner_rate")
        require_positive(self, "epochs", "evaluate_every", "log_every")
        require_count(self, "vocabulary_most", "inner_steps", "seed", "patience")
        require_count(self, "validation_dialogues", "checkpoint_every")


def run(config: Config, workdir: Path) -> dict:
    """Trains the model in `workdir`/`config.name`, or goes on, or says it is done.

    Returns the content of result.json: steps, validation perplexities, params_sha256.
    """
    folder = Path(workdir) / config.name
    splits = corpus.load_splits(config.data)
    read = corpus.sums_of(splits, "train", "valid")

    def make() -> dict:
        return train(config, folder, splits)

    return run_dir.once(folder, config, read, make, paml.load)


def train(config: Config, folder: Path, splits) -> dict:
    """Trains and exports the model; returns its result."""
    vocabulary = Vocabulary.of(
        texts(splits["train"]), config.vocabulary_most, config.vocabulary_least
    )
    model = PAML(dataclasses.replace(config.model, vocab_size=len(vocabulary)))
    learned = tasks_of(config, splits, "train")
    batches = TaskBatches(vocabulary, learned, config.tasks, config.turns, config.seed)
    steps = max(1, round(config.epochs * batches.steps_per_epoch))
    tx = make_optimizer(config.optimizer, steps)
    train_step = make_train_step(config, model, tx)
    measure = make_measure(config, model, vocabulary, tasks_of(config, splits, "valid"))

    def take_step(state: BestState, step: int):
        trained, metrics = train_step(state.training, *batches(step))
        return state.replace(training=trained), metrics

    first = [BestState.create(paml.initial_params(model, config.seed), tx, "best")]
    state, told = train_best(
        config,
        folder,
        first,
        take_step,
        steps,
        batches.steps_per_epoch,
        make_evaluate(config, measure),
    )
    _, params = state.kept
    paml.save(folder / run_dir.MODEL, model, params, vocabulary)
    return told | {
        "parameters": sum(p.size for p in jax.tree.leaves(params)),
        "vocabulary": len(vocabulary),
        "words_left_out": vocabulary.left_out,
        "speakers": len(learned),
        **measure(params),
        "params_sha256": params_sha256(params),
    }


def tasks_of(config: Config, splits, split: str) -> list[tuple[Dialogue, ...]]:
    """The dialogues of each speaker of a split (of valid: of as many dialogues as the
    config says), never none."""
    limit = config.validation_dialogues if split == "valid" else 0
    found = tasks(splits[split][: limit or None])
    if not found:
        if limit and tasks(splits[split]):
            raise UserError(
                f"validation_dialogues={limit}: among so few no speaker has two; raise "
                "it, or give 0 for all."
            )
        raise UserError(
            f"the {split} split of {config.data.source} has no speaker with two "
            "dialogues, known by a self persona that they share, to adapt with; give "
            "more dialogues."
        )
    return found


def make_loss(
    config: Config, model: PAML
) -> Callable[[dict, Turns, Turns], tuple[jax.Array, jax.Array]]:
    """(parameters, dialogues to adapt to, others) -> the loss of the module's
    docstring, and the mean loss of the first before a step: scalars."""

    def of_task(params: dict, known: Turns, asked: Turns):
        first = adapting.loss(model, params, known)
        return adapting.loss(model, adapt(config, model, params, known), asked), first

    def loss(params: dict, known: Turns, asked: Turns):
        each = jax.vmap(of_task, (None, 0, 0))(params, known, asked)
        return jax.tree.map(jnp.mean, each)

    return loss


def adapt(config: Config, model: PAML, params: dict, known: Turns) -> dict:
    """The parameters after `inner_steps` steps on one dialogue."""
    for _ in range(config.inner_steps):
        params = adapting.step(
            model, params, known, config.inner_rate, config.second_order
        )
    return params


def make_train_step(
    config: Config, model: PAML, tx
) -> Callable[[TrainState, Turns, Turns], tuple[TrainState, dict]]:
    """(state, dialogues to adapt to, others) -> (state, metrics), jitted; the state is
    donated."""
    loss = make_loss(config, model)

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, known: Turns, asked: Turns):
        (total, first), grads = jax.value_and_grad(loss, has_aux=True)(
            state.params, known, asked
        )
        norm = optax.tree.norm(grads)
        metrics = {"loss": total, "loss_known": first, "grad_norm": norm}
        return state.apply_gradients(grads, tx), metrics

    return train_step


def make_measure(
    config: Config,
    model: PAML,
    vocabulary: Vocabulary,
    valid: Sequence[Sequence[Dialogue]],
) -> Callable[[dict], dict[str, float]]:
    """Parameters -> validation metrics, of each dialogue.

    valid_ppl: after adaptation to the speaker's dialogue before it, or to the last one
    for the first; valid_ppl_unadapted: without. Per word, end token included; an
    unknown word costs what its symbol does.
    """

    @jax.jit
    def sums(params: dict, known: Turns, asked: Turns):
        def of_task(known: Turns, asked: Turns):
            ways = adapt(config, model, params, known), params
            nlls = [adapting.log_probs(model, way, asked) for way in ways]
            return [-jnp.sum(nll, where=asked.counted) for nll in nlls]

        return *jax.vmap(of_task)(known, asked), asked.counted.sum()

    pairs = [(g[i - 1], g[i]) for g in valid for i in range(len(g))]
    parts = [pairs[at : at + config.tasks] for at in range(0, len(pairs), config.tasks)]
    made = []
    for part in parts:
        filled = [*part, *[(None, None)] * (config.tasks - len(part))]
        both = zip(*filled, strict=True)
        made.append([read_tasks(vocabulary, some, config.turns) for some in both])

    def measure(params: dict) -> dict[str, float]:
        each = [sums(params, *batch) for batch in made]
        after, before, words = (
            float(sum(np.sum(part) for part in parts))
            for parts in zip(*jax.device_get(each), strict=True)
        )
        return {
            "valid_nll": after / words,
            "valid_ppl": float(np.exp(after / words)),
            "valid_ppl_unadapted": float(np.exp(before / words)),
        }

    return measure


def make_evaluate(config: Config, measure: Callable[[dict], dict[str, float]]):
    """state -> (state, metrics): those of `measure`, and the best one kept."""

    def evaluate(state: BestState):
        metrics = measure(state.training.params)
        told = (
            f"{metrics['valid_ppl']:.3f}, {metrics['valid_ppl_unadapted']:.3f} before"
        )
        print(f"{config.name}: valid perplexity {told}", file=sys.stderr)
        return state.seen(metrics["valid_nll"]), metrics

    return evaluate
