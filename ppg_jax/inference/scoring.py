"""How likely a model finds given text: the one scoring function of training,
evaluation and reinforcement.

Axes: B rows, T tokens, Q of them read, M targets, D width, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.data.batching import Batch, best_widths, collate, rows_of
from ppg_jax.data.passes import BRANCHES, Example
from ppg_jax.losses import token_log_probs


def branch_mask(branch_ids: jax.Array, branch_starts, position_ids) -> jax.Array:
    """Which token sees which, for the picture in `ppg_jax.data.passes.Example`.

    int [B, T] three times -> bool [B, T, T]. Own branch: what came before. The trunk:
    what stands before the branching point. Padding (branch -1) sees only padding.
    """
    length = branch_ids.shape[1]
    same = branch_ids[:, :, None] == branch_ids[:, None, :]
    own = same & jnp.tri(length, dtype=bool)[None]
    before = position_ids[:, None, :] < branch_starts[:, :, None]
    trunk = branch_ids // BRANCHES * BRANCHES
    return own | (before & (branch_ids[:, None, :] == trunk[:, :, None]))


def hidden_at(model, params, batch: Batch, read, dropout_rng=None) -> jax.Array:
    """The normed hidden states [B, Q, D] of the tokens at `read`, int [B, Q].

    dropout_rng: a key turns dropout on.
    """
    mask = branch_mask(batch.branch_ids, batch.branch_starts, batch.position_ids)
    return model.apply(
        {"params": params},
        batch.tokens,
        batch.position_ids,
        mask,
        deterministic=dropout_rng is None,
        read=read,
        rngs=None if dropout_rng is None else {"dropout": dropout_rng},
        method="hidden_states",
    )


def target_logits(model, params, batch: Batch, dropout_rng=None) -> jax.Array:
    """float32 logits [B, M, V] at the targets, and only there.

    dropout_rng: a key turns dropout on.
    """
    hidden = hidden_at(model, params, batch, batch.target_index, dropout_rng)
    return model.apply({"params": params}, hidden, method="unembed")


def target_log_probs(model, params, batch: Batch, dropout_rng=None) -> jax.Array:
    """float32 log-probs [B, M] of the targets; meaningless where the mask is False."""
    logits = target_logits(model, params, batch, dropout_rng)
    return token_log_probs(logits, batch.targets)


class Score(NamedTuple):
    """One instance's target under a model."""

    nll: float  # nats, summed over the tokens, the end token included
    tokens: int
    cut: int = 0  # tokens of it, the end token included, that had no room


def with_cut(scores: Mapping[str, Score], whole: Mapping[str, int]) -> dict[str, Score]:
    """The scores by instance id; whole: all tokens of targets, if any was cut."""
    return {
        name: score._replace(cut=max(0, whole.get(name, 0) - score.tokens))
        for name, score in scores.items()
    }


def sorted_batches(
    examples: Sequence[Example], batch_size: int, widths: int
) -> Iterator[tuple[list[Example], Batch]]:
    """All examples, sorted by length, so many at a time, with their batch.

    widths: how many padded lengths there are at most, those that fit best; 0: multiples
    of 64, whatever the examples are.
    """
    order = sorted(examples, key=len)
    # The first chunk is the one that is not full: its padding is the cheapest.
    starts = range(-(-len(order) % batch_size), len(order), batch_size)
    chunks = [order[max(at, 0) : at + batch_size] for at in starts]
    longest = [len(chunk[-1]) for chunk in chunks]
    fit = best_widths(longest, widths) if chunks and widths else None
    rows = rows_of(batch_size, len(order))
    for chunk in chunks:
        yield chunk, collate(chunk, rows, widths=fit)


class Scorer:
    """Scores any number of examples: sorted by length, batched, jitted once a shape.

    widths: how many padded lengths the batches of one call have at most, those that fit
    its examples best; 0: multiples of 64, the same in every call.
    """

    def __init__(self, model, batch_size: int = 16, widths: int = 8):
        self._batch_size = batch_size
        self._widths = widths
        self._log_probs = jax.jit(
            lambda params, batch: target_log_probs(model, params, batch)
        )

    def __call__(self, params, examples: Sequence[Example]) -> dict[str, Score]:
        """Instance id -> `Score`, for every instance of every example."""
        scores: dict[str, Score] = {}
        for chunk, batch in sorted_batches(examples, self._batch_size, self._widths):
            log_probs = np.asarray(self._log_probs(params, batch), np.float64)
            for row, example in enumerate(chunk):
                scores |= _by_instance(example, batch, log_probs, row)
        return scores


def _by_instance(example: Example, batch: Batch, log_probs, row) -> dict[str, Score]:
    counted = batch.target_mask[row]
    owner = batch.target_of[row][counted]
    number = len(example.ids)
    nll = np.bincount(owner, -log_probs[row][counted], minlength=number)
    tokens = np.bincount(owner, minlength=number)
    triples = zip(example.ids, nll, tokens, strict=True)
    return {name: Score(float(n), int(t)) for name, n, t in triples}


def mean_nll(scores: Iterable[Score]) -> float:
    """Nats per token over all scores: the logarithm of the perplexity."""
    scores = list(scores)
    return sum(s.nll for s in scores) / max(sum(s.tokens for s in scores), 1)
