"""A picture as it was given, and as a network gets it."""

import os

import numpy as np

from cifar_cnn.report import canvas
from cifar_cnn.report.figure import save

_SIDE = 3.2  # Inches of a picture's longer side.


def plot(
    image: np.ndarray,
    path: str | os.PathLike,
    *,
    title: str,
    captions: tuple[str, str],
    given: np.ndarray | None = None,
) -> None:
    """Draws the picture as given, where there is one, and the network's input beside it.

    Args:
      image: uint8 [H, W, C], the network's input before normalisation.
      title: above both.
      captions: what stands above the given picture and above the input.
      given: uint8 [h, w, 3].

    Raises:
      MachineError: if the file cannot be written.
    """
    pictures = [(captions[1], image)]
    if given is not None:
        pictures.insert(0, (captions[0], given))
    sizes = [
        (_SIDE * picture.shape[1] / max(picture.shape[:2]),
         _SIDE * picture.shape[0] / max(picture.shape[:2]))
        for _, picture in pictures
    ]  # fmt: skip
    page = len(pictures) * (_SIDE + 0.4) - 0.4
    titles = canvas.wrapped(title, max(page, 6.0), 12)
    lines = [canvas.wrapped(caption, _SIDE, 9.5) for caption, _ in pictures]
    below = len(titles) * canvas.line_height(12) + 0.08
    top = below + max(map(len, lines)) * canvas.line_height(9.5) + 0.06
    axes = canvas.new_canvas(max(page, 6.0), top + max(height for _, height in sizes) + 0.05)
    canvas.write(axes, 0, 0, "\n".join(titles), 12)
    for place, ((_, picture), size) in enumerate(zip(pictures, sizes, strict=True)):
        left = place * (_SIDE + 0.4)
        canvas.write(axes, left, below, "\n".join(lines[place]), 9.5, color="0.25")
        canvas.draw(axes, canvas.as_picture(picture), (left, top, *size))
    save(axes.figure, path)
