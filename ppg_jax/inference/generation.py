"""Completions of prompts: prefill, then a `while_loop` of decode steps, in one jit.

Prompts are left-padded, so that all rows write the same cache slot. Every row has a
key of its own: what it says does not depend on the batch that it is in.

Axes: B batch, F trunks, P prompt tokens, W tail tokens, T completion tokens,
V vocabulary; G branches of one trunk.
"""

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.inference import sampling
from ppg_jax.inference.sampling import Decoding
from ppg_jax.losses import token_log_probs
from ppg_jax.models.gpt2 import positions_of
from ppg_jax.models.quantize import for_decoding


@flax.struct.dataclass
class Rollout:
    """What one model produced for a batch of prompts, and how likely it was."""

    prompt: jax.Array  # int32 [B, P]; left-padded
    prompt_mask: jax.Array  # bool [B, P]
    completion: jax.Array  # int32 [B, T]; pad after the end of sequence
    completion_mask: jax.Array  # bool [B, T]; True up to and including the end
    log_probs: jax.Array  # float32 [B, T]; of the sampling distribution; 0 at pads


class Branches(NamedTuple):
    """Prompts that each are the beginning of a trunk, and a tail."""

    rows: jax.Array  # int32 [B]; which trunk
    shared: jax.Array  # int32 [B]; how many of its tokens
    members: jax.Array  # int32 [F, G]; branches of each; places left over hold any
    tail: jax.Array  # int32 [B, W]; left-padded, one token or more
    tail_mask: jax.Array  # bool [B, W]


