"""The paper's Figures 3 and 4 over seeds, and traits by turn: PNG, SVG and the numbers
that are drawn.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ppg_jax.files import write_text
from ppg_jax.report import figures, inferred, paper, trait_figures
from ppg_jax.report.drawing import BLUE, DPI, GREEN, STYLE, save
from ppg_jax.report.tables import comma_separated

_CURVES = {
    "valid_response_ppl": ("response generator", BLUE),
    "valid_persona_ppl": ("persona generator", GREEN),
}


def figure3(folder: Path, numbers: Mapping) -> list[Path]:
    """Perplexity of the response by how much the partner has said, of five rows.

    numbers: of `over_seeds.compute`. Beyond N = 3 the paper shows nothing.
    """
    by_turn = numbers["perplexity_by_turn"]
    shown = {name: by_turn[name] for name in paper.SHOWN["figure3"] if name in by_turn}
    rows = {name: numbers["responses"][name] for name in shown}  # a colour each
    with matplotlib.rc_context(STYLE):
        figure = figures.perplexity_by_turn(
            {"responses": rows, "perplexity_by_turn": shown, "turns_in": "ppl_token"}
        )
    fields = ("value", "low", "high", "unit", "instances")
    lines = [
        [name, turn, *(point[field] for field in fields)]
        for name, turns in shown.items()
        for turn, point in turns.items()
    ]
    return _written(folder, "figure3", figure, ["row", "N", *fields], lines)


def traits(folder: Path, numbers: Mapping) -> list[Path]:
    """Traits that are right by exchanges heard, all, said and unsaid; of some rows, and
    of the control that has most of them. Nothing where traits were not measured.
    """
    found = numbers["traits"]
    if not found:
        return []
    known = numbers["personas"]
    best = {test["b"] for test in inferred.against_best(numbers)}
    names = [n for n in known if n in {*paper.SHOWN["traits"], *best}]
    by_turn = {
        key: {name: table[name] for name in names if name in table}
        for key, table in found["by_turn"].items()
    }
    rows = {name: known[name] for name in names}
    with matplotlib.rc_context(STYLE):
        figure = trait_figures.traits_by_turn(
            {"personas": rows, "traits": {"by_turn": by_turn}}
        )
    fields = ("value", "low", "high", "unit", "instances")
    lines = [
        [key, name, turn, *(point[field] for field in fields)]
        for key, table in by_turn.items()
        for name, turns in table.items()
        for turn, point in turns.items()
    ]
    head = ["metric", "row", "exchanges heard", *fields]
    return _written(folder, "traits_by_turn", figure, head, lines)


def figure4(folder: Path, logs: Sequence[Sequence[Mapping]]) -> list[Path]:
    """Validation perplexity of both generators while REINFORCE goes on, as it is and as
    a share of what it was before; a thin line is one seed's, the thick one their mean.

    logs: of each seed the records of metrics.jsonl of the stage.
    """
    curves = {key: [_curve(log, key) for log in logs] for key in _CURVES}
    with matplotlib.rc_context(STYLE):
        figure = _progress(curves)
    lines = [
        [key, run, int(step), value, value / points[0][1]]
        for key, runs in curves.items()
        for run, points in enumerate(runs)
        for step, value in points
    ]
    head = ["metric", "run", "update", "perplexity", "scaled"]
    return _written(folder, "figure4", figure, head, lines)


def _curve(log: Sequence[Mapping], key: str) -> np.ndarray:
    """(update, perplexity) [V, 2] of the validations."""
    known = [(r["step"], r[key]) for r in log if np.isfinite(r.get(key, np.nan))]
    return np.array(known, np.float64).reshape(-1, 2)


def _progress(curves: Mapping[str, Sequence[np.ndarray]]) -> Figure | None:
    if not any(len(points) for runs in curves.values() for points in runs):
        return None
    figure = Figure(figsize=(11, 3.8))
    *raw, scaled = figure.subplots(1, 3)
    for axes, (key, (label, color)) in zip(raw, _CURVES.items(), strict=True):
        _lines(axes, curves[key], color, label)
        axes.set_title(label.capitalize())
        axes.set_ylabel("validation perplexity per token")
        as_shares = [
            points / [1, points[0, 1]] for points in curves[key] if len(points)
        ]
        _lines(scaled, as_shares, color, label)
    scaled.set_title("Both, as a share of update 0")
    scaled.axhline(1, color="#555555", linestyle=":", linewidth=1.2)
    scaled.legend()
    for axes in figure.axes:
        axes.set_xlabel("updates")
    return figure


def _lines(axes, runs: Sequence[np.ndarray], color: str, label: str) -> None:
    """Each run, and where there are several the mean at the updates that all have."""
    runs = [points for points in runs if len(points)]
    several = len(runs) > 1
    for points in runs:
        width = 0.8 if several else 1.8
        axes.plot(*points.T, color=color, linewidth=width, alpha=0.5 if several else 1)
    if several:
        steps = sorted(set.intersection(*(set(points[:, 0]) for points in runs)))
        values = [dict(points) for points in runs]
        mean = [np.mean([each[step] for each in values]) for step in steps]
        axes.plot(steps, mean, color=color, linewidth=2.2)
    axes.plot([], [], color=color, label=label)


def _written(folder: Path, name: str, figure, head, lines) -> list[Path]:
    """NAME.png, NAME.svg and NAME.csv; nothing where there is nothing to draw."""
    if figure is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{ending}" for ending in ("png", "svg", "csv")]
    for path in paths[:2]:
        save(figure, path, dpi=DPI)
    write_text(paths[2], comma_separated([head, *lines]))
    return paths
