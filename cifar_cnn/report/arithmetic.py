"""How a layer's output size and its number of parameters come about, in one line."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from cifar_cnn.layers import Activation, Flatten
from cifar_cnn.report import window as window_lib


def arithmetic(
    module: nn.Module,
    given: tuple[int, ...],
    made: tuple[int, ...],
    parameters: Mapping[str, Any],
) -> str:
    """The arithmetic of one layer, such as 'Conv 3x3, VALID: (28 - 3)/1 + 1 = 26; ...'.

    Args:
      module: the layer.
      given, made: shapes of its input and output for one image, without the batch axis.
      parameters: its own arrays by name.

    Returns:
      One line; '' where nothing is known.
    """
    parts = []
    spatial = len(given) == len(made) == 3
    window = window_lib.window_of(module, given[:2]) if spatial else None
    if window is not None:
        sums = dict.fromkeys(window_lib.arithmetic(window, given[:2], made[:2]))
        kind = window_lib.label(module, window, given[-1])
        parts.append(f"{kind}, {window.padding}: {' and '.join(sums)}")
    elif isinstance(module, Flatten):
        parts.append(f"{'*'.join(map(str, given))} = {math.prod(made):,}")
    elif isinstance(module, Activation):
        parts.append(f"{module.function}, value by value")
    if parameters.keys() in ({"kernel"}, {"kernel", "bias"}):
        terms = ["*".join(map(str, parameters["kernel"].shape))]
        if "bias" in parameters:
            terms.append(f"{parameters['bias'].size}")
        total = sum(value.size for value in parameters.values())
        parts.append(f"{' + '.join(terms)} = {total:,} parameters")
    return "; ".join(parts)
