"""The plain network of the lessons: stages of convolutions, then dense layers."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
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
    shown,
)
from cifar_cnn.layers import (
    ACTIVATIONS,
    PADDINGS,
    POOLS,
    Activation,
    Conv,
    Flatten,
    Pool,
    TransposedConv,
)

# A CPU computes these tap by tap, each of which takes a millisecond to trace.
_LARGEST_BY_TAPS = 64
CONVOLUTIONS = ("standard", "depthwise", "separable", "transposed")


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage's values of the keys of `Plain` that may differ between stages."""

    filters: Sequence[int]
    conv: str
    kernel_size: int
    stride: int
    padding: str
    dilation: int
    groups: int
    pool: str
    pool_size: int
    pool_stride: int
    conv_dropout: float


STAGE_KEYS = tuple(field.name for field in dataclasses.fields(Stage) if field.name != "filters")


class Plain(nn.Module):
    """Stages of [conv, (batch norm), activation] ..., pool, dropout; then dense layers and logits.

    Without stages it is a dense net on the flattened image, and without dense layers too it is
    multinomial logistic regression. In the convolutional keys a single value holds for every
    stage, a tuple gives one value a stage.

    Attributes:
      num_classes: width of the last dense layer.
      filters: one tuple a stage, with the filters of each of its convolutions: ((32, 32), (64,)).
      conv: kind of the convolutions, one of `CONVOLUTIONS`.
        'standard': every filter sees all channels; kernel_size 1 makes it pointwise.
        'depthwise': every filter sees one channel; filters are a multiple of the input channels.
        'separable': depthwise without bias, then pointwise to the filters, with nothing between
          the two (Chollet 2017; `SeparableConv2D` in Keras); batch norm and activation follow.
        'transposed': every input pixel stamps the kernel, so that a stride enlarges the image
          (Zeiler et al. 2010; `Conv2DTranspose` in Keras).
      kernel_size, stride, padding: of the convolutions; square kernels, 'SAME' or 'VALID'.
      dilation: pixels between two taps of a kernel (Yu & Koltun 2016), 1 for none between.
      groups: of 'standard' alone: channels and filters in so many groups, each filter sees its
        own group's channels (Krizhevsky et al. 2012); divides both.
      pool: 'max', 'avg' or 'none', at the end of a stage.
      pool_size, pool_stride: square window and its step.
      conv_dropout: rate after each stage's pooling.
      batch_norm: whether batch normalisation stands between a convolution and its activation
        (Ioffe & Szegedy 2015); the convolution then has no bias.
      activation: after every hidden layer, a key of `layers.ACTIVATIONS`.
      dense: widths of the hidden dense layers.
      dense_dropout: rate after each of them (Srivastava et al. 2014).
      dtype: of the computation; parameters are float32, logits are returned as float32.
      precision: of products in convolutions, see `layers/convolution.py`.
    """

    num_classes: int
    filters: Sequence[Sequence[int]]
    conv: str | Sequence[str]
    kernel_size: int | Sequence[int]
    stride: int | Sequence[int]
    padding: str | Sequence[str]
    dilation: int | Sequence[int]
    groups: int | Sequence[int]
    pool: str | Sequence[str]
    pool_size: int | Sequence[int]
    pool_stride: int | Sequence[int]
    conv_dropout: float | Sequence[float]
    batch_norm: bool
    activation: str
    dense: Sequence[int]
    dense_dropout: float
    dtype: Any = jnp.float32
    precision: Any = None

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
        keys = ("filters", *STAGE_KEYS)
        for number, stage in enumerate(stages({key: getattr(self, key) for key in keys}), start=1):
            for features in stage.filters:
                for conv in _convolutions(
                    stage,
                    number,
                    features,
                    x.shape[-1],
                    use_bias=not self.batch_norm,
                    dtype=self.dtype,
                    precision=self.precision,
                ):
                    key = "kernel_size" if stage.dilation == 1 else "kernel_size and dilation"
                    key = "stride" if stage.conv == "transposed" else key
                    with _told(key, conv, number):
                        x = conv(x)
                if self.batch_norm:
                    rows = None if mask is None else mask[:, None, None, None]
                    x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x, mask=rows)
                x = Activation(self.activation)(x)
            if stage.pool != "none":
                pool = Pool(stage.pool, stage.pool_size, stage.pool_stride)
                with _told("pool_size", pool, number):
                    x = pool(x)
            if stage.conv_dropout:
                x = nn.Dropout(stage.conv_dropout, deterministic=not train)(x)
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


def stages(section: Mapping[str, Any]) -> list[Stage]:
    """The stages that the convolutional keys of a section describe."""
    count = len(section["filters"])
    columns = {key: per_stage(section[key], count) for key in STAGE_KEYS}
    return [
        Stage(filters, **{key: column[i] for key, column in columns.items()})
        for i, filters in enumerate(section["filters"])
    ]


