"""Does a row heed what it is given? Its own gold answer, given what is a stranger's.

Of a persona generator: the gold partner persona, given its own conversation and another
dialogue's that is as long. Of a response generator: the gold response, given the gold
partner persona and another dialogue's. What is not swapped stays as it is, the order of
gold sentences too: it is that of the own conversation.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ppg_jax.data.dialogue import Instance, dialogue_of
from ppg_jax.metrics.clusters import normalized
from ppg_jax.systems.system import Answers, Asking, System

FIRST = 16  # instances that tell whether a row heeds anything
SWAPPED = {"personas": "context", "responses": "partner_persona"}  # by kind of row


def chosen(asked: Sequence[Instance], dialogues: int, seed: int) -> list[Instance]:
    """All instances of so many dialogues, which the seed draws; in the order asked."""
    names = list(dict.fromkeys(dialogue_of(instance.id) for instance in asked))
    drawn = np.random.default_rng(seed).permutation(len(names))[:dialogues]
    taken = {names[i] for i in drawn}
    return [instance for instance in asked if dialogue_of(instance.id) in taken]


def strangers(
    some: Sequence[Instance], among: Sequence[Instance], seed: int
) -> list[Instance | None]:
    """For each of `some` one with as long a conversation, of another pair of personas.

    The two are of different dialogues, which have no persona sentence in common, of
    whichever side. None where there is no such instance.
    """
    pools: dict[int, list[Instance]] = {}
    for instance in among:
        pools.setdefault(len(instance.context), []).append(instance)
    rng = np.random.default_rng(seed)
    return [_stranger(i, pools.get(len(i.context), []), rng) for i in some]


def _stranger(instance: Instance, pool: Sequence[Instance], rng) -> Instance | None:
    start, mine = rng.integers(max(len(pool), 1)), _sentences(instance)
    for other in (*pool[start:], *pool[:start]):
        same = dialogue_of(other.id) == dialogue_of(instance.id)
        if not (same or mine & _sentences(other)):
            return other
    return None


def _sentences(instance: Instance) -> frozenset[str]:
    both = instance.self_persona + instance.partner_persona
    return frozenset(map(normalized, both))


def records(
    row: System, asking: Asking, some: Sequence[Instance], others: Sequence[Instance]
) -> list[dict] | None:
    """NLL of the gold answers, in nats, and given what the others have (`nll_other`).

    None for a row that has no likelihood, or that heeds nothing that is swapped.
    """
    answers = row.given_gold.load(asking)
    if row.kind == "personas":
        answers, some = answers.in_order(some)
    pairs = zip(some, others, strict=True)
    altered = [_altered(row.kind, *pair) for pair in pairs]
    if not _heeds(answers, some[:FIRST], altered[:FIRST]):
        return None
    triples = zip(
        some, others, answers.score(some), answers.score(altered), strict=True
    )
    return [
        {
            "id": instance.id,
            "other": other.id,
            "nll": own.nll,
            "nll_other": swapped.nll,
            "tokens": own.tokens,
            "tokens_other": swapped.tokens,  # another number where one was cut
        }
        for instance, other, own, swapped in triples
    ]


def _altered(kind: str, instance: Instance, other: Instance) -> Instance:
    # By another name: what a row knows of the instance is not asked for this one.
    field, name = SWAPPED[kind], f"{instance.id}, of {other.id}"
    return dataclasses.replace(instance, id=name, **{field: getattr(other, field)})


def _heeds(answers: Answers, some, altered) -> bool:
    own, swapped = answers.score(some), answers.score(altered)
    if not own or not swapped:
        return False
    nlls = [[score.nll for score in scores] for scores in (own, swapped)]
    return not np.allclose(*nlls, rtol=1e-4)  # rounding is no heed
