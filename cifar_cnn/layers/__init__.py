"""Convolution, pooling and what stands between them: modules, lowering and shape arithmetic.

Models use the modules from here and know nothing about backends.
"""

from cifar_cnn.layers.arithmetic import (
    PADDINGS,
    extents,
    output_shape,
    transposed_cut,
    transposed_output_shape,
)
from cifar_cnn.layers.convolution import conv_general_dilated, conv_transposed
from cifar_cnn.layers.modules import (
    ACTIVATIONS,
    Activation,
    Conv,
    Flatten,
    Pool,
    TransposedConv,
)
from cifar_cnn.layers.pooling import POOLS, pool

__all__ = [
    "ACTIVATIONS",
    "PADDINGS",
    "POOLS",
    "Activation",
    "Conv",
    "Flatten",
    "Pool",
    "TransposedConv",
    "conv_general_dilated",
    "conv_transposed",
    "extents",
    "output_shape",
    "pool",
    "transposed_cut",
    "transposed_output_shape",
]
