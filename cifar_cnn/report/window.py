"""Windows that slide over an image: the geometry of a layer, its arithmetic and what it misses."""

import dataclasses
from typing import Any

import flax.linen as nn
from flax.linen.linear import canonicalize_padding
from jax import lax

from cifar_cnn.layers import Pool, TransposedConv, extents, transposed_cut

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Window:
    """How a convolution or a pooling moves over its input; pairs are (height, width).

    Attributes:
      kernel, stride, dilation: of each axis.
      padding: 'SAME', 'VALID', or 'explicit'.
      pads: rows added (above, below) and columns added (left, right); of a transposed convolution,
        those that are cut off its output.
      transposed: whether the input's pixels stamp the window on the output.
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: str
    pads: tuple[Pair, Pair]
    transposed: bool = False

    @property
    def extent(self) -> Pair:
        """Pixels that the window spans, gaps included."""
        return extents(self.kernel, self.dilation)


def window_of(module: nn.Module, size: tuple[int, ...]) -> Window | None:
    """The window of a layer on an image of `size` (H, W); None for a layer that has none."""
    if len(size) != 2:
        return None
    if isinstance(module, Pool):
        kernel, stride, dilation = _pair(module.window), _pair(module.stride), (1, 1)
    elif isinstance(module, nn.Conv | nn.ConvTranspose | TransposedConv):
        kernel, stride = _pair(module.kernel_size), _pair(module.strides)
        dilation = _pair(module.kernel_dilation)
    else:
        return None
    spans = extents(kernel, dilation)
    if isinstance(module, nn.ConvTranspose | TransposedConv):
        if module.padding not in ("SAME", "VALID"):
            return None
        cut = transposed_cut(kernel, stride, module.padding, dilation)
        return Window(kernel, stride, dilation, module.padding, cut, transposed=True)
    padding = module.padding
    if not isinstance(padding, str):
        pads = tuple((int(low), int(high)) for low, high in canonicalize_padding(padding, 2))
        return Window(kernel, stride, dilation, "explicit", pads)
    if padding not in ("SAME", "VALID"):
        return None
    pads = tuple((int(a), int(b)) for a, b in lax.padtype_to_pads(size, spans, stride, padding))
    return Window(kernel, stride, dilation, padding, pads)


def label(module: nn.Module, window: Window | None, channels: int) -> str:
    """What a layer is, in a few words, such as 'Conv 3x3, stride 2'.

    Args:
      window: of the layer, if it has one.
      channels: of its input.
    """
    if window is None:
        return getattr(module, "function", type(module).__name__)
    groups = getattr(module, "feature_group_count", 1)
    if isinstance(module, Pool):
        name, usual = f"{module.kind.capitalize()} pool", window.kernel
    else:
        name, usual = "Conv", (1, 1)
        if window.transposed:
            name = "Transposed"
        elif groups > 1 and groups == channels:
            name = "Depthwise"
        elif window.kernel == (1, 1) and groups == 1:
            name = "Pointwise"
    words = [f"{name} {window.kernel[0]}x{window.kernel[1]}"]
    if window.stride != usual:
        words.append(f"stride {_once(window.stride)}")
    if window.dilation != (1, 1):
        words.append(f"dilation {_once(window.dilation)}")
    if groups > 1 and groups != channels:
        words.append(f"{groups} groups")
    return ", ".join(words)


def arithmetic(window: Window, size: Pair, made: Pair) -> tuple[str, str]:
    """How the height and the width of a layer's output come about.

    Args:
      size, made: (H, W) of its input and output.

    Returns:
      Two sums, such as 'floor((11 - 2)/2) + 1 = 5'.
    """
    return tuple(_sum(window, axis, size[axis], made[axis]) for axis in (0, 1))


def _sum(window: Window, axis: int, n: int, made: int) -> str:
    kernel, s, d = window.kernel[axis], window.stride[axis], window.dilation[axis]
    extent, (low, high) = window.extent[axis], window.pads[axis]
    span = f"extent {d}*({kernel} - 1) + 1 = {extent}: " if d > 1 and kernel > 1 else ""
    if window.padding == "SAME":
        return f"{n}*{s} = {made}" if window.transposed else f"ceil({n}/{s}) = {made}"
    if window.transposed:
        return f"{span}({n} - 1)*{s} + {max(extent, s)} = {made}"
    padded = f"{n} + {low} + {high}" if low or high else f"{n}"
    inner = f"({padded} - {extent})/{s}"
    whole = (n + low + high - extent) % s == 0
    return f"{span}{inner if whole else f'floor({inner})'} + 1 = {made}"


def notes(name: str, window: Window, size: Pair, made: Pair) -> list[str]:
    """What a learner may overlook in a layer: pixels it never reads, uneven padding and overlaps.

    Args:
      name: of the layer.
      size, made: (H, W) of its input and output.
    """
    lines = []
    if window.transposed:
        reached = [_reached(window, axis, made[axis], size[axis]) for axis in (0, 1)]
        empty = _counted(reached, made)
        if empty:
            lines.append(
                f"{name} puts nothing but the bias into {empty} of its {_by(made)} output "
                f"(stamps of {_by(window.kernel)} that lie {_once(window.stride)} apart)"
            )
        elif any(s > 1 and k % s for k, s in zip(window.kernel, window.stride, strict=True)):
            lines.append(
                f"{name} adds up more stamps in some places than in others: its kernel of "
                f"{_by(window.kernel)} is no multiple of its stride, {_once(window.stride)} "
                "(checkerboard patterns, Odena et al. 2016)"
            )
        return lines
    reached = [_reached(window, axis, size[axis], made[axis]) for axis in (0, 1)]
    unread = _counted(reached, size)
    if unread:
        dilated = f", dilation {_once(window.dilation)}" if window.dilation != (1, 1) else ""
        lines.append(
            f"{name} never reads {unread} of its {_by(size)} input (windows of "
            f"{_by(window.kernel)}{dilated}, stride {_once(window.stride)})"
        )
    if window.padding == "SAME" and any(low != high for low, high in window.pads):
        (above, below), (left, right) = window.pads
        lines.append(
            f"{name} pads unevenly with SAME: {above} above, {below} below, {left} left, "
            f"{right} right"
        )
    return lines


def _reached(window: Window, axis: int, wide: int, count: int) -> set[int]:
    """Places of 0 ... wide - 1 that `count` windows touch."""
    stride, step, low = window.stride[axis], window.dilation[axis], window.pads[axis][0]
    taps = range(window.kernel[axis])
    return {o * stride + step * a - low for o in range(count) for a in taps} & set(range(wide))


def _counted(reached: list[set[int]], size: Pair) -> str:
    """'the last row and the last 2 columns' for the places that are not reached."""
    parts = []
    for found, n, noun in zip(reached, size, ("row", "column"), strict=True):
        missing = n - len(found)
        if missing and found == set(range(n - missing)):
            parts.append(f"the last {noun}" if missing == 1 else f"the last {missing} {noun}s")
        elif missing:
            parts.append(f"{missing} of {n} {noun}s")
    return " and ".join(parts)


def _pair(value: Any) -> Pair:
    """An attribute of a layer as two integers; flax takes one, several or None."""
    if isinstance(value, tuple | list):
        return tuple(value) if len(value) == 2 else (value[0], value[0])
    return (value or 1,) * 2


def _once(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} and {pair[1]}"


def _by(pair: Pair) -> str:
    return f"{pair[0]} x {pair[1]}"
