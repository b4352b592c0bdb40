"""The figures of a report: PNGs of 1,200 pixels or more, legible at that size.

Drawn on `Figure` objects and not through pyplot, so nothing opens a window and no
state is shared with whoever calls us.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ppg_jax.files import read_metrics
from ppg_jax.report import trait_figures
from ppg_jax.report.columns import PER, comparable_perplexity
from ppg_jax.report.drawing import (
    BLUE,
    DPI,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    STYLE,
    lettered,
    looks,
    save,
    turn_line,
)

Records = Sequence[Mapping[str, float]]


def draw(workdir: Path, numbers: Mapping) -> list[Path]:
    """Writes every figure for which there is something to draw; returns their paths.

    numbers: of `results.compute`. Folder: `figures/` in the run directory.
    """
    workdir = Path(workdir)
    with matplotlib.rc_context(STYLE):  # axes take their looks when they are made
        return _written(workdir / "figures", _figures(workdir, numbers))


def _figures(workdir: Path, numbers: Mapping) -> dict[str, Figure | None]:
    """By the name of its file; None where there is nothing to draw."""
    logs = {s: read_metrics(workdir / s / "metrics.jsonl") for s in numbers["stages"]}
    reinforced = numbers["reinforced"]
    kept = {s: _kept(result) for s, result in numbers["stages"].items()}
    drawn = {
        "systems_bar": systems_bar(numbers["responses"]),
        "perplexity_by_turn": perplexity_by_turn(numbers),
        "traits_by_turn": trait_figures.traits_by_turn(numbers),
        "swapped_by_turn": trait_figures.swapped_by_turn(numbers),
        "training_curves": training_curves(
            {s: log for s, log in logs.items() if s not in reinforced}, kept
        ),
    }
    for stage, found in reinforced.items():
        name = "reinforce_curves" + ("" if len(reinforced) == 1 else f"_{stage}")
        figure = reinforce_curves(logs[stage], kept[stage], found["reward"])
        if figure is not None and len(reinforced) > 1:
            figure.suptitle(stage, fontsize=12)
        drawn[name] = figure
    return drawn


def _kept(result: Mapping) -> int | None:
    return result.get("kept_step", result.get("best_update"))


def _written(folder: Path, drawn: Mapping[str, Figure | None]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):  # of an earlier report, with other stages
        old.unlink()
    there = {folder / f"{name}.png": figure for name, figure in drawn.items() if figure}
    for path, figure in there.items():
        save(figure, path, dpi=DPI)
    return list(there)


# --- Systems ------------------------------------------------------------------


def systems_bar(systems: Mapping[str, dict]) -> Figure | None:
    """PPL and BLEU-4 of every system with intervals, controls in grey."""
    names = [n for n, s in systems.items() if s["metrics"]]
    if not names:
        return None
    figure = Figure(figsize=(9.5, 1.5 + 0.36 * len(names)))
    panels = figure.subplots(1, 2, sharey=True)
    ppl = comparable_perplexity(systems)
    for axes, key, title, digits in [
        (panels[0], ppl, f"{PER[ppl].capitalize()}\n(lower is better)", 2),
        (panels[1], "bleu", "ParlAI BLEU-4\n(higher is better)", 2),
    ]:
        _bars(axes, [systems[n] for n in names], names, key, digits)
        axes.set_title(title)
    labels = [lettered(systems[n]["label"]) for n in names]
    panels[0].set_yticks(range(len(names)), labels)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    told = "lines: 95 % intervals"
    figure.supxlabel(told, fontsize=9, color="#555555")
    return figure


def _bars(axes, systems: Sequence[dict], names: Sequence[str], key, digits) -> None:
    looked = looks(dict(zip(names, systems, strict=True)))
    measured = [s["metrics"].get(key) for s in systems]
    widest = max((m["high"] for m in measured if m), default=1.0)
    for row, (name, system, m) in enumerate(zip(names, systems, measured, strict=True)):
        if m is None:
            told = "none: not a model" if system["control"] else "not measured"
            axes.text(0.02 * widest, row, told, va="center", color=GREY, fontsize=9)
            continue
        color = "#bdbdbd" if system["control"] else looked[name][0]
        error = [[m["value"] - m["low"]], [m["high"] - m["value"]]]
        axes.barh(row, m["value"], color=color, height=0.66)
        axes.errorbar(
            m["value"], row, xerr=error, color="#222222", capsize=3, linewidth=1.2
        )
        told = f"{m['value']:.{digits}f}"
        axes.text(m["high"] + 0.02 * widest, row, told, va="center", fontsize=9)
    axes.set_xlim(0, 1.17 * widest)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


# --- Cold start ---------------------------------------------------------------


def perplexity_by_turn(numbers: Mapping) -> Figure | None:
    """The paper's Figure 3: PPL against how much the partner has said, per system."""
    table = numbers["perplexity_by_turn"]
    if not table:
        return None
    figure = Figure(figsize=(10, 4.5 + 0.13 * len(table)))
    axes = figure.subplots()
    turns = list(max(table.values(), key=len))
    asides = np.linspace(-0.34, 0.34, len(table)) if len(table) > 1 else [0.0]
    looked = looks(numbers["responses"])
    for i, (name, points) in enumerate(table.items()):
        label = lettered(numbers["responses"][name]["label"])
        color, marker = looked[name]
        turn_line(axes, points, turns, asides[i], color, marker, label)
    axes.set_xticks(range(len(turns)), [_turn_label(t, table) for t in turns])
    axes.set_xlabel("N: utterances of the partner so far (instances)")
    axes.set_ylabel(PER[numbers["turns_in"]])
    axes.set_title("Cold start: perplexity of the response, with 95 % intervals")
    values = [point["value"] for points in table.values() for point in points.values()]
    if max(values) > 3 * min(values):  # one row far off hides what is between others
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", visible=False)
    axes.margins(x=0.02)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _turn_label(turn: str, table: Mapping[str, dict]) -> str:
    count = next(p[turn]["instances"] for p in table.values() if turn in p)
    return f"{turn.replace(' or more', '+')}\n({count:,})"


