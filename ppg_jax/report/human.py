"""The paper's Tables 5 and 6: what people are asked, and what their votes show.

NAME_questions.csv goes to the raters, who never see which answer is whose;
NAME_key.json knows. Votes come back as NAME_votes.csv with the columns item, criterion,
rater and choice (A or B), and the table is made of them.
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ppg_jax.errors import UserError
from ppg_jax.files import (
    read_json,
    require_file,
    understood,
    write_json,
    write_text,
)
from ppg_jax.metrics import significance
from ppg_jax.metrics import votes as counted
from ppg_jax.metrics.votes import Votes
from ppg_jax.report import paper
from ppg_jax.report.predictions import TEXTS, Predictions
from ppg_jax.report.tables import comma_separated, p_value, table

ITEMS = 200  # as the paper has
_QUESTIONS = {
    "appropriateness": "Which reply fits better to what was said before?",
    "informativeness": "Which reply has more content?",
    "engagingness": "With which of the two would you rather go on talking?",
    "human-likeness": "Which of the two sounds more like a person?",
    "coherence": "In which of the two do the sentences fit together better?",
    "interestingness": "Which of the two is more interesting and varied?",
}
NAMES = {"table5": "responses", "table6": "personas"}
_MARK = "\ufeff"  # by which spreadsheets know UTF-8
_VOTED = ("item", "criterion", "rater", "choice")


def write(folder: Path, name: str, predictions: Predictions, seed: int) -> list[Path]:
    """Questions and key, and of the votes, if there are any, a table; nothing where a
    row of it was not evaluated. What is asked already stays: people may have it.

    Raises UserError for votes that are none, or that were given to other questions.
    """
    kind = NAMES[name]
    if not {*paper.SHOWN[name]} <= predictions.records[kind].keys():
        return []
    questions, key = _asked(name, predictions, seed)
    paths = [folder / f"{name}_{part}" for part in ("questions.csv", "key.json")]
    voted = folder / f"{name}_votes.csv"
    text = comma_separated(questions)
    key["questions"] = hashlib.sha256(text.encode()).hexdigest()
    again = f"move {voted if voted.exists() else paths[1]} away to ask anew"
    known = read_json(paths[1], f"{again}.") if paths[1].exists() else key
    with understood(paths[1], f"{again}."):
        same = known["questions"] == key["questions"]
    if not same and voted.exists():
        raise UserError(
            f"{voted} has votes on other questions than these runs would ask; {again}, "
            "or give the runs that were asked about."
        )
    if not same:
        print(f"{name}: {paths[0]} asks about other runs, and stays; {again}.")
        return paths
    write_text(paths[0], _MARK + text)
    write_json(paths[1], key)
    labels = [predictions.rows[kind][row].label for row in paper.SHOWN[name]]
    told = _table(folder, name, voted, key, labels) if voted.exists() else []
    return paths + told


def _asked(name: str, predictions: Predictions, seed: int) -> tuple[list, dict]:
    """Lines of the questionnaire, and which of A and B is the second row's."""
    kind, rng = NAMES[name], np.random.default_rng(seed)
    other, ours = (predictions.records[kind][row] for row in paper.SHOWN[name])
    field = TEXTS[kind]
    order = rng.permutation(len(ours)).tolist()
    # Where both say the same there is nothing to choose.
    unlike = [row for row in order if other[row][field] != ours[row][field]][:ITEMS]
    lines, key = [["item", "criterion", "question", "context", "A", "B"]], {}
    for item, row in enumerate(unlike, 1):
        context = "\n".join(predictions.instances[row]["context"])
        for criterion in paper.VOTES[name]:
            pair = [ours[row][field], other[row][field]]
            first = bool(rng.integers(2))
            key[f"{item} {criterion}"] = "A" if first else "B"
            shown = pair if first else pair[::-1]
            lines.append([item, criterion, _QUESTIONS[criterion], context, *shown])
    return lines, {"wins": key, "instances": [ours[row]["id"] for row in unlike]}


