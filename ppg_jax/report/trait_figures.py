"""Figures of what is inferred: traits by turn, and own against swapped by turn."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from ppg_jax.report.drawing import GREY, lettered, looks, turn_line
from ppg_jax.report.traits import CURVES, HEARD

_TITLES = {
    "trait_f1": "trait F1",
    "trait_recall_said": "recall of traits that were said",
    "trait_recall_unsaid": "recall of traits that were not said",
}
_SWAPPED = {
    "personas": "Gold persona, own context against another's",
    "responses": "Gold response, right partner persona against another's",
}


def traits_by_turn(numbers: Mapping) -> Figure | None:
    """Trait F1 and recall, said and unsaid, per row of personas."""
    by_turn = numbers.get("traits", {}).get("by_turn", {})
    rows = {name for table in by_turn.values() for name in table}
    looked = looks(numbers["personas"])
    names = [name for name in numbers["personas"] if name in rows]
    if not names:
        return None
    figure = Figure(figsize=(13, 5 + 0.15 * len(names)))
    panels = figure.subplots(1, len(CURVES))
    for axes, key in zip(panels, CURVES, strict=True):
        _curves(axes, by_turn[key], names, numbers["personas"], looked)
        axes.set_title(_TITLES[key])
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("share, with 95 % intervals")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def swapped_by_turn(numbers: Mapping) -> Figure | None:
    """How much likelier the gold answer is given its own, in nats a token."""
    found = numbers.get("swapped", {})
    tables = {kind: found[kind] for kind in _SWAPPED if found.get(kind)}
    if not tables:
        return None
    most = max(map(len, tables.values()))
    figure = Figure(figsize=(6.5 * len(tables), 4.8 + 0.22 * most))
    figure.set_layout_engine("constrained", h_pad=0.12)  # for the legends below
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (kind, table) in zip(panels, tables.items(), strict=True):
        gains = {
            name: {t: _gain(p["difference"]) for t, p in row["by_turn"].items()}
            for name, row in table.items()
        }
        rows = numbers[kind]
        _curves(axes, gains, list(table), rows, looks(rows))
        axes.axhline(0, color=GREY, linewidth=1, zorder=0)
        axes.set_title(_SWAPPED[kind])
        axes.set_ylabel("nats a token gained, with 95 % intervals")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return figure


def _gain(difference: Mapping) -> dict[str, float]:
    """Of own - other what own gains: the other way round."""
    low, high = -difference["high"], -difference["low"]
    return {"value": -difference["value"], "low": low, "high": high}


def _curves(axes, table: Mapping, names, rows: Mapping, looked) -> None:
    turns = [t for t in HEARD if any(t in points for points in table.values())]
    drawn = [name for name in names if table.get(name)]
    asides = np.linspace(-0.3, 0.3, len(drawn)) if len(drawn) > 1 else [0.0]
    for aside, name in zip(asides, drawn, strict=True):
        color, marker = looked[name]
        label = lettered(rows[name]["label"])
        turn_line(axes, table[name], turns, aside, color, marker, label)
    axes.set_xticks(range(len(turns)), [t.replace(" or more", "+") for t in turns])
    axes.set_xlabel("exchanges heard")
    axes.grid(axis="x", visible=False)
    axes.margins(x=0.02)
