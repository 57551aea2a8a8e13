"""The probabilities that a network gives one image, as bars."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cifar_cnn.report import canvas
from cifar_cnn.report.figure import COLOURS, plottable, save

MOST_CLASSES = 20  # Up to so many all are shown, of more the ten most probable.
TOP = 10


def plot(
    probabilities: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike,
    *,
    title: str,
    label: int | None = None,
) -> None:
    """Draws the bars as a PNG.

    Up to 20 classes all are shown in label order, of more the ten most probable, and the true one
    where that is not among them.

    Args:
      probabilities: float [K].
      class_names: K names.
      title: above the bars.
      label: the true class, where it is known.

    Raises:
      MachineError: if the file cannot be written.
    """
    shown = choose(probabilities, label)
    titles = canvas.wrapped(title, 7.0, 12)
    words = "blue: predicted" if label is None else "blue: predicted; green outline: true class"
    if len(shown) < len(probabilities):
        words += f"; the most probable of {len(probabilities)} classes"
    below = len(titles) * canvas.line_height(12) + 0.05
    top = below + canvas.line_height(9.5) + 0.1
    height = 0.3 * len(shown) + 0.1
    axes = canvas.new_canvas(7.0, top + height + 0.05)
    canvas.write(axes, 0, 0, "\n".join(titles), 12)
    canvas.write(axes, 0, below, words, 9.5, color="0.25")
    draw(axes, probabilities, class_names, (0, top, 6.9, height), shown, label)
    save(axes.figure, path)


def choose(
    probabilities: np.ndarray, label: int | None = None, most: int = MOST_CLASSES
) -> list[int]:
    """The classes to show: all of up to `most`, or the ten most probable and the true one."""
    if len(probabilities) <= most:
        return list(range(len(probabilities)))
    shown = np.argsort(-probabilities, kind="stable")[:TOP].tolist()
    return shown if label is None or label in shown else [*shown, label]


def draw(
    axes: Axes,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    box: canvas.Box,
    shown: Sequence[int],
    label: int | None = None,
) -> None:
    """Draws the bars of the classes `shown` into a box of a canvas, names to the left."""
    left, top, width, height = box
    names = [plottable(str(class_names[k]), k) for k in shown]
    size = 9.5
    margin = max(map(len, names)) * size * 0.62 / 72 + 0.1
    start, length = left + margin, width - margin - 0.75
    step = height / len(shown)
    predicted = int(probabilities.argmax())
    for row, (k, name) in enumerate(zip(shown, names, strict=True)):
        middle = top + (row + 0.5) * step
        canvas.write(axes, start - 0.08, middle, name, size, ha="right", va="center_baseline")
        axes.barh(middle, length, left=start, height=0.7 * step, color="0.93")
        axes.barh(
            middle, length * probabilities[k], left=start, height=0.7 * step,
            color=COLOURS[0] if k == predicted else "0.55",
        )  # fmt: skip
        if k == label:
            axes.barh(middle, length, left=start, height=0.7 * step, fill=False,
                      edgecolor=COLOURS[2], linewidth=1.8)  # fmt: skip
        canvas.write(axes, start + length + 0.08, middle, percent(probabilities[k]), size,
                     va="center_baseline")  # fmt: skip
    page_width, page_height = axes.figure.get_size_inches()
    axes.set_xlim(0, page_width)
    axes.set_ylim(page_height, 0)


def percent(share: float) -> str:
    """A probability as a percentage that is 0 or 100 only when it is exactly that."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{share:.1%}".replace("%", " %")
