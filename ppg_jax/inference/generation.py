"""Completions of prompts: prefill, then a `while_loop` of decode steps, in one jit.

Prompts are left-padded, so that all rows write the same cache slot. Every row has a
key of its own: what it says does not depend on the batch that it is in.

Axes: B batch, F trunks, P prompt tokens, W tail tokens, T completion tokens,
V vocabulary; G branches of one trunk.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.inference import sampling
from ppg_jax.inference.prefixes import Branches
from ppg_jax.inference.sampling import Decoding
from ppg_jax.losses import token_log_probs
from ppg_jax.models.decoder import positions_of
from ppg_jax.models.quantize import for_decoding


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
    limit: jax.Array | None = None,
    contrast: jax.Array | None = None,
    piece: int = 0,
) -> Rollout:
    """Completes each prompt until `end_id` or `decoding.max_new_tokens`.

    `model` has the methods `prefill` and `decode_step` of a `models.decoder.Decoder`;
    int [B, P], bool [B, P], keys [B] -> `Rollout`. Stops early when all rows have
    ended. limit: int32 scalar, fewer new tokens than the decoding has room for. Pure;
    jit it with the model, the decoding and the ids closed over.

    With a contrast, B more prompts follow: without the context, one for each.
    contrast: float32 scalar, the decoding's as an argument, so that one program serves
    any; 0 is off, and what follows is not looked at. piece: a divisor of P, the tokens
    that are read at a time, see `_read_in_pieces`; 0: all.
    """
    if not piece:
        _check_room(model, prompt, decoding)
    params = for_decoding(params, model.dtype)
    slots = prompt.shape[1] + decoding.max_new_tokens
    variables = {"params": params}
    read = prompt, prompt_mask, slots
    if piece:
        logits, cache = _read_in_pieces(model, variables, *read, piece)
    else:
        logits, cache = model.apply(variables, *read, method="prefill")
    read = prompt, prompt_mask, logits, cache
    ends = decoding, end_id, pad_id, limit, contrast
    return _complete(model, params, *read, rngs, *ends)


def _read_in_pieces(model, variables, prompt, prompt_mask, slots: int, piece: int):
    """As `prefill`, of a multiple of `piece` tokens: row by row, so many at a time, and
    none where a row has only padding.

    One program for prompts of any length, which does little for a short one.
    """
    (batch, width), size = prompt.shape, model.config.vocab_size
    positions = positions_of(prompt_mask)
    padding = jnp.where(prompt_mask.any(axis=1), jnp.argmax(prompt_mask, axis=1), width)
    ends = jnp.cumsum(width // piece - padding // piece)  # of each row, in pieces

    def read(number, state):
        row = jnp.sum(number >= ends)
        start = width - (ends[row] - number) * piece
        cut = (
            jax.lax.dynamic_slice(a, (row, start), (1, piece))
            for a in (prompt, prompt_mask, positions)
        )
        own = jax.tree.map(
            lambda a: jax.lax.dynamic_slice_in_dim(a, row, 1) if a.ndim else start,
            state[1],
        )
        told, own = model.apply(variables, own, *cut, method="extend")
        return jax.tree.map(
            lambda a, b: a.at[row].set(b[0]) if a.ndim else a, state, (told, own)
        )

    empty = model.apply(variables, batch, slots, method="empty_cache")
    start = jnp.zeros((batch, size), jnp.float32), empty
    logits, cache = jax.lax.fori_loop(0, ends[-1], read, start)
    return logits, cache.replace(slot=jnp.asarray(width, jnp.int32))


def generate_branches(
    model,
    params,
    trunk: jax.Array,
    trunk_mask: jax.Array,
    branches: Branches,
    rngs: jax.Array,
    decoding: Decoding,
    end_id: int,
    pad_id: int,
    limit: jax.Array | None = None,
) -> Rollout:
    """As `generate`, for prompts that begin as `trunk` does, which is read only once.

    trunk: left-padded int [F, P], bool [F, P]; B branches and keys [B] -> `Rollout`;
    2 B branches with a contrast.
    """
    _check_room(model, trunk, decoding)
    params = for_decoding(params, model.dtype)
    variables = {"params": params}
    rows, shared, members, tail, tail_mask = branches
    width = trunk.shape[1]
    _, cache = model.apply(variables, trunk, trunk_mask, width, method="prefill")
    slots = tail.shape[1] + decoding.max_new_tokens
    cache = cache.branch(rows, shared, members, slots)
    positions = shared[:, None] + positions_of(tail_mask)
    logits, cache = model.apply(
        variables, cache, tail, tail_mask, positions, method="extend"
    )
    begun = trunk[rows], cache.trunk.seen
    read = *splice([begun, (tail, tail_mask)]), logits, cache
    ends = decoding, end_id, pad_id, limit, None
    return _complete(model, params, *read, rngs, *ends)


def _check_room(model, prompt, decoding: Decoding) -> None:
    length, room = prompt.shape[1], model.config.n_positions
    if length + decoding.max_new_tokens > room:
        raise ValueError(
            f"A prompt of {length} tokens and {decoding.max_new_tokens} new ones do "
            f"not fit into n_positions={room}; shorten it or generate fewer."
        )


def _complete(
    model, params, prompt, prompt_mask, logits, cache, rngs, *ends
) -> Rollout:
    """From the logits behind the prompts and their cache to the end of all rows."""
    decoding, end_id, pad_id, limit, contrast = ends
    batch, width = rngs.shape[0], decoding.max_new_tokens
    most = width if limit is None else limit
    lengths = jnp.sum(prompt_mask, axis=1, dtype=jnp.int32)
    variables = {"params": params}

    def emit(loop: _Loop, logits) -> _Loop:
        logits = _contrasted(logits[:batch], logits[batch:], decoding, contrast)
        logits = sampling.filter_logits(logits, decoding)
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
        return (loop.step < most) & ~jnp.all(loop.ended)

    def advance(loop: _Loop) -> _Loop:
        positions = lengths + loop.step - 1
        last = jnp.tile(loop.last, len(lengths) // batch)
        logits, cache = model.apply(
            variables, loop.cache, last, positions, method="decode_step"
        )
        return emit(loop._replace(cache=cache), logits)

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
        prompt=prompt[:batch],
        prompt_mask=prompt_mask[:batch],
        completion=loop.completion,
        completion_mask=loop.completion_mask,
        log_probs=loop.log_probs,
    )


def _contrasted(own, prior, decoding: Decoding, contrast):
    """float32 [B, V], and twice if there is a contrast -> [B, V]."""
    if contrast is not None:
        return jnp.where(contrast > 0, sampling.contrasted(own, prior, contrast), own)
    if decoding.contrast:
        return sampling.contrasted(own, prior, decoding.contrast)
    return own


def _choose(logits, rngs, step, decoding: Decoding):
    """float32 [B, V], keys [B] -> int32 [B]."""
    if decoding.greedy:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    rngs = jax.vmap(jax.random.fold_in, in_axes=(0, None))(rngs, step)
    return sampling.sample(logits, jax.vmap(jax.random.uniform)(rngs))


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
