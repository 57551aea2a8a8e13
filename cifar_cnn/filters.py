"""Images are arrays, and kernels filter them: the classical kernels, applied as a network's layers.

A convolutional layer slides its kernel over the image and sums weight times pixel at every place;
here the weights are chosen by hand instead of learnt. What deep learning calls convolution is
cross-correlation: the kernel is not turned by 180 degrees first, as it is in signal processing and
in `scipy.ndimage.convolve`. `scipy.ndimage.correlate` is the same operation as here.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cifar_cnn import layers
from cifar_cnn.checks import UsageError, check_choice, check_int

SIZES = (3, 5)
# The ways to treat the image's border, and what `jnp.pad` calls them; 'valid' adds nothing.
PADDINGS = {
    "valid": None,
    "same": "constant",
    "reflect": "reflect",
    "edge": "edge",
    "wrap": "wrap",
}
_LARGEST = 31  # Of a kernel given as numbers: its cells can still be drawn.


def identity(size: int) -> np.ndarray:
    """1 in the middle, 0 elsewhere: the image itself. float32 [size, size]."""
    kernel = np.zeros((size, size), np.float32)
    kernel[size // 2, size // 2] = 1
    return kernel


def box(size: int) -> np.ndarray:
    """1 / size^2 everywhere: the mean of the neighbourhood, a blur. float32 [size, size]."""
    return np.full((size, size), 1 / size**2, np.float32)


def gaussian(size: int) -> np.ndarray:
    """The binomial blur b b^T / 4^(size - 1), where b is the row of Pascal's triangle of `size`
    numbers: (1, 2, 1) or (1, 4, 6, 4, 1). float32 [size, size].

    Close to a Gaussian of standard deviation sqrt(size - 1) / 2 pixels: 0.71 or 1.
    """
    smooth = _binomial(size)
    return (np.outer(smooth, smooth) / 4 ** (size - 1)).astype(np.float32)


def sharpen(size: int) -> np.ndarray:
    """identity - laplacian in 3x3; the unsharp mask 2 identity - gaussian in 5x5.

    Both add to each pixel what sets it off from its surroundings. float32 [size, size].
    """
    if size == 3:
        return identity(3) - laplacian(3)
    return 2 * identity(size) - gaussian(size)


def edge(size: int) -> np.ndarray:
    """size^2 (identity - box): the pixel against the mean of its neighbourhood, which is 0 on
    flat ground and responds to edges of all directions. float32 [size, size]."""
    return np.rint(size**2 * (identity(size) - box(size))).astype(np.float32)


def sobel_x(size: int) -> np.ndarray:
    """b d^T: the derivative d from left to right, smoothed by the binomial b from top to bottom
    (Sobel & Feldman 1968). Positive where it gets brighter to the right. float32 [size, size].

    d is (-1, 0, 1) in 3x3 and (-1, -2, 0, 2, 1) in 5x5.
    """
    return np.outer(_binomial(size), _derivative(size)).astype(np.float32)


def sobel_y(size: int) -> np.ndarray:
    """The transpose of `sobel_x`: positive where it gets brighter downwards."""
    return sobel_x(size).T.copy()


def laplacian(size: int) -> np.ndarray:
    """The sum of the second derivatives in x and y: four neighbours minus 4 times the pixel in
    3x3; s b^T + b s^T with s = (1, 0, -2, 0, 1) and the binomial b in 5x5. float32 [size, size].
    """
    if size == 3:
        return np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32)
    second, smooth = np.convolve(_derivative(3), _derivative(3)), _binomial(5)
    return (np.outer(second, smooth) + np.outer(smooth, second)).astype(np.float32)


def emboss(size: int) -> np.ndarray:
    """identity + (i + j) / (size // 2), with i and j counted from the middle: the slope along the
    diagonal is added to the image, as if light fell on it from one corner. float32 [size, size].
    """
    offsets = np.arange(size) - size // 2
    return (identity(size) + np.add.outer(offsets, offsets) / (size // 2)).astype(np.float32)


KERNELS: dict[str, Callable[[int], np.ndarray]] = {
    "identity": identity,
    "box": box,
    "gaussian": gaussian,
    "sharpen": sharpen,
    "edge": edge,
    "laplacian": laplacian,
    "sobel_x": sobel_x,
    "sobel_y": sobel_y,
    "emboss": emboss,
}


def make_kernel(name: str, size: int = 3) -> np.ndarray:
    """The kernel that `name` describes.

    Args:
      name: a key of `KERNELS`, or a matrix of numbers in JSON: '[[0,-1,0],[-1,5,-1],[0,-1,0]]'.
      size: 3 or 5; not read for a matrix.

    Returns:
      float32 [size, size], or [rows, columns] of the matrix.

    Raises:
      UsageError: an unknown name or size, or text that is no matrix of numbers.
    """
    if name.lstrip().startswith("["):
        return _parse(name)
    check_choice("--kernel", name, KERNELS)
    if size not in SIZES:
        raise UsageError(f"--size is {size!r}, expected 3 or 5")
    return KERNELS[name](size)


def padding_amounts(
    shape: Sequence[int], kernel: Sequence[int], stride: int, padding: str
) -> list[tuple[int, int]]:
    """Pixels added before and after on each of the two axes; none for 'valid'.

    For the other paddings as many as a layer with padding 'SAME' adds: the output then has
    ceil(size / stride) pixels.
    """
    check_choice("padding", padding, PADDINGS)
    if padding == "valid":
        return [(0, 0)] * len(shape)
    return lax.padtype_to_pads(tuple(shape), tuple(kernel), (stride,) * len(shape), "SAME")


def filter_image(
    image: np.ndarray | jax.Array,
    kernel: np.ndarray | jax.Array,
    *,
    padding: str = "same",
    stride: int = 1,
    relu: bool = False,
) -> jax.Array:
    """Slides the kernel over each channel, as a convolutional layer does.

    out[i, j, c] = sum over k, l of kernel[k, l] * padded[stride * i + k, stride * j + l, c]

    Args:
      image: uint8 or float [H, W, C].
      kernel: float [kernel rows, kernel columns].
      padding: 'valid' (the kernel stays inside the image), or what lies beyond the border: 'same'
        (zeros, as in a layer), 'reflect' (mirrored about the edge pixels), 'edge' (the edge pixels
        repeated) or 'wrap' (the opposite side).
      stride: pixels from one place of the kernel to the next.
      relu: whether negative results become 0.

    Returns:
      float32 [H', W', C] in the units of the image, H' and W' as `layers.output_shape` says.

    Raises:
      UsageError: unknown padding, stride below 1, or a kernel that does not fit with 'valid'.
    """
    check_int("stride", stride, minimum=1)
    pads = padding_amounts(image.shape[:2], kernel.shape, stride, padding)
    x = jnp.asarray(image, jnp.float32)
    if padding != "valid":
        x = jnp.pad(x, (*pads, (0, 0)), mode=PADDINGS[padding])
    # Channels as the batch of a layer with one input and one output channel.
    y = layers.conv_general_dilated(
        x.transpose(2, 0, 1)[..., None],
        jnp.asarray(kernel, jnp.float32)[:, :, None, None],
        (stride, stride),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )
    y = y[..., 0].transpose(1, 2, 0)
    return jnp.maximum(y, 0) if relu else y


def pool_image(
    image: np.ndarray | jax.Array, kind: Literal["max", "avg"], *, size: int, stride: int
) -> jax.Array:
    """Max or average pooling of one image [H, W, C], without padding; float32 [H', W', C].

    Raises:
      UsageError: unknown kind, size or stride below 1, or a window larger than the image.
    """
    check_int("pool_size", size, minimum=1, maximum=min(image.shape[:2]))
    check_int("pool_stride", stride, minimum=1)
    x = jnp.asarray(image, jnp.float32)[None]
    return layers.pool(x, kind, (size, size), (stride, stride))[0]


def arithmetic(size: int, kernel: int, stride: int, padding: tuple[int, int] = (0, 0)) -> str:
    """The output size of one axis as a sum to follow: '(32 + 2 - 3)/1 + 1 = 32'.

    Args:
      size, kernel, stride: of that axis.
      padding: pixels added before and after.
    """
    added = sum(padding)
    free = size + added - kernel
    inside = f"({size} + {added} - {kernel})" if added else f"({size} - {kernel})"
    quotient = f"{inside}/{stride}"
    if free % stride:
        quotient = f"floor({quotient})"
    return f"{quotient} + 1 = {free // stride + 1}"


def _binomial(size: int) -> np.ndarray:
    """The row of Pascal's triangle of `size` numbers."""
    return np.array([math.comb(size - 1, k) for k in range(size)], np.float64)


def _derivative(size: int) -> np.ndarray:
    """The difference (-1, 0, 1), smoothed by (1, 2, 1) if `size` is 5."""
    difference = np.array([-1.0, 0.0, 1.0])
    return difference if size == 3 else np.convolve(difference, _binomial(3))


def _parse(text: str) -> np.ndarray:
    """A kernel from JSON rows of numbers."""
    wrong = UsageError(
        f"--kernel is {text[:80]!r}, expected a name ({', '.join(sorted(KERNELS))}) or rows of "
        f"numbers, all of one length from 1 to {_LARGEST}, such as "
        "'[[0,-1,0],[-1,5,-1],[0,-1,0]]'"
    )
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong from error
    if not rows or not all(isinstance(row, list) for row in rows):
        raise wrong
    numbers = [number for row in rows for number in row]
    finite = all(
        isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < 1e9
        for number in numbers
    )
    lengths = {len(row) for row in rows}
    if not finite or len(lengths) != 1 or not numbers or max(*lengths, len(rows)) > _LARGEST:
        raise wrong
    return np.array(rows, np.float32)
