"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_cnn.checks import UsageError, check_int, check_number
from cifar_cnn.layers import Activation
from cifar_cnn.models.global_pool import GlobalPool
from cifar_cnn.models.resnet import PADDING, layers_of


class WideResNet(nn.Module):
    """A 3 x 3 convolution, three stages of pre-activation blocks, the mean, a dense layer.

    WRN-28-10 is depth 28 and widen_factor 10. The second and the third stage begin with a stride
    of 2.

    Attributes:
      num_classes: width of the head.
      depth: 3 x 3 convolutions and the three shortcuts: 6 n + 4, with n blocks a stage.
      widen_factor: the stages have 16, 32 and 64 times as many filters.
      dropout: rate between the two convolutions of a block.
      batch_norm_momentum: share of the running average that is kept at each step.
      dtype: of the computation; parameters are float32, logits are returned as float32.
      precision: of products in convolutions, see `layers/convolution.py`.
    """

    num_classes: int
    depth: int
    widen_factor: int
    dropout: float
    batch_norm_momentum: float
    dtype: Any = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool, mask: jax.Array | None = None
    ) -> jax.Array:
        """Maps images to class logits.

        Args:
          images: float [B, H, W, C], normalised.
          train: dropout on, and batch statistics instead of running ones; needs rng 'dropout' if
            there is dropout.
          mask: bool [B], False where a row is padding that must not enter batch statistics;
            None when every row counts.

        Returns:
          float32 [B, num_classes].
        """
        conv, norm = layers_of(self, train)
        rows = None if mask is None else mask[:, None, None, None]
        x = conv(16, (3, 3), padding=PADDING, name="stem")(images.astype(self.dtype))
        for stage in range(3):
            for place in range((self.depth - 4) // 6):
                x = PreActivationBlock(
                    width=16 * 2**stage * self.widen_factor,
                    stride=2 if stage > 0 and place == 0 else 1,
                    dropout=self.dropout if train else 0.0,
                    conv=conv,
                    norm=norm,
                )(x, rows)
        x = Activation("relu")(norm()(x, mask=rows))
        x = GlobalPool("avg")(x)
        return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)


class PreActivationBlock(nn.Module):
    """Twice (batch norm, activation, convolution), and a shortcut that is added at the end.

    Where the shape changes, the shortcut is a 1 x 1 convolution of the first activation; nothing
    is normalised after it (He et al. 2016, arXiv:1603.05027).

    Attributes:
      width: filters.
      stride: of the first convolution and of the shortcut.
      dropout: rate before the second convolution.
      conv, norm: the layers, with all that the blocks have in common bound.
    """

    width: int
    stride: int
    dropout: float
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array, rows: jax.Array | None) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, width], rounded up; rows: bool
        [B, 1, 1, 1] or None, the mask of batch statistics."""
        shortcut, strides = x, (self.stride,) * 2
        x = Activation("relu")(self.norm()(x, mask=rows))
        if self.stride > 1 or shortcut.shape[-1] != self.width:
            shortcut = self.conv(self.width, (1, 1), strides, name="shortcut")(x)
        x = self.conv(self.width, (3, 3), strides, padding=PADDING)(x)
        x = Activation("relu")(self.norm()(x, mask=rows))
        if self.dropout:
            x = nn.Dropout(self.dropout, deterministic=False)(x)
        return self.conv(self.width, (3, 3), padding=PADDING)(x) + shortcut


def check(section: Mapping[str, Any]) -> tuple[str, ...]:
    """Checks the config section `model.wide_resnet`.

    Args:
      section: every attribute of `WideResNet` but num_classes, dtype and precision.

    Returns:
      No keys: this network reads them all.

    Raises:
      UsageError: a value of the wrong type or out of range; names key, value and expectation.
    """
    key = "model.wide_resnet."
    depth = section["depth"]
    check_int(key + "depth", depth, minimum=10, maximum=1000)
    if (depth - 4) % 6:
        raise UsageError(f"{key}depth is {depth}, expected 6 n + 4, such as 16, 22, 28 or 40")
    check_int(key + "widen_factor", section["widen_factor"], minimum=1, maximum=1024)
    check_number(key + "dropout", section["dropout"], minimum=0, below=1)
    check_number(key + "batch_norm_momentum", section["batch_norm_momentum"], minimum=0, below=1)
    return ()
