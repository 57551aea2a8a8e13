"""How convolutions are lowered: plain ones everywhere but on the CPU, where XLA's own are slow.

On the CPU, XLA runs the gradients that autodiff writes (`f01b_i01o->01bf` for the weights,
`b01f_01oi->b01f` for the input) through a naive loop whenever they stand inside a `while`: 10 to
45 times slower. The same sums as canonical NHWC convolutions are not affected. Grouped and
depthwise convolutions are slow there in both directions: groups become one ordinary convolution
each, and a depthwise one becomes a sum over the kernel's taps. 3 x 3 convolutions with enough
channels go through `winograd.py`, which saves half of the products.

`precision` has the names of `jax.default_matmul_precision`: None or 'default' for what suits the
backend (on a CPU float32), 'bfloat16' for products of bfloat16 with float32 sums where the
backend gains by it, 'float32' for plain float32 convolutions everywhere.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from cifar_cnn.layers import winograd
from cifar_cnn.layers.arithmetic import (
    extents,
    output_shape,
    transposed_cut,
    transposed_output_shape,
)

_NHWC = ("NHWC", "HWIO", "NHWC")
_Pads = tuple[tuple[int, int], ...]


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
    """`lax.conv_general_dilated`, quick on a CPU inside a loop together with its gradients.

    Takes NHWC images and HWIO kernels, as flax writes them. Off the CPU it is the plain
    convolution with autodiff's gradients. Input-dilated convolutions are left to autodiff: see
    `conv_transposed`.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    canonical = numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _NHWC)
    dilated_input = lhs_dilation is not None and any(d != 1 for d in lhs_dilation)
    if lhs.ndim != 4 or not canonical or dilated_input:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            tuple(window_strides),
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            precision=precision,
        )
    strides = tuple(window_strides)
    dilation = tuple(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        # Raises for a kernel that does not fit, which XLA would turn into an empty image.
        output_shape(lhs.shape[1:3], rhs.shape[:2], strides, padding, dilation)
        spans = extents(rhs.shape[:2], dilation)
        padding = lax.padtype_to_pads(lhs.shape[1:3], spans, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    if feature_group_count == 1:
        return _conv(lhs, rhs, strides, pads, dilation, precision)
    plain = functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=pads,
        rhs_dilation=dilation,
        dimension_numbers=_NHWC,
        feature_group_count=feature_group_count,
        precision=precision,
    )
    if feature_group_count == lhs.shape[-1]:
        quick = functools.partial(_by_taps, strides=strides, pads=pads, dilation=dilation)
    else:
        ordinary = functools.partial(
            _conv, strides=strides, pads=pads, dilation=dilation, precision=precision
        )
        quick = functools.partial(_by_groups, conv=ordinary, groups=feature_group_count)
    return _on_cpu(quick, otherwise=plain)(lhs, rhs)


def conv_transposed(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str,
    dilation: Sequence[int] = (1, 1),
    precision: Any = None,
) -> jax.Array:
    """Transposed convolution: each pixel of `x` stamps the kernel, and the stamps add up.

    out[s i + d a - low] += x[i] kernel[a] along both axes, where `low` rows and columns are cut
    off at the start: none with VALID, half of extent - stride, rounded down, with SAME. This is the
    gradient of a strided convolution with respect to its input, as in Keras.

    Args:
      x: float [B, H, W, C].
      kernel: float [h, w, C, F].
      strides: pixels between two stamps.
      padding: 'SAME' or 'VALID'.
      dilation: pixels between two taps of a stamp.

    Returns:
      float [B, H', W', F] with (H', W') = `transposed_output_shape`.
    """
    strides, dilation = tuple(strides), tuple(dilation)
    size = transposed_output_shape(x.shape[1:3], kernel.shape[:2], strides, padding, dilation)
    cut = transposed_cut(kernel.shape[:2], strides, padding, dilation)
    return _transposed(x, kernel, size, strides, cut, dilation, precision)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _conv(x, kernel, strides, pads, dilation, precision):
    plain = functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=pads,
        rhs_dilation=dilation,
        dimension_numbers=_NHWC,
        precision=precision,
    )
    factors = _winograd_factors(x, kernel, strides, pads, dilation, precision)
    if factors is None:
        return plain(x, kernel)
    quick = functools.partial(winograd.convolve, pads=pads, dtype=factors)
    return lax.platform_dependent(x, kernel, cpu=quick, default=plain)


