"""Small pictures that are drawn in milliseconds, at every validation."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cifar_cnn.checks import check_shape

_PAPER, _INK, _DEEP = (255, 255, 255), (30, 30, 30), (8, 81, 156)
_RIGHT, _WRONG = (0, 114, 178), (213, 94, 0)
_SIDE = 96  # Pixels of one image.
_MOST_NAMED = 30  # Classes up to which rows and columns are named.


def confusion_picture(matrix: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """A confusion matrix as a picture: rows are true classes, colours shares of them.

    Args:
      matrix: counts [K, K].
      class_names: K names.

    Returns:
      uint8 [H, W, 3].
    """
    count = len(class_names)
    check_shape("matrix", matrix.shape, (count, count))
    named = count <= _MOST_NAMED
    cell, font = (34 if named else max(4, 800 // count)), ImageFont.load_default(12)
    left = 120 if named else 4
    page = Image.new("RGB", (left + count * cell + 4, 24 + count * cell), _PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((4, 4), "rows: true, columns: predicted, in label order", _INK, font)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    for i in range(count):
        if named:
            pen.text((4, 24 + i * cell + 10), f"{i} {class_names[i]}"[:17], _INK, font)
        for j in range(count):
            x, y, share = left + j * cell, 24 + i * cell, float(np.sqrt(shares[i, j]))
            colour = tuple(round(p + share * (d - p)) for p, d in zip(_PAPER, _DEEP, strict=True))
            pen.rectangle((x, y, x + cell - 2, y + cell - 2), colour)
            if named and matrix[i, j]:
                ink = _PAPER if share > 0.6 else _INK
                place = (x + cell / 2 - 1, y + cell / 2 - 1)
                pen.text(place, str(matrix[i, j]), ink, font, anchor="mm")
    return np.asarray(page)


def predictions_picture(
    images: np.ndarray, labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]
) -> np.ndarray:
    """Images with what they are taken for, as a picture: blue where that is right.

    Args:
      images: uint8 [n, H, W, C].
      labels, predicted: int [n].
      class_names: K names.

    Returns:
      uint8 [H', W', 3].
    """
    columns, font = min(8, len(images)), ImageFont.load_default(12)
    rows = -(-len(images) // columns)
    step_x, step_y = _SIDE + 8, _SIDE + 40
    page = Image.new("RGB", (columns * step_x, rows * step_y), _PAPER)
    pen = ImageDraw.Draw(page)
    for number, (image, label, guess) in enumerate(zip(images, labels, predicted, strict=True)):
        x, y = number % columns * step_x + 4, number // columns * step_y + 4
        rgb = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
        page.paste(
            Image.fromarray(rgb, "RGB").resize((_SIDE, _SIDE), Image.Resampling.NEAREST), (x, y)
        )
        hit = label == guess
        pen.text((x, y + _SIDE + 2), str(class_names[guess])[:15], _RIGHT if hit else _WRONG, font)
        if not hit:
            pen.text((x, y + _SIDE + 16), f"is {class_names[label]}"[:15], _INK, font)
    return np.asarray(page)
