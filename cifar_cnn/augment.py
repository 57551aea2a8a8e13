"""Augmentations: pure functions (key, images) -> images on device batches, chained by name, and
the views of an image that a network trained with them can be averaged over at test time.

Every random draw has the batch as its leading axis. With JAX's default (partitionable) threefry
keys, row i of such a draw depends only on the key and i. So padding rows appended to a batch change
nothing for the others, and a batch split over devices is augmented in place, without communication.
"""

import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cifar_cnn.checks import UsageError, check_choice, check_int, check_number, check_shape

Augment = Callable[[jax.Array, jax.Array], jax.Array]
View = Callable[[jax.Array], jax.Array]

# The config's names of the ways to fill the border, and those of `jnp.pad`.
_PAD_MODES = {"reflect": "reflect", "zero": "constant", "edge": "edge"}


def flip(*, probability: float) -> Augment:
    """Mirrors each image left to right with the given probability.

    Args:
      probability: in [0, 1], independent per image.

    Returns:
      (key, images) -> images; images: uint8 or float32 [B, H, W, C], dtype kept.

    Raises:
      UsageError: naming `augment.flip.probability`.
    """
    check_number("augment.flip.probability", probability, minimum=0, maximum=1)

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        mirrored = jax.random.bernoulli(key, float(probability), images.shape[:1])
        return jnp.where(mirrored[:, None, None, None], _mirror(images), images)

    return apply


def crop(*, padding: int, mode: str) -> Augment:
    """Pads each image on all sides, then cuts a window of the old size at a random place.

    Args:
      padding: pixels per side, from 1 to below the image's height and width. The shift is uniform
        over the (2 * padding + 1)^2 places, independent per image.
      mode: what the border shows: 'reflect' (the image mirrored about its edge pixels), 'edge'
        (the edge pixels repeated) or 'zero' (black, where pixels are not normalised yet).

    Returns:
      (key, images) -> images; images: uint8 or float32 [B, H, W, C], dtype kept.

    Raises:
      UsageError: naming `augment.crop.padding` or `augment.crop.mode`; when the function is
        traced, if the images are too small for the padding.
    """
    check_int("augment.crop.padding", padding, minimum=1)
    check_choice("augment.crop.mode", mode, _PAD_MODES)

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        padded = _pad("augment.crop.padding", images, padding, mode)
        corners = jax.random.randint(key, (images.shape[0], 2), 0, 2 * padding + 1)

        # On CPU and [128, 32, 32, 3] uint8 this takes 0.2 to 0.4 ms. Measured beside it:
        # take_along_axis per axis is about as quick, selecting among the shifts 5 to 15 times
        # slower, products with one-hot matrices 5 to 20 times.
        def window(image: jax.Array, corner: jax.Array) -> jax.Array:
            return lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

        return jax.vmap(window)(padded, corners)

    return apply


def cutout(*, size: int, fill: float | Sequence[float]) -> Augment:
    """Fills a square at a random place of each image (DeVries & Taylor 2017, arXiv:1708.04552).

    As in the paper, the centre is uniform over the pixels of the image, so part of the square may
    lie outside it. An even `size` extends one pixel further up and left of the centre.

    Args:
      size: side of the square in pixels, from 1 to the image's smaller side.
      fill: value of the filled pixels in the units of the images, one number or one per channel
        (the data set's mean colour is the paper's choice). Rounded for uint8 images.

    Returns:
      (key, images) -> images; images: uint8 or float32 [B, H, W, C], dtype kept.

    Raises:
      UsageError: naming `augment.cutout.size` or `augment.cutout.fill`; when the function is
        traced, if they do not suit the images.
    """
    check_int("augment.cutout.size", size, minimum=1)
    colour = tuple(fill) if isinstance(fill, Sequence) and not isinstance(fill, str) else (fill,)
    for value in colour:
        check_number("augment.cutout.fill", value)

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        batch, height, width, channels = images.shape
        check_int("augment.cutout.size", size, minimum=1, maximum=min(height, width))
        pixel = _pixel(colour, channels, images.dtype)
        centres = jax.random.randint(key, (batch, 2), 0, jnp.array([[height, width]]))
        rows = _covered(centres[:, :1], size, height)
        columns = _covered(centres[:, 1:], size, width)
        inside = rows[:, :, None, None] & columns[:, None, :, None]
        return jnp.where(inside, pixel, images)

    return apply


