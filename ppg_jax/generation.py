"""Completions of prompts: prefill, then a `while_loop` of decode steps, in one jit.

Prompts are left-padded, so that all rows write the same cache slot. Every row has a
key of its own: what it says does not depend on the batch that it is in.

Axes: B batch, P prompt tokens, T completion tokens, V vocabulary.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax import sampling
from ppg_jax.losses import token_log_probs
from ppg_jax.sampling import Decoding


@flax.struct.dataclass
class Rollout:
    """What one model produced for a batch of prompts, and how likely it was."""

    prompt: jax.Array  # int32 [B, P]; left-padded
    prompt_mask: jax.Array  # bool [B, P]
    completion: jax.Array  # int32 [B, T]; pad after the end of sequence
    completion_mask: jax.Array  # bool [B, T]; True up to and including the end
    log_probs: jax.Array  # float32 [B, T]; of the sampling distribution; 0 at pads


class _Loop(NamedTuple):
    step: jax.Array  # int32 scalar; tokens emitted so far
    cache: object
    last: jax.Array  # int32 [B]; the token emitted last
    ended: jax.Array  # bool [B]
    completion: jax.Array
    completion_mask: jax.Array
    log_probs: jax.Array


def generate(
    model,
    params,
    prompt: jax.Array,
    prompt_mask: jax.Array,
    rngs: jax.Array,
    decoding: Decoding,
    end_id: int,
    pad_id: int,
) -> Rollout:
    """Completes each prompt until `end_id` or `decoding.max_new_tokens`.

    `model` is a linen module with the methods `prefill` and `decode_step` of
    `ppg_jax.models.gpt2.GPT2`; int [B, P], bool [B, P], keys [B] -> `Rollout`. Stops
    early when all rows have ended. Pure; jit it with the model, the decoding and the
    ids closed over.
    """
    batch, width = prompt.shape[0], decoding.max_new_tokens
    lengths = jnp.sum(prompt_mask, axis=1, dtype=jnp.int32)
    variables = {"params": params}

    def emit(loop: _Loop, logits) -> _Loop:
        logits = sampling.filter_logits(logits, decoding, loop.step[None], end_id)
        token = _choose(logits, rngs, loop.step, decoding)
        log_prob = token_log_probs(logits, token)
        running = ~loop.ended
        token = jnp.where(running, token, pad_id)
        return loop._replace(
            step=loop.step + 1,
            last=token,
            ended=loop.ended | (token == end_id) & running,
            completion=loop.completion.at[:, loop.step].set(token),
            completion_mask=loop.completion_mask.at[:, loop.step].set(running),
            log_probs=loop.log_probs.at[:, loop.step].set(
                jnp.where(running, log_prob, 0)
            ),
        )

    def unfinished(loop: _Loop):
        return (loop.step < width) & ~jnp.all(loop.ended)

    def advance(loop: _Loop) -> _Loop:
        positions = lengths + loop.step - 1
        logits, cache = model.apply(
            variables, loop.cache, loop.last, positions, method="decode_step"
        )
        return emit(loop._replace(cache=cache), logits)

    slots = prompt.shape[1] + width
    logits, cache = model.apply(variables, prompt, prompt_mask, slots, method="prefill")
    loop = _Loop(
        step=jnp.zeros((), jnp.int32),
        cache=cache,
        last=jnp.zeros(batch, jnp.int32),
        ended=jnp.zeros(batch, bool),
        completion=jnp.full((batch, width), pad_id, jnp.int32),
        completion_mask=jnp.zeros((batch, width), bool),
        log_probs=jnp.zeros((batch, width), jnp.float32),
    )
    loop = jax.lax.while_loop(unfinished, advance, emit(loop, logits))
    return Rollout(
        prompt=prompt,
        prompt_mask=prompt_mask,
        completion=loop.completion,
        completion_mask=loop.completion_mask,
        log_probs=loop.log_probs,
    )


def _choose(logits, rngs, step, decoding: Decoding):
    """float32 [B, V], keys [B] -> int32 [B]."""
    if decoding.greedy:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    rngs = jax.vmap(jax.random.fold_in, in_axes=(0, None))(rngs, step)
    return jax.vmap(jax.random.categorical)(rngs, logits).astype(jnp.int32)


def row_keys(seed: int, ids: Sequence[int] | np.ndarray) -> jax.Array:
    """One key per row, from the seed and the row's own number.  [B] -> keys [B]."""
    key = jax.random.key(seed)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(ids))


