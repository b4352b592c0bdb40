"""The paper's case studies, Tables 2, 3 and 8: drawn by a seed, and not chosen.

Each case is of another dialogue. Sentences of generated personas are marked: ° training
said it verbatim, ^ the speaker's own persona has it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppg_jax.errors import printable
from ppg_jax.files import write_text
from ppg_jax.metrics import distinct
from ppg_jax.report import paper
from ppg_jax.report.predictions import Predictions
from ppg_jax.report.tables import comma_separated, table

CASES = {"table2": 4, "table3": 3, "table8": 17}  # as many as the paper has
_TITLES = {
    "table2": "Table 2: responses, with what tells most of the context's end",
    "table3": "Table 3: generated partner personas beside gold ones",
    "table8": "Table 8: generated partner personas",
}
_LEGEND = "° training said this sentence verbatim; ^ the speaker's own persona has it."


def write(folder: Path, name: str, predictions: Predictions, seed: int) -> list[Path]:
    """NAME.md and NAME.csv; nothing where a row of it was not evaluated."""
    made = {"table2": _responses, "table3": _beside_gold, "table8": _profiles}[name]
    drawn = _drawn(predictions, CASES[name], seed)
    found = made(predictions, drawn)
    if found is None:
        return []
    head, lines = found
    told = (
        f"{len(lines)} of {len(predictions.instances):,} instances, drawn by seed "
        f"{seed}, each of another dialogue. {_LEGEND}"
    )
    parts = [f"# {_TITLES[name]}", told, table(head, lines, texts=len(head))]
    markdown, numbers = (folder / f"{name}.{ending}" for ending in ("md", "csv"))
    write_text(markdown, printable("\n\n".join(parts)) + "\n")
    write_text(numbers, comma_separated([head, *lines]))
    return [markdown, numbers]


def _drawn(predictions: Predictions, count: int, seed: int) -> list[int]:
    """Instances whose partner has a persona, of as many dialogues."""
    found: dict[str, int] = {}
    order = np.random.default_rng(seed).permutation(len(predictions.instances))
    for row in map(int, order):
        instance = predictions.instances[row]
        if instance["partner_persona"]:
            found.setdefault(instance["dialogue"], row)
    return list(found.values())[:count]


def _responses(predictions: Predictions, drawn: Sequence[int]):
    records = predictions.records["responses"]
    full, ours = paper.SHOWN["table2"]
    if not {full, ours} <= records.keys():
        return None
    lines = []
    for row in drawn:
        instance, answer = predictions.instances[row], records[ours][row]
        said = instance["context"][-1] if instance["context"] else ""
        generated = _sentences(answer["partner_persona"] or "")
        lines.append(
            [
                said,
                _nearest(instance["partner_persona"], said),
                _marked(predictions, row, [_nearest(generated, said)]),
                answer["response"],
                records[full][row]["response"],
                instance["response"],
            ]
        )
    labels = [predictions.rows["responses"][name].label for name in (ours, full)]
    head = ["context", "gold partner", "generated partner", *labels, "human"]
    return head, lines


def _beside_gold(predictions: Predictions, drawn: Sequence[int]):
    found = _generated(predictions)
    if found is None:
        return None
    lines = [
        [
            _marked(predictions, row, _sentences(found[row]["persona"])),
            predictions.gold_personas[row],
        ]
        for row in drawn
    ]
    return ["generated partner persona", "gold partner persona"], lines


def _profiles(predictions: Predictions, drawn: Sequence[int]):
    found = _generated(predictions)
    if found is None:
        return None
    lines = [
        [_marked(predictions, row, _sentences(found[row]["persona"]))] for row in drawn
    ]
    return ["generated partner persona"], lines


def _generated(predictions: Predictions) -> list[dict] | None:
    (name,) = paper.SHOWN["table3"]
    return predictions.records["personas"].get(name)


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


def _nearest(sentences: Sequence[str], said: str) -> str:
    """The first of those that have most words in common with what was said."""
    words = set(distinct.word_punct(said.lower()))
    common = [len(words & set(distinct.word_punct(s.lower()))) for s in sentences]
    return sentences[int(np.argmax(common))] if sentences else ""


def _marked(predictions: Predictions, row: int, sentences: Sequence[str]) -> str:
    """The sentences as one text, each with its marks."""
    own = predictions.instances[row]["self_persona"]
    marked = list(sentences)
    for mark, known in (("°", predictions.training_sentences), ("^", own)):
        for i, (new, said) in enumerate(distinct.novelty_columns(sentences, known)):
            marked[i] += mark if said and not new else ""
    return " ".join(marked)