def _table(
    folder: Path, name: str, voted: Path, key: Mapping, labels: Sequence[str]
) -> list[Path]:
    """The table of the votes as Markdown and CSV."""
    criteria = list(paper.VOTES[name])
    votes = {criterion: _votes(voted, criterion, key["wins"]) for criterion in criteria}
    tests = {c: counted.sign_test(v) for c, v in votes.items() if v.items}
    if not tests:
        print(f"{voted}: holds no vote yet.")
        return []
    corrected = significance.holm([test.p for test in tests.values()])
    lines = [
        [c, *_numbers(votes[c], tests[c]), p, paper.VOTES[name][c], _papers_p(name, c)]
        for c, p in zip(tests, corrected, strict=True)
    ]
    head = ["criterion", "votes", "raters", "won", "low", "high", "items won", "lost"]
    head += ["tied", "kappa", "p (Holm)", "paper: won", "paper: p of its votes"]
    items = min(len({*votes[c].items}) for c in tests)
    found = counted.detectable(items, level=0.05 / len(tests))
    told = (
        f"Share of votes for {labels[1]} against {labels[0]}, "
        "in percent, its 95 % interval over items and raters, the exact sign test of "
        "the items by their majority, Holm's correction, and Fleiss' kappa. With "
        f"{items} items voted on, {_percent(found)} found in four of five studies at "
        f"that correction's strictest level, 0.05 / {len(tests)}. The paper's: "
        f"{paper.VOTES_EACH} votes a criterion, taken here as if independent, which "
        "three votes on one item are not."
    )
    shown = [[tell(v) for tell, v in zip(_TOLD, line, strict=True)] for line in lines]
    markdown, numbers = (folder / f"{name}.{ending}" for ending in ("md", "csv"))
    title = f"# Table {name[-1]}: what people chose"
    write_text(markdown, "\n\n".join([title, told, table(head, shown)]) + "\n")
    write_text(numbers, comma_separated([head, *lines]))
    return [markdown, numbers]


def _numbers(votes: Votes, test: counted.Sign) -> list:
    won = [100 * value for value in counted.share(votes)]
    raters = len({*votes.raters})
    kappa = counted.fleiss_kappa(votes)
    return [len(votes.won), raters, *won, test.wins, test.losses, test.ties, kappa]


def _papers_p(name: str, criterion: str) -> float:
    wins = round(paper.VOTES_EACH * paper.VOTES[name][criterion] / 100)
    return significance.binomial_p(wins, paper.VOTES_EACH)


def _p(p: float) -> str:
    return p_value(p).removeprefix("= ")


def _kappa(kappa: float | None) -> str:
    return "" if kappa is None else f"{kappa:.2f}"


_TOLD = (str, str, str, *["{:.1f}".format] * 3, str, str, str, _kappa, _p, str, _p)


def _percent(share: float | None) -> str:
    return "no share is" if share is None else f"a true share of {share:.0%} is"


def _votes(path: Path, criterion: str, ours: Mapping[str, str]) -> Votes:
    found = [v for v in _lines(path, ours) if v["criterion"] == criterion]
    items, raters = ([v[field] for v in found] for field in ("item", "rater"))
    won = [v["choice"] == ours[f"{v['item']} {criterion}"] for v in found]
    return Votes(items, raters, won)


def _lines(path: Path, ours: Mapping[str, str]) -> Iterator[dict]:
    """The votes of a file; UserError names a line that is none."""
    seen: set[Sequence[str]] = set()
    for number, line in _table_lines(path):
        vote = {field: (line[field] or "").strip() for field in _VOTED}
        where = f"{path}:{number}"
        if f"{vote['item']} {vote['criterion']}" not in ours:
            asked = f"item {vote['item']!r} of {vote['criterion']!r}"
            raise UserError(f"{where}: {asked} is no question.")
        if vote["choice"] not in ("A", "B"):
            told = f"choice is {vote['choice']!r}, expected A or B"
            raise UserError(f"{where}: {told}.")
        if (one := (vote["item"], vote["criterion"], vote["rater"])) in seen:
            raise UserError(f"{where}: rater {vote['rater']!r} voted here before.")
        seen.add(one)
        yield vote


def _table_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """The lines of votes with the numbers of their last lines in the file."""
    require_file(path, "give a file of votes, or take it away.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8; save it as CSV in UTF-8.") from None
    read = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not {*_VOTED} <= {*(read.fieldnames or ())}:
            raise UserError(
                f"{path}: expected the columns {', '.join(_VOTED)}, set off by commas."
            )
        for line in read:
            yield read.line_num, line
    except csv.Error as error:
        raise UserError(f"{path}:{read.line_num}: {error}.") from None
