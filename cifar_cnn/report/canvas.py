"""A page that is laid out in inches: where things stand is arithmetic, so that nothing overlaps.

A canvas is one axes over the whole page, x to the right and y downwards, both in inches.
"""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize

from cifar_cnn.report.figure import FONT, TEXT, new_figure

Box = tuple[float, float, float, float]  # Left, top, width, height.

SIGNED, POSITIVE = "RdBu_r", "viridis"  # White is zero; dark is zero.


def new_canvas(width: float, height: float) -> Axes:
    """An empty page of `width` x `height` inches; `axes.figure` is what `figure.save` takes."""
    axes = new_figure(width, height).add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    return axes


def draw(
    axes: Axes,
    values: np.ndarray,
    box: Box,
    *,
    cmap: str | Colormap | None = None,
    norm: Normalize | None = None,
    alpha: float | np.ndarray = 1.0,
) -> Any:
    """Draws [h, w] by colour map, or [h, w, 3] as a picture, into a box; returns the artist."""
    left, top, width, height = box
    limits = axes.get_xlim(), axes.get_ylim()
    artist = axes.imshow(
        values,
        cmap=cmap,
        norm=norm,
        alpha=alpha,
        extent=(left, left + width, top + height, top),
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    xs = [left, left + width, left + width, left, left]
    ys = [top, top, top + height, top + height, top]
    axes.plot(xs, ys, color="0.55", linewidth=0.6)
    return artist


def write(axes: Axes, x: float, y: float, text: str, size: float = 9, **style: Any) -> None:
    """Writes text with its top left corner at (x, y), unless `style` aligns it otherwise."""
    aligned = {"ha": "left", "va": "top", "linespacing": 1.3, **TEXT, **style}
    axes.text(x, y, text, fontsize=size, **aligned)


def wrapped(text: str, width: float, size: float = 9) -> list[str]:
    """The lines of a text in a column of `width` inches; letters are 0.62 of the size wide at
    most on average."""
    lines = [textwrap.wrap(line, max(12, int(width * 72 / (0.56 * size)))) for line in
             text.split("\n")]  # fmt: skip
    return [line for part in lines for line in part]


def line_height(size: float) -> float:
    """Inches from one line of text to the next."""
    return size * 1.3 * 1.17 / 72


def colour_bar(axes: Axes, artist: Any, box: Box, label: str) -> None:
    """Draws the colour scale of an artist into a box; its numbers stand to the right of it."""
    page_width, page_height = axes.figure.get_size_inches()
    left, top, width, height = box
    place = axes.figure.add_axes(
        (left / page_width, 1 - (top + height) / page_height, width / page_width,
         height / page_height)
    )  # fmt: skip
    bar = axes.figure.colorbar(artist, cax=place)
    bar.ax.tick_params(labelsize=8, labelfontfamily=FONT)
    bar.ax.locator_params(nbins=5)
    bar.set_label(label, fontsize=8.5, **TEXT)


def scale(values: np.ndarray, signed: bool | None = None) -> tuple[str, Normalize]:
    """Colour map and limits for values: symmetric about zero where some are negative, else from
    zero up. `signed` decides where it is given."""
    largest = float(np.abs(values).max(initial=0)) or 1.0
    if signed is None:
        signed = bool(values.min(initial=0) < 0)
    return (SIGNED, Normalize(-largest, largest)) if signed else (POSITIVE, Normalize(0, largest))


def as_picture(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, C] as uint8 [H, W, 3]: grey images become RGB, of other numbers of channels
    the first is shown in grey."""
    return image if image.shape[-1] == 3 else np.repeat(image[..., :1], 3, axis=-1)


def shape_text(shape: tuple[int, ...]) -> str:
    """(32, 32, 3) as '32 × 32 × 3'."""
    return " \N{MULTIPLICATION SIGN} ".join(f"{size:,}" for size in shape)