def _winograd_factors(x, kernel, strides, pads, dilation, precision) -> Any:
    """The dtype of the factors with which a CPU uses minimal filtering, None where it does not."""
    (above, below), (left, right) = pads
    if (
        x.dtype != jnp.float32
        or kernel.dtype != jnp.float32
        or not all(0 <= pad <= 2 for pad in (above, below, left, right))
        or min(x.shape[1] + above + below, x.shape[2] + left + right) < 3
        or not winograd.pays(kernel.shape, strides, dilation)
    ):
        return None
    names = {None: jnp.float32, "default": jnp.float32, "bfloat16": jnp.bfloat16}
    return names.get(precision)


def _conv_forward(x, kernel, strides, pads, dilation, precision):
    return _conv(x, kernel, strides, pads, dilation, precision), (x, kernel)


def _conv_backward(strides, pads, dilation, precision, residuals, grad):
    x, kernel = residuals

    def by_autodiff(x, kernel, grad):
        forward = functools.partial(
            lax.conv_general_dilated,
            dimension_numbers=_NHWC,
            precision=precision,
            window_strides=strides,
            padding=pads,
            rhs_dilation=dilation,
        )
        return jax.vjp(forward, x, kernel)[1](grad)

    def as_canonical_convs(x, kernel, grad):
        shared = (strides, pads, dilation, precision)
        factors = _winograd_factors(x, kernel, *shared)
        if factors is not None:
            turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
            edges = _edges(grad.shape[1:3], (3, 3), x.shape[1:3], strides, pads, dilation)
            return (
                winograd.convolve(grad, turned, edges, factors),
                winograd.kernel_gradient(x, grad, pads, factors),
            )
        return (
            _input_gradient(grad, kernel, x.shape[1:3], *shared),
            _kernel_gradient(x, grad, kernel.shape[:2], *shared),
        )

    return lax.platform_dependent(x, kernel, grad, cpu=as_canonical_convs, default=by_autodiff)


_conv.defvjp(_conv_forward, _conv_backward)


def _input_gradient(grad, kernel, size, strides, pads, dilation, precision):
    """d x: the transposed kernel slides over the gradient, spread out by the stride."""
    edges = _edges(grad.shape[1:3], kernel.shape[:2], size, strides, pads, dilation)
    interior = [(*edge, stride - 1) for edge, stride in zip(edges, strides, strict=True)]
    spread_grad = lax.pad(grad, jnp.zeros((), grad.dtype), [(0, 0, 0), *interior, (0, 0, 0)])
    return lax.conv_general_dilated(
        spread_grad,
        kernel[::-1, ::-1].transpose(0, 1, 3, 2),
        window_strides=(1, 1),
        padding="VALID",
        rhs_dilation=dilation,
        dimension_numbers=_NHWC,
        precision=precision,
    )


def _edges(grad_size, kernel_size, size, strides, pads, dilation) -> _Pads:
    """Zeros around a spread-out gradient such that the kernel's places on it are `size`."""
    edges = []
    spans = extents(kernel_size, dilation)
    for n, extent, stride, (low, _), wanted in zip(
        grad_size, spans, strides, pads, size, strict=True
    ):
        before = extent - 1 - low
        spread = (n - 1) * stride + 1
        edges.append((before, wanted + extent - 1 - spread - before))
    return tuple(edges)


