"""Prompts that begin alike: found, so that what they have in common is read once.

Axes: B branches, F trunks, W tail tokens; G branches of one trunk.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ppg_jax.data.passes import Example, example

# Behind the turns that contexts of a dialogue have in common, a persona prompt has the
# cue of the partner, a few tokens; this leaves room, and costs little to read.
TAIL = 16


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
    members = np.zeros((trunks, power_of_two(max(map(len, groups)))), np.int32)
    for places, group in zip(members, groups, strict=True):
        places[: len(group)] = group
    return Branches(
        np.array(rows, np.int32),
        np.array(shared, np.int32),
        members,
        *pad_left(tails, width, pad_id),
    )


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
            shared = shared_with(arrays[family.trunk], mine)
            if len(mine) - shared <= TAIL:
                family.members.append((i, shared))
                break
        else:
            family = Family(i, [(i, max(len(mine) - 1, 0))])
            found.append(family)
            for end in range(TAIL, len(mine), TAIL):
                begun.setdefault(mine[:end].tobytes(), []).append(family)
    return found


def joined(examples: Sequence[Example]) -> list[Example]:
    """The same targets in fewer passes: prompts of a family are read once.

    examples: each a prompt and its target. A pass has about three times the tokens of
    its longest prompt at most.
    """
    prompts = [e.tokens[: np.flatnonzero(e.target_of)[0]] for e in examples]
    made: list[Example] = []
    for family in families(prompts):
        members, room = [], 0
        for i, shared in family.members:
            room -= len(examples[i]) - shared
            if room < 0:
                members.append([])
                room = 2 * len(prompts[family.trunk])
            members[-1].append((i, shared))
        trunk = prompts[family.trunk]
        made += [_one_pass(examples, prompts, trunk, part) for part in members]
    return made


def _one_pass(examples, prompts, trunk, members) -> Example:
    if len(members) == 1:
        return examples[members[0][0]]
    branches = []
    for number, (i, shared) in enumerate(members, 1):
        prompt, whole = prompts[i], examples[i].tokens
        rest = (prompt[shared:], 0), (whole[len(prompt) :], number)
        branches.append((shared, rest))
    names = tuple(name for i, _ in members for name in examples[i].ids)
    return example([(trunk, 0)], branches, names)


def shared_with(trunk: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens of a prompt, the last one not counted, are those of a trunk."""
    before = min(len(trunk), len(prompt) - 1)
    same = np.asarray(trunk[:before]) == np.asarray(prompt[:before])
    return before if same.all() else int(same.argmin())


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


def power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
