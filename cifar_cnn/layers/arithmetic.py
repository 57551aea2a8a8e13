"""The output-shape arithmetic that convolution and pooling follow (Dumoulin & Visin 2016)."""

import math
from collections.abc import Sequence

from cifar_cnn.checks import UsageError, check_choice

PADDINGS = ("SAME", "VALID")
_LARGEST_SIDE = 65_536


def extents(kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Pixels that a kernel spans along each axis, gaps included: dilation * (kernel - 1) + 1."""
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))


def output_shape(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: str,
    dilation: Sequence[int] = (1, 1),
) -> tuple[int, ...]:
    """Spatial output shape of a convolution or a pooling.

    With the kernel's extent e = dilation * (kernel - 1) + 1, each axis gives
      VALID: floor((size - e) / stride) + 1
      SAME:  ceil(size / stride)

    So, with VALID, which is what pooling uses:
      a 3 x 3 convolution takes 2 pixels off each axis (28 -> 26) and a 5 x 5 one 4 (28 -> 24);
      a dilation of 2 makes 3 x 3 span 5 pixels, so it takes 4 as well (28 -> 24);
      2 x 2 pooling with stride 2 halves and rounds down (26 -> 13, and 11 -> 5: the last row and
      the last column are not read).
    With SAME and stride 1 nothing changes (28 -> 28), and stride 2 halves and rounds up (28 -> 14,
    13 -> 7). Flattening multiplies: 5 x 5 x 64 -> 1600.

    Args:
      size, kernel, stride, dilation: one positive integer for each spatial axis.
      padding: 'SAME' or 'VALID'.

    Raises:
      UsageError: unknown padding, or a VALID kernel that is larger than its input.
    """
    check_choice("padding", padding, PADDINGS)
    sizes = []
    for n, s, extent in zip(size, stride, extents(kernel, dilation), strict=True):
        if padding == "SAME":
            sizes.append(math.ceil(n / s))
        elif extent > n:
            raise UsageError(
                f"a kernel of extent {extent} does not fit an input of size {n} with padding "
                "'VALID': use a smaller kernel, fewer poolings, or padding 'SAME'"
            )
        else:
            sizes.append((n - extent) // s + 1)
    return tuple(sizes)


def transposed_output_shape(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: str,
    dilation: Sequence[int] = (1, 1),
) -> tuple[int, ...]:
    """Spatial output shape of a transposed convolution, as in Keras.

    Each input pixel stamps the kernel, and the stamps lie `stride` pixels apart. With the kernel's
    extent e = dilation * (kernel - 1) + 1, each axis gives
      VALID: (size - 1) * stride + max(e, stride)   (14 -> 29 with kernel 3 and stride 2)
      SAME:  size * stride                          (14 -> 28 with stride 2)

    It turns around `output_shape` up to what a stride rounds away: a convolution takes both 28 and
    27 to 14 with SAME and stride 2; the way back gives 28.

    Args:
      size, kernel, stride, dilation: one positive integer for each spatial axis.
      padding: 'SAME' or 'VALID'.

    Raises:
      UsageError: unknown padding, or an output that no memory holds.
    """
    check_choice("padding", padding, PADDINGS)
    spans = zip(size, stride, extents(kernel, dilation), strict=True)
    sizes = tuple(n * s if padding == "SAME" else (n - 1) * s + max(e, s) for n, s, e in spans)
    if max(sizes) > _LARGEST_SIDE:
        raise UsageError(
            f"a transposed convolution with stride {max(stride)} takes an input of size "
            f"{max(size)} to {max(sizes):,}, expected {_LARGEST_SIDE:,} at most: use a smaller "
            "stride or fewer layers"
        )
    return sizes


def transposed_cut(
    kernel: Sequence[int], stride: Sequence[int], padding: str, dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Pixels cut off a transposed convolution's output before and after on each axis: none with
    VALID; with SAME what the extent has beyond the stride, the smaller half before."""
    spare = [max(e - s, 0) for e, s in zip(extents(kernel, dilation), stride, strict=True)]
    return tuple((n // 2, n - n // 2) if padding == "SAME" else (0, 0) for n in spare)
