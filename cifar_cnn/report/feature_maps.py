"""What a layer makes of one image: its feature maps or its vector, one page a layer."""

import math
import os
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import numpy as np
from matplotlib.axes import Axes

from cifar_cnn.report import canvas
from cifar_cnn.report.figure import COLOURS, TEXT, plottable, save

MOST_BARS = 20  # Values up to which a vector is drawn as bars.


@flax.struct.dataclass
class LayerOutput:
    """The output of one call of one layer for one image.

    Attributes:
      name: path of the module in the model, as `block/conv`; a second call is `block/conv#2`.
      kind: class of the module.
      value: float32, without the batch axis: [h, w, c] for feature maps, [d] for a vector.
      input_shape: of what the layer was given, without the batch axis.
      arithmetic: how the size comes about, see `report.arithmetic`; may be ''.
    """

    value: jax.Array | np.ndarray
    name: str = flax.struct.field(pytree_node=False)
    kind: str = flax.struct.field(pytree_node=False)
    input_shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
    arithmetic: str = flax.struct.field(pytree_node=False)


def statistics(layer: LayerOutput) -> dict[str, Any]:
    """Name, kind and shapes of a layer with the minimum, maximum, mean and share of zeros of its
    output; `zero_maps` counts the maps that are zero everywhere (None for a vector)."""
    value = np.asarray(layer.value, np.float64)
    zero_maps = int((value == 0).all(axis=(0, 1)).sum()) if value.ndim == 3 else None
    return {
        "name": layer.name,
        "kind": layer.kind,
        "input_shape": list(layer.input_shape),
        "shape": list(value.shape),
        "arithmetic": layer.arithmetic,
        "min": float(value.min()),
        "max": float(value.max()),
        "mean": float(value.mean()),
        "zeros": float((value == 0).mean()),
        "zero_maps": zero_maps,
    }


def format_table(layers: Sequence[LayerOutput]) -> str:
    """One line a layer: shape and statistics of its output."""
    rows = [statistics(layer) for layer in layers]
    names = [f"{row['name']} ({row['kind']})" for row in rows]
    shapes = [str(tuple(row["shape"])) for row in rows]
    left, middle = max(map(len, [*names, "Layer"])), max(map(len, [*shapes, "Output shape"]))
    lines = [
        f"{'Layer':<{left}}  {'Output shape':<{middle}}  {'Min':>9}  {'Max':>9}  {'Mean':>9}  Zeros"
    ]
    for name, shape, row in zip(names, shapes, rows, strict=True):
        numbers = "  ".join(f"{row[key]:>9.4g}" for key in ("min", "max", "mean"))
        lines.append(f"{name:<{left}}  {shape:<{middle}}  {numbers}  {row['zeros']:>5.1%}")
    return "\n".join(lines)


def plot(
    layer: LayerOutput,
    path: str | os.PathLike,
    *,
    title: str,
    maps: int,
    class_names: Sequence[str] = (),
) -> None:
    """Draws a layer's output as a PNG page.

    Feature maps are shown in the order of their filters, the first `maps` of them, with one
    colour scale for the page: centred at zero where the layer has negative values, else from zero
    up. A vector of at most 20 values is drawn as bars, a longer one as a grid that is read row by
    row.

    Args:
      title: of the page, above the layer's shapes and arithmetic.
      maps: at most so many feature maps.
      class_names: names of the values, where the layer's output are the logits.

    Raises:
      MachineError: if the file cannot be written.
    """
    value = np.asarray(layer.value, np.float32)
    shapes = f"{canvas.shape_text(layer.input_shape)} → {canvas.shape_text(value.shape)}"
    words = [shapes, *([layer.arithmetic] if layer.arithmetic else [])]
    if value.ndim in (2, 3):
        _maps_page(value.reshape(*value.shape[:2], -1), path, title, words, maps)
    elif value.size <= MOST_BARS:
        names = class_names if len(class_names) == value.size else None
        _bars_page(value.ravel(), path, title, words, names)
    else:
        _grid_page(value.ravel(), path, title, words)


def fold(vector: np.ndarray, aspect: float = 2.0) -> np.ndarray:
    """[d] as [rows, columns], read row by row, about `aspect` times as wide as high; the last row
    is filled with NaN where d has no fitting divisor."""
    ideal = math.sqrt(len(vector) * aspect)
    divisors = [n for n in range(1, len(vector) + 1) if len(vector) % n == 0]
    columns = min(divisors, key=lambda n: abs(math.log(n / ideal)))
    if not 0.5 <= columns / ideal <= 2:
        columns = math.ceil(ideal)
    rows = math.ceil(len(vector) / columns)
    padded = np.full(rows * columns, np.nan, np.float32)
    padded[: len(vector)] = vector
    return padded.reshape(rows, columns)


def _head(width: float, title: str, words: Sequence[str]) -> tuple[list[str], list[str], float]:
    """Lines of the title and of what stands below it, and the height of both in inches."""
    titles = canvas.wrapped(title, width, 12)
    lines = [line for text in words for line in canvas.wrapped(text, width, 9.5)]
    height = len(titles) * canvas.line_height(12) + len(lines) * canvas.line_height(9.5)
    return titles, lines, height + 0.2


