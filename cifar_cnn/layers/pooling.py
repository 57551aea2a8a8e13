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
    height, width = output_shape(x.shape[1:3], window, stride, padding)
    inside = np.ones(x.shape[1:3], np.float32)
    if padding == "SAME":
        pads = lax.padtype_to_pads(x.shape[1:3], window, stride, "SAME")
        inside = np.pad(inside, pads)
        outside = jnp.asarray(-jnp.inf if kind == "max" else 0.0, x.dtype)
        x = lax.pad(x, outside, [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])

    def taps(array: jax.Array, axis: int) -> list[jax.Array]:
        """Each of the window's pixels for all outputs at once, as slices of axis and axis + 1."""
        rows = [
            lax.slice_in_dim(array, i, i + (height - 1) * stride[0] + 1, stride[0], axis)
            for i in range(window[0])
        ]
        return [
            lax.slice_in_dim(row, j, j + (width - 1) * stride[1] + 1, stride[1], axis + 1)
            for row in rows
            for j in range(window[1])
        ]

    if kind == "max":
        return functools.reduce(_maximum, taps(x, 1))
    total = functools.reduce(jnp.add, taps(x, 1))
    count = functools.reduce(jnp.add, taps(jnp.asarray(inside), 0))
    return total / count.astype(x.dtype)[None, :, :, None]


def _maximum(a: jax.Array, b: jax.Array) -> jax.Array:
    """Maximum that gives a tie's whole gradient to `a`, and keeps NaN (so that it is noticed)."""
    return jnp.where((a >= b) | jnp.isnan(a), a, b)
