"""The weights of a network's first layer as pictures: what each of its filters looks for."""

import math
import os

import numpy as np
from matplotlib.colors import Normalize

from cifar_cnn.checks import check_shape
from cifar_cnn.report import canvas
from cifar_cnn.report.figure import save


def plot(
    kernels: np.ndarray,
    path: str | os.PathLike,
    *,
    title: str,
    noun: str = "filter",
    first: int = 64,
) -> None:
    """Draws kernels in a numbered grid as a PNG.

    Kernels of 3 channels are colour pictures: mid-grey is a weight of zero, and each kernel is
    scaled by its own largest weight. Others are drawn by a diverging colour map centred at zero
    with one scale for all, which ends at the 99.5th percentile of the weights' sizes, so that
    single large weights do not hide the rest; of several channels the mean is shown.

    Args:
      kernels: float [h, w, C, n].
      title: above the grid.
      noun: what one kernel is called, 'filter' or 'unit'.
      first: at most so many kernels.

    Raises:
      UsageError: if kernels have another rank.
      MachineError: if the file cannot be written.
    """
    kernels = np.asarray(kernels, np.float32)
    check_shape("kernels", kernels.shape, (None, None, None, None))
    height, width, channels, count = kernels.shape
    shown = min(first, count)
    columns = min(shown, 8 if shown > 16 else 4)
    rows = math.ceil(shown / columns)
    shape = np.clip(height / width, 1 / 3, 3)
    cell = 0.95 if shown > 16 else 1.5
    cell_width, cell_height = (cell, cell * shape) if shape <= 1 else (cell / shape, cell)
    gap, label = 0.14, 0.2
    page = max(columns * (cell_width + gap) - gap, 6.4)

    of = f"all {count}" if shown == count else f"the first {shown} of {count}"
    lines = [f"{of} {noun}s, {canvas.shape_text((height, width, channels))} each"]
    if channels == 3:
        lines.append("red, green and blue weights as a colour; mid-grey is zero; "
                     "each is scaled by its own largest weight")  # fmt: skip
        sizes = np.abs(kernels).max(axis=(0, 1, 2))
        pictures = 0.5 + kernels / (2 * np.where(sizes > 0, sizes, 1))
        style = {}
    else:
        pictures = kernels.mean(axis=2)
        if channels > 1:
            lines.append(f"the mean over {channels} channels")
        limit = float(np.percentile(np.abs(pictures), 99.5)) or 1.0
        lines.append("blue below zero, white zero, red above; one scale for all, which ends at "
                     "the 99.5th percentile")  # fmt: skip
        style = {"cmap": canvas.SIGNED, "norm": Normalize(-limit, limit)}
    titles = canvas.wrapped(title, page, 12)
    words = [part for line in lines for part in canvas.wrapped(line, page, 9.5)]
    below = len(titles) * canvas.line_height(12) + 0.05
    top = below + len(words) * canvas.line_height(9.5) + 0.15

    axes = canvas.new_canvas(page + (0.9 if style else 0), top + rows * (cell_height + label + gap))
    canvas.write(axes, 0, 0, "\n".join(titles), 12)
    canvas.write(axes, 0, below, "\n".join(words), 9.5, color="0.25")
    for number in range(shown):
        row, column = divmod(number, columns)
        left = column * (cell_width + gap)
        above = top + row * (cell_height + label + gap)
        canvas.write(axes, left + cell_width / 2, above + label - 0.02, str(number), 8.5,
                     ha="center", va="bottom")  # fmt: skip
        box = (left, above + label, cell_width, cell_height)
        artist = canvas.draw(axes, pictures[..., number], box, **style)
    if style:
        bar_height = min(rows * (cell_height + label + gap) - gap - label, 4.0)
        bar = (columns * (cell_width + gap) + 0.1, top + label, 0.16, bar_height)
        canvas.colour_bar(axes, artist, bar, "weight")
    save(axes.figure, path)
