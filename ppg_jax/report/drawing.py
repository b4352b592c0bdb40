"""How figures look: style, colours of rows, and points over turns with intervals.

Colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ppg_jax.errors import printable
from ppg_jax.files import naming

STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
}
DPI = 150
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
GREY, YELLOW, SKY = "#999999", "#e69f00", "#56b4e9"
VIOLET = "#5e3c99"  # not theirs: their black hides the intervals of a bar
_COLORS = (ORANGE, BLUE, GREEN, YELLOW, SKY, PINK, VIOLET)
_MARKERS = "os^Dv<>P*X"


def save(figure, path: Path, **options) -> None:
    """As `savefig`: a full disk is told by the file, and half a picture goes."""
    with naming(path):
        try:
            figure.savefig(path, **options)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def looks(systems: Mapping[str, dict]) -> dict[str, tuple[str, str]]:
    """name -> (colour, marker): models by their order, so that seventy differ."""
    models = [name for name, system in systems.items() if not system["control"]]
    found = {
        name: (_COLORS[i % len(_COLORS)], _MARKERS[i % len(_MARKERS)])
        for i, name in enumerate(models)
    }
    controls = [name for name in systems if name not in found]
    grey = {n: (GREY, _MARKERS[i % len(_MARKERS)]) for i, n in enumerate(controls)}
    return found | grey


def lettered(label: str) -> str:
    """A label as it is drawn: "$" is no formula, "_" ahead hides it nowhere."""
    shown = printable(label).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def turn_line(axes, points, turns, aside: float, color, marker, label) -> None:
    """One system's points, moved aside so that intervals do not cover each other."""
    known = [(x, points[turn]) for x, turn in enumerate(turns) if turn in points]
    x = np.array([x for x, _ in known]) + aside
    values, low, high = (
        np.array([p[key] for _, p in known]) for key in ("value", "low", "high")
    )
    axes.errorbar(
        x,
        values,
        yerr=[values - low, high - values],
        color=color,
        marker=marker,
        markersize=6,
        capsize=3,
        linestyle="none",
        label=label,
    )
    # "all" is no further point of the course over turns, so no line leads to it.
    course = len(known) - (turns[-1] == "all")
    axes.plot(x[:course], values[:course], color=color, linewidth=1.2, alpha=0.7)
