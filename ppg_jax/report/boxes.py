"""Boxes with text, and arrows between them: what diagrams are drawn of.

A length is in inches; boxes are as high as their text.
"""

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

LINE, PAD, CHARACTER = 0.19, 0.12, 0.079  # of text of 10 points


class Box(NamedTuple):
    """What stands in it, and where: left, top and width. A mathematical title is one
    for matplotlib; lines stay as they are."""

    title: str
    lines: Sequence[str]
    left: float
    top: float
    width: float
    color: str
    dashed: bool = False

    @property
    def wrapped(self) -> list[str]:
        room = int((self.width - 2 * PAD) / CHARACTER)
        return [part for line in self.lines for part in textwrap.wrap(line, room)]

    @property
    def height(self) -> float:
        return (1 + len(self.wrapped)) * LINE + 2 * PAD

    @property
    def bottom(self) -> float:
        return self.top - self.height

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def middle(self) -> float:
        return self.left + self.width / 2


def canvas(
    width: float, boxes: Iterable[Box], above: float = 0.15, below: float = 0.15
):
    """(figure, axes) in inches, with the boxes; the first row's top is 0."""
    boxes = list(boxes)
    lowest = min(box.bottom for box in boxes)
    figure = Figure(figsize=(width, above + below - lowest), layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(lowest - below, above)
    axes.axis("off")
    for box in boxes:
        _draw(axes, box)
    return figure, axes


def _draw(axes, box: Box) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (box.left, box.bottom),
            box.width,
            box.height,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor="white" if box.dashed else f"{box.color}1c",
            edgecolor=box.color,
            linestyle="--" if box.dashed else "-",
            linewidth=1.4,
        )
    )
    x, y = box.left + PAD, box.top - PAD
    axes.text(x, y, box.title, weight="bold", va="top", fontsize=10)
    for number, line in enumerate(box.wrapped, 1):
        told = {"va": "top", "fontsize": 10, "parse_math": False}
        axes.text(x, y - number * LINE, line, **told)


def arrow(axes, path: Sequence[tuple[float, float]]) -> None:
    """A line through all points, with a head at the last."""
    xs, ys = zip(*path[:-1], strict=True)
    axes.plot(xs, ys, color="#444444", linewidth=1.3, solid_joinstyle="miter")
    look = {"arrowstyle": "-|>", "color": "#444444", "linewidth": 1.3}
    look |= {"shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=path[-1], xytext=path[-2], arrowprops=look)
