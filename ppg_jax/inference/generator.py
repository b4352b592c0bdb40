"""Completions of any number of prompts: sorted, bucketed, batched, jitted.

Axes: B batch, T completion tokens.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from ppg_jax.inference.generation import Rollout, generate, generate_branches, row_keys
from ppg_jax.inference.prefixes import (
    TAIL,
    Family,
    branches_of,
    families,
    pad_left,
    power_of_two,
    shared_with,
)
from ppg_jax.inference.sampling import Decoding

# Tokens that a prompt alone is read by: products of fewer are slower for each, and the
# first of more has more padding.
PIECE = 64
ROOM = 128  # for new tokens of a prompt alone, or a multiple: one program for most
# So many batches are long at work, and less padding pays what more programs take to
# compile: of so many tokens.
MANY, FINE = 16, 32


class Completion(NamedTuple):
    """One generated sequence, on the host.

    log_prob: in nats, of the whole sequence, the end token included, in the
    distribution that it was decoded from: with a contrast the contrasted one, and where
    it was sampled that of the temperature, truncated by top_k and top_p. Only without
    them is it the model's own.
    """

    tokens: tuple[int, ...]  # without the end token
    ended: bool  # False: cut at max_new_tokens
    log_prob: float


@functools.lru_cache(maxsize=4)
def _alone(model, decoding: Decoding, end_id: int):
    fixed = {"decoding": decoding, "end_id": end_id, "pad_id": end_id, "piece": PIECE}
    return jax.jit(functools.partial(generate, model, **fixed))


def _of_prompts_alone(model, decoding: Decoding, end_id: int):
    """The program for prompts that come one by one, each with one without its context.

    Persona and response of one form of model share it, which is half of what a first
    answer waits for: limit and contrast are arguments, and there is room for both.
    """
    room = -(-decoding.max_new_tokens // ROOM) * ROOM
    shared = dataclasses.replace(decoding, max_new_tokens=room, contrast=0.0)
    return _alone(model, shared, end_id)


class Generator:
    """Completes many prompts of any length: sorted, bucketed, batched, jitted.

    Of nested prompts, as persona generators get them for the contexts of a dialogue,
    the longest is read and the others branch off. Prompts are padded to a multiple of
    `bucket` tokens (of `FINE`, where they are `MANY` batches), rows and the branches of
    a trunk to a power of two and trunks nearly so, so the number of compiled programs
    is bounded: for each bucket a few. A prompt alone, as those of a conversation are,
    is read in pieces, for only as long as it is: one program, whatever its length.

    batch_size: prompts at once; on a CPU two such batches are at work at a time.
    longest: tokens of prompt and completion together, 0: what the model has room for.
    """

    def __init__(
        self,
        model,
        decoding: Decoding,
        end_id: int,
        *,
        batch_size: int = 32,
        bucket: int = 32,
        longest: int = 0,
    ):
        self.decoding = decoding
        self.batch_size = batch_size
        self.bucket = bucket
        self.end_id = end_id
        self._room = model.config.n_positions - decoding.max_new_tokens
        self._longest = longest
        fixed = {"decoding": decoding, "end_id": end_id, "pad_id": end_id}
        self._generate = jax.jit(functools.partial(generate, model, **fixed))
        self._branch = jax.jit(functools.partial(generate_branches, model, **fixed))
        most = longest or model.config.n_positions
        self._width = -(-most // PIECE) * PIECE  # of what is read in pieces
        self._alone = _of_prompts_alone(model, decoding, end_id)

    @property
    def compile_count(self) -> int:
        """How many shapes have been compiled so far."""
        programs = self._generate, self._alone, self._branch
        return sum(program._cache_size() for program in programs)

    def __call__(
        self,
        params,
        prompts: Sequence[Sequence[int]],
        seed: int = 0,
        ids: Sequence[int] | None = None,
        limit: int = 0,
        without: Sequence[Sequence[int]] = (),
    ) -> list[Completion]:
        """Completions in the order of the prompts.

        ids: a number per prompt that its randomness derives from, its index if absent.
        limit: of new tokens, where it is less than that of the decoding; 0 is that one.
        without: for a contrast, each prompt without its context.
        """
        if bool(self.decoding.contrast) != bool(without) and len(prompts):
            raise ValueError("A contrast needs prompts without context, and they it.")
        limit = np.int32(limit or self.decoding.max_new_tokens)
        room = min(self._room, self._longest - limit) if self._longest else self._room
        ids = np.arange(len(prompts)) if ids is None else np.asarray(ids)
        completions: list[Completion | None] = [None] * len(prompts)

        def dispatch(part: list[Family]) -> Rollout:
            rows = _rows(part)
            fill = power_of_two(len(rows)) - len(rows)
            keys = row_keys(seed, ids[rows + rows[:1] * fill])
            pays = self._pays(prompts, part, room, without)
            read = self._branched if pays else self._whole
            return read(params, prompts, without, part, fill, room, keys, limit)

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

    def _pays(self, prompts, part: list[Family], room: int, without=()) -> bool:
        """Whether trunks and tails are much less to read than the whole prompts."""
        longest = max(len(prompts[family.trunk]) for family in part)
        if self._is_alone(prompts, part, room):
            return False
        times = 2 if without else 1
        rows = times * power_of_two(sum(len(family.members) for family in part))
        tokens = _trunks(len(part)) * longest + rows * TAIL
        if tokens >= 0.7 * rows * longest or longest + TAIL > room:
            return False
        beside = _members(without, prompts, part) if without else []
        if any(len(tail) > TAIL for *_, tail in beside):
            return False
        # All trunks have room for as many branches as the largest.
        largest = times * max(len(family.members) for family in part)
        return _trunks(len(part)) * power_of_two(largest) <= 4 * rows

    def _is_alone(self, prompts, part: list[Family], room: int) -> bool:
        rows = _rows(part)
        return len(rows) == 1 and len(prompts[rows[0]]) <= room

    def _whole(self, params, prompts, without, part, fill, room, keys, limit):
        rows = _rows(part)
        rows += rows[:1] * fill
        if self._is_alone(prompts, part, room):
            both = [prompts[rows[0]], without[rows[0]] if without else ()]
            padded = pad_left(both, self._width, self.end_id)
            weight = np.float32(self.decoding.contrast)
            return self._alone(params, *padded, keys, limit=limit, contrast=weight)
        read = [asked[i] for asked in (prompts, without) if asked for i in rows]
        padded = self._padded(read, room, len(prompts))
        return self._generate(params, *padded, keys, limit=limit)

    def _branched(self, params, prompts, without, part, fill, room, keys, limit):
        trunks = [prompts[family.trunk] for family in part]
        trunks += trunks[:1] * (_trunks(len(trunks)) - len(trunks))
        branches = []
        for asked in filter(len, (prompts, without)):
            members = _members(asked, prompts, part)
            # One more of each, for many more of one would need many places of all.
            branches += members + members[:fill]
        rows, shared, tails = zip(*branches, strict=True)
        branches = branches_of(rows, shared, tails, len(trunks), TAIL, self.end_id)
        trunk = self._padded(trunks, room - TAIL, len(prompts))
        return self._branch(params, *trunk, branches, keys, limit=limit)

    def _padded(self, rows, room: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and mask, as wide as a bucket or as `room` allows.

        number: of all prompts that are asked.
        """
        longest = max(1, *map(len, rows))
        many = number >= MANY * self.batch_size
        bucket = min(self.bucket, FINE) if many else self.bucket
        width = min(-(-longest // bucket) * bucket, max(room, longest))
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


def _members(asked, prompts, part: Sequence[Family]) -> list[tuple[int, int, list]]:
    """The prompts of a batch, or what is asked beside them: the number of the trunk,
    how many tokens each shares with it, and the others.
    """
    found = []
    for number, family in enumerate(part):
        for i, shared in family.members:
            if asked is not prompts:
                shared = shared_with(prompts[family.trunk], asked[i])
            found.append((number, shared, asked[i][shared:]))
    return found


def _trunks(number: int) -> int:
    """Padded: 1, 2, 3, 4, 6, 8, 12, 16, ...; each is a whole prompt to read."""
    power = power_of_two(number)
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
