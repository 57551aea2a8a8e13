"""3 x 3 convolutions by minimal filtering along the rows of an image, for CPUs.

Winograd's F(4, 3) gives four neighbouring outputs of a three-tap filter from 6 products instead of
12 (Winograd 1980; Lavin & Gray 2016, arXiv:1509.09308). Here it is applied along the width alone;
the three taps along the height are channels of the products. Both gradients have the same form.
Against the two-dimensional F(4x4, 3x3), which saves 4 times instead of twice, the transforms
move less memory, the products are larger matrices, and rounding is amplified less.

The products are 6 matrix products, in float32 or with bfloat16 factors and float32 sums.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_TILE = 4  # Outputs a tile; their inputs are _TAPS columns, the last two shared with the next tile.
_TAPS = 6
# Toom-Cook at the points 0, 1, -1, 2, -2 and infinity:
# outputs = _OUTPUT @ ((_KERNEL @ kernel) * (_INPUT @ inputs)).
_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)
_OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    np.float32,
)
# Fewer channels leave matrix products too thin to pay for the transforms.
_FEWEST_CHANNELS = 16

_Pads = Sequence[tuple[int, int]]


def pays(kernel_shape: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> bool:
    """Whether minimal filtering is possible, and quicker than the plain convolution.

    That holds for the narrowest images, too: below a width of 3 no products are saved, but XLA's
    plain gradients are 20 times slower there than these.

    Args:
      kernel_shape: [h, w, C, F].
    """
    return (
        tuple(kernel_shape[:2]) == (3, 3)
        and tuple(strides) == (1, 1)
        and tuple(dilation) == (1, 1)
        and min(kernel_shape[2:]) >= _FEWEST_CHANNELS
    )


def convolve(x: jax.Array, kernel: jax.Array, pads: _Pads, dtype: jnp.dtype) -> jax.Array:
    """The convolution of `x` float32 [B, H, W, C] with `kernel` float32 [3, 3, C, F], stride 1.

    Args:
      pads: rows above and below, columns left and right, of zeros.
      dtype: of the factors, float32 or bfloat16; sums are float32.

    Returns:
      float32 [B, H', W', F]. With float32 factors it differs from the plain convolution by
      rounding (relative error 1e-6), with bfloat16 by 0.7 % of the outputs' root mean square.
    """
    # Without these barriers XLA computes the producers of x anew for each of their 18 uses.
    x = lax.optimization_barrier(x)
    batch, height, width, channels = x.shape
    (above, below), (left, right) = pads
    rows, columns = height + above + below - 2, width + left + right - 2
    tiles = -(-columns // _TILE)
    edges = ((0, 0), (above, below), (left, right + tiles * _TILE - columns), (0, 0))
    x = jnp.pad(x, edges)
    windows = _windows(x, (1, 2, 3), rows, tiles, dtype)
    factors = _unpacked(windows.reshape(_TAPS, batch * rows * tiles, 3 * channels), dtype)
    products = _products(factors, _transformed_kernel(kernel, dtype))
    products = products.reshape(_TAPS, batch, rows, tiles, -1)
    outputs = jnp.stack(_combine(_OUTPUT, list(products)), axis=3)
    outputs = outputs.reshape(batch, rows, tiles * _TILE, -1)[:, :, :columns]
    return lax.optimization_barrier(outputs)


def kernel_gradient(x: jax.Array, grad: jax.Array, pads: _Pads, dtype: jnp.dtype) -> jax.Array:
    """The gradient of `convolve` with respect to its kernel.

    Args:
      x: float32 [B, H, W, C].
      grad: float32 [B, H', W', F], of the output.
      pads, dtype: as in `convolve`.

    Returns:
      float32 [3, 3, C, F].
    """
    batch, rows, columns, features = grad.shape
    channels = x.shape[3]
    (above, below), (left, right) = pads
    tiles = -(-columns // _TILE)
    spare = tiles * _TILE - columns
    # The sum runs over tiles, rows and images, so these come last in x, as columns of a matrix.
    x = lax.optimization_barrier(x.transpose(3, 2, 1, 0))
    x = jnp.pad(x, ((0, 0), (left, right + spare), (above, below), (0, 0)))
    windows = _windows(x, (2, 1, 0), rows, tiles, dtype)
    factors = _unpacked(windows.reshape(_TAPS, 3 * channels, tiles * rows * batch), dtype)

    grad = jnp.pad(grad.transpose(2, 1, 0, 3), ((0, spare), (0, 0), (0, 0), (0, 0)))
    spread = _combine(_OUTPUT.T, [grad[i::_TILE] for i in range(_TILE)])
    spread = jnp.stack([_packed(t, dtype) for t in spread])
    spread = _unpacked(spread.reshape(_TAPS, tiles * rows * batch, features), dtype)

    products = _products(*lax.optimization_barrier((factors, spread)))
    products = lax.optimization_barrier(products).reshape(_TAPS, 3, channels, features)
    return jnp.stack(_combine(_KERNEL.T, list(products)), axis=1)


def _transformed_kernel(kernel: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """[3, 3, C, F] to [6, 3 * C, F] of `dtype`."""
    transformed = jnp.stack(_combine(_KERNEL, [kernel[:, j] for j in range(3)]))
    return lax.optimization_barrier(transformed.reshape(_TAPS, -1, kernel.shape[3]).astype(dtype))


def _windows(
    x: jax.Array, axes: tuple[int, int, int], rows: int, tiles: int, dtype: jnp.dtype
) -> jax.Array:
    """The transformed tiles of `x`, with the three rows under the kernel as channels.

    Args:
      x: padded images, with `axes` for height, width and channels.

    Returns:
      The six transforms, then the axes of x with `rows` for its height, `tiles` for its width and
      three times its channels; packed as `dtype`.
    """
    height, width, channels = axes
    last = (tiles - 1) * _TILE
    # The six columns of every tile, each for all tiles at once.
    columns = [lax.slice_in_dim(x, i, i + last + 1, _TILE, width) for i in range(_TAPS)]
    transformed = jnp.stack([_packed(part, dtype) for part in _combine(_INPUT, columns)])
    transformed = lax.optimization_barrier(transformed)
    taps = [lax.slice_in_dim(transformed, i, i + rows, axis=height + 1) for i in range(3)]
    return jnp.concatenate(taps, axis=channels + 1)


def _combine(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """matrix @ parts, written out: most factors are 0 or 1."""
    combined = []
    for row in matrix:
        terms = [
            part if factor == 1 else part * factor
            for factor, part in zip(row.tolist(), parts, strict=True)
            if factor
        ]
        combined.append(sum(terms[1:], start=terms[0]))
    return combined


def _products(a: jax.Array, b: jax.Array) -> jax.Array:
    """Six matrix products [6, M, K] x [6, K, N] with float32 sums."""
    return lax.dot_general(a, b, (((2,), (1,)), ((0,), (0,))), preferred_element_type=jnp.float32)


def _packed(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """`x` as `dtype`, bfloat16 behind a mask of uint16.

    XLA's CPU backend moves bfloat16 (stack, concatenate, slice) by way of float32, twice; bits it
    moves as they are.
    """
    x = x.astype(dtype)
    return lax.bitcast_convert_type(x, jnp.uint16) if dtype == jnp.bfloat16 else x


def _unpacked(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return lax.bitcast_convert_type(x, dtype) if dtype == jnp.bfloat16 else x