# --- Training -----------------------------------------------------------------


class Curve(NamedTuple):
    """One line of a panel: a key of metrics.jsonl, or one computed from a record."""

    key: str
    label: str
    color: str
    smooth: bool = True  # whether single batches are too noisy to be read


def training_curves(
    logs: Mapping[str, Records], kept: Mapping[str, int | None] = {}
) -> Figure | None:
    """Loss and validation loss of each stage, and accuracy where it has one.

    kept: by stage the update that became the model, marked by a dotted line.
    """
    shown = {"loss": ("valid_nll", "nats"), "accuracy": ("valid_accuracy", "share")}
    panels, marks = [], []
    for stage, log in logs.items():
        for key, (valid, unit) in shown.items():
            curves = [
                Curve(key, "training", SKY),
                Curve(valid, "validation", ORANGE, smooth=False),
            ]
            if any(len(_points(log, curve.key)) for curve in curves):
                title = f"{stage}: {key}"
                panels.append((log, title, unit, curves))
                marks.append(kept.get(stage))
    figure = _small_multiples(panels, columns=3, width=12)
    for axes, mark in zip(figure.axes if figure else [], marks, strict=False):
        _mark(axes, mark)
    return figure


def _mark(axes, update: int | None) -> None:
    if update is not None:
        axes.axvline(update, color="#555555", linestyle=":", linewidth=1.2)


def reinforce_curves(
    log: Records, kept: int | None, reward: str = "sign"
) -> Figure | None:
    """What REINFORCE changes (the paper's Figure 4, unscaled), and signs of harm.

    kept: the update whose policies were kept, marked by a dotted line. reward: as the
    stage's config names it.
    """
    paid = {"sign": "mean of +1 and -1"}.get(reward, f"mean of the reward, {reward}")

    def one(key, color=BLUE, **options):
        return [Curve(key, "", color, **options)]

    def both(key):
        return [
            Curve(f"persona_{key}", "persona", GREEN),
            Curve(f"response_{key}", "response", BLUE),
        ]

    response = one("valid_response_ppl", smooth=False)
    persona = one("valid_persona_ppl", GREEN, smooth=False)
    figure = _small_multiples(
        [
            (log, "Reward", paid, one("reward", ORANGE)),
            (log, "Critic score", "mean P(related)", one("critic_score", ORANGE)),
            (log, "KL to the supervised model", "nats per token", both("kl")),
            (log, "Validation PPL: response", "per token", response),
            (log, "Validation PPL: persona", "per token", persona),
            (log, "Entropy", "nats per token", both("entropy")),
            (log, "Length", "tokens", both("length")),
            (log, "Distinct-2 within a batch", "share", both("distinct_2")),
            (log, "Ended by themselves", "share", both("ended")),
        ],
        columns=3,
        width=12,
    )
    for axes in figure.axes if figure else []:
        _mark(axes, kept)
    return figure


def _small_multiples(panels, columns: int, width: float) -> Figure | None:
    """A grid of the panels (records, title, unit, curves) that have any point."""
    full = [
        (title, unit, drawn)
        for records, title, unit, curves in panels
        if (drawn := [(c, p) for c in curves if len(p := _points(records, c.key))])
    ]
    if not full:
        return None
    columns = min(columns, len(full))
    rows = -(-len(full) // columns)
    figure = Figure(figsize=(width, 2.5 * rows + 0.3))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(full) :]:
        axes.set_visible(False)
    for axes, (title, unit, drawn) in zip(grid.flat, full, strict=False):
        _panel(axes, title, unit, drawn)
    for axes in grid.flat[max(0, len(full) - columns) : len(full)]:
        axes.set_xlabel("updates")
    return figure


def _points(records: Records, key: str) -> np.ndarray:
    """(step, value) [S, 2] of the finite values; a KL of 0 stands for not measured."""
    known = [(r["step"], r[key]) for r in records if np.isfinite(r.get(key, np.nan))]
    if key.endswith("_kl"):
        known = [(step, value) for step, value in known if value != 0]
    return np.array(known, np.float64).reshape(-1, 2)


def _panel(axes, title: str, unit: str, drawn) -> None:
    for curve, points in drawn:
        steps, values = points.T
        if curve.smooth and len(values) > 10:
            axes.plot(steps, values, color=curve.color, alpha=0.25, linewidth=0.8)
            values = _running_mean(values, max(3, len(values) // 20))
            marker = ""
        else:
            marker = "o" if len(values) <= 40 else ""
        axes.plot(
            steps,
            values,
            color=curve.color,
            label=curve.label,
            marker=marker,
            markersize=3.5,
        )
    axes.set_title(title)
    axes.set_ylabel(unit)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if any(curve.label for curve, _ in drawn):
        axes.legend()


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Centred mean; at the ends over what there is."""
    ones = np.convolve(np.ones_like(values), np.ones(window), "same")
    return np.convolve(values, np.ones(window), "same") / ones
