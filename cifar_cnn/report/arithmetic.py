"""How a layer's output size and its number of parameters come about, in numbers."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from cifar_cnn.layers import (
    Activation,
    Flatten,
    Pool,
    TransposedConv,
    extents,
    output_shape,
    transposed_output_shape,
)
from cifar_cnn.report.canvas import shape_text


def arithmetic(
    module: nn.Module,
    given: tuple[int, ...],
    made: tuple[int, ...],
    parameters: Mapping[str, Any],
) -> str:
    """The arithmetic of one layer, such as '3 × 3, stride 1, VALID: 28 - 3 + 1 = 26; ...'.

    Args:
      module: the layer.
      given, made: shapes of its input and output for one image, without the batch axis.
      parameters: its own arrays by name.

    Returns:
      One line; '' where nothing is known. A formula is given only where it yields `made`.
    """
    parts = []
    if isinstance(module, nn.Conv):
        window, strides = _pair(module.kernel_size), _pair(module.strides)
        dilation = _pair(module.kernel_dilation)
        parts += _window(given, made, window, strides, module.padding, dilation)
    elif isinstance(module, TransposedConv):
        parts += _stamps(given, made, module)
    elif isinstance(module, Pool):
        kind = {"max": "max", "avg": "mean"}[module.kind]
        window, strides = _pair(module.window), _pair(module.stride)
        told = _window(given, made, window, strides, module.padding, (1, 1))
        parts += [f"{kind} of {line}" for line in told]
    elif isinstance(module, Flatten):
        parts.append(f"{shape_text(given)} = {math.prod(made):,}")
    elif isinstance(module, Activation):
        parts.append(f"{module.function}, value by value")
    if "kernel" in parameters:
        total = sum(value.size for value in parameters.values())
        bias = f" + {parameters['bias'].size:,}" if "bias" in parameters else ""
        if total == parameters["kernel"].size + (parameters["bias"].size if bias else 0):
            parts.append(f"{shape_text(parameters['kernel'].shape)}{bias} = {total:,} parameters")
    return "; ".join(parts)


def _window(given, made, window, strides, padding, dilation) -> list[str]:
    """Words for a window that slides over an image; none where the formula does not apply."""
    if len(given) != 3 or len(made) != 3 or padding not in ("SAME", "VALID"):
        return []
    if output_shape(given[:2], window, strides, padding, dilation) != tuple(made[:2]):
        return []
    sums = []
    for n, s, extent, size in zip(
        given[:2], strides, extents(window, dilation), made[:2], strict=True
    ):
        if padding == "SAME":
            exact = f"{n} / {s} = {size}" if n % s == 0 else f"⌈{n} / {s}⌉ = {size}"
            text = f"{n} stays {n}" if s == 1 else exact
        elif s == 1:
            text = f"{n} - {extent} + 1 = {size}"
        elif (n - extent) % s == 0:
            text = f"({n} - {extent}) / {s} + 1 = {size}"
        else:
            text = f"⌊({n} - {extent}) / {s}⌋ + 1 = {size}"
        sums.append(text)
    told = " and ".join(dict.fromkeys(sums))
    return [f"{_slide(window, strides, dilation)}, {padding}: {told}"]


def _stamps(given, made, module: TransposedConv) -> list[str]:
    """Words for a transposed convolution; none where the formula does not apply."""
    window, strides, dilation = module.kernel_size, module.strides, module.kernel_dilation
    expected = transposed_output_shape(given[:2], window, strides, module.padding, dilation)
    if expected != tuple(made[:2]):
        return []
    sums = []
    for n, s, extent, size in zip(
        given[:2], strides, extents(window, dilation), made[:2], strict=True
    ):
        same = f"{n} * {s} = {size}"
        stamped = f"({n} - 1) * {s} + {max(extent, s)} = {size}"
        sums.append(same if module.padding == "SAME" else stamped)
    told = " and ".join(dict.fromkeys(sums))
    return [f"{_slide(window, strides, dilation)}, {module.padding}: {told}"]


def _slide(window, strides, dilation) -> str:
    """'3 × 3, stride 2, dilation 2'."""
    words = f"{shape_text(window)}, stride {_once(strides)}"
    return words if dilation == (1, 1) else f"{words}, dilation {_once(dilation)}"


def _pair(value: Any) -> tuple[int, int]:
    """An attribute of a layer as two integers; flax takes one, several or None."""
    if isinstance(value, tuple | list):
        return tuple(value) if len(value) == 2 else (value[0], value[0])
    return (value or 1,) * 2


def _once(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} and {pair[1]}"
