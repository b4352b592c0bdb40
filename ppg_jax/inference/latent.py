"""What a PerCVAE is asked: how likely it finds a response, and what it says itself.

Both with one z for each instance, drawn from the prior by a seed and by what is read of
the instance, its persona and context; so the two agree, and answers can be repeated.

The likelihood is that of the response given this z, as in the published perplexity. z
is drawn without a look at the response, so it is the likelihood of a model that is all
there, one that draws z first. It is none of the model whose z is summed out, and for
one z not even a bound on it: it may lie on either side. On average over z its negative
logarithm lies above (Jensen), so published perplexities of such models are too high
rather than too low.

Words are chosen as in Song et al.'s code: the logits of the words of the likeliest
persona line are multiplied by one weight and by how likely the second GRU finds a
persona word, all others by another weight and by the rest of that probability. So words
are said by another distribution than the one that the likelihood is of.

Differs: it says one response where theirs draws five; the second GRU is asked by its
own state, as in training, where theirs hands it the first one's; the logits are all
divided by what multiplies the other words', which changes no order, and for sampling
leaves the other words' distribution what it was learned as.

Axes: B rows, L latent, T words, V vocabulary, P lines, W words of a line.
"""

import functools
import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.data.batching import rows_of
from ppg_jax.data.dialogue import Instance
from ppg_jax.data.persona_lines import UTTERANCE, Lines, read
from ppg_jax.data.vocabulary import END, PAD, START
from ppg_jax.inference.sampling import Decoding, filter_logits, sample
from ppg_jax.inference.scoring import Score
from ppg_jax.losses import token_log_probs
from ppg_jax.models.percvae import Loaded, PerCVAE, Plan, Said

PERSONA_WEIGHT, OTHER_WEIGHT = 2.5, 0.15  # of a persona line's words, and of others
TEMPERATURE = math.exp(5)  # of the choice between the two


class Drawn(NamedTuple):
    """The randomness of one batch."""

    noise: np.ndarray  # float32 [B, L], standard normal
    quantiles: np.ndarray  # float32 [B, T] in [0, 1), one for each word


def reconstruction(said: Said, lines: Lines) -> jax.Array:
    """NLL of each response given its z, in nats: [B]."""
    log_probs = token_log_probs(said.logits, lines.targets)
    return -jnp.sum(log_probs, axis=1, where=lines.counted)


class Asked:
    """A trained PerCVAE, with the programs that score and say."""

    def __init__(self, loaded: Loaded, decoding: Decoding, batch_size: int, seed: int):
        self._loaded = loaded
        self._batch_size = batch_size
        self._seed = seed
        self._score = jax.jit(functools.partial(_score, loaded.model))
        self._say = jax.jit(functools.partial(_say, loaded.model, decoding))

    def score(self, asked: Sequence[Instance]) -> list[Score]:
        """Of whole responses, in the order asked; an unknown word has its share."""
        vocabulary = self._loaded.vocabulary
        scores: dict[int, Score] = {}
        words = [vocabulary.encode(i.response) for i in asked]
        order = sorted(range(len(asked)), key=lambda i: len(words[i]))
        for some in self._chunks(order):
            lines, drawn = self._read([asked[i] for i in some], whole=True)
            nlls = np.asarray(self._score(self._loaded.params, lines, drawn.noise))
            for i, nll in zip(some, nlls, strict=False):
                total = float(nll) + vocabulary.unknown_nll(words[i])
                scores[i] = Score(total, len(words[i]) + 1)
        return [scores[i] for i in range(len(asked))]

    def respond(self, asked: Sequence[Instance]) -> list[str]:
        """Its own responses, in the order asked."""
        texts: list[str] = []
        for some in self._chunks(asked):
            lines, drawn = self._read(some)
            given = self._loaded.params, self._loaded.weights, lines, drawn
            rows = np.asarray(self._say(*given))[: len(some)].tolist()
            texts += [self._text(row) for row in rows]
        return texts

    def _text(self, row: list[int]) -> str:
        ended = row.index(END) if END in row else len(row)
        return self._loaded.vocabulary.text(row[:ended])

    def _chunks(self, items: Sequence):
        starts = range(0, len(items), self._batch_size)
        return (items[at : at + self._batch_size] for at in starts)

    def _read(
        self, some: Sequence[Instance], whole: bool = False
    ) -> tuple[Lines, Drawn]:
        """What is read of the instances, and their randomness, of a whole batch."""
        rows = rows_of(self._batch_size, len(some))
        latent = self._loaded.model.config.latent
        drawn = Drawn(
            np.zeros((rows, latent), np.float32),
            np.zeros((rows, UTTERANCE), np.float32),
        )
        for row, instance in enumerate(some):
            rng = np.random.default_rng([self._seed, _number(instance)])
            drawn.noise[row] = rng.standard_normal(latent)
            drawn.quantiles[row] = rng.random(UTTERANCE, np.float32)
        return read(self._loaded.vocabulary, some, rows, whole), drawn


def _number(instance: Instance) -> int:
    """Of what is read alone, by whatever name: what is not read must change nothing."""
    told = "\n".join([*instance.self_persona, "", *instance.context])
    return zlib.crc32(told.encode())


def _score(model: PerCVAE, params: dict, lines: Lines, noise) -> jax.Array:
    """-> [B], nats."""
    said = model.apply({"params": params}, lines, noise, from_prior=True)
    return reconstruction(said, lines)


def _say(
    model: PerCVAE, decoding: Decoding, params: dict, weights, lines: Lines, drawn
) -> jax.Array:
    """-> int [B, T]: words up to an end token, and whatever stands behind it."""
    call = functools.partial(model.apply, {"params": params})
    condition = call(lines, method="condition")
    z = call(condition, method="prior").at(drawn.noise)
    plan = call(condition, z, method="plan")
    heeded = gains(plan, lines, weights)

    def word(carried, quantile):
        states, last = carried
        states, logits, kinds = call(states, last, method="say")
        chosen = choose(logits, kinds, heeded, decoding, quantile)
        return (states, chosen), chosen

    start = plan.states, jnp.full(lines.said.shape[:1], START, jnp.int32)
    _, words = jax.lax.scan(word, start, drawn.quantiles.T)
    return words.T


def gains(plan: Plan, lines: Lines, weights) -> jax.Array:
    """The weight of each word of the likeliest persona line, 0 of others: [B, V].

    weights: [V], of `persona_lines.word_weights`.
    """
    line = jnp.argmax(plan.lines, axis=1)
    words = jnp.take_along_axis(lines.persona, line[:, None, None], axis=1)[:, 0]
    rows = jnp.arange(words.shape[0])[:, None]
    told = jnp.zeros((words.shape[0], weights.shape[0])).at[rows, words].set(1)
    return PERSONA_WEIGHT * told.at[:, PAD].set(0) * weights[None]


def choose(logits, kinds, gains, decoding: Decoding, quantile) -> jax.Array:
    """The next word: [B, V], [B, 2], [B, V] and [B] -> int [B]."""
    kind = jax.nn.softmax(jax.nn.log_softmax(kinds) / TEMPERATURE)
    heed = gains * kind[:, 1:] / (OTHER_WEIGHT * kind[:, :1])
    weighted = logits * jnp.where(gains > 0, heed, 1)
    if decoding.greedy:
        return jnp.argmax(weighted, axis=1).astype(jnp.int32)
    return sample(filter_logits(weighted, decoding), quantile)
