"""Which profiles are one persona: the unit that a test of personas resamples.

PersonaChat's dialogues are no independent evidence: its crowd workers played a hundred
base personas a split, mostly with a sentence left out or in another order, so that one
gold persona recurs in about ten dialogues, and a system that fits it is right ten
times. Axes: N profiles.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SHARED = 2  # sentences that make two profiles one; a single one recurs by chance


class Unit(NamedTuple):
    """What is resampled: its name, and the group of each instance [N]."""

    name: str  # "base persona" or "dialogue"
    groups: np.ndarray

    @property
    def count(self) -> int:
        return len(np.unique(self.groups))


def unit(dialogues: Sequence[str], profiles: Sequence[Sequence[str]]) -> Unit:
    """The unit of instances with these dialogues and these profiles, [N] each.

    Base personas, and so never less than a whole dialogue. Where the profiles are of so
    few sentences that chance links more than half of the dialogues, nobody was given a
    persona twice on purpose, and dialogues are the unit.
    """
    profile_of = dict(zip(dialogues, profiles, strict=True))
    personas = base_personas(list(profile_of.values()))
    name = "base persona"
    if 2 * np.bincount(personas).max() > len(personas):
        name, personas = "dialogue", np.arange(len(personas))
    group_of = dict(zip(profile_of, personas, strict=True))
    return Unit(name, np.array([group_of[dialogue] for dialogue in dialogues]))


def base_personas(profiles: Sequence[Sequence[str]]) -> np.ndarray:
    """The base persona of each profile: int [N], numbered from 0 as they first occur.

    Two profiles are of one if they are equal as sets, if they share `SHARED` sentences
    (`normalized`), or if others link them so. A profile without sentences is of its
    own. Time grows with N, however many profiles have a sentence.
    """
    sets = [frozenset(map(normalized, profile)) - {""} for profile in profiles]
    parent = list(range(len(sets)))  # a forest, whose roots are the earliest members
    first_with: dict[frozenset[str], int] = {}
    for i, sentences in enumerate(sets):
        if sentences and first_with.setdefault(sentences, i) == i:
            for shared in itertools.combinations(sorted(sentences), SHARED):
                _link(parent, i, first_with.setdefault(frozenset(shared), i))
    roots = [
        _root(parent, first_with[sentences]) if sentences else i
        for i, sentences in enumerate(sets)
    ]
    numbers = {root: number for number, root in enumerate(dict.fromkeys(roots))}
    return np.array([numbers[root] for root in roots], np.int64)


def normalized(sentence: str) -> str:
    """A sentence as profiles are compared: lower case, no punctuation at its end."""
    return sentence.strip().lower().rstrip(" .!?")


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


def _link(parent: list[int], i: int, j: int) -> None:
    low, high = sorted((_root(parent, i), _root(parent, j)))
    parent[high] = low
