"""Convolution and pooling: how they are lowered, and the output-shape arithmetic they follow.

Models use `Conv`, `Pool`, `Activation` and `Flatten` from here and know nothing about backends.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cifar_cnn.checks import UsageError, check_choice

PADDINGS = ("SAME", "VALID")
POOLS = ("max", "avg")
ACTIVATIONS = {
    "relu": nn.relu,
    "elu": nn.elu,
    "gelu": nn.gelu,
    "leaky_relu": nn.leaky_relu,
    "sigmoid": nn.sigmoid,
    "silu": nn.silu,
    "tanh": nn.tanh,
}
_NHWC = ("NHWC", "HWIO", "NHWC")


def output_shape(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: str,
    dilation: Sequence[int] = (1, 1),
) -> tuple[int, ...]:
    """Spatial output shape of a convolution or a pooling.

    With the kernel's extent e = dilation * (kernel - 1) + 1, each axis gives
      VALID: floor((size - e) / stride) + 1   (28 -> 26 with kernel 3, 24 with 5)
      SAME:  ceil(size / stride)              (28 -> 28 with stride 1, 14 with 2)

    Args:
      size, kernel, stride, dilation: one positive integer for each spatial axis.
      padding: 'SAME' or 'VALID'.

    Raises:
      UsageError: unknown padding, or a VALID kernel that is larger than its input.
    """
    check_choice("padding", padding, PADDINGS)
    sizes = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        extent = d * (k - 1) + 1
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


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> jax.Array:
    """`lax.conv_general_dilated`, with gradients that are quick on a CPU inside a loop.

    The forward pass is the plain convolution on every backend, and so are both gradients off the
    CPU. On the CPU, XLA runs the gradients that autodiff writes (`f01b_i01o->01bf` for the weights,
    `b01f_01oi->b01f` for the input) through a naive loop whenever they stand inside a `while`: 10
    to 45 times slower. The same sums as canonical NHWC convolutions are not affected.

    Takes NHWC images and HWIO kernels, as flax writes them. Grouped and input-dilated (transposed)
    convolutions are left to autodiff.
    """
    plain = functools.partial(
        lax.conv_general_dilated,
        window_strides=tuple(window_strides),
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        precision=precision,
    )
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    canonical = numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _NHWC)
    dilated_input = lhs_dilation is not None and any(d != 1 for d in lhs_dilation)
    if lhs.ndim != 4 or not canonical or feature_group_count != 1 or dilated_input:
        return plain(lhs, rhs, padding=padding)
    strides = tuple(window_strides)
    dilation = tuple(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        # Raises for a kernel that does not fit, which XLA would turn into an empty image.
        output_shape(lhs.shape[1:3], rhs.shape[:2], strides, padding, dilation)
        extents = [d * (k - 1) + 1 for k, d in zip(rhs.shape[:2], dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], extents, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    return _conv(lhs, rhs, strides, pads, dilation, precision)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _conv(x, kernel, strides, pads, dilation, precision):
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=_NHWC,
        precision=precision,
    )


def _conv_forward(x, kernel, strides, pads, dilation, precision):
    return _conv(x, kernel, strides, pads, dilation, precision), (x, kernel)


def _conv_backward(strides, pads, dilation, precision, residuals, grad):
    x, kernel = residuals
    plain = functools.partial(
        lax.conv_general_dilated, dimension_numbers=_NHWC, precision=precision
    )

    def by_autodiff(x, kernel, grad):
        forward = functools.partial(
            plain, window_strides=strides, padding=pads, rhs_dilation=dilation
        )
        return jax.vjp(forward, x, kernel)[1](grad)

    def as_canonical_convs(x, kernel, grad):
        # d x: the transposed kernel slides over the gradient, spread out by the stride.
        extents = [d * (k - 1) + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True)]
        edges = []
        for axis, (extent, stride, (low, _)) in enumerate(
            zip(extents, strides, pads, strict=True), start=1
        ):
            before = extent - 1 - low
            spread = (grad.shape[axis] - 1) * stride + 1
            edges.append((before, x.shape[axis] + extent - 1 - spread - before, stride - 1))
        spread_grad = lax.pad(grad, jnp.zeros((), grad.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
        grad_x = plain(
            spread_grad,
            kernel[::-1, ::-1].transpose(0, 1, 3, 2),
            window_strides=(1, 1),
            padding="VALID",
            rhs_dilation=dilation,
        )
        # d kernel[i, j, c, o] = sum over n, h, w of x[n, s h + d i, s w + d j, c] grad[n, h, w, o]:
        # a convolution with c as batch, n as features, grad as the kernel; the forward stride
        # dilates that kernel and the forward dilation strides over the input.
        grad_kernel = plain(
            x.transpose(3, 1, 2, 0),
            grad.transpose(1, 2, 0, 3),
            window_strides=dilation,
            padding=pads,
            rhs_dilation=strides,
        )
        # A stride that leaves pixels over at the end gives more rows than the kernel has.
        grad_kernel = grad_kernel[:, : kernel.shape[0], : kernel.shape[1], :]
        return grad_x, grad_kernel.transpose(1, 2, 0, 3)

    return lax.platform_dependent(x, kernel, grad, cpu=as_canonical_convs, default=by_autodiff)


_conv.defvjp(_conv_forward, _conv_backward)


class Conv(nn.Conv):
    """`flax.linen.Conv` on [B, H, W, C] with this file's lowering."""

    conv_general_dilated_cls: Callable[[], Callable[..., jax.Array]] = lambda: conv_general_dilated


class Pool(nn.Module):
    """Pooling as a layer, so that it has its row in a summary; no parameters."""

    kind: Literal["max", "avg"]
    window: int
    stride: int
    padding: Literal["SAME", "VALID"] = "VALID"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H', W', C]."""
        return pool(x, self.kind, (self.window,) * 2, (self.stride,) * 2, self.padding)


class Activation(nn.Module):
    """An activation function as a layer, so that it has its row in a summary; no parameters."""

    function: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the function element by element."""
        return ACTIVATIONS[self.function](x)


class Flatten(nn.Module):
    """[B, H, W, C] to [B, H * W * C], as a layer with a row in a summary; no parameters."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Flattens all axes but the first."""
        return x.reshape(x.shape[0], -1)
