"""The plain network of the lessons: stages of convolutions, then dense layers."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_cnn.checks import (
    UsageError,
    check_bool,
    check_choice,
    check_int,
    check_number,
)
from cifar_cnn.layers import ACTIVATIONS, PADDINGS, POOLS, Activation, Conv, Flatten, Pool


class Plain(nn.Module):
    """Stages of [conv, (batch norm), activation] ..., pool, dropout; then dense layers and logits.

    Without stages it is a dense net on the flattened image, and without dense layers too it is
    multinomial logistic regression. In the convolutional keys a single value holds for every
    stage, a tuple gives one value a stage.

    Attributes:
      num_classes: width of the last dense layer.
      filters: one tuple a stage, with the filters of each of its convolutions: ((32, 32), (64,)).
      kernel_size, stride, padding: of the convolutions; square kernels, 'SAME' or 'VALID'.
      pool: 'max', 'avg' or 'none', at the end of a stage.
      pool_size, pool_stride: square window and its step.
      conv_dropout: rate after each stage's pooling.
      batch_norm: whether batch normalisation stands between a convolution and its activation
        (Ioffe & Szegedy 2015); the convolution then has no bias.
      activation: after every hidden layer, a key of `layers.ACTIVATIONS`.
      dense: widths of the hidden dense layers.
      dense_dropout: rate after each of them (Srivastava et al. 2014).
      dtype: of the computation; parameters are float32, logits are returned as float32.
    """

    num_classes: int
    filters: Sequence[Sequence[int]]
    kernel_size: int | Sequence[int]
    stride: int | Sequence[int]
    padding: str | Sequence[str]
    pool: str | Sequence[str]
    pool_size: int | Sequence[int]
    pool_stride: int | Sequence[int]
    conv_dropout: float | Sequence[float]
    batch_norm: bool
    activation: str
    dense: Sequence[int]
    dense_dropout: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool, mask: jax.Array | None = None
    ) -> jax.Array:
        """Maps images to class logits.

        Args:
          images: float [B, H, W, C], normalised.
          train: dropout on, and batch statistics instead of running ones; needs rng 'dropout'.
          mask: bool [B], False where a row is padding that must not enter batch statistics;
            None when every row counts.

        Returns:
          float32 [B, num_classes].
        """
        x = images.astype(self.dtype)
        count = len(self.filters)
        stages = zip(
            self.filters,
            per_stage(self.kernel_size, count),
            per_stage(self.stride, count),
            per_stage(self.padding, count),
            per_stage(self.pool, count),
            per_stage(self.pool_size, count),
            per_stage(self.pool_stride, count),
            per_stage(self.conv_dropout, count),
            strict=True,
        )
        for filters, kernel, stride, padding, kind, pool_size, pool_stride, dropout in stages:
            for features in filters:
                x = Conv(
                    features,
                    (kernel, kernel),
                    strides=stride,
                    padding=padding,
                    use_bias=not self.batch_norm,
                    dtype=self.dtype,
                )(x)
                if self.batch_norm:
                    rows = None if mask is None else mask[:, None, None, None]
                    x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x, mask=rows)
                x = Activation(self.activation)(x)
            if kind != "none":
                x = Pool(kind, pool_size, pool_stride)(x)
            if dropout:
                x = nn.Dropout(dropout, deterministic=not train)(x)
        x = Flatten()(x)
        for features in self.dense:
            x = nn.Dense(features, dtype=self.dtype)(x)
            x = Activation(self.activation)(x)
            if self.dense_dropout:
                x = nn.Dropout(self.dense_dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, dtype=self.dtype)(x).astype(jnp.float32)


def per_stage(value: Any, count: int) -> tuple[Any, ...]:
    """`value` once for each of `count` stages; a tuple is taken as it is."""
    return tuple(value) if isinstance(value, tuple | list) else (value,) * count


def check(section: dict[str, Any]) -> tuple[str, ...]:
    """Checks the config section `model.plain`.

    Args:
      section: every attribute of `Plain` but num_classes and dtype.

    Returns:
      The keys that this network never reads, whatever their values: those of convolutions where
      there is no stage, of pooling where nothing is pooled, of dropout where nothing is dense.

    Raises:
      UsageError: a value of the wrong type or out of range; names key, value and expectation.
    """
    key = "model.plain."
    for name in ("filters", "dense"):
        if not isinstance(section[name], tuple | list):
            example = "((32, 32), (64, 64))" if name == "filters" else "(512,)"
            raise UsageError(
                f"{key}{name} is {section[name]!r}, expected a tuple such as {example}"
            )
    count = len(section["filters"])
    for stage in section["filters"]:
        if not isinstance(stage, tuple | list) or not stage:
            raise UsageError(
                f"{key}filters is {section['filters']!r}, expected one non-empty tuple a stage, "
                "such as ((32, 32), (64, 64))"
            )
        for features in stage:
            check_int(key + "filters", features, minimum=1, maximum=65536)
    for features in section["dense"]:
        check_int(key + "dense", features, minimum=1, maximum=1 << 20)

    def check_each(name: str, check_one: Any, **limits: Any) -> None:
        value = section[name]
        if isinstance(value, tuple | list) and len(value) != count:
            raise UsageError(
                f"{key}{name} is {value!r}: {len(value)} values for {count} stages in "
                f"{key}filters, expected one value for all or one a stage"
            )
        for one in per_stage(value, 1):
            check_one(key + name, one, **limits)

    for name in ("kernel_size", "stride", "pool_size", "pool_stride"):
        check_each(name, check_int, minimum=1, maximum=1024)
    check_each("padding", check_choice, known=PADDINGS)
    check_each("pool", check_choice, known=(*POOLS, "none"))
    check_each("conv_dropout", check_number, minimum=0, below=1)
    check_number(key + "dense_dropout", section["dense_dropout"], minimum=0, below=1)
    check_bool(key + "batch_norm", section["batch_norm"])
    check_choice(key + "activation", section["activation"], ACTIVATIONS)

    unread = []
    if not count:
        unread += ["kernel_size", "stride", "padding", "pool", "conv_dropout", "batch_norm"]
    if not count or all(kind == "none" for kind in per_stage(section["pool"], count)):
        unread += ["pool_size", "pool_stride"]
    if not section["dense"]:
        unread += ["dense_dropout"]
    if not count and not section["dense"]:
        unread += ["activation"]
    return tuple(unread)
