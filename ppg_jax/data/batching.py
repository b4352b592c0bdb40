"""(seed, epoch, step) -> batch, as a pure function; lengths in buckets.

Axes: B rows, T tokens, M targets.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import flax.struct
import jax
import numpy as np

from ppg_jax.data.dialogue import Dialogue, Instance
from ppg_jax.data.passes import BRANCHES, Example

# Batches that are sorted by length together: enough for little padding, few enough that
# an epoch stays well mixed.
WINDOW = 64
WIDTH_STEP = 16
FEW_ROWS = 64


@flax.struct.dataclass
class Batch:
    """Examples side by side, padded on the right; padding has branch_id -1."""

    tokens: jax.Array  # int32 [B, T]
    position_ids: jax.Array  # int32 [B, T]
    branch_ids: jax.Array  # int32 [B, T]
    branch_starts: jax.Array  # int32 [B, T]
    target_index: jax.Array  # int32 [B, M]; where the predecessor of the target stands
    targets: jax.Array  # int32 [B, M]
    target_mask: jax.Array  # bool [B, M]; True = counted
    target_of: jax.Array  # int32 [B, M]; index into the example's `ids`


def bucket(length: int) -> int:
    """The padded length of one batch by itself: a multiple of 64, coarser from 512 on.

    From 192 tokens on less than a quarter of a row is padding, and the number of shapes
    grows with the logarithm of the longest.
    """
    step = max(64, 1 << max(length.bit_length() - 3, 0))
    return -(-length // step) * step


def best_widths(lengths: Sequence[int], number: int) -> np.ndarray:
    """At most `number` widths, so that rows of these lengths need least padding.

    Each row is padded to the next width; multiples of `WIDTH_STEP`, ascending; the last
    one fits all. By dynamic programming over the widths that occur.
    """
    padded = -(-np.asarray(lengths) // WIDTH_STEP) * WIDTH_STEP
    width, rows = np.unique(padded, return_counts=True)
    before = np.concatenate([[0], np.cumsum(rows)])
    # cost[j]: of the rows up to width j - 1, with as many widths as there were rounds.
    cost = np.where(before == 0, 0.0, np.inf)
    chosen: list[np.ndarray] = []
    for _ in range(min(number, len(width))):
        per_start = [
            cost[:j] + width[j - 1] * (before[j] - before[:j])
            for j in range(1, len(width) + 1)
        ]
        chosen.append(np.array([0, *(c.argmin() for c in per_start)]))
        cost = np.array([np.inf, *(c.min() for c in per_start)])
    ends, end = [], len(width)
    for starts in reversed(chosen):
        ends.append(width[end - 1])
        end = starts[end]
    return np.array(ends[::-1])


def rows_of(asked: int, there: int, parts: int = 1) -> int:
    """Rows of a batch for which `asked` are asked and so many examples are there: what
    is beyond them would be padding alone. Of few rows all stay, and so does that they
    are a multiple of `parts`; steps are coarse, for few shapes to compile."""
    enough = max(FEW_ROWS, 1 << max(there - 1, 0).bit_length())
    return min(asked, -(-enough // parts) * parts)


def collate(
    examples: Sequence[Example],
    rows: int = 0,
    pad_id: int = 0,
    widths: np.ndarray | None = None,
    target_step: int = 0,
) -> Batch:
    """A batch of at least `rows` rows; missing ones are padding without targets.

    widths: ascending, the padded lengths to choose from; None: a `bucket`. target_step:
    what the number of targets is a multiple of; 0: a quarter of the width, for few
    shapes to compile, and little padding.
    """
    rows = max(rows, len(examples))
    longest = max(len(e) for e in examples)
    if widths is None:
        width = bucket(longest)
    else:
        width = int(widths[np.searchsorted(widths, longest)])
    step = target_step or -(-width // 4)
    count = max(int(np.count_nonzero(e.target_of)) for e in examples)
    targets = -(-max(count, 1) // step) * step

    def empty(columns, value, dtype=np.int32):
        return np.full((rows, columns), value, dtype)

    batch = Batch(
        tokens=empty(width, pad_id),
        position_ids=empty(width, 0),
        branch_ids=empty(width, -1),
        branch_starts=empty(width, 0),
        target_index=empty(targets, 0),
        targets=empty(targets, pad_id),
        target_mask=empty(targets, False, bool),
        target_of=empty(targets, 0),
    )
    for row, example in enumerate(examples):
        for name in ("tokens", "position_ids", "branch_ids", "branch_starts"):
            getattr(batch, name)[row, : len(example)] = getattr(example, name)
        at = np.flatnonzero(example.target_of)
        batch.target_index[row, : len(at)] = at - 1
        batch.targets[row, : len(at)] = example.tokens[at]
        batch.target_mask[row, : len(at)] = True
        batch.target_of[row, : len(at)] = example.target_of[at] - 1
    return batch


def pack(examples: Sequence[Example], width: int) -> list[Example]:
    """Examples side by side in rows of at most `width` tokens, none seeing another.

    First fit, longest first; one that is longer has a row of its own.
    """
    rows: list[list[Example]] = []
    left: list[int] = []
    for each in sorted(examples, key=len, reverse=True):
        room = [i for i, free in enumerate(left) if len(each) <= free]
        if room:
            rows[room[0]].append(each)
            left[room[0]] -= len(each)
        else:
            rows.append([each])
            left.append(width - len(each))
    return [_side_by_side(row) for row in rows]


def _side_by_side(examples: Sequence[Example]) -> Example:
    """Each one with its own trunk, and the ids of all."""
    before = np.cumsum([0, *(len(e.ids) for e in examples)])
    owners = [
        np.where(e.target_of > 0, e.target_of + n, 0).astype(np.int32)
        for e, n in zip(examples, before, strict=False)
    ]
    branches = [e.branch_ids + n * BRANCHES for n, e in enumerate(examples)]
    return Example(
        tokens=np.concatenate([e.tokens for e in examples]),
        position_ids=np.concatenate([e.position_ids for e in examples]),
        branch_ids=np.concatenate(branches),
        branch_starts=np.concatenate([e.branch_starts for e in examples]),
        target_of=np.concatenate(owners),
        ids=tuple(name for e in examples for name in e.ids),
    )


class Batches:
    """Step -> batch over any number of epochs; the same for the same arguments.

    Batches have one of `widths` padded lengths: with more of them less is padding, and
    more programs are compiled. branches: how many of each example are drawn anew in
    every epoch, 0: all. parts: what the rows of a batch are a multiple of, as
    batch_size is.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_size: int,
        seed: int,
        widths: int = 8,
        branches: int = 0,
        parts: int = 1,
    ):
        self._examples = examples
        self._batch_size = batch_size
        self._rows = rows_of(batch_size, len(examples), parts)
        self._seed = seed
        self._branches = branches
        self._plan: tuple[int, list[np.ndarray]] = (-1, [])
        lengths = self._lengths(0)
        # What another epoch draws may be longer.
        longest = max(longest_drawn(e, branches) for e in examples)
        lengths[np.argmax(lengths)] = longest
        self._widths = best_widths(lengths, widths)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self._examples) // self._batch_size)

    def __call__(self, step: int) -> Batch:
        """The batch of update `step`, counted from 0 over all epochs."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._plan[0] != epoch:
            lengths = self._lengths(epoch)
            order = epoch_order(lengths, self._batch_size, self._seed, epoch)
            self._plan = (epoch, order)
        chosen = [self._drawn(epoch, i) for i in self._plan[1][index]]
        return collate(chosen, self._rows, widths=self._widths)

    def _lengths(self, epoch: int) -> np.ndarray:
        return np.array(
            [len(self._drawn(epoch, i)) for i in range(len(self._examples))]
        )

    def _drawn(self, epoch: int, index: int) -> Example:
        if not self._branches:
            return self._examples[index]
        rng = np.random.default_rng([self._seed, epoch, index])
        return draw_branches(self._examples[index], self._branches, rng)


def longest_drawn(example: Example, branches: int) -> int:
    """Tokens of the example with its longest branches, so many; 0: with all."""
    of = example.branch_ids
    tokens = np.bincount(of)
    if not branches or len(tokens) - 1 <= branches:
        return len(example)
    return int(tokens[0] + np.sort(tokens[1:])[-branches:].sum())


def draw_branches(example: Example, number: int, rng: np.random.Generator) -> Example:
    """At most so many of the example's branches, and the trunk as far as they need it.

    An example without branches stays what it is.
    """
    of = example.branch_ids
    branches = np.unique(of[of > 0])
    if len(branches) <= number:
        return example
    chosen = np.isin(of, rng.choice(branches, number, replace=False))
    needed = example.branch_starts[chosen].max()
    kept = chosen | ((of == 0) & (example.position_ids < needed))
    columns = [f.name for f in dataclasses.fields(Example) if f.name != "ids"]
    parts = {name: getattr(example, name)[kept] for name in columns}
    return dataclasses.replace(example, **parts)


def epoch_order(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Which examples form which batch: every one once, like lengths together."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    span = batch_size * WINDOW
    batches = []
    for start in range(0, len(order), span):
        window = order[start : start + span]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [
            window[at : at + batch_size] for at in range(0, len(window), batch_size)
        ]
    return [batches[i] for i in rng.permutation(len(batches))]


class InstanceBatches:
    """Step -> the instances of an update: every one once an epoch, in a seeded order.

    batching: "dialogue" takes dialogues in that order, turn by turn; "instance" knows
    no dialogues.
    """

    def __init__(
        self, dialogues: Sequence[Dialogue], size: int, seed: int, batching: str
    ):
        groups = [list(dialogue.instances()) for dialogue in dialogues]
        if batching == "instance":
            groups = [[instance] for group in groups for instance in group]
        self._size = size
        self._number = sum(map(len, groups))

        def order(epoch: int) -> list[Instance]:
            shuffled = np.random.default_rng([seed, epoch]).permutation(len(groups))
            return [instance for i in shuffled for instance in groups[i]]

        self._order = functools.lru_cache(maxsize=2)(order)

    @property
    def epoch(self) -> float:
        """Updates that read every instance once: a batch may reach into the next."""
        return self._number / self._size

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.epoch)

    def __call__(self, step: int) -> list[Instance]:
        """The batch of update `step`, counted from 0 over all epochs."""
        first = step * self._size
        places = [divmod(first + i, self._number) for i in range(self._size)]
        return [self._order(epoch)[i] for epoch, i in places]