def splice(
    pieces: Sequence[tuple[jax.Array, jax.Array]],
) -> tuple[jax.Array, jax.Array]:
    """Joins token pieces row by row and moves all padding to the left, on device.

    [(int [B, P1], bool [B, P1]), (int [B, P2], ...)] -> int, bool [B, P1 + P2]

        a b . | c . . | d e .   ->   . . . . a b c d e
    """
    tokens = jnp.concatenate([tokens for tokens, _ in pieces], axis=1)
    mask = jnp.concatenate([mask for _, mask in pieces], axis=1)
    order = jnp.argsort(mask, axis=1, stable=True)
    return tuple(jnp.take_along_axis(a, order, axis=1) for a in (tokens, mask))


def pad_left(
    rows: Sequence[Sequence[int]], width: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Token lists -> int32 [B, width] and bool [B, width], padded on the left."""
    tokens = np.full((len(rows), width), pad_id, np.int32)
    mask = np.zeros((len(rows), width), bool)
    for row, ids in enumerate(rows):
        if len(ids):
            tokens[row, -len(ids) :] = ids
            mask[row, -len(ids) :] = True
    return tokens, mask


class Completion(NamedTuple):
    """One generated sequence, on the host."""

    tokens: tuple[int, ...]  # without the end token
    ended: bool  # False: cut at max_new_tokens
    log_prob: float  # of the whole sequence, the end token included


class Generator:
    """Completes many prompts of any length: sorted, bucketed, batched, jitted.

    Prompts are padded to a multiple of `bucket` tokens and batches to a power of two of
    rows, so the number of compiled programs is bounded by the number of buckets.
    """

    def __init__(
        self,
        model,
        decoding: Decoding,
        end_id: int,
        *,
        batch_size: int = 32,
        bucket: int = 64,
    ):
        self.decoding = decoding
        self.batch_size = batch_size
        self.bucket = bucket
        self.end_id = end_id
        self._room = model.config.n_positions - decoding.max_new_tokens
        self._generate = jax.jit(
            functools.partial(
                generate, model, decoding=decoding, end_id=end_id, pad_id=end_id
            )
        )

    @property
    def compile_count(self) -> int:
        """How many shapes have been compiled so far."""
        return self._generate._cache_size()

    def __call__(
        self,
        params,
        prompts: Sequence[Sequence[int]],
        seed: int = 0,
        ids: Sequence[int] | None = None,
    ) -> list[Completion]:
        """Completions in the order of the prompts.

        ids: a number per prompt that its randomness derives from, its index if absent.
        """
        ids = np.arange(len(prompts)) if ids is None else np.asarray(ids)
        order = np.argsort([len(p) for p in prompts], kind="stable")
        completions: list[Completion | None] = [None] * len(prompts)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = self._batch(params, [prompts[i] for i in rows], seed, ids[rows])
            for i, completion in zip(rows, batch, strict=True):
                completions[i] = completion
        return completions

    def _batch(self, params, prompts, seed, ids) -> list[Completion]:
        size = 1 << (len(prompts) - 1).bit_length()
        fill = size - len(prompts)
        ids = np.concatenate([ids, np.repeat(ids[:1], fill)])
        longest = max(1, *map(len, prompts))
        width = min(-(-longest // self.bucket) * self.bucket, max(self._room, longest))
        rows = [*prompts, *([prompts[0]] * fill)]
        tokens, mask = pad_left(rows, width, self.end_id)
        rollout = self._generate(params, tokens, mask, row_keys(seed, ids))
        return completions_of(jax.device_get(rollout), self.end_id)[: len(prompts)]


def completions_of(rollout: Rollout, end_id: int) -> list[Completion]:
    """The rows of a fetched rollout as host values."""
    lengths = rollout.completion_mask.sum(axis=1)
    completions = []
    for row, length in enumerate(lengths):
        tokens = rollout.completion[row, :length].tolist()
        ended = bool(tokens) and tokens[-1] == end_id
        log_prob = float(rollout.log_probs[row].sum())
        completions.append(Completion(tuple(tokens[: length - ended]), ended, log_prob))
    return completions