def _convolutions(
    stage: Stage,
    number: int,
    features: int,
    channels: int,
    *,
    use_bias: bool,
    dtype: Any,
    precision: Any,
) -> list[nn.Module]:
    """The layers, one after another, that make one convolution of a stage's kind.

    Raises:
      UsageError: groups or filters that do not suit the `channels` of the input.
    """
    kernel, strides = (stage.kernel_size,) * 2, (stage.stride,) * 2
    dilation = (stage.dilation,) * 2
    if stage.conv == "transposed":
        return [TransposedConv(features, kernel, strides, stage.padding, dilation, use_bias, dtype)]
    spatial = functools.partial(
        Conv,
        kernel_size=kernel,
        strides=strides,
        padding=stage.padding,
        kernel_dilation=dilation,
        dtype=dtype,
        precision=precision,
    )
    if stage.conv == "separable":
        depthwise = spatial(channels, feature_group_count=channels, use_bias=False)
        pointwise = Conv(features, (1, 1), use_bias=use_bias, dtype=dtype, precision=precision)
        return [depthwise, pointwise]
    groups = channels if stage.conv == "depthwise" else stage.groups
    conv = spatial(features, feature_group_count=groups, use_bias=use_bias)
    if stage.conv == "depthwise" and features % channels:
        raise UsageError(
            f"model.plain.filters has {features} for layer {conv.name} (stage {number}), expected "
            f"a multiple of its {channels} input channels, as model.plain.conv is 'depthwise'"
        )
    if channels % groups or features % groups:
        raise UsageError(
            f"model.plain.groups is {groups} for layer {conv.name} (stage {number}), expected a "
            f"divisor of both its {channels} input channels and its {features} filters"
        )
    return [conv]


@contextlib.contextmanager
def _told(key: str, layer: nn.Module, number: int) -> Iterator[None]:
    """Adds to an error that `layer` raises which one it is and which key to change."""
    try:
        yield
    except UsageError as error:
        message = f"model.plain.{key}, layer {layer.name} (stage {number}): {error}"
        raise UsageError(message) from error


def check(section: dict[str, Any]) -> tuple[str, ...]:
    """Checks the config section `model.plain`.

    Args:
      section: every attribute of `Plain` but num_classes, dtype and precision.

    Returns:
      The keys that this network never reads, whatever their values: those of convolutions where
      there is no stage, of groups where nothing is 'standard', of dilation where all kernels are
      1 x 1, of pooling where nothing is pooled, of dropout where nothing is dense.

    Raises:
      UsageError: a value of the wrong type or out of range; names key, value and expectation.
    """
    key = "model.plain."
    for name in ("filters", "dense"):
        if not isinstance(section[name], tuple | list):
            example = "((32, 32), (64, 64))" if name == "filters" else "(512,)"
            raise UsageError(
                f"{key}{name} is {shown(section[name])}, expected a tuple such as {example}"
            )
    count = len(section["filters"])
    for stage in section["filters"]:
        if not isinstance(stage, tuple | list) or not stage:
            raise UsageError(
                f"{key}filters is {shown(section['filters'])}, expected one non-empty tuple a "
                "stage, such as ((32, 32), (64, 64))"
            )
        for features in stage:
            check_int(key + "filters", features, minimum=1, maximum=65536)
    for features in section["dense"]:
        check_int(key + "dense", features, minimum=1, maximum=1 << 20)

    def check_each(name: str, check_one: Any, **limits: Any) -> None:
        value = section[name]
        if isinstance(value, tuple | list) and len(value) != count:
            raise UsageError(
                f"{key}{name} is {shown(value)}: {len(value)} values for {count} stages in "
                f"{key}filters, expected one value for all or one a stage"
            )
        for one in per_stage(value, 1):
            check_one(key + name, one, **limits)

    for name in ("kernel_size", "stride", "dilation", "groups", "pool_stride"):
        check_each(name, check_int, minimum=1, maximum=1024)
    check_each("pool_size", check_int, minimum=1, maximum=128)  # Computed tap by tap, as well.
    check_each("conv", check_choice, known=CONVOLUTIONS)
    check_each("padding", check_choice, known=PADDINGS)
    check_each("pool", check_choice, known=(*POOLS, "none"))
    check_each("conv_dropout", check_number, minimum=0, below=1)
    check_number(key + "dense_dropout", section["dense_dropout"], minimum=0, below=1)
    check_bool(key + "batch_norm", section["batch_norm"])
    check_choice(key + "activation", section["activation"], ACTIVATIONS)

    plan = stages(section)
    kinds = {stage.conv for stage in plan}
    for number, stage in enumerate(plan, start=1):
        if stage.conv in ("depthwise", "separable") and stage.kernel_size > _LARGEST_BY_TAPS:
            raise UsageError(
                f"{key}kernel_size is {stage.kernel_size} for stage {number}, expected "
                f"{_LARGEST_BY_TAPS} at most where {key}conv is {stage.conv!r}"
            )
        if "standard" in kinds and stage.conv != "standard" and stage.groups != 1:
            raise UsageError(
                f"{key}groups is {stage.groups} for stage {number}, expected 1 there: only "
                f"'standard' convolutions have groups, and {key}conv is {stage.conv!r}"
            )

    unread = []
    if not count:
        unread += ["conv", "stride", "padding", "pool", "conv_dropout", "batch_norm"]
        unread += ["kernel_size"]
    if "standard" not in kinds:
        unread += ["groups"]
    if all(stage.kernel_size == 1 for stage in plan):
        unread += ["dilation"]
    if all(stage.pool == "none" for stage in plan):
        unread += ["pool_size", "pool_stride"]
    if not section["dense"]:
        unread += ["dense_dropout"]
    if not count and not section["dense"]:
        unread += ["activation"]
    return tuple(unread)
