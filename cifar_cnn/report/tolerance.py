"""Accuracy of networks on moved and turned images: heat maps, curves and a table."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from cifar_cnn.report.figure import COLOURS, FONT, TEXT, new_figure, plottable, save, show_image
from cifar_cnn.report.table import format_table

KEPT = 0.9  # Share of its own accuracy that a network has to keep.
_MARKERS = "osD^vP*X"


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What was measured of one network.

    Attributes:
      label: its name.
      data: data set and split.
      num_classes: K; guessing is right in 1/K.
      examples: images in each pass.
      step: of the checkpoint.
      fill: what appears at the border.
      shifts: accuracy by (pixels to the right, pixels down).
      by_distance: mean accuracy over the shifts right, left, down and up by 0, 1, ... pixels.
      by_angle: accuracy by degrees, counter-clockwise.
      ticks: shifts on each axis of the heat map.
      kept_shift, kept_angle: pixels and degrees up to which KEPT of the accuracy remains.
    """

    label: str
    data: str
    num_classes: int
    examples: int
    step: int
    fill: str
    shifts: dict[tuple[int, int], float]
    by_distance: list[float]
    by_angle: dict[int, float]
    ticks: list[int]
    kept_shift: float
    kept_angle: float

    @property
    def accuracy(self) -> float:
        """On the images as they are."""
        return self.shifts[0, 0]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON's types; shifts as a list of {right, down, accuracy}."""
        values = dataclasses.asdict(self)
        shifts, angles = values.pop("shifts"), values.pop("by_angle")
        del values["ticks"]
        return {
            **values,
            "accuracy": self.accuracy,
            "kept_share": KEPT,
            "shifts": [
                {"right": x, "down": y, "accuracy": value} for (x, y), value in shifts.items()
            ],
            "rotations": [{"degrees": k, "accuracy": value} for k, value in angles.items()],
        }


def format_tolerances(results: Sequence[Tolerance]) -> str:
    """Accuracies by distance and by angle as a table, one row a network."""
    reach = len(results[0].by_distance) - 1
    pixels = sorted({*range(0, min(reach, 4) + 1), *range(0, reach + 1, 2), reach})
    angles = [angle for angle in sorted(results[0].by_angle) if angle > 0 and angle % 10 == 0]
    head = ["accuracy in %", *(f"{d} px" for d in pixels), *(f"±{a}°" for a in angles)]
    head += ["kept to px", "kept to °"]
    rows = []
    for result in results:
        turned = [(result.by_angle[a] + result.by_angle[-a]) / 2 for a in angles]
        values = [*(result.by_distance[d] for d in pixels), *turned]
        rows.append([
            result.label,
            *(f"{100 * value:.1f}" for value in values),
            _reached(result.kept_shift, reach),
            _reached(result.kept_angle, max(result.by_angle)),
        ])  # fmt: skip
    note = (
        "px: mean over right, left, down and up; °: mean over both directions; kept: up to where "
        f"{KEPT:.0%} of the network's own accuracy remains, linear between measurements"
    )
    return f"{format_table(head, rows)}\n{note}"