def _write_head(axes: Axes, titles: list[str], lines: list[str]) -> None:
    canvas.write(axes, 0, 0, "\n".join(titles), 12)
    top = len(titles) * canvas.line_height(12) + 0.05
    canvas.write(axes, 0, top, "\n".join(lines), 9.5, color="0.25")


def _maps_page(value, path, title, words, maps: int) -> None:
    height, width, channels = value.shape
    shown = min(maps, channels)
    columns = min(shown, 4 if shown <= 16 else 8)
    rows = math.ceil(shown / columns)
    # Inches: a map is at most three times as high as wide or the other way round.
    cell = np.clip(7.6 / max(columns, 4), 0.9, 1.9)
    shape = np.clip(height / width, 1 / 3, 3)
    cell_width, cell_height = (cell, cell * shape) if shape <= 1 else (cell / shape, cell)
    gap, label = 0.12, 0.2
    page = max(columns * (cell_width + gap) - gap, 6.4)
    which = f"maps 0 to {shown - 1} of {channels}" if shown < channels else f"all {channels} maps"
    cmap, norm = canvas.scale(value[..., :shown], signed=bool(value.min() < 0))
    colours = "blue below zero, white zero, red above" if norm.vmin else "dark is zero"
    dead = int((value == 0).all(axis=(0, 1)).sum())
    words = [*words, f"{which}; one colour scale for all, {colours}"]
    if dead:
        words.append(f"{dead} of {channels} maps are zero everywhere (ø)")
    titles, lines, top = _head(page + 0.9, title, words)

    axes = canvas.new_canvas(page + 0.9, top + rows * (cell_height + label + gap))
    _write_head(axes, titles, lines)
    for number in range(shown):
        row, column = divmod(number, columns)
        left, above = column * (cell_width + gap), top + row * (cell_height + label + gap)
        one = value[..., number]
        mark = " ø" if not one.any() else ""
        canvas.write(axes, left + cell_width / 2, above + label - 0.02, f"{number}{mark}",
                     8.5, ha="center", va="bottom")  # fmt: skip
        artist = canvas.draw(
            axes, one, (left, above + label, cell_width, cell_height), cmap=cmap, norm=norm
        )
    right = columns * (cell_width + gap) + 0.1
    bar = (right, top + label, 0.16, min(rows * (cell_height + label + gap) - gap - label, 4.0))
    canvas.colour_bar(axes, artist, bar, "output")
    save(axes.figure, path)


def _grid_page(vector, path, title, words) -> None:
    grid = fold(vector)
    rows, columns = grid.shape
    cmap, norm = canvas.scale(vector)
    colours = "blue below zero, white zero, red above" if norm.vmin else "dark is zero"
    words = [*words, f"{len(vector):,} values, {columns} a row, read row by row; {colours}"]
    zeros = int((vector == 0).sum())
    if zeros:
        words.append(f"{zeros:,} of {len(vector):,} values are zero")
    width = 7.6
    height = float(np.clip(width * rows / columns, 0.8, 7.6))
    titles, lines, top = _head(width + 0.9, title, words)
    axes = canvas.new_canvas(width + 0.9, top + height + 0.1)
    _write_head(axes, titles, lines)
    artist = canvas.draw(axes, grid, (0.5, top, width - 0.5, height), cmap=cmap, norm=norm)
    step = max(1, math.ceil(rows * 0.16 / height))
    for row in range(0, rows, step):
        canvas.write(axes, 0.44, top + (row + 0.5) * height / rows, f"{row * columns:,}", 8,
                     ha="right", va="center")  # fmt: skip
    canvas.colour_bar(axes, artist, (width + 0.15, top, 0.16, min(height, 4.0)), "output")
    save(axes.figure, path)


def _bars_page(vector, path, title, words, class_names) -> None:
    names = [str(number) for number in range(len(vector))]
    if class_names is not None:
        names = [plottable(str(name), k) for k, name in enumerate(class_names)]
    titles, lines, top = _head(7.0, title, words)
    margin = 0.3 + max(map(len, names)) * 9 * 0.62 / 72
    height = 0.28 * len(vector) + 0.2
    axes = canvas.new_canvas(7.0, top + height + 0.5)
    _write_head(axes, titles, lines)
    page_width, page_height = axes.figure.get_size_inches()
    bars = axes.figure.add_axes(
        (margin / page_width, 0.5 / page_height, 1 - (margin + 0.2) / page_width,
         height / page_height)
    )  # fmt: skip
    bars.barh(range(len(vector)), vector, color=COLOURS[0], height=0.72)
    bars.axvline(0, color="0.3", linewidth=0.8)
    bars.set_yticks(range(len(vector)), labels=names, fontsize=9, **TEXT)
    bars.set_ylim(len(vector) - 0.4, -0.6)
    bars.margins(x=0.16)
    for place, number in enumerate(vector):
        right = number >= 0
        bars.annotate(
            f"{number:.3g}", (number, place), (4 if right else -4, 0), fontsize=8,
            ha="left" if right else "right", va="center", textcoords="offset points", **TEXT,
        )  # fmt: skip
    bars.tick_params(axis="x", labelsize=8.5, labelfontfamily=TEXT["fontfamily"])
    bars.spines[["top", "right", "left"]].set_visible(False)
    bars.tick_params(axis="y", length=0)
    bars.set_xlabel("output", fontsize=9, **TEXT)
    save(axes.figure, path)
