"""Random shifts: a window of the padded image."""

import jax
import jax.numpy as jnp
from jax import lax

from cifar_cnn.augment.visit import Augment, Visit
from cifar_cnn.checks import UsageError, check_choice, check_int

# The config's names of the ways to fill the border, and those of `jnp.pad`.
_PAD_MODES = {"reflect": "reflect", "zero": "constant", "edge": "edge"}


def crop(*, padding: int, mode: str) -> Augment:
    """Pads each image on all sides, then cuts a window of the old size at a random place.

    Args:
      padding: pixels per side, from 1 to below the image's height and width. The shift is uniform
        over the (2 * padding + 1)^2 places, independent per image.
      mode: what the border shows: 'reflect' (the image mirrored about its edge pixels), 'edge'
        (the edge pixels repeated) or 'zero' (black, where pixels are not normalised yet).

    Returns:
      (key, images, visit) -> images; images: uint8 or float32 [B, H, W, C], dtype kept.

    Raises:
      UsageError: naming `augment.crop.padding` or `augment.crop.mode`; when the function is
        traced, if the images are too small for the padding.
    """
    check_int("augment.crop.padding", padding, minimum=1)
    check_choice("augment.crop.mode", mode, _PAD_MODES)

    def apply(key: jax.Array, images: jax.Array, visit: Visit | None = None) -> jax.Array:
        del visit
        padded = pad("augment.crop.padding", images, padding, mode)
        corners = jax.random.randint(key, (images.shape[0], 2), 0, 2 * padding + 1)

        # On CPU and [128, 32, 32, 3] uint8 this takes 0.2 to 0.4 ms. Measured beside it:
        # take_along_axis per axis is about as quick, selecting among the shifts 5 to 15 times
        # slower, products with one-hot matrices 5 to 20 times.
        def window(image: jax.Array, corner: jax.Array) -> jax.Array:
            return lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

        return jax.vmap(window)(padded, corners)

    return apply


def pad(key: str, images: jax.Array, padding: int, mode: str) -> jax.Array:
    """Pads height and width by `padding` on both sides; UsageError naming `key` if too far."""
    # One reflection reaches no further than size - 1; the other modes would show border only.
    smallest = min(images.shape[1:3])
    if padding >= smallest:
        raise UsageError(f"{key} is {padding}, expected below the images' {smallest} pixels")
    widths = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return jnp.pad(images, widths, mode=_PAD_MODES[mode])
