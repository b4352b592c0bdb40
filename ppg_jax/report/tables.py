"""Markdown tables of a report: rows of the paper's tables, with intervals."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

from ppg_jax.report.columns import METRICS


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A markdown table; the first `texts` columns are words, the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def comma_separated(lines: Iterable[Sequence]) -> str:
    """The text of a CSV file; None is an empty cell. A carriage return, which Python
    3.11 does not quote, is a space."""
    out = io.StringIO()
    plain = ((c.replace("\r", " ") if type(c) is str else c for c in x) for x in lines)
    csv.writer(out, lineterminator="\n").writerows(plain)
    return out.getvalue()


def systems_table(systems: Mapping, keys: Sequence[str], paper=()) -> str:
    """A row per system that has any of the metrics; empty without such a row."""
    keys = [k for k in keys if any(k in s["metrics"] for s in systems.values())]
    theirs = {key: papers_column(systems, key) for key in paper}
    rows = []
    for name, system in systems.items():
        if any(key in system["metrics"] for key in keys):
            cells = [
                interval(system["metrics"].get(k), METRICS[k].digits) for k in keys
            ]
            cells += [theirs[key].get(name, "") for key in paper]
            rows.append([system["label"], *cells])
    head = ["", *(METRICS[k].heading for k in keys)]
    head += [f"paper: {METRICS[k].heading}" for k in paper]
    return table(head, rows) if rows else ""


def papers_column(systems: Mapping[str, dict], key: str) -> dict[str, str]:
    """The paper's numbers by system, all with as many digits as the longest has."""
    values = {n: s["paper"][key] for n, s in systems.items() if key in s["paper"]}
    decimals = (len(f"{value:g}".partition(".")[2]) for value in values.values())
    digits = max(decimals, default=0)
    return {name: f"{value:.{digits}f}" for name, value in values.items()}


def interval(measured: Mapping | None, digits: int) -> str:
    if measured is None:
        return ""
    value, low, high = (f"{measured[k]:.{digits}f}" for k in ("value", "low", "high"))
    return f"{value} ({low}–{high})"


def signed_interval(measured: Mapping, digits: int) -> str:
    """ "+0.05 (+0.01 to +0.10)"; a difference that would read 0 has up to three digits
    more, so that one that is small is not taken for none."""
    value, enough = measured["value"], range(digits, digits + 4)
    digits = next((d for d in enough if round(value, d)), digits)
    value, low, high = (f"{measured[k]:+.{digits}f}" for k in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def p_value(p: float, at_floor: bool = False) -> str:
    """ "= 0.012", or "<= 0.005" where more permutations could only lower it."""
    if at_floor and p >= 1e-4:  # rounded up, for a bound
        digits = 4 if p < 0.001 else 3
        return f"<= {math.ceil(round(p * 10**digits, 6)) / 10**digits:g}"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
