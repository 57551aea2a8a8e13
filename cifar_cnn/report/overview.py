"""One page from the image through every layer to the probabilities."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cifar_cnn.report import canvas, probabilities
from cifar_cnn.report.feature_maps import LayerOutput, fold, statistics
from cifar_cnn.report.figure import save

MOST_ROWS = 32  # Layers beyond that are left out from the middle.
_TEXT, _MAPS, _CELL, _GAP = 3.7, 8, 0.86, 0.1  # Inches, maps a row, inches, inches.


def plot(
    image: np.ndarray,
    layers: Sequence[LayerOutput],
    shares: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike,
    *,
    title: str,
    label: int | None = None,
) -> None:
    """Draws the page as a PNG: a row for the image, one a layer, and the probabilities.

    A row shows the first eight feature maps, or the whole vector folded into a few lines. Each
    layer has its own colour scale, told by its smallest and largest value.

    Args:
      image: uint8 [H, W, C], the network's input.
      layers: in the order of their calls.
      shares: float [K], the probabilities.
      class_names: K names.
      title: above all.
      label: the true class, where it is known.

    Raises:
      MachineError: if the file cannot be written.
    """
    width = _TEXT + _MAPS * (_CELL + _GAP)
    note = (
        f"The first {_MAPS} feature maps of each layer, vectors whole (read row by row). Colours, "
        "for each layer anew: dark is zero and yellow the largest value; where there are negative "
        "values, blue is below zero, white zero, red above."
    )
    titles, notes = canvas.wrapped(title, width, 13), canvas.wrapped(note, width, 9.5)
    below = len(titles) * canvas.line_height(13) + 0.05
    top = below + len(notes) * canvas.line_height(9.5) + 0.2
    rows = _rows(layers)
    texts = [_words(number, layer) for number, layer in rows]
    heights = [
        max(_height(layer), len(text) * canvas.line_height(8.5) + canvas.line_height(10.5)) + 0.22
        for (_, layer), text in zip(rows, texts, strict=True)
    ]
    shown = probabilities.choose(shares, label)
    last = 0.25 * len(shown)
    first = 1.3 + 0.22

    axes = canvas.new_canvas(width, top + first + sum(heights) + last + 0.1)
    canvas.write(axes, 0, 0, "\n".join(titles), 13)
    canvas.write(axes, 0, below, "\n".join(notes), 9.5, color="0.25")
    _write_row(axes, top, "Image", [canvas.shape_text(image.shape)])
    side = 1.3 / max(image.shape[:2])
    box = (_TEXT, top, image.shape[1] * side, image.shape[0] * side)
    canvas.draw(axes, canvas.as_picture(image), box)
    y = top + first
    for (number, layer), text, height in zip(rows, texts, heights, strict=True):
        name = "…" if layer is None else f"{number}. {layer.name}"
        _write_row(axes, y, name, text)
        if layer is not None:
            _draw_layer(axes, np.asarray(layer.value, np.float32), y)
        y += height
    _write_row(axes, y, "Softmax", [f"{len(shares)} probabilities that sum to 1"])
    box = (_TEXT, y, width - _TEXT, last)
    probabilities.draw(axes, shares, class_names, box, shown, label)
    save(axes.figure, path)


def _rows(layers: Sequence[LayerOutput]) -> list[tuple[int, LayerOutput | None]]:
    """Numbered layers, and one None for those that are left out."""
    rows = list(enumerate(layers, start=1))
    if len(rows) <= MOST_ROWS:
        return rows
    left_out = len(rows) - MOST_ROWS + 1
    start = MOST_ROWS // 2
    return [*rows[:start], (left_out, None), *rows[start + left_out :]]


def _words(number: int, layer: LayerOutput | None) -> list[str]:
    """What stands beside a layer's maps."""
    if layer is None:
        return [f"{number} layers left out"]
    told = statistics(layer)
    shapes = f"{canvas.shape_text(layer.input_shape)} → {canvas.shape_text(layer.value.shape)}"
    values = f"{told['min']:.3g} to {told['max']:.3g}, {told['zeros']:.0%} zeros"
    lines = [f"{layer.kind}: {shapes}", *layer.arithmetic.split("; "), values]
    return [part for line in lines if line for part in canvas.wrapped(line, _TEXT - 0.1, 8.5)]


def _height(layer: LayerOutput | None) -> float:
    """Inches that the picture of a layer needs."""
    if layer is None:
        return 0.2
    if layer.value.ndim == 1:
        return 0.86 if layer.value.size > 256 else 0.5
    return _cell(layer.value.shape)[1]


def _cell(shape: tuple[int, ...]) -> tuple[float, float]:
    """Width and height in inches of one feature map."""
    ratio = np.clip(shape[0] / shape[1], 1 / 3, 3)
    return (_CELL, _CELL * ratio) if ratio <= 1 else (_CELL / ratio, _CELL)


def _write_row(axes: Axes, y: float, name: str, lines: Sequence[str]) -> None:
    canvas.write(axes, 0, y, name, 10.5, fontweight="bold")
    canvas.write(axes, 0, y + canvas.line_height(10.5), "\n".join(lines), 8.5, color="0.25")


def _draw_layer(axes: Axes, value: np.ndarray, y: float) -> None:
    width = _MAPS * (_CELL + _GAP) - _GAP
    if value.ndim == 1:
        cmap, norm = canvas.scale(value)
        height = 0.86 if value.size > 256 else 0.5
        strip = fold(value, aspect=width / height)
        canvas.draw(axes, strip, (_TEXT, y, width, height), cmap=cmap, norm=norm)
        return
    maps = value.reshape(*value.shape[:2], -1)
    shown = min(_MAPS, maps.shape[-1])
    cmap, norm = canvas.scale(maps[..., :shown], signed=bool(value.min() < 0))
    cell_width, cell_height = _cell(value.shape)
    for number in range(shown):
        box = (_TEXT + number * (_CELL + _GAP), y, cell_width, cell_height)
        canvas.draw(axes, maps[..., number], box, cmap=cmap, norm=norm)