def _kernel_gradient(x, grad, kernel_size, strides, pads, dilation, precision):
    """d kernel[i, j, c, o] = sum over n, h, w of x[n, s h + d i, s w + d j, c] grad[n, h, w, o].

    A convolution with c as batch, n as features, grad as the kernel; the forward stride dilates
    that kernel and the forward dilation strides over the input.
    """
    grad_kernel = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        grad.transpose(1, 2, 0, 3),
        window_strides=dilation,
        padding=pads,
        rhs_dilation=strides,
        dimension_numbers=_NHWC,
        precision=precision,
    )
    # A stride that leaves pixels over at the end gives more rows than the kernel has.
    return grad_kernel[:, : kernel_size[0], : kernel_size[1], :].transpose(1, 2, 0, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5, 6))
def _transposed(x, kernel, size, strides, cut, dilation, precision):
    # The input gradient of a convolution from `size` to x's size whose kernel is [h, w, F, C].
    turned = kernel.transpose(0, 1, 3, 2)

    def plain(x, turned):
        return lax.conv_general_dilated(
            x,
            turned[::-1, ::-1].transpose(0, 1, 3, 2),
            (1, 1),
            _edges(x.shape[1:3], turned.shape[:2], size, strides, cut, dilation),
            lhs_dilation=strides,
            rhs_dilation=dilation,
            dimension_numbers=_NHWC,
            precision=precision,
        )

    def quick(x, turned):
        return _input_gradient(x, turned, size, strides, cut, dilation, precision)

    return lax.platform_dependent(x, turned, cpu=quick, default=plain)


def _transposed_forward(x, kernel, size, strides, cut, dilation, precision):
    return _transposed(x, kernel, size, strides, cut, dilation, precision), (x, kernel)


def _transposed_backward(size, strides, cut, dilation, precision, residuals, grad):
    x, kernel = residuals
    turned = kernel.transpose(0, 1, 3, 2)
    grad_x = lax.conv_general_dilated(
        grad, turned, strides, cut, rhs_dilation=dilation, dimension_numbers=_NHWC,
        precision=precision,
    )  # fmt: skip
    grad_kernel = _kernel_gradient(grad, x, kernel.shape[:2], strides, cut, dilation, precision)
    return grad_x, grad_kernel.transpose(0, 1, 3, 2)


_transposed.defvjp(_transposed_forward, _transposed_backward)


def _on_cpu(
    quick: Callable[..., jax.Array], *, otherwise: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    """Two ways of computing one function of (x, kernel), each with its own gradients."""

    @jax.custom_vjp
    def chosen(x, kernel):
        return lax.platform_dependent(x, kernel, cpu=quick, default=otherwise)

    def gradients(function):
        return lambda x, kernel, grad: jax.vjp(function, x, kernel)[1](grad)

    def backward(residuals, grad):
        return lax.platform_dependent(
            *residuals, grad, cpu=gradients(quick), default=gradients(otherwise)
        )

    chosen.defvjp(lambda x, kernel: (chosen(x, kernel), (x, kernel)), backward)
    return chosen


def _by_groups(x, kernel, *, conv, groups):
    """A grouped convolution as one ordinary convolution a group."""
    parts = zip(jnp.split(x, groups, axis=3), jnp.split(kernel, groups, axis=3), strict=True)
    return jnp.concatenate([conv(part, weights) for part, weights in parts], axis=3)


def _by_taps(x, kernel, *, strides, pads, dilation):
    """A depthwise convolution as a sum over its kernel's taps: shifted image times weight."""
    size = [
        (n + low + high - extent) // stride + 1
        for n, (low, high), extent, stride in zip(
            x.shape[1:3], pads, extents(kernel.shape[:2], dilation), strides, strict=True
        )
    ]
    x = jnp.repeat(x, kernel.shape[3] // x.shape[3], axis=3)
    edges = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    total = jnp.zeros((), x.dtype)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            starts = (i * dilation[0], j * dilation[1])
            tap = x
            for axis, (start, stride, count) in enumerate(
                zip(starts, strides, size, strict=True), start=1
            ):
                stop = start + (count - 1) * stride + 1
                tap = lax.slice_in_dim(tap, start, stop, stride, axis)
            total = total + tap * kernel[i, j].reshape(1, 1, 1, -1)
    return total
