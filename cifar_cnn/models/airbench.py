"""The network of the CIFAR-10 speed records (Jordan 2024, arXiv:2404.00498)."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_cnn.checks import UsageError, check_bool, check_choice, check_int, check_number, shown
from cifar_cnn.layers import ACTIVATIONS, Activation, Conv, Pool
from cifar_cnn.models.global_pool import GlobalPool
from cifar_cnn.models.initializers import dirac, whitening_kernel

# Uniform in +-1 / sqrt(inputs of a filter), as PyTorch begins its convolutions.
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Airbench(nn.Module):
    """A whitening convolution, blocks that halve the image, the maximum over what is left, a head.

    Attributes:
      num_classes: width of the head.
      widths: filters of each block's convolutions.
      depth: convolutions a block, 2 or 3; with 3 the last two are a residual branch.
      whitening_size: pixels of the first kernel, square. Its initial value whitens the patches of
        the images that `init` is given (see `initializers.whitening_kernel`): give it real ones.
        The optimizer may freeze the parameter whitening/kernel from there.
      dirac: whether 3 x 3 kernels begin as the identity, see `initializers.dirac`.
      batch_norm_momentum: share of the running average that is kept at each step.
      batch_norm_epsilon: added to variances. There is no scale: kernels whose size is normalised
        away do not need one.
      activation: a key of `layers.ACTIVATIONS`.
      logit_scale: of the logits. The head's kernel begins with a standard deviation of
        1 / (its inputs * logit_scale), so that this sets how quickly the head learns (as its
        square), and not how the logits begin.
      dtype: of the computation; parameters are float32, logits are returned as float32.
      precision: of products in convolutions, see `layers/convolution.py`.
    """

    num_classes: int
    widths: Sequence[int]
    depth: int
    whitening_size: int
    dirac: bool
    batch_norm_momentum: float
    batch_norm_epsilon: float
    activation: str
    logit_scale: float
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

        Raises:
          UsageError: images that are too small for so many blocks.
        """
        size, least = images.shape[1:3], self.whitening_size - 1 + 2 ** len(self.widths)
        if min(size) < least:
            raise UsageError(
                f"model.airbench.widths has {len(self.widths)} blocks, expected images of at least "
                f"{least} x {least} pixels for these, got {size[0]} x {size[1]}: use fewer blocks"
            )

        def whiten(key, shape, dtype):
            del key, shape
            return whitening_kernel(images, self.whitening_size).astype(dtype)

        x = Conv(
            2 * self.whitening_size**2 * images.shape[-1],
            (self.whitening_size,) * 2,
            padding="VALID",
            kernel_init=whiten,
            dtype=self.dtype,
            precision=self.precision,
            name="whitening",
        )(images.astype(self.dtype))
        x = Activation(self.activation)(x)
        for width in self.widths:
            x = Block(
                width,
                self.depth,
                dirac(UNIFORM) if self.dirac else UNIFORM,
                self.batch_norm_momentum,
                self.batch_norm_epsilon,
                self.activation,
                self.dtype,
                self.precision,
            )(x, train=train, mask=mask)
        # Before the head and not after it, so that the last layer's output is the logits.
        x = GlobalPool("max")(x) * self.logit_scale
        spread = nn.initializers.normal(1 / (x.shape[-1] * self.logit_scale))
        head = nn.Dense(
            self.num_classes, use_bias=False, kernel_init=spread, dtype=self.dtype, name="head"
        )
        return head(x).astype(jnp.float32)


class Block(nn.Module):
    """Convolution, max pool, batch norm, activation; then (convolution, batch norm, activation).

    With depth 3 there are two of the latter, and what they begin with is added before the last
    activation. Attributes as in `Airbench`.
    """

    width: int
    depth: int
    kernel_init: nn.initializers.Initializer
    batch_norm_momentum: float
    batch_norm_epsilon: float
    activation: str
    dtype: Any
    precision: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """Maps [B, H, W, C] to [B, H // 2, W // 2, width]; train and mask as in `Airbench`."""
        conv = functools.partial(
            Conv,
            self.width,
            (3, 3),
            use_bias=False,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            precision=self.precision,
        )
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=self.batch_norm_momentum,
            epsilon=self.batch_norm_epsilon,
            use_scale=False,
            dtype=self.dtype,
        )
        rows = None if mask is None else mask[:, None, None, None]
        x = conv()(x)
        x = Pool("max", 2, 2)(x)  # Before the normalisation, which then has a quarter to do.
        x = Activation(self.activation)(norm()(x, mask=rows))
        shortcut = x
        for _ in range(self.depth - 2):
            x = Activation(self.activation)(norm()(conv()(x), mask=rows))
        x = norm()(conv()(x), mask=rows)
        if self.depth > 2:
            x = x + shortcut
        return Activation(self.activation)(x)


def check(section: Mapping[str, Any]) -> tuple[str, ...]:
    """Checks the config section `model.airbench`.

    Args:
      section: every attribute of `Airbench` but num_classes, dtype and precision.

    Returns:
      No keys: this network reads them all.

    Raises:
      UsageError: a value of the wrong type or out of range; names key, value and expectation.
    """
    key = "model.airbench."
    widths = section["widths"]
    if not isinstance(widths, tuple | list) or not widths:
        raise UsageError(
            f"{key}widths is {shown(widths)}, expected a non-empty tuple such as (64, 256, 256)"
        )
    for width in widths:
        check_int(key + "widths", width, minimum=1, maximum=65536)
    check_int(key + "depth", section["depth"], minimum=2, maximum=3)
    check_int(key + "whitening_size", section["whitening_size"], minimum=1, maximum=16)
    check_bool(key + "dirac", section["dirac"])
    check_number(key + "batch_norm_momentum", section["batch_norm_momentum"], minimum=0, below=1)
    check_number(key + "batch_norm_epsilon", section["batch_norm_epsilon"], above=0)
    check_choice(key + "activation", section["activation"], ACTIVATIONS)
    check_number(key + "logit_scale", section["logit_scale"], above=0)
    return ()
