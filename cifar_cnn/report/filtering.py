"""Pictures of filtering: the image before, the kernel's numbers, the image after."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cifar_cnn.report.figure import COLOURS, FONT, TEXT, new_figure, save, show_image

_SIDE = 3.8  # Inches of an image's longer side.
_GAP = 0.55
_LARGEST_WINDOW = 64  # Pixels of an image in which one pixel can still be seen.
_DIVERGING = "RdBu_r"


@dataclasses.dataclass(frozen=True)
class Filtered:
    """One kernel's work on one image.

    Attributes:
      name: of the kernel.
      kernel: float32 [kernel rows, kernel columns].
      image: float32 [H', W', C], the result in the units of the image (0 to 255).
      notes: lines to print under it.
    """

    name: str
    kernel: np.ndarray
    image: np.ndarray
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Shown:
    """How a result becomes a picture.

    Attributes:
      picture: uint8 [H, W, C], or float [H, W] where colours stand for numbers.
      words: what was done, for people.
      colours: arguments of `imshow` for a float picture.
    """

    picture: np.ndarray
    words: str
    colours: dict[str, Any]


def as_shown(image: np.ndarray, kernel: np.ndarray) -> Shown:
    """Decides how the result of `kernel` is shown.

    Weights with a sum above 0 and up to 1 give a picture again: rounded and clipped to 0..255.
    Others, such as Sobel's with a sum of 0, give a map of numbers: in colours centred at zero if
    any are negative, else in greys from 0; the mean over the channels, and saturated at the 99th
    percentile, so that one extreme pixel does not make the rest pale.

    Args:
      image: float [H, W, C], the result.
      kernel: float, its weights.
    """
    if 0 < kernel.sum() <= 1 + 1e-5:
        outside = np.mean((np.rint(image) < 0) | (np.rint(image) > 255))
        clipped = f", clipped ({outside:.1%} lie outside)" if outside else ""
        picture = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        return Shown(picture, f"shown: 0 black to 255 white{clipped}", {})
    values = image.mean(axis=-1)
    limit = float(np.percentile(np.abs(values), 99)) or float(np.abs(values).max()) or 1.0
    mean = "mean of the channels, " if image.shape[-1] > 1 else ""
    if values.min() < 0:
        colours = {"cmap": _DIVERGING, "norm": Normalize(-limit, limit)}
        return Shown(values, f"shown: {mean}blue below 0, red above", colours)
    return Shown(values, f"shown: {mean}0 black, bright above", {
        "cmap": "gray", "norm": Normalize(0, limit),
    })  # fmt: skip


def plot(
    before: np.ndarray,
    results: Sequence[Filtered],
    path: str | os.PathLike,
    *,
    title: str,
    window: tuple[int, int] | None = None,
) -> None:
    """Draws the image, the kernel, the result, and what pooling made of it, from left to right.

    Args:
      before: uint8 [H, W, C].
      results: the filtered image, then the pooled one if there is one.
      path: the PNG file; replaced as a whole.
      title: printed above.
      window: (row, column) of an output whose window is framed in the image, for stride 1 and
        an output as large as the image; left out where pixels are too small to be seen.

    Raises:
      MachineError: if the file cannot be written.
    """
    first = results[0]
    figure = new_figure(10, 5)
    place = _Row(figure)
    axes = place.panel(before.shape, "image")
    show_image(axes, before)
    place.note(axes, [f"shape {_shape(before)}", f"values {before.min()} to {before.max()}"])
    if window and max(before.shape) <= _LARGEST_WINDOW:
        rows, columns = first.kernel.shape
        corner = (window[1] - (columns - 1) // 2, window[0] - (rows - 1) // 2)
        _frame(axes, corner, columns, rows)
    kernel_axes = place.panel(first.kernel.shape, first.name, side=0.75 * _SIDE)
    factor = draw_kernel(kernel_axes, first.kernel, fontsize=_cell_font(first.kernel, 0.75 * _SIDE))
    notes = [
        f"shape {_shape(first.kernel)}{factor}",
        f"sum of the weights {_number(np.round(first.kernel.sum(), 4))}",
    ]
    if window and max(before.shape) <= _LARGEST_WINDOW:
        value = _number(np.round(first.image[window[0], window[1], 0], 1))
        notes.append(f"frames: sum of weight times pixel = {value}")
    place.note(kernel_axes, notes)
    for number, result in enumerate(results):
        axes = place.panel(result.image.shape, "result" if not number else result.name)
        shown = as_shown(result.image, first.kernel)
        mappable = _draw(axes, shown)
        if mappable is not None:
            place.bar(axes, mappable)
        if not number and window and max(before.shape) <= _LARGEST_WINDOW:
            _frame(axes, (window[1], window[0]), 1, 1)
        lines = [f"shape {_shape(result.image)}", *result.notes, _range(result.image), shown.words]
        place.note(axes, lines, bar=bool(shown.colours))
    figure.text(0, 1 + 0.5 / 5, title, fontsize=14, va="bottom", **TEXT)
    save(figure, path)


def plot_all(results: Sequence[Filtered], path: str | os.PathLike, *, title: str) -> None:
    """Draws every kernel beside its result, three pairs in a row.

    Args:
      results: in reading order.
      path, title: as in `plot`.

    Raises:
      MachineError: if the file cannot be written.
    """
    columns, side, kernel_side = 3, 2.7, 1.7
    height, width = _fitted(results[0].image.shape, side)
    cell = (kernel_side + 0.25 + width + 0.6, max(height, kernel_side) + 1.15)
    rows = -(-len(results) // columns)
    figure = new_figure(columns * cell[0], rows * cell[1])
    size = figure.get_size_inches()
    for number, result in enumerate(results):
        row, column = divmod(number, columns)
        left, top = column * cell[0], (rows - row) * cell[1]
        kernel_height, kernel_width = _fitted(result.kernel.shape, kernel_side)
        axes = _axes(figure, left, top - kernel_height, kernel_width, kernel_height)
        factor = draw_kernel(axes, result.kernel, _cell_font(result.kernel, kernel_side))
        axes.set_title(f"{result.name}{factor}", fontsize=11, loc="left", **TEXT)
        axes = _axes(figure, left + kernel_side + 0.25, top - height, width, height)
        shown = as_shown(result.image, result.kernel)
        _draw(axes, shown)
        lines = [_range(result.image), shown.words.removeprefix("shown: ")]
        axes.text(
            0, -0.06 / height, "\n".join(lines), fontsize=8.5, va="top", linespacing=1.35,
            transform=axes.transAxes, **TEXT,
        )  # fmt: skip
    figure.text(0, 1 + 0.45 / size[1], title, fontsize=14, va="bottom", **TEXT)
    save(figure, path)


def draw_kernel(axes: Axes, kernel: np.ndarray, fontsize: float) -> str:
    """Draws the weights as numbers on colours centred at zero.

    Weights that are whole multiples of a fraction are written as whole numbers.

    Returns:
      That fraction for a caption, ', times 1/16', or ''.
    """
    limit = float(np.abs(kernel).max()) or 1.0
    image = axes.imshow(kernel, cmap=_DIVERGING, norm=Normalize(-1.6 * limit, 1.6 * limit))
    axes.set_xticks(np.arange(0.5, kernel.shape[1] - 1), labels=[])
    axes.set_yticks(np.arange(0.5, kernel.shape[0] - 1), labels=[])
    axes.grid(color="white", linewidth=1.5)
    axes.tick_params(length=0)
    divisor = _divisor(kernel)
    colours = image.to_rgba(kernel)
    for row, column in np.ndindex(kernel.shape):
        dark = colours[row, column, :3] @ (0.2126, 0.7152, 0.0722) < 0.45
        axes.text(
            column, row, _number(kernel[row, column] * divisor), ha="center", va="center",
            fontsize=fontsize, color="white" if dark else "black", **TEXT,
        )  # fmt: skip
    return f", times 1/{divisor}" if divisor > 1 else ""


class _Row:
    """Places panels from left to right on a page of 10 x 5 inches; inches from the lower left."""

    def __init__(self, figure: Figure):
        self.figure = figure
        self.left = 0.0

    def panel(self, shape: Sequence[int], name: str, side: float = _SIDE) -> Axes:
        height, width = _fitted(shape, side)
        axes = _axes(self.figure, self.left, 5 - height, width, height)
        axes.set_title(name, fontsize=12, loc="left", **TEXT)
        self.left += max(width, 2.7) + _GAP
        return axes

    def bar(self, axes: Axes, mappable: Any) -> None:
        box = axes.get_position()
        extend = "both" if mappable.norm.vmin < 0 else "max"
        bar = self.figure.add_axes((box.x0, box.y0 - 0.2 / 5, box.width, 0.11 / 5))
        self.figure.colorbar(mappable, cax=bar, orientation="horizontal", extend=extend)
        bar.tick_params(labelsize=8, labelfontfamily=FONT)
        bar.locator_params(nbins=5)

    def note(self, axes: Axes, lines: Sequence[str], bar: bool = False) -> None:
        box = axes.get_position()
        self.figure.text(
            box.x0, box.y0 - (0.52 if bar else 0.12) / 5, "\n".join(lines), fontsize=9.5, va="top",
            linespacing=1.4, **TEXT,
        )  # fmt: skip


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches."""
    page = figure.get_size_inches()
    return figure.add_axes((left / page[0], bottom / page[1], width / page[0], height / page[1]))


