"""What a corpus holds: counts, lengths, repetitions and leaks between its splits.

A profile is one speaker's persona. Two profiles are the same when their sentences
are, in any order: PersonaChat shuffles them from dialogue to dialogue.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ppg_jax.data.dialogue import Dialogue


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Token counts of the texts of one kind."""

    mean: float
    p50: float
    p99: float
    max: int


@dataclasses.dataclass(frozen=True)
class SplitAudit:
    """The figures of one split; `*_in_train` count what the train split has, too."""

    dialogues: int
    instances: int
    self_sentences: float  # mean per dialogue
    partner_sentences: float
    context_utterances: float  # mean per instance, the response not counted
    instance_length: Lengths  # both profiles, context and response
    profile_length: Lengths  # of both speakers
    response_length: Lengths
    profiles: int  # distinct, of both speakers
    exact_duplicate_profiles: int  # profiles that repeat another, order included
    sentences: int  # distinct persona sentences
    duplicate_dialogues: int  # dialogues that repeat the utterances of another
    profiles_in_train: int
    sentences_in_train: int
    dialogues_in_train: int


def audit(
    splits: Mapping[str, Sequence[Dialogue]],
    tokenize: Callable[[str], Sequence] = str.split,
) -> dict[str, SplitAudit]:
    """The figures of every split.

    `tokenize` turns a text into its tokens. Lengths count the texts alone, without
    the prefixes and separators that a prompt puts between them.
    """
    # The same utterance stands in many instances, and a profile in many dialogues.
    length = functools.cache(lambda text: len(tokenize(text)))
    contents = {name: _Contents(dialogues) for name, dialogues in splits.items()}
    train = contents.get("train", _Contents(()))
    return {
        name: _audit_split(splits[name], content, train, length)
        for name, content in contents.items()
    }


class _Contents:
    """The distinct things of a split."""

    def __init__(self, dialogues):
        personas = [p for d in dialogues for p in (d.self_persona, d.partner_persona)]
        profiles = [persona for persona in personas if persona]
        self.exact_duplicate_profiles = len(profiles) - len(set(profiles))
        self.profiles = set(map(frozenset, profiles))
        self.sentences = {s for persona in personas for s in persona}
        self.dialogues = {d.utterances for d in dialogues}


def _audit_split(dialogues, content, train, length) -> SplitAudit:
    contexts, instance_lengths, profile_lengths, response_lengths = [], [], [], []
    for dialogue in dialogues:
        personas = (dialogue.self_persona, dialogue.partner_persona)
        # Plain dialogues have none, and none is no profile of length 0.
        profiles = [length(" ".join(persona)) for persona in personas if persona]
        utterances = np.array([length(u) for u in dialogue.utterances], dtype=int)
        ends = sum(profiles) + np.cumsum(utterances)
        responses = list(dialogue.response_indices())
        contexts.extend(responses)
        profile_lengths.extend(profiles)
        instance_lengths.extend(ends[responses])
        response_lengths.extend(utterances[responses])
    elsewhere = _Contents(()) if content is train else train
    return SplitAudit(
        dialogues=len(dialogues),
        instances=len(contexts),
        self_sentences=_mean([len(d.self_persona) for d in dialogues]),
        partner_sentences=_mean([len(d.partner_persona) for d in dialogues]),
        context_utterances=_mean(contexts),
        instance_length=_lengths(instance_lengths),
        profile_length=_lengths(profile_lengths),
        response_length=_lengths(response_lengths),
        profiles=len(content.profiles),
        exact_duplicate_profiles=content.exact_duplicate_profiles,
        sentences=len(content.sentences),
        duplicate_dialogues=len(dialogues) - len(content.dialogues),
        profiles_in_train=len(content.profiles & elsewhere.profiles),
        sentences_in_train=len(content.sentences & elsewhere.sentences),
        dialogues_in_train=len(content.dialogues & elsewhere.dialogues),
    )


def _mean(values) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _lengths(values) -> Lengths:
    if not len(values):
        return Lengths(0.0, 0.0, 0.0, 0)
    p50, p99 = np.percentile(values, [50, 99])
    return Lengths(_mean(values), float(p50), float(p99), int(max(values)))


def table(audits: Mapping[str, SplitAudit], unit: str) -> str:
    """A text table, one column a split; `unit` says what the lengths count."""
    rows = [("", *audits)]
    rows += [(label, *map(cell, audits.values())) for label, cell in _rows(unit)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for label, *cells in rows:
        cells = [c.rjust(w) for c, w in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([label.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _rows(unit):
    def lengths(name):
        def cell(a):
            n = getattr(a, name)
            return f"{n.mean:.2f} / {n.p50:.0f} / {n.p99:.0f} / {n.max}"

        return cell

    statistics = f"in {unit}: mean / p50 / p99 / max"
    return [
        ("dialogues", lambda a: f"{a.dialogues:,}"),
        ("instances", lambda a: f"{a.instances:,}"),
        (
            "persona sentences, self / partner (mean)",
            lambda a: f"{a.self_sentences:.3f} / {a.partner_sentences:.3f}",
        ),
        ("context utterances (mean)", lambda a: f"{a.context_utterances:.2f}"),
        (f"instance {statistics}", lengths("instance_length")),
        (f"profile {statistics}", lengths("profile_length")),
        (f"response {statistics}", lengths("response_length")),
        ("distinct profiles", lambda a: f"{a.profiles:,}"),
        ("  exact duplicates", lambda a: f"{a.exact_duplicate_profiles:,}"),
        ("  also in train", lambda a: f"{a.profiles_in_train:,}"),
        ("distinct persona sentences", lambda a: f"{a.sentences:,}"),
        ("  also in train", lambda a: f"{a.sentences_in_train:,}"),
        ("duplicate dialogues", lambda a: f"{a.duplicate_dialogues:,}"),
        ("  also in train", lambda a: f"{a.dialogues_in_train:,}"),
    ]