def branches_of(
    rows: Sequence[int],
    shared: Sequence[int],
    tails: Sequence[Sequence[int]],
    trunks: int,
    width: int,
    pad_id: int,
) -> Branches:
    """For each branch its trunk, of so many, and how many tokens it shares with it.

    tails: the tokens that it does not share; width: what they are padded to.
    """
    groups = [np.flatnonzero(np.asarray(rows) == trunk) for trunk in range(trunks)]
    members = np.zeros((trunks, _power_of_two(max(map(len, groups)))), np.int32)
    for places, group in zip(members, groups, strict=True):
        places[: len(group)] = group
    return Branches(
        np.array(rows, np.int32),
        np.array(shared, np.int32),
        members,
        *pad_left(tails, width, pad_id),
    )


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
    _check_room(model, prompt, decoding)
    params = for_decoding(params, model.dtype)
    slots = prompt.shape[1] + decoding.max_new_tokens
    logits, cache = model.apply(
        {"params": params}, prompt, prompt_mask, slots, method="prefill"
    )
    read = prompt, prompt_mask, logits, cache
    return _complete(model, params, *read, rngs, decoding, end_id, pad_id)


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
) -> Rollout:
    """As `generate`, for prompts that begin as `trunk` does, which is read only once.

    trunk: left-padded int [F, P], bool [F, P]; B branches and keys [B] -> `Rollout`.
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
    return _complete(model, params, *read, rngs, decoding, end_id, pad_id)


def _check_room(model, prompt, decoding: Decoding) -> None:
    length, room = prompt.shape[1], model.config.n_positions
    if length + decoding.max_new_tokens > room:
        raise ValueError(
            f"A prompt of {length} tokens and {decoding.max_new_tokens} new ones do "
            f"not fit into n_positions={room}; shorten it or generate fewer."
        )


def _complete(
    model, params, prompt, prompt_mask, logits, cache, rngs, decoding, end_id, pad_id
) -> Rollout:
    """From the logits behind the prompts and their cache to the end of all rows."""
    batch, width = prompt.shape[0], decoding.max_new_tokens
    lengths = jnp.sum(prompt_mask, axis=1, dtype=jnp.int32)
    variables = {"params": params}

    def emit(loop: _Loop, logits) -> _Loop:
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
        return (loop.step < width) & ~jnp.all(loop.ended)

    def advance(loop: _Loop) -> _Loop:
        positions = lengths + loop.step - 1
        logits, cache = model.apply(
            variables, loop.cache, loop.last, positions, method="decode_step"
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


# Behind the turns that contexts of a dialogue have in common, a persona prompt has the
# cue of the partner, a few tokens; this leaves room, and costs little to read.
TAIL = 16


class Completion(NamedTuple):
    """One generated sequence, on the host."""

    tokens: tuple[int, ...]  # without the end token
    ended: bool  # False: cut at max_new_tokens
    log_prob: float  # of the whole sequence, the end token included


class Family(NamedTuple):
    """Prompts that begin as one of them, the trunk, does."""

    trunk: int  # index of a prompt
    members: list[tuple[int, int]]  # (index, tokens in common), the trunk's among them


def families(prompts: Sequence[Sequence[int]]) -> list[Family]:
    """Prompts by the trunk they have all but their last `TAIL` tokens in common with.

    The contexts of a dialogue are such a family. Every prompt is in one; those of less
    than 2 `TAIL` tokens, with little to share, each in their own.
    """
    found: list[Family] = []
    # Trunks by their beginnings, so that few have to be compared with a prompt.
    begun: dict[bytes, list[Family]] = {}
    arrays = [np.asarray(prompt, np.int32) for prompt in prompts]
    for i in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])):
        mine = arrays[i]
        least = (len(mine) - TAIL) // TAIL * TAIL
        like = begun.get(mine[:least].tobytes(), []) if least > 0 else []
        for family in like:
            same = arrays[family.trunk][: len(mine)] == mine
            shared = len(mine) if same.all() else int(same.argmin())
            if len(mine) - shared <= TAIL:
                family.members.append((i, min(shared, len(mine) - 1)))
                break
        else:
            family = Family(i, [(i, max(len(mine) - 1, 0))])
            found.append(family)
            for end in range(TAIL, len(mine), TAIL):
                begun.setdefault(mine[:end].tobytes(), []).append(family)
    return found


class Generator:
    """Completes many prompts of any length: sorted, bucketed, batched, jitted.

    Of nested prompts, as persona generators get them for the contexts of a dialogue,
    the longest is read and the others branch off. Prompts are padded to a multiple of
    `bucket` tokens, rows and the branches of a trunk to a power of two and trunks
    nearly so, so the number of compiled programs is bounded: for each bucket a few.

    batch_size: prompts at once; on a CPU two such batches are at work at a time.
    """

    def __init__(
        self,
        model,
        decoding: Decoding,
        end_id: int,
        *,
        batch_size: int = 32,
        bucket: int = 32,
    ):
        self.decoding = decoding
        self.batch_size = batch_size
        self.bucket = bucket
        self.end_id = end_id
        self._room = model.config.n_positions - decoding.max_new_tokens
        fixed = {"decoding": decoding, "end_id": end_id, "pad_id": end_id}
        self._generate = jax.jit(functools.partial(generate, model, **fixed))
        self._branch = jax.jit(functools.partial(generate_branches, model, **fixed))

    @property
    def compile_count(self) -> int:
        """How many shapes have been compiled so far."""
        return self._generate._cache_size() + self._branch._cache_size()

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
        completions: list[Completion | None] = [None] * len(prompts)

        def dispatch(part: list[Family]) -> Rollout:
            rows = _rows(part)
            fill = _power_of_two(len(rows)) - len(rows)
            keys = row_keys(seed, np.concatenate([ids[rows], ids[rows[:1] * fill]]))
            read = self._branched if self._pays(prompts, part) else self._whole
            return read(params, prompts, part, fill, keys)

        parts = list(self._batches(prompts))
        for part, rollout in zip(parts, _fetch_each(dispatch, parts), strict=True):
            done = completions_of(rollout, self.end_id)
            for i, completion in zip(_rows(part), done, strict=False):
                completions[i] = completion
        return completions

    def _batches(self, prompts) -> Iterator[list[Family]]:
        """Families of like lengths, together `batch_size` prompts at most."""
        batch, left = [], self.batch_size
        # The longest first: what is alone at work at the end is short.
        order = sorted(families(prompts), key=lambda f: -len(prompts[f.trunk]))
        for family in order:
            members = family.members
            while members:
                batch.append(Family(family.trunk, members[:left]))
                members, left = members[left:], left - len(batch[-1].members)
                if not left:
                    yield batch
                    batch, left = [], self.batch_size
        if batch:
            yield batch

    def _pays(self, prompts, part: list[Family]) -> bool:
        """Whether trunks and tails are much less to read than the whole prompts."""
        longest = max(len(prompts[family.trunk]) for family in part)
        rows = _power_of_two(sum(len(family.members) for family in part))
        tokens = _trunks(len(part)) * longest + rows * TAIL
        if tokens >= 0.7 * rows * longest or longest + TAIL > self._room:
            return False
        # All trunks have room for as many branches as the largest.
        largest = max(len(family.members) for family in part)
        return _trunks(len(part)) * _power_of_two(largest) <= 4 * rows

    def _whole(self, params, prompts, part, fill, keys) -> Rollout:
        rows = [prompts[i] for i in _rows(part)]
        rows += rows[:1] * fill
        return self._generate(params, *self._padded(rows, self._room), keys)

    def _branched(self, params, prompts, part, fill, keys) -> Rollout:
        trunks = [prompts[family.trunk] for family in part]
        trunks += trunks[:1] * (_trunks(len(trunks)) - len(trunks))
        members = [
            (number, shared, prompts[i][shared:])
            for number, family in enumerate(part)
            for i, shared in family.members
        ]
        # One more of each, for many more of one would need many places of all.
        members += members[:fill]
        rows, shared, tails = zip(*members, strict=True)
        branches = branches_of(rows, shared, tails, len(trunks), TAIL, self.end_id)
        trunk = self._padded(trunks, self._room - TAIL)
        return self._branch(params, *trunk, branches, keys)

    def _padded(self, rows, room: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and mask, as wide as a bucket or as `room` allows."""
        longest = max(1, *map(len, rows))
        width = min(-(-longest // self.bucket) * self.bucket, max(room, longest))
        return pad_left(rows, width, self.end_id)


# Of a CPU. Measured on two cores; each needs a cache of its own.
BATCHES_AT_WORK = 2


def _fetch_each(dispatch: Callable, batches: Iterable) -> Iterator:
    """`jax.device_get(dispatch(batch))` for each; on a CPU two are at work at a time.

    Small operations, and the ends of large ones, leave cores of a CPU idle, which a
    second batch fills. It has to come from another thread: what one thread dispatches,
    XLA runs one after the other.
    """
    if jax.default_backend() != "cpu":
        yield from (jax.device_get(dispatch(batch)) for batch in batches)
        return
    alone, stopped = threading.Lock(), threading.Event()
    # Of the settings that `with` makes in one thread, this is what the models read.
    precision = jax.config.jax_default_matmul_precision

    def fetch(batch):
        # One after the other, so that no program is compiled twice.
        with alone, jax.default_matmul_precision(precision):
            if stopped.is_set():
                return None
            dispatched = dispatch(batch)
        return jax.device_get(dispatched)

    with ThreadPoolExecutor(BATCHES_AT_WORK) as pool:
        try:
            yield from pool.map(fetch, batches)
        finally:
            stopped.set()


def _rows(part: Sequence[Family]) -> list[int]:
    """The prompts of a batch."""
    return [i for family in part for i, _ in family.members]


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _trunks(number: int) -> int:
    """Padded: 1, 2, 3, 4, 6, 8, 12, 16, ...; each is a whole prompt to read."""
    power = _power_of_two(number)
    return power * 3 // 4 if 4 * number <= 3 * power else power


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