def _fitted(shape: Sequence[int], side: float) -> tuple[float, float]:
    """Height and width in inches whose longer one is `side`."""
    scale = side / max(shape[:2])
    return max(shape[0] * scale, 0.15), max(shape[1] * scale, 0.15)


def _draw(axes: Axes, shown: Shown) -> Any:
    """Draws the picture; returns what a colour bar needs, or None for a plain picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    if not shown.colours:
        show_image(axes, shown.picture)
        return None
    return axes.imshow(shown.picture, interpolation="nearest", aspect="auto", **shown.colours)


def _frame(axes: Axes, corner: tuple[int, int], width: int, height: int) -> None:
    """Frames `width` x `height` pixels from the (column, row) `corner` on."""
    axes.add_patch(
        Rectangle(
            (corner[0] - 0.5, corner[1] - 0.5), width, height, fill=False, linewidth=2,
            edgecolor=COLOURS[4],
        )
    )  # fmt: skip


def _cell_font(kernel: np.ndarray, side: float) -> float:
    """Font size at which the widest number fits a cell of the kernel."""
    divisor = _divisor(kernel)
    longest = max(len(_number(weight * divisor)) for weight in kernel.flat)
    return float(np.clip(72 * side / max(kernel.shape) / (0.75 * (longest + 0.6)), 2, 15))


def _divisor(kernel: np.ndarray) -> int:
    """The smallest divisor up to 1024 with which every weight is a whole number, or 1."""
    for divisor in range(1, 1025):
        scaled = kernel.astype(np.float64) * divisor
        if np.allclose(scaled, np.rint(scaled), rtol=0, atol=2e-7 * divisor * np.abs(kernel).max()):
            return divisor
    return 1


def _number(value: float) -> str:
    """A weight in up to 4 digits; whole numbers without a point."""
    value = float(value)
    return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"


def _shape(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape))


def _range(image: np.ndarray) -> str:
    """The smallest and the largest value, for people."""
    low, high = (_number(np.round(float(value), 1)) for value in (image.min(), image.max()))
    return f"values {low} to {high}"