AUGMENTS: dict[str, Callable[..., Augment]] = {"flip": flip, "crop": crop, "cutout": cutout}


def make_augment(names: Sequence[str], **sections: Mapping[str, Any]) -> Augment:
    """Chains augmentations by name.

    Args:
      names: keys of `AUGMENTS`, applied in this order. Empty: images pass unchanged. A repeated
        name is applied again with draws of its own.
      **sections: options per name, e.g. `crop={'padding': 4, 'mode': 'reflect'}`. Each of `names`
        needs its section; sections of other names are not read.

    Returns:
      (key, images) -> images; images: uint8 or float32 [B, H, W, C], dtype and shape kept. The
      draws of one augmentation are the same whatever others stand in `names`.

    Raises:
      UsageError: naming `augment.names`, `augment.<name>` or one of its keys.
    """
    for name in sections:
        check_choice("section of augment", name, AUGMENTS)
    chain = []
    for position, name in enumerate(names):
        check_choice("augment.names", name, AUGMENTS)
        options = dict(sections.get(name, {}))
        known = inspect.signature(AUGMENTS[name]).parameters
        if options.keys() != known.keys():
            got = ", ".join(sorted(options)) or "no keys"
            raise UsageError(f"augment.{name} has {got}, expected: {', '.join(sorted(known))}")
        occurrence = list(names[:position]).count(name)
        # Not Python's hash, which differs between processes.
        stream = zlib.crc32(f"{name}:{occurrence}".encode())
        chain.append((stream, AUGMENTS[name](**options)))

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        check_shape("images", images.shape, (None,) * 4)
        for stream, augment in chain:
            images = augment(jax.random.fold_in(key, stream), images)
        return images

    return apply


def make_views(names: Sequence[str], *, shift: int) -> list[tuple[float, View]]:
    """Returns the views to average a network's predictions over at test time.

    A network is shown only what it was trained with: mirrored images if `names` has 'flip', images
    shifted by (-shift, -shift) and (shift, shift) pixels (border reflected) if it has 'crop'. The
    unshifted views weigh 1/2 together and each shift 1/4; a mirrored pair halves each of these.
    These are the views of airbench (Jordan 2024, arXiv:2404.00498).

    Args:
      names: the augmentations that the network was trained with.
      shift: pixels, from 1 to below the image's height and width.

    Returns:
      [(weight, images -> images), ...], the unchanged images first; weights sum to 1; images:
      uint8 or float32 [B, H, W, C], dtype and shape kept.

    Raises:
      UsageError: if `names` has neither 'flip' nor 'crop'; naming `eval.tta_shift`.
    """
    for name in names:
        check_choice("augment.names", name, AUGMENTS)
    check_int("eval.tta_shift", shift, minimum=1)
    if "flip" not in names and "crop" not in names:
        raise UsageError("--tta needs a network trained with flip or crop")
    views: list[tuple[float, View]] = [(1.0, lambda images: images)]
    if "crop" in names:
        views = [(0.5, views[0][1]), (0.25, _shifted(-shift)), (0.25, _shifted(shift))]
    if "flip" in names:
        views = [pair for view in views for pair in _with_mirror(*view)]
    return views


def _mirror(images: jax.Array) -> jax.Array:
    """[B, H, W, C] with the columns in reverse order."""
    return images[:, :, ::-1, :]


def _with_mirror(weight: float, view: View) -> list[tuple[float, View]]:
    """A view and its mirror image, at half the weight each."""
    return [(weight / 2, view), (weight / 2, lambda images: _mirror(view(images)))]


def _shifted(offset: int) -> View:
    """Moves the content by `offset` pixels down and right (up and left if negative)."""
    padding = abs(offset)

    def view(images: jax.Array) -> jax.Array:
        padded = _pad("eval.tta_shift", images, padding, "reflect")
        start = padding - offset
        rows, columns = (slice(start, start + size) for size in images.shape[1:3])
        return padded[:, rows, columns, :]

    return view


def _pad(key: str, images: jax.Array, padding: int, mode: str) -> jax.Array:
    """Pads height and width by `padding` on both sides; UsageError naming `key` if too far."""
    # One reflection reaches no further than size - 1; the other modes would show border only.
    smallest = min(images.shape[1:3])
    if padding >= smallest:
        raise UsageError(f"{key} is {padding}, expected below the images' {smallest} pixels")
    widths = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return jnp.pad(images, widths, mode=_PAD_MODES[mode])


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
