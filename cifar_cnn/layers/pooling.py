"""Max and average pooling."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cifar_cnn.checks import check_choice
from cifar_cnn.layers.arithmetic import output_shape

POOLS = ("max", "avg")


def pool(
    x: jax.Array,
    kind: Literal["max", "avg"],
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: Literal["SAME", "VALID"] = "VALID",
) -> jax.Array:
    """Max or average pooling of `x` float [B, H, W, C]; returns [B, H', W', C].

    The mean is over the pixels inside the image only (as in Keras), and of equal maxima the first
    in row-major order gets the gradient. Written as a chain over strided slices instead of
    `reduce_window`, whose max-gradient (select-and-scatter) is 15 times slower on a CPU.

    Raises:
      UsageError: unknown kind or padding, or a window that does not fit.
    """
    check_choice("pool", kind, POOLS)
    x_size = x.shape[1:3]
    height, width = output_shape(x_size, window, stride, padding)
    pads = lax.padtype_to_pads(x_size, window, stride, padding)
    if padding == "SAME":
        outside = jnp.asarray(-jnp.inf if kind == "max" else 0.0, x.dtype)
        x = lax.pad(x, outside, [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])

    # Each of the window's pixels for all outputs at once.
    rows = [
        lax.slice_in_dim(x, i, i + (height - 1) * stride[0] + 1, stride[0], axis=1)
        for i in range(window[0])
    ]
    taps = [
        lax.slice_in_dim(row, j, j + (width - 1) * stride[1] + 1, stride[1], axis=2)
        for row in rows
        for j in range(window[1])
    ]
    if kind == "max":
        return functools.reduce(_maximum, taps)
    high, wide = (
        jnp.asarray(_inside(*sizes), x.dtype)
        for sizes in zip(x_size, window, stride, pads, (height, width), strict=True)
    )
    return functools.reduce(jnp.add, taps) / (high.reshape(1, -1, 1, 1) * wide.reshape(1, 1, -1, 1))


def _inside(size: int, window: int, stride: int, pads: tuple[int, int], count: int) -> np.ndarray:
    """float32 [count]: how many pixels of each window lie inside the image, along one axis."""
    first = np.arange(count) * stride - pads[0]
    return (np.minimum(first + window, size) - np.maximum(first, 0)).astype(np.float32)


def _maximum(a: jax.Array, b: jax.Array) -> jax.Array:
    """Maximum that gives a tie's whole gradient to `a`, and keeps NaN (so that it is noticed)."""
    return jnp.where((a >= b) | jnp.isnan(a), a, b)
