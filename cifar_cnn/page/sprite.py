"""The small images of a page, all in one picture, each under a number."""

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

# Pixels: larger images are reduced to this.
MOST_PIXELS = 64
# Of an image that is shown by itself.
_MOST_SHOWN = 256
# How many images one page has at most, and bytes of them all together.
MOST_IMAGES = 1500
_MOST_BYTES = 4_000_000
# Pixels of a picture's side that every browser decodes.
_MOST_SIDE = 8192


class Sprite:
    """Collects images of a data set by their index and draws each once."""

    def __init__(self, images: np.ndarray):
        """Takes the images that indices count, uint8 [N, H, W, C]."""
        self._images = images
        self._numbers: dict[int, int] = {}

    def add(self, index: int) -> int | None:
        """The number of an image in the picture; None where there is no room left."""
        if index not in self._numbers and len(self._numbers) >= MOST_IMAGES:
            return None
        return self._numbers.setdefault(index, len(self._numbers))

    @property
    def indices(self) -> list[int]:
        """Of the images, in the order of their numbers."""
        return list(self._numbers)

    def as_json(self) -> dict[str, Any]:
        """'url' of the picture, its 'columns', and 'width' and 'height' of one image in pixels."""
        height, width = self._images.shape[1:3]
        scale = min(1.0, MOST_PIXELS / max(height, width))
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        columns = max(1, min(len(self._numbers), _MOST_SIDE // width, 50))
        rows = max(1, math.ceil(len(self._numbers) / columns))
        page = Image.new("RGB", (columns * width, rows * height))
        for index, number in self._numbers.items():
            small = as_picture(self._images[index]).resize((width, height), Image.Resampling.BOX)
            page.paste(small, (number % columns * width, number // columns * height))
        return {"url": _as_url(page), "columns": columns, "width": width, "height": height}


def as_picture(image: np.ndarray) -> Image.Image:
    """A picture in RGB of uint8 [H, W, C] with one or three channels."""
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    return Image.fromarray(np.ascontiguousarray(image))


def png_url(image: np.ndarray) -> str:
    """uint8 [H, W, C] as the address of a PNG that an <img> shows; a large one is reduced."""
    file = io.BytesIO()
    picture = as_picture(image)
    picture.thumbnail((_MOST_SHOWN, _MOST_SHOWN))
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _as_url(page: Image.Image) -> str:
    """The page as WebP, at the best quality that keeps it small enough."""
    for quality in (90, 75, 50, 25):
        file = io.BytesIO()
        page.save(file, "WEBP", quality=quality, method=3)
        if file.tell() <= _MOST_BYTES:
            break
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
