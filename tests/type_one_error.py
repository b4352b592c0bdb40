"""How often a test at 0.05 finds a difference where there is none, on real personas.

python -m tests.type_one_error ../shared/data/personachat

Two systems say one training profile each, whatever they are asked, and are scored
against the partner personas of PersonaChat's test split. Two nulls make them equal:

population  the difference of the two is centred on its mean over the split; a test set
            is 100 base personas drawn from the split's, with all their dialogues, or
            320 of these. So the systems are equal where the personas come from, and one
            is ahead on each test set by chance alone.
sign        the split as it is; for each base persona a coin says which of the two
            systems is which. So neither is the better one by construction.

Both draw whole base personas, since a persona is what a system fits or does not fit.

Measured (400 trials, so give or take 0.025; dialogues swapped, then base personas):

         population    320 of it     sign          320 of it
ROUGE-L  0.365 0.035   0.212 0.045   0.412 0.045   0.230 0.040
BLEU-4   0.542 0.180   0.383 0.215   0.595 0.052   0.370 0.055

BLEU of a persona that one in a hundred shares four words with is so skewed that its
mean is not known from a hundred: there a small p says that the systems differ on these
personas, not on others. Axes: D dialogues, G base personas, P pairs of systems.
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ppg_jax.data import personachat
from ppg_jax.data.dialogue import profile_text
from ppg_jax.metrics.bleu_rouge import parlai_bleu, rouge_l
from ppg_jax.metrics.clusters import base_personas
from ppg_jax.metrics.significance import paired_permutation

PAIRS, TRIALS, RESAMPLES, LEVEL = 20, 400, 500, 0.05
NULLS = ("population", "sign")
METRICS = {
    "ROUGE-L": lambda texts, gold: rouge_l(texts, gold, "parlai-f"),
    "BLEU-4": parlai_bleu,
}


@dataclasses.dataclass(frozen=True)
class Split:
    """Scores of the constant personas, and whom they are about."""

    scores: np.ndarray  # [D, P, 2]
    turns: np.ndarray  # [D]; instances, which all have their dialogue's score
    personas: np.ndarray  # [D]; the base persona


def read(folder: Path, metric: str) -> Split:
    train, test = (
        personachat.read(Path(folder) / f"{name}_both_original_no_cands.txt")
        for name in ("train", "test")
    )
    profiles = sorted({profile_text(d.partner_persona) for d in train})
    drawn = np.random.default_rng(0).choice(len(profiles), 2 * PAIRS, replace=False)
    gold = [profile_text(d.partner_persona) for d in test]
    different = list(dict.fromkeys(gold))
    row = {text: i for i, text in enumerate(different)}
    columns = [
        METRICS[metric]([profiles[i]] * len(different), different) for i in drawn
    ]
    scores = np.stack(columns, axis=1)[[row[text] for text in gold]]
    return Split(
        scores.reshape(len(test), PAIRS, 2),
        np.array([len(d.response_indices()) for d in test]),
        base_personas([d.partner_persona for d in test]),
    )


def draws(split: Split, null: str, dialogues: int = 0) -> Iterator[tuple]:
    """(a, b, base personas) of each trial: summed columns [D, 2] and groups [D]."""
    rng = np.random.default_rng(0)
    draw = {"population": _population, "sign": _sign}[null]
    for trial in range(TRIALS):
        a, b, rows, groups = draw(split, split.scores[:, trial % PAIRS], rng)
        kept = rng.permutation(len(rows))[: dialogues or None]
        turns = split.turns[rows[kept]]
        a, b = (np.stack([x[kept] * turns, turns], axis=1) for x in (a, b))
        yield a, b, groups[kept]


def _population(split: Split, scores: np.ndarray, rng):
    a, b = scores.T
    a = a - ((a - b) @ split.turns) / split.turns.sum()
    number = split.personas.max() + 1
    members = [np.flatnonzero(split.personas == g) for g in range(number)]
    drawn = [members[g] for g in rng.integers(number, size=number)]
    rows = np.concatenate(drawn)
    # A base persona that is drawn twice is two, as in the population.
    groups = np.repeat(np.arange(number), [len(rows) for rows in drawn])
    return a[rows], b[rows], rows, groups


def _sign(split: Split, scores: np.ndarray, rng):
    swap = rng.integers(2, size=split.personas.max() + 1, dtype=bool)[split.personas]
    a, b = np.where(swap[:, None], scores[:, ::-1], scores).T
    return a, b, np.arange(len(scores)), split.personas


def rates(split: Split, null: str, dialogues: int = 0) -> dict[str, float]:
    """{what is swapped whole: share of the trials with p at most 0.05}."""
    found = {"dialogue": 0, "base persona": 0}
    for trial, (a, b, personas) in enumerate(draws(split, null, dialogues)):
        units = {"dialogue": np.arange(len(a)), "base persona": personas}
        for name, groups in units.items():
            drawn = {"resamples": RESAMPLES, "seed": trial}
            p = paired_permutation([a], [b], groups=groups, **drawn)
            found[name] += p <= LEVEL
    return {name: count / TRIALS for name, count in found.items()}


def main(folder: Path) -> None:
    for metric in METRICS:
        split = read(folder, metric)
        for null in NULLS:
            for dialogues in (0, 320):
                told = ", ".join(
                    f"{name} {rate:.3f}"
                    for name, rate in rates(split, null, dialogues).items()
                )
                print(f"{metric}, {null}, {dialogues or 'all'} dialogues: {told}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
