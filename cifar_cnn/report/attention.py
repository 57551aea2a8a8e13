"""Where in an image a network found its class: heat maps beside and over the image."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize

from cifar_cnn.report import canvas
from cifar_cnn.report.figure import save

_HEAT = "inferno"


def plot(
    image: np.ndarray,
    heat_maps: Sequence[tuple[str, np.ndarray]],
    path: str | os.PathLike,
    *,
    title: str,
    scale: str,
) -> None:
    """Draws one row a heat map: the image, the heat map, and the map over the grey image.

    Args:
      image: uint8 [H, W, C].
      heat_maps: (caption, float [H, W] from zero up), each with its own colour scale.
      title: above all.
      scale: what the numbers of the colour bars are.

    Raises:
      MachineError: if the file cannot be written.
    """
    height, width = image.shape[:2]
    shape = np.clip(height / width, 1 / 3, 3)
    cell_width, cell_height = (2.5, 2.5 * shape) if shape <= 1 else (2.5 / shape, 2.5)
    gap, caption = 0.2, 0.34
    page = 3 * cell_width + 2 * gap
    titles = canvas.wrapped(title, page + 0.9, 12)
    top = len(titles) * canvas.line_height(12) + 0.12
    captions = [canvas.wrapped(text, page + 0.9, 10) for text, _ in heat_maps]
    step = max(map(len, captions)) * canvas.line_height(10) + caption + cell_height + gap

    axes = canvas.new_canvas(page + 1.0, top + len(heat_maps) * step)
    canvas.write(axes, 0, 0, "\n".join(titles), 12)
    picture = canvas.as_picture(image)
    grey = canvas.as_picture(picture.mean(axis=-1, keepdims=True).astype(np.uint8))
    for row, (lines, (_, heat)) in enumerate(zip(captions, heat_maps, strict=True)):
        above = top + row * step
        canvas.write(axes, 0, above, "\n".join(lines), 10)
        above += len(lines) * canvas.line_height(10)
        norm = Normalize(0, float(heat.max()) or 1.0)
        for column, name in enumerate(("image", "heat map", "over the image")):
            left = column * (cell_width + gap)
            canvas.write(axes, left + cell_width / 2, above + caption - 0.05, name, 9,
                         ha="center", va="bottom", color="0.25")  # fmt: skip
            box = (left, above + caption, cell_width, cell_height)
            if column != 1:
                canvas.draw(axes, picture if column == 0 else grey, box)
            if column == 1:
                shown = canvas.draw(axes, heat, box, cmap=_HEAT, norm=norm)
            elif column == 2:
                canvas.draw(axes, heat, box, cmap=_HEAT, norm=norm, alpha=0.8 * norm(heat))
        bar = (page + 0.12, above + caption, 0.16, cell_height)
        canvas.colour_bar(axes, shown, bar, scale)
    save(axes.figure, path)
