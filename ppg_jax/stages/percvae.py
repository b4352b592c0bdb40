"""PerCVAE's training (Song et al., 2019; `ppg_jax.models.percvae`).

    loss = reconstruction + w KL(recognised z || prior) + bag of words
         + .1 selection + .05 position

each summed over a response and averaged over the batch; w grows from 0 to 1 in
`kl_steps` updates. Early stopping and the kept weights are by the validation's bound on
the likelihood, reconstruction + KL, with the recognised z.

As in their code without labelled data, which is what was released: the line of the
persona that a response is said to be of is drawn at random, and no word counts as one
of the persona. So the two last terms teach nothing, and are there as they are there.

Differs: words are split alike in utterances and personas, where theirs are split at
spaces in personas; the vocabulary is of the training split alone, without those of
validation and test; padding has no position loss.

Axes: B rows, T words, L latent.
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
from ppg_jax.data.batching import rows_of
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Instance, instances
from ppg_jax.data.persona_lines import (
    LINES,
    LineBatches,
    Lines,
    read,
    texts,
    word_weights,
)
from ppg_jax.data.vocabulary import Vocabulary
from ppg_jax.errors import UserError
from ppg_jax.inference.latent import reconstruction
from ppg_jax.losses import token_log_probs
from ppg_jax.models import percvae
from ppg_jax.models.percvae import Gaussian, PerCVAE, PerCVAEConfig, Said
from ppg_jax.training.best import BestState, train_best
from ppg_jax.training.train_state import (
    OptimizerConfig,
    TrainState,
    make_optimizer,
    params_sha256,
)

SELECTION, POSITION = 0.1, 0.05  # weights in the loss


@dataclasses.dataclass(frozen=True)
class Config:
    """One PerCVAE.

    name: its folder in the run directory. vocabulary_most: the most frequent words so
    many; 0: all. vocabulary_least: that occur so often. kl_steps: updates until the KL
    term counts in full. validation_dialogues: the first so many; 0 is all. patience:
    after how many validations in a row without a better one training stops; 0 is never.
    """

    name: str
    data: DataConfig = DataConfig()
    vocabulary_most: int = 20000
    vocabulary_least: int = 1
    model: PerCVAEConfig = PerCVAEConfig()
    kl_steps: int = 10000
    batch_size: int = 32
    epochs: float = 10.0
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, clip_norm=5.0)
    seed: int = 0  # of the weights, the order and z
    validation_dialogues: int = 0
    evaluate_every: int = 2000  # updates
    patience: int = 0
    checkpoint_every: int = 500
    log_every: int = 20
    task: ClassVar[str] = "response"
    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        require_positive(self, "vocabulary_least", "kl_steps", "batch_size", "epochs")
        require_positive(self, "evaluate_every", "log_every")
        require_count(self, "vocabulary_most", "seed", "validation_dialogues")
        require_count(self, "patience", "checkpoint_every")


def run(config: Config, workdir: Path) -> dict:
    """Trains the model in `workdir`/`config.name`, or goes on, or says it is done.

    Returns the content of result.json: steps, validation perplexity, params_sha256.
    """
    folder = Path(workdir) / config.name
    splits = corpus.load_splits(config.data)
    read = corpus.sums_of(splits, "train", "valid")

    def make() -> dict:
        return train(config, folder, splits)

    return run_dir.once(folder, config, read, make, percvae.load)


def train(config: Config, folder: Path, splits) -> dict:
    """Trains and exports the model; returns its result."""
    vocabulary = Vocabulary.of(
        texts(splits["train"]), config.vocabulary_most, config.vocabulary_least
    )
    model = PerCVAE(dataclasses.replace(config.model, vocab_size=len(vocabulary)))
    learned = responses_of(config, splits, "train")
    batches = LineBatches(vocabulary, learned, config.batch_size, config.seed)
    steps = max(1, round(config.epochs * batches.steps_per_epoch))
    tx = make_optimizer(config.optimizer, steps)
    train_step = make_train_step(model, tx, config.kl_steps, config.seed)
    valid = responses_of(config, splits, "valid")
    measure = make_measure(config, model, vocabulary, valid)

    def take_step(state: BestState, step: int):
        trained, metrics = train_step(state.training, batches(step))
        return state.replace(training=trained), metrics

    first = [BestState.create(percvae.initial_params(model, config.seed), tx, "best")]
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
    weights = word_weights(vocabulary, splits["train"])
    percvae.save(folder / run_dir.MODEL, model, params, vocabulary, weights)
    return told | {
        "parameters": sum(p.size for p in jax.tree.leaves(params)),
        "vocabulary": len(vocabulary),
        "words_left_out": vocabulary.left_out,
        **measure(params),
        "params_sha256": params_sha256(params),
    }


def responses_of(config: Config, splits, split: str) -> tuple[Instance, ...]:
    """The instances of a split (of valid: as many as the config says), never none."""
    limit = config.validation_dialogues if split == "valid" else 0
    made = instances(splits[split][: limit or None])
    if not made:
        raise UserError(
            f"the {split} split of {config.data.source} has no response to learn; "
            "give dialogues of two turns or more."
        )
    return made


def kl(q: Gaussian, p: Gaussian) -> jax.Array:
    """KL(q || p) of each row, in nats: [B]."""
    ratio = q.log_variance - p.log_variance
    away = (q.mean - p.mean) ** 2 * jnp.exp(-p.log_variance)
    return 0.5 * jnp.sum(jnp.exp(ratio) + away - 1 - ratio, axis=1)


def terms(said: Said, lines: Lines, line: jax.Array) -> dict[str, jax.Array]:
    """The terms of the loss, unweighted, of each row: [B] each.

    line: int [B], the persona line that each response is said to be of.
    """
    words = jnp.where(lines.counted, lines.targets, 0)
    bag = jnp.take_along_axis(jax.nn.log_softmax(said.bag), words, axis=1)
    none = token_log_probs(said.positions, jnp.zeros_like(words))
    return {
        "reconstruction": reconstruction(said, lines),
        "kl": kl(said.recognised, said.prior),
        "bag_of_words": -jnp.sum(bag, axis=1, where=lines.counted),
        "selection": -jnp.take_along_axis(said.lines, line[:, None], axis=1)[:, 0],
        "position": -jnp.sum(none, axis=1, where=lines.counted),
    }


def loss_of(parts: dict[str, jax.Array], kl_weight) -> jax.Array:
    """The loss of the terms' means: a scalar."""
    bound = parts["reconstruction"] + kl_weight * parts["kl"]
    others = SELECTION * parts["selection"] + POSITION * parts["position"]
    return bound + parts["bag_of_words"] + others


