"""Which of several candidates goes on best: the second head of `models.double_heads`.

Axes: B rows, T tokens, M targets, C candidates.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.data.batching import Batch
from ppg_jax.data.passes import Example
from ppg_jax.inference.scoring import hidden_at, sorted_batches
from ppg_jax.losses import token_log_probs


def last_tokens(branch_ids: jax.Array, candidates: int) -> jax.Array:
    """int [B, T] -> int [B, C]: where each branch, 1 to C, ends; 0 without it."""
    places = jnp.arange(branch_ids.shape[1])[None, None]
    numbers = jnp.arange(1, candidates + 1)[None, :, None]
    return jnp.max(jnp.where(branch_ids[:, None] == numbers, places, 0), axis=2)


def read_candidates(model, params, batch: Batch, candidates: int, dropout_rng=None):
    """float32 log-probs [B, M] of the targets, and scores [B, C] of the candidates.

    batch: of `data.speakers.Spoken.example`, the gold response the last branch.
    """
    ends = last_tokens(batch.branch_ids, candidates)
    read = jnp.concatenate([batch.target_index, ends], axis=1)
    hidden = hidden_at(model, params, batch, read, dropout_rng)
    said, chosen = jnp.split(hidden, [batch.targets.shape[1]], axis=1)
    logits = model.apply({"params": params}, said, method="unembed")
    scores = model.apply({"params": params}, chosen, method="choose")
    return token_log_probs(logits, batch.targets), scores


def choice_nll(scores: jax.Array) -> jax.Array:
    """[B, C] -> [B]: nats of the gold candidate, which is the last one."""
    gold = jnp.full(scores.shape[0], scores.shape[1] - 1)
    return -token_log_probs(scores, gold)


class Found(NamedTuple):
    """What a model makes of the candidates of all examples."""

    nll: float  # of the gold responses, nats per token
    hits: float  # the share of examples whose gold response has the highest score


class Chooser:
    """Asks any number of examples with so many candidates each, jitted once a shape."""

    def __init__(self, model, candidates: int, batch_size: int, widths: int = 8):
        self._batch_size, self._widths = batch_size, widths
        self._read = jax.jit(
            lambda params, batch: read_candidates(model, params, batch, candidates)
        )

    def __call__(self, params, examples: Sequence[Example]) -> Found:
        nll = tokens = hits = 0
        for chunk, batch in sorted_batches(examples, self._batch_size, self._widths):
            log_probs, scores = map(np.asarray, self._read(params, batch))
            counted, scores = batch.target_mask, scores[: len(chunk)]
            nll -= log_probs.astype(np.float64)[counted].sum()
            tokens += counted.sum()
            # Of equal scores the first counts: no head is right by saying nothing.
            hits += (scores.argmax(axis=1) == scores.shape[1] - 1).sum()
        return Found(float(nll / max(tokens, 1)), float(hits / max(len(examples), 1)))
