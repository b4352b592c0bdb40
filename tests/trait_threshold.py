"""Which similarity makes two sentences one trait: settled by pairs labelled by hand.

python -m tests.trait_threshold ../shared/data/personachat

tests/inference/trait_pairs.json holds 200 labelled pairs of PersonaChat's validation
split by reference: [version, dialogue, whose, sentence], whose being "partner" for the
partner persona or the number of an utterance, of which a sentence that speaks of its
speaker is meant. They were drawn by a seed, evenly over similarities of 0.30 to 0.99:
80 of two partner personas of different dialogues, 60 of what a partner said and their
persona, 60 of a revised persona and the original one. They were labelled by one reader
who did not see the similarities: 1 where who knows one sentence of a person would call
the other one true of them and about the same fact; more or less detail is no
difference, another colour, number or pet is one.

The threshold is the one of the best balanced accuracy on every second pair, of 0.40,
0.45, ...; told is how it does on the others.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppg_jax.data import personachat
from ppg_jax.data.sentences import sentences
from ppg_jax.inference.embedding import Encoder

PAIRS = Path(__file__).with_name("inference") / "trait_pairs.json"
TRIED = np.arange(40, 95, 5) / 100


class Agreement(NamedTuple):
    """How a threshold agrees with the labels."""

    accuracy: float
    balanced: float
    precision: float
    recall: float
    kappa: float


def read(folder: Path) -> tuple[list[tuple[str, str]], np.ndarray]:
    """The sentences of each pair, and whether they are one trait: bool [N]."""
    splits = {
        version: personachat.read(Path(folder) / f"valid_both_{version}_no_cands.txt")
        for version in ("original", "revised")
    }
    pairs = json.loads(PAIRS.read_text(encoding="utf-8"))["pairs"]
    texts = [(_text(splits, p["a"]), _text(splits, p["b"])) for p in pairs]
    return texts, np.array([p["same"] for p in pairs], bool)


def _text(splits, reference: list) -> str:
    version, number, whose, sentence = reference
    dialogue = splits[version][number]
    if whose == "partner":
        return dialogue.partner_persona[sentence]
    return of_speaker(sentences(dialogue.utterances[whose])[sentence])


def of_speaker(sentence: str) -> str:
    """From its first-person word on, as the control that copies has it."""
    words = sentence.split()
    first = [n for n, word in enumerate(words) if word.lower() in ("i", "my")]
    return " ".join(words[first[0] :])


def similarities(texts: list[tuple[str, str]]) -> np.ndarray:
    encoder = Encoder.load()
    ours, theirs = map(encoder, zip(*texts, strict=True))
    return (ours * theirs).sum(axis=1)


def agreement(found: np.ndarray, same: np.ndarray) -> Agreement:
    right = (found & same).sum()
    accuracy = (found == same).mean()
    by_chance = found.mean() * same.mean() + (1 - found.mean()) * (1 - same.mean())
    specificity = (~found & ~same).sum() / (~same).sum()
    return Agreement(
        float(accuracy),
        float((right / same.sum() + specificity) / 2),
        float(right / found.sum()),
        float(right / same.sum()),
        float((accuracy - by_chance) / (1 - by_chance)),
    )


def settled(similar: np.ndarray, same: np.ndarray) -> float:
    """The threshold of the best balanced accuracy on every second pair."""
    half = slice(0, None, 2)
    found = [agreement(similar[half] >= t, same[half]).balanced for t in TRIED]
    return float(TRIED[int(np.argmax(found))])


def main(folder: str) -> None:
    texts, same = read(Path(folder))
    similar = similarities(texts)
    threshold = settled(similar, same)
    print(f"threshold {threshold:.2f}; {same.sum()} of {len(same)} pairs are one trait")
    for name, half in [
        ("chosen on", slice(0, None, 2)),
        ("checked on", slice(1, None, 2)),
    ]:
        told = agreement(similar[half] >= threshold, same[half])._asdict()
        numbers = ", ".join(f"{key} {value:.3f}" for key, value in told.items())
        print(f"{name} {len(same[half])}: {numbers}")


if __name__ == "__main__":
    main(sys.argv[1])
