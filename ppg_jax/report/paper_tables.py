"""The paper's Tables 1, 4 and 7 over seeds, and what goes beyond them: Markdown, LaTeX
and CSV of one and the same numbers, with the paper's own beside them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ppg_jax.files import write_text
from ppg_jax.report import paper, results
from ppg_jax.report.columns import METRICS
from ppg_jax.report.readings import readings
from ppg_jax.report.tables import (
    comma_separated,
    p_value,
    papers_column,
    signed_interval,
    table,
)
from ppg_jax.report.words import verdict_of

_RESPONSES = ("ppl_token", "ppl_word", "bleu", "rouge_parlai")
_JUDGED = (*_RESPONSES, "critic", "held_out_critic")


class Table(NamedTuple):
    """One of the paper's: what it is called, whose rows it has, and its columns."""

    title: str
    kind: str  # "responses" or "personas"
    metrics: tuple[str, ...]
    controls: bool = False  # whether ours stand below it


TABLES = {
    "table1": Table("Table 1: responses", "responses", _RESPONSES, controls=True),
    "table4": Table(
        "Table 4: partner personas",
        "personas",
        (*_RESPONSES, "distinct_1", "distinct_2"),
        controls=True,
    ),
    "table7": Table(
        "Table 7: which generator learns by REINFORCE", "responses", _RESPONSES
    ),
    "exposure": Table(
        "Exposure: which personas the response generator learned from",
        "responses",
        _JUDGED,
    ),
    "rewards": Table(
        "REINFORCE with and without what the paper's has not, and another reward",
        "responses",
        _JUDGED,
    ),
    "traits": Table(
        "Traits: how much of a partner persona is right",
        "personas",
        (
            "trait_f1",
            "trait_precision",
            "trait_recall_said",
            "trait_recall_unsaid",
            "trait_exact_f1",
        ),
        controls=True,
    ),
}


def write(folder: Path, name: str, numbers: Mapping) -> list[Path]:
    """NAME.md, NAME.tex and NAME.csv of a table, from `over_seeds.compute`; none
    without any of its rows."""
    shown, known = TABLES[name], numbers[TABLES[name].kind]
    theirs = [n for n in paper.SHOWN[name] if n in known]
    if not theirs:
        return []
    controls = [n for n, row in known.items() if row["control"] and shown.controls]
    rows = {n: known[n] for n in theirs + controls}
    missing = [n for n in paper.SHOWN[name] if n not in known]
    known_tests = numbers[f"{shown.kind[:-1]}_tests"]
    tests = results.corrected([{**t} for t in known_tests if _is_of(t, shown, rows)])
    told = " ".join([_told(numbers, missing), *readings(rows)])
    made = {
        "md": markdown(shown, rows, tests, told),
        "tex": latex(shown, rows, told),
        "csv": comma_separated(numbers_of(rows, shown.metrics, numbers["runs"])),
    }
    paths = [folder / f"{name}.{ending}" for ending in made]
    for path, text in zip(paths, made.values(), strict=True):
        write_text(path, text)
    return paths


def _is_of(test: Mapping, shown: Table, rows: Mapping) -> bool:
    return test["a"] in rows and test["b"] in rows and test["metric"] in shown.metrics


def markdown(shown: Table, rows: Mapping, tests: Sequence[Mapping], told: str) -> str:
    """The table, what it leaves out, and the tests of what it compares."""
    parts = [
        f"# {shown.title}",
        told,
        table(_head(shown.metrics, rows), _lines(shown.metrics, rows, _cell)),
    ]
    if tests:
        head = ["A", "B", "metric", "A - B", "p (Holm)", "A is"]
        parts.append(table(head, [_test(rows, test) for test in tests], texts=3))
    return "\n\n".join(parts) + "\n"


def _told(numbers: Mapping, missing: Sequence[str]) -> str:
    runs = numbers["runs"]
    several = f"Mean ± standard deviation of {runs} seeds" if runs > 1 else "One seed"
    names = dict.fromkeys(f"{unit['name']}s" for unit in numbers["units"].values())
    told = (
        f"{several}, {numbers['instances']:,} instances of the {numbers['split']} "
        f"split; 95 % intervals over {' or '.join(names)}"
        f"{' and seeds' if runs > 1 else ''}; differences count where p < 0.05 after "
        "Holm's correction within this table and the interval leaves out 0. The "
        "paper's numbers are of PersonaChat and of other models, its perplexity of "
        "another vocabulary."
    )
    return told + (f" Not in this run: {', '.join(missing)}." if missing else "")


def _theirs(metrics: Sequence[str], rows: Mapping) -> list[str]:
    """The columns that the paper has, too."""
    return [k for k in metrics if any(k in row["paper"] for row in rows.values())]


def _head(metrics: Sequence[str], rows: Mapping) -> list[str]:
    ours = [METRICS[key].heading for key in metrics]
    paper = [f"paper: {METRICS[key].heading}" for key in _theirs(metrics, rows)]
    return ["", *ours, *paper]


def _lines(
    metrics: Sequence[str], rows: Mapping, cell: Callable
) -> Iterable[list[str]]:
    theirs = [papers_column(rows, key) for key in _theirs(metrics, rows)]
    for name, row in rows.items():
        ours = [cell(row["metrics"].get(k), METRICS[k].digits) for k in metrics]
        yield [row["label"], *ours, *(column.get(name, "") for column in theirs)]


def _cell(measured: Mapping | None, digits: int) -> str:
    if measured is None:
        return ""
    value, low, high = (f"{measured[k]:.{digits}f}" for k in ("value", "low", "high"))
    spread = measured["spread"]
    told = "" if spread is None else f" ± {spread:.{digits}f}"
    return f"{value}{told} ({low}–{high})"


def _test(rows: Mapping, test: Mapping) -> list[str]:
    metric = METRICS[test["metric"]]
    verdict = verdict_of(test).removesuffix(" in")
    return [
        rows[test["a"]]["label"],
        rows[test["b"]]["label"],
        metric.heading,
        signed_interval(test["difference"], metric.digits),
        p_value(test["p_holm"], test["holm_at_floor"]).removeprefix("= "),
        f"**{verdict}**" if test["significant"] else verdict,
    ]


def latex(shown: Table, rows: Mapping, told: str) -> str:
    """A booktabs table."""

    def cell(measured: Mapping | None, digits: int) -> str:
        return "--" if measured is None else _cell(measured, digits)

    head = _head(shown.metrics, rows)
    lines = [head, *_lines(shown.metrics, rows, cell)]
    body = [" & ".join(map(_escaped, line)) + r" \\" for line in lines]
    return "\n".join(
        [
            f"% {shown.title}. {told}",
            r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


_LATEX = {character: f"\\{character}" for character in "&%#_${}"} | {
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "–": "--",
}


def numbers_of(rows: Mapping, metrics: Sequence[str], runs: int) -> Iterator[list]:
    """A line for each number: row, metric, mean, spread, interval, the paper's."""
    fields = ["value", "spread", "low", "high", "unit"]
    yield ["row", "label", "metric", *fields, "runs", "paper"]
    for name, row in rows.items():
        for key in metrics:
            measured = row["metrics"].get(key)
            if measured is not None:
                numbers = [measured[field] for field in fields]
                paper = row["paper"].get(key)
                yield [name, row["label"], key, *numbers, runs, paper]
