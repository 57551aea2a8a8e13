"""Layers as linen modules, each with its row in a summary."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from cifar_cnn.checks import check_choice
from cifar_cnn.layers.convolution import conv_general_dilated, conv_transposed
from cifar_cnn.layers.pooling import pool

ACTIVATIONS = {
    "relu": nn.relu,
    "elu": nn.elu,
    "gelu": nn.gelu,
    "leaky_relu": nn.leaky_relu,
    "sigmoid": nn.sigmoid,
    "silu": nn.silu,
    "tanh": nn.tanh,
}


class Conv(nn.Conv):
    """`flax.linen.Conv` on [B, H, W, C] with the lowering of `layers/convolution.py`.

    `precision` is None or a name that `jax.default_matmul_precision` knows.
    """

    conv_general_dilated_cls: Callable[[], Callable[..., jax.Array]] = lambda: conv_general_dilated


class TransposedConv(nn.Module):
    """Transposed convolution as a layer; see `conv_transposed`.

    Attributes:
      features: channels of the output, F.
      kernel_size, strides, kernel_dilation: of both axes.
      padding: 'SAME' or 'VALID'.
      use_bias: whether a bias [F] is added.
      dtype: of the computation; parameters are float32.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Literal["SAME", "VALID"] = "SAME"
    kernel_dilation: tuple[int, int] = (1, 1)
    use_bias: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H', W', F]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv_transposed(x, kernel, self.strides, self.padding, self.kernel_dilation)
        return y if bias is None else y + bias.reshape(1, 1, 1, -1)


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
        """Applies the function element by element; UsageError for one that is unknown."""
        check_choice("activation", self.function, ACTIVATIONS)
        return ACTIVATIONS[self.function](x)


class Flatten(nn.Module):
    """[B, H, W, C] to [B, H * W * C], as a layer with a row in a summary; no parameters."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Flattens all axes but the first."""
        return x.reshape(x.shape[0], -1)
