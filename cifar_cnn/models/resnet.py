"""Residual networks for small images (He et al. 2016, arXiv:1512.03385)."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_cnn.checks import UsageError, check_bool, check_int, check_number, shown
from cifar_cnn.layers import Activation, Conv
from cifar_cnn.models.global_pool import GlobalPool

# As in PyTorch, also where the stride is 2: the windows are then centred on the pixels that a
# 1 x 1 shortcut of stride 2 reads. SAME would pad below and right alone, one pixel off.
PADDING = ((1, 1), (1, 1))
# Deeper networks take minutes to trace, and longer to compile.
_MOST_BLOCKS = 500


class ResNet(nn.Module):
    """A 3 x 3 convolution, stages of basic blocks, the mean over all pixels, a dense layer.

    The variant for CIFAR: no pooling and no stride before the first stage. Every later stage
    begins with a stride of 2.

    Attributes:
      num_classes: width of the head.
      stage_sizes: blocks a stage; (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) ResNet-34.
      widths: filters of each stage's convolutions.
      zero_init_residual: whether the last scale of each block begins at 0, so that blocks begin as
        the identity (Goyal et al. 2017, arXiv:1706.02677).
      batch_norm_momentum: share of the running average that is kept at each step.
      dtype: of the computation; parameters are float32, logits are returned as float32.
      precision: of products in convolutions, see `layers/convolution.py`.
    """

    num_classes: int
    stage_sizes: Sequence[int]
    widths: Sequence[int]
    zero_init_residual: bool
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
          train: batch statistics instead of running ones.
          mask: bool [B], False where a row is padding that must not enter batch statistics;
            None when every row counts.

        Returns:
          float32 [B, num_classes].
        """
        conv, norm = layers_of(self, train)
        rows = None if mask is None else mask[:, None, None, None]
        x = images.astype(self.dtype)
        x = conv(self.widths[0], (3, 3), padding=PADDING, name="stem")(x)
        x = Activation("relu")(norm()(x, mask=rows))
        for stage, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            for place in range(size):
                stride = 2 if stage > 0 and place == 0 else 1
                x = BasicBlock(width, stride, self.zero_init_residual, conv, norm)(x, rows)
        x = GlobalPool("avg")(x)
        return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)


def layers_of(network: nn.Module, train: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The convolution and the batch norm of a residual network, with what all of them share."""
    conv = functools.partial(
        Conv,
        use_bias=False,
        kernel_init=nn.initializers.he_normal(),
        dtype=network.dtype,
        precision=network.precision,
    )
    norm = functools.partial(
        nn.BatchNorm,
        use_running_average=not train,
        momentum=network.batch_norm_momentum,
        dtype=network.dtype,
    )
    return conv, norm


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, and a shortcut that is added before the last activation.

    The shortcut is the identity, or a 1 x 1 convolution where the shape changes (option B of the
    paper).

    Attributes:
      width: filters.
      stride: of the first convolution and of the shortcut.
      zero_init_residual: see `ResNet`.
      conv, norm: the layers, with all that the blocks have in common bound.
    """

    width: int
    stride: int
    zero_init_residual: bool
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array, rows: jax.Array | None) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, width], rounded up; rows: bool
        [B, 1, 1, 1] or None, the mask of batch statistics."""
        shortcut, strides = x, (self.stride,) * 2
        last_scale = nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones
        x = self.conv(self.width, (3, 3), strides, padding=PADDING)(x)
        x = Activation("relu")(self.norm()(x, mask=rows))
        x = self.conv(self.width, (3, 3), padding=PADDING)(x)
        x = self.norm(scale_init=last_scale)(x, mask=rows)
        if shortcut.shape != x.shape:
            shortcut = self.conv(self.width, (1, 1), strides, name="shortcut")(shortcut)
            shortcut = self.norm(name="shortcut_norm")(shortcut, mask=rows)
        return Activation("relu")(x + shortcut)


def check(section: Mapping[str, Any]) -> tuple[str, ...]:
    """Checks the config section `model.resnet`.

    Args:
      section: every attribute of `ResNet` but num_classes, dtype and precision.

    Returns:
      No keys: this network reads them all.

    Raises:
      UsageError: a value of the wrong type or out of range; names key, value and expectation.
    """
    key = "model.resnet."
    for name, example in (("stage_sizes", "(2, 2, 2, 2)"), ("widths", "(64, 128, 256, 512)")):
        if not isinstance(section[name], tuple | list) or not section[name]:
            raise UsageError(
                f"{key}{name} is {shown(section[name])}, expected a non-empty tuple such "
                f"as {example}"
            )
        for value in section[name]:
            check_int(key + name, value, minimum=1, maximum=65536)
    if sum(section["stage_sizes"]) > _MOST_BLOCKS:
        raise UsageError(
            f"{key}stage_sizes is {shown(section['stage_sizes'])}, expected {_MOST_BLOCKS} blocks "
            "altogether at most"
        )
    stages, widths = len(section["stage_sizes"]), len(section["widths"])
    if stages != widths:
        raise UsageError(
            f"{key}widths is {shown(section['widths'])}: {widths} values for {stages} stages in "
            f"{key}stage_sizes, expected one a stage"
        )
    check_bool(key + "zero_init_residual", section["zero_init_residual"])
    check_number(key + "batch_norm_momentum", section["batch_norm_momentum"], minimum=0, below=1)
    return ()