def plot_curves(results: Sequence[Tolerance], path: str | os.PathLike) -> None:
    """Draws accuracy against shift and against rotation, one curve a network.

    A ring marks the shift at which a network has KEPT of its accuracy left.

    Raises:
      MachineError: if the file cannot be written.
    """
    figure = new_figure(11.5, 4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for number, result in enumerate(results):
        style = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": _MARKERS[number % len(_MARKERS)],
            "linestyle": ("-", "--", ":")[number // len(COLOURS) % 3],
            "markersize": 4,
        }
        distances = np.arange(len(result.by_distance))
        angles = sorted(result.by_angle)
        by_angle = [result.by_angle[angle] for angle in angles]
        left.plot(distances, result.by_distance, label=_caption(result), **style)
        right.plot(angles, by_angle, **style)
        ring = {"s": 110, "facecolors": "none", "edgecolors": style["color"], "linewidths": 1.5}
        if result.kept_shift < distances[-1]:
            left.scatter([result.kept_shift], [KEPT * result.accuracy], **ring)
    chances = {result.num_classes for result in results}
    for axes in (left, right):
        axes.set_ylim(0, 1)
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.tick_params(labelsize=10, labelfontfamily=FONT, labelleft=True)
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if len(chances) == 1:
            axes.axhline(1 / max(chances), color="0.5", ls=":")
    left.set_xticks(np.arange(len(results[0].by_distance)))
    right.set_xticks(sorted(results[0].by_angle)[::2])
    left.set_xlabel("shift in pixels (mean of right, left, down, up)", fontsize=11, **TEXT)
    right.set_xlabel("rotation in degrees (counter-clockwise above 0)", fontsize=11, **TEXT)
    left.set_ylabel("accuracy", fontsize=11, **TEXT)
    names = sorted({result.data for result in results})
    figure.text(
        0.125, 0.95, f"Moved and turned images: {', '.join(names)}", fontsize=14, **TEXT
    )  # fmt: skip
    chance = "; dotted line: guessing" if len(chances) == 1 else ""
    legend = figure.legend(
        loc="upper left", bbox_to_anchor=(0.11, -0.02), frameon=False,
        prop={"family": FONT, "size": 10}, title=f"ring: {KEPT:.0%} of the accuracy left{chance}",
        alignment="left",
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    save(figure, path)


def plot_shifts(
    result: Tolerance, samples: Sequence[tuple[str, np.ndarray]], path: str | os.PathLike
) -> None:
    """Draws a network's accuracy over shifts in the plane, beside images that show what was done.

    Args:
      result: of the network.
      samples: captions and images uint8 [H, W, C], drawn from top to bottom.
      path: the PNG file; replaced as a whole.

    Raises:
      MachineError: if the file cannot be written.
    """
    ticks = result.ticks
    grid = np.array([[result.shifts[x, y] for x in ticks] for y in ticks])
    side = 6.2
    figure = new_figure(side, side)
    axes = figure.add_axes((0, 0, 1, 1))
    image = axes.imshow(grid, cmap="viridis", norm=Normalize(0, 1), interpolation="nearest")
    _outline(axes, grid >= KEPT * result.accuracy)
    _annotate(axes, grid, side)
    style = {"fontfamily": FONT, "fontsize": 10}
    axes.set_xticks(range(len(ticks)), labels=[str(tick) for tick in ticks], **style)
    axes.set_yticks(range(len(ticks)), labels=[str(tick) for tick in ticks], **style)
    axes.set_xlabel("pixels to the right", fontsize=11, **TEXT)
    axes.set_ylabel("pixels down", fontsize=11, **TEXT)
    axes.set_title(
        f"{plottable(result.label, 0)} on moved images of {result.data}\n"
        f"accuracy in %; outlined: at least {KEPT:.0%} of the {result.accuracy:.2%} unmoved\n"
        f"border filled with {result.fill!r}",
        fontsize=11, loc="left", **TEXT,
    )  # fmt: skip
    bar = figure.colorbar(image, cax=figure.add_axes((1.03, 0, 0.03, 1)))
    bar.set_ticks(np.linspace(0, 1, 6), labels=[f"{tick:.0%}" for tick in np.linspace(0, 1, 6)])
    bar.ax.tick_params(labelsize=10, labelfontfamily=FONT)
    height = 0.27
    for number, (caption, picture) in enumerate(samples):
        axes = figure.add_axes((1.2, 1 - height - number * (height + 0.09), height, height))
        show_image(axes, picture)
        axes.set_xlabel(caption, fontsize=10, **TEXT)
    save(figure, path)


def _outline(axes: Axes, kept: np.ndarray) -> None:
    """Draws a line between cells [n, n] that are True and those that are not."""
    style = {"colors": COLOURS[1], "linewidth": 3, "capstyle": "projecting", "clip_on": False}
    padded = np.pad(kept, 1)
    for row, column in np.argwhere(padded[:, 1:] != padded[:, :-1]):
        axes.vlines(column - 0.5, row - 1.5, row - 0.5, **style)
    for row, column in np.argwhere(padded[1:] != padded[:-1]):
        axes.hlines(row - 0.5, column - 1.5, column - 0.5, **style)


def _annotate(axes: Axes, grid: np.ndarray, side: float) -> None:
    """Writes each cell's percentage, with a decimal where there is room."""
    decimals = 1 if len(grid) <= 11 else 0
    size = float(np.clip(72 * side / len(grid) / (0.85 * (3 + 1.5 * decimals)), 4, 12))
    for row, column in np.ndindex(grid.shape):
        axes.text(
            column, row, f"{100 * grid[row, column]:.{decimals}f}", ha="center", va="center",
            fontsize=size, color="white" if grid[row, column] < 0.6 else "black", **TEXT,
        )  # fmt: skip


def _caption(result: Tolerance) -> str:
    """A network's line in the legend."""
    shift = _reached(result.kept_shift, len(result.by_distance) - 1)
    angle = _reached(result.kept_angle, max(result.by_angle))
    return (
        f"{result.label} ({result.data}): {result.accuracy:.2%} as they are, "
        f"{KEPT:.0%} of it up to {shift} px and {angle}°"
    )


def _reached(kept: float, limit: int) -> str:
    """'3.2', or '8 or more' where the measurement ended before the accuracy fell."""
    return f"{limit} or more" if kept == limit else f"{kept:.1f}"