def make_train_step(
    model: PerCVAE, tx, kl_steps: int, seed: int
) -> Callable[[TrainState, Lines], tuple[TrainState, dict]]:
    """(state, batch) -> (state, metrics), jitted; the state is donated."""

    def loss(params: dict, lines: Lines, rng, kl_weight):
        of_noise, of_line = jax.random.split(rng)
        rows = lines.said.shape[0]
        noise = jax.random.normal(of_noise, (rows, model.config.latent))
        said = model.apply({"params": params}, lines, noise)
        found = terms(said, lines, jax.random.randint(of_line, (rows,), 0, LINES))
        some = jnp.any(lines.counted, axis=1)
        parts = {name: jnp.mean(term, where=some) for name, term in found.items()}
        return loss_of(parts, kl_weight), parts

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, lines: Lines):
        # A key derived from the step makes a resumed run repeat the original one, so
        # the checkpoint does not have to carry a PRNG state.
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        kl_weight = jnp.minimum(state.step / kl_steps, 1.0)
        (total, parts), grads = jax.value_and_grad(loss, has_aux=True)(
            state.params, lines, rng, kl_weight
        )
        norm = optax.tree.norm(grads)
        metrics = {"loss": total, **parts, "kl_weight": kl_weight, "grad_norm": norm}
        return state.apply_gradients(grads, tx), metrics

    return train_step


def make_measure(
    config: Config, model: PerCVAE, vocabulary: Vocabulary, valid: Sequence[Instance]
) -> Callable[[dict], dict[str, float]]:
    """Parameters -> validation metrics, with the same z each time.

    valid_ppl: as published, with z of the prior, and an unknown word costs what its
    symbol does. valid_elbo: the bound, in nats per token; valid_kl: of a response;
    valid_bag_of_words, valid_reconstruction: nats per token, with the recognised z.
    """

    @jax.jit
    def sums(params: dict, lines: Lines, noise):
        call = functools.partial(model.apply, {"params": params}, lines, noise)
        some = jnp.any(lines.counted, axis=1)
        line = jnp.zeros(some.shape, jnp.int32)
        found = terms(call(), lines, line)
        found["prior"] = reconstruction(call(from_prior=True), lines)
        found |= {"tokens": lines.counted.sum(axis=1), "responses": some}
        return {name: jnp.sum(term, where=some) for name, term in found.items()}

    ordered = sorted(valid, key=lambda i: len(vocabulary.encode(i.response)))
    size = rows_of(config.batch_size, len(ordered))
    parts = [ordered[at : at + size] for at in range(0, len(ordered), size)]
    made = [read(vocabulary, part, size) for part in parts]
    rng = np.random.default_rng(config.seed)
    noise = rng.standard_normal((len(made), size, model.config.latent), np.float32)

    def measure(params: dict) -> dict[str, float]:
        each = [sums(params, *batch) for batch in zip(made, noise, strict=True)]
        total = {name: float(sum(s[name] for s in each)) for name in each[0]}
        tokens = total["tokens"]
        return {
            "valid_ppl": float(np.exp(total["prior"] / tokens)),
            "valid_elbo": (total["reconstruction"] + total["kl"]) / tokens,
            "valid_kl": total["kl"] / total["responses"],
            "valid_reconstruction": total["reconstruction"] / tokens,
            "valid_bag_of_words": total["bag_of_words"] / tokens,
        }

    return measure


def make_evaluate(config: Config, measure: Callable[[dict], dict[str, float]]):
    """state -> (state, metrics): those of `measure`, and the best bound's one kept."""

    def evaluate(state: BestState):
        metrics = measure(state.training.params)
        told = f"perplexity {metrics['valid_ppl']:.3f}, KL {metrics['valid_kl']:.2f}"
        print(f"{config.name}: valid {told}", file=sys.stderr)
        return state.seen(metrics["valid_elbo"]), metrics

    return evaluate
