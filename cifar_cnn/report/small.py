"""Small pictures that are drawn in milliseconds, at every validation."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cifar_cnn.checks import check_shape, printable

_PAPER, _INK, _DEEP = (255, 255, 255), (30, 30, 30), (8, 81, 156)
_RIGHT, _WRONG = (0, 114, 178), (213, 94, 0)
_SIDE = 96  # Pixels of one image.
_MOST_NAMED = 30  # Classes up to which rows and columns are named.
_WIDEST = 800  # Pixels of a matrix without names.


def confusion_picture(matrix: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """A confusion matrix as a picture: rows are true classes, colours shares of them.

    Up to 30 classes are named and counted. Of more than 800 so many are drawn, evenly chosen, as
    the picture has no more pixels.

    Args:
      matrix: counts [K, K].
      class_names: K names.

    Returns:
      uint8 [H, W, 3].
    """
    count = len(class_names)
    check_shape("matrix", matrix.shape, (count, count))
    named = count <= _MOST_NAMED
    drawn = min(count, _WIDEST)
    cell, font = (34 if named else _WIDEST // drawn), ImageFont.load_default(12)
    chosen = np.arange(drawn) * count // drawn
    totals = np.maximum(matrix.sum(axis=1)[chosen], 1)
    # The root shows rare confusions, too.
    depth = np.sqrt(matrix[np.ix_(chosen, chosen)] / totals[:, None])[:, :, None]
    paper, deep = np.array(_PAPER), np.array(_DEEP)
    colours = np.rint(paper + depth * (deep - paper)).astype(np.uint8)
    square = colours.repeat(cell, axis=0).repeat(cell, axis=1)
    left, top = (120 if named else 4), 24
    page = Image.new("RGB", (left + drawn * cell + 4, top + drawn * cell), _PAPER)
    page.paste(Image.fromarray(square), (left, top))
    pen = ImageDraw.Draw(page)
    pen.text((4, 4), "rows: true, columns: predicted, in label order", _INK, font)
    for i in range(count if named else 0):
        pen.text((4, top + i * cell + 10), f"{i} {printable(class_names[i])}"[:17], _INK, font)
        for j in np.flatnonzero(matrix[i]):
            place = (left + j * cell + cell / 2, top + i * cell + cell / 2)
            ink = _PAPER if depth[i, j, 0] > 0.6 else _INK
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
        page.paste(Image.fromarray(rgb).resize((_SIDE, _SIDE), Image.Resampling.NEAREST), (x, y))
        hit, guessed = label == guess, printable(class_names[guess])[:15]
        pen.text((x, y + _SIDE + 2), guessed, _RIGHT if hit else _WRONG, font)
        if not hit:
            pen.text((x, y + _SIDE + 16), f"is {printable(class_names[label])}"[:15], _INK, font)
    return np.asarray(page)
