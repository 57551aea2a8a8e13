"""Squares of one colour that hide a part of each image."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cifar_cnn.augment.visit import Augment, Visit
from cifar_cnn.checks import UsageError, check_int, check_number


def cutout(*, size: int, fill: float | Sequence[float]) -> Augment:
    """Fills a square at a random place of each image (DeVries & Taylor 2017, arXiv:1708.04552).

    As in the paper, the centre is uniform over the pixels of the image, so part of the square may
    lie outside it. An even `size` extends one pixel further up and left of the centre.

    Args:
      size: side of the square in pixels, from 1 to the image's smaller side.
      fill: value of the filled pixels in the units of the images, one number or one per channel
        (the data set's mean colour is the paper's choice). Rounded for uint8 images.

    Returns:
      (key, images, visit) -> images; images: uint8 or float32 [B, H, W, C], dtype kept.

    Raises:
      UsageError: naming `augment.cutout.size` or `augment.cutout.fill`; when the function is
        traced, if they do not suit the images.
    """
    check_int("augment.cutout.size", size, minimum=1)
    colour = tuple(fill) if isinstance(fill, Sequence) and not isinstance(fill, str) else (fill,)
    for value in colour:
        check_number("augment.cutout.fill", value)

    def apply(key: jax.Array, images: jax.Array, visit: Visit | None = None) -> jax.Array:
        del visit
        batch, height, width, channels = images.shape
        check_int("augment.cutout.size", size, minimum=1, maximum=min(height, width))
        pixel = _pixel(colour, channels, images.dtype)
        centres = jax.random.randint(key, (batch, 2), 0, jnp.array([[height, width]]))
        rows = _covered(centres[:, :1], size, height)
        columns = _covered(centres[:, 1:], size, width)
        inside = rows[:, :, None, None] & columns[:, None, :, None]
        return jnp.where(inside, pixel, images)

    return apply


def _pixel(colour: tuple[float, ...], channels: int, dtype: jnp.dtype) -> jax.Array:
    """The colour as [1, 1, 1, C or 1] of `dtype`; UsageError if it does not suit the images."""
    key = "augment.cutout.fill"
    if len(colour) not in (1, channels):
        raise UsageError(f"{key} has {len(colour)} numbers, expected 1 or {channels}")
    if jnp.issubdtype(dtype, jnp.integer):
        for value in colour:
            check_number(key, value, minimum=0, maximum=float(jnp.iinfo(dtype).max))
        colour = tuple(round(value) for value in colour)
    # Rounded on the host: casting a float to uint8 is undefined for values out of range.
    return jnp.asarray(np.array(colour, dtype)).reshape(1, 1, 1, -1)


def _covered(centres: jax.Array, size: int, extent: int) -> jax.Array:
    """bool [B, extent]: the positions inside the interval of `size` around centres [B, 1]."""
    offset = jnp.arange(extent)[None, :] - (centres - size // 2)
    return (offset >= 0) & (offset < size)
