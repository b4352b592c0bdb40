"""From logits to the distribution that is sampled: logits -> logits.

Excluded tokens get the lowest float, so that log-probs of the result are those of the
truncated distribution and never NaN.

Axes: B rows, V vocabulary; leading axes are free.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

EXCLUDED = jnp.finfo(jnp.float32).min
PLAUSIBLE = 0.1


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How a completion is drawn.  temperature 0 is greedy; top_k 0 and top_p 1 are off.

    Filters apply in this order: temperature, top_k, top_p. contrast: before them, the
    weight of `contrasted`; 0 is off.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    contrast: float = 0.0

    def __post_init__(self):
        for name, ok, want in [
            ("max_new_tokens", self.max_new_tokens >= 1, ">= 1"),
            # What is smaller makes numbers that float32 does not have.
            (
                "temperature",
                self.temperature == 0 or self.temperature >= 1e-4,
                "0, which is greedy, or 0.0001 and more",
            ),
            ("top_k", self.top_k >= 0, ">= 0; 0 is off"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]; 1 is off"),
            ("contrast", 0 <= self.contrast < math.inf, ">= 0; 0 is off"),
        ]:
            if not ok:
                raise ValueError(f"{name}={getattr(self, name)} must be {want}.")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


def contrasted(logits: jax.Array, prior: jax.Array, weight: float) -> jax.Array:
    """The logits, and more of what they have beyond those without the context.

    float32 [..., V] twice -> [..., V]. Context-aware decoding (Shi et al., 2023,
    https://arxiv.org/abs/2305.14739): (1 + weight) log p - weight log prior, of the
    tokens that are at least `PLAUSIBLE` times as likely as the likeliest (Li et al.,
    2023, https://arxiv.org/abs/2210.15097).
    """
    own, prior = jax.nn.log_softmax(logits), jax.nn.log_softmax(prior)
    plausible = own >= jnp.max(own, -1, keepdims=True) + math.log(PLAUSIBLE)
    return jnp.where(plausible, (1 + weight) * own - weight * prior, EXCLUDED)


def keep_top_k(logits: jax.Array, k: int) -> jax.Array:
    """Only the k most likely tokens, and those tied with the last.  [..., V]."""
    threshold = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][..., -1:]
    return jnp.where(logits >= threshold, logits, EXCLUDED)


def keep_top_p(logits: jax.Array, p: float, iterations: int = 32) -> jax.Array:
    """The smallest set of likeliest tokens whose mass reaches p, ties kept.  [..., V].

    Finds the probability threshold by bisection: on CPU several times faster than a
    sort of the vocabulary. 32 halvings reach float32's resolution. Holtzman et al.
    (2020), nucleus sampling.
    """
    probs = jax.nn.softmax(logits, axis=-1)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        enough = jnp.sum(probs, -1, where=probs >= middle, keepdims=True) >= p
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    high = jnp.max(probs, axis=-1, keepdims=True)
    low, _ = jax.lax.fori_loop(0, iterations, halve, (jnp.zeros_like(high), high))
    return jnp.where(probs >= low, logits, EXCLUDED)


def filter_logits(
    logits: jax.Array, decoding: Decoding, drawn: jax.Array | None = None
) -> jax.Array:
    """The logits of the sampling distribution.  float32 [..., V] -> float32 [..., V].

    drawn: int [...], the tokens that were sampled, where they are scored again: those
    stay in. A greedy `decoding` leaves the temperature at 1, so that its log-probs are
    the model's own.
    """
    if decoding.greedy:
        return logits
    # Before anything is excluded: the lowest float over 0.5 would be -infinity.
    scaled = kept = logits / decoding.temperature
    if decoding.top_k:
        kept = keep_top_k(kept, decoding.top_k)
    if decoding.top_p < 1:
        kept = keep_top_p(kept, decoding.top_p)
    if drawn is None:
        return kept
    # Another program rounds otherwise, and may put a token that was just above a
    # threshold below it: its log-prob would be the lowest float, and the loss infinite.
    return jnp.where(jax.nn.one_hot(drawn, logits.shape[-1], dtype=bool), scaled, kept)


BLOCK = 128


def sample(logits: jax.Array, uniform: jax.Array) -> jax.Array:
    """The tokens at those quantiles of softmax(logits).

    float32 [B, V], [B] in [0, 1) -> int32 [B]. One random number a row, where the
    Gumbel trick draws V: on a CPU 1 ms for 32 rows of GPT-2's vocabulary instead of 22.
    Sums are of blocks first, so that what has hardly any probability is not lost in a
    sum over all.
    """
    rows, size = logits.shape
    mass = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    mass = jnp.pad(mass, [(0, 0), (0, -size % BLOCK)]).reshape(rows, -1, BLOCK)
    of_block = jnp.sum(mass, axis=-1)
    ends = jnp.cumsum(of_block, axis=-1)
    at = (uniform * ends[:, -1])[:, None]
    block = _first_beyond(at, ends, of_block)
    begin = jnp.take_along_axis(jnp.pad(ends, [(0, 0), (1, 0)]), block, axis=1)
    mass = jnp.take_along_axis(mass, block[..., None], axis=1)[:, 0]
    inside = _first_beyond(at, begin + jnp.cumsum(mass, axis=-1), mass)
    return (block * BLOCK + inside)[:, 0].astype(jnp.int32)


def _first_beyond(at, sums, mass):
    """The first place with any mass whose sum is beyond; int [B, 1].

    Sums may fall by their last bit where there is none, and end before the place that
    another sum promised: then it is the last place with any.
    """
    some = mass > 0
    beyond = some & (sums > at)
    last = mass.shape[1] - 1 - jnp.argmax(some[:, ::-1], axis=-1, keepdims=True)
    first = jnp.argmax(beyond, axis=-1, keepdims=True)
    return jnp.where(jnp.any(beyond, axis=-1, keepdims=True), first, last)
