"""A config's network as a list of plain layers, from which a peer builds the same one.

A layer is a dictionary with its 'kind' and what that kind needs:
  conv: features, kernel, stride, padding ('SAME' or 'VALID'), groups, bias, frozen (those of
    'kernel' and 'bias' that are not trained); square, on the image
  batch_norm: scale (whether it has one besides its bias), momentum (share of the running average
    that is kept), epsilon
  activation: function, a key of `cifar_cnn.layers.ACTIVATIONS`
  pool: function ('max' or 'avg'), size, stride; without padding
  global_max: the largest of each channel over the image
  dropout: rate
  flatten
  dense: features, bias
  scale: factor, by which everything is multiplied
  residual: layers, whose output is added to their input
"""

from collections.abc import Mapping
from typing import Any

from cifar_cnn.checks import UsageError
from cifar_cnn.models import plain
from cifar_cnn.optim import lr_factor

Layer = dict[str, Any]


def describe(config: Mapping[str, Any], channels: int, classes: int) -> list[Layer]:
    """The layers of a config's network, in the order in which an image passes them.

    Args:
      config: complete nested config that `experiment.check` accepts.
      channels: of the images.
      classes: width of the last layer.

    Raises:
      UsageError: a network that is not of this simple kind.
    """
    name = config["model"]["name"]
    if name not in _FAMILIES:
        raise UsageError(
            f"model.name is {name!r}, but peers know only {' and '.join(sorted(_FAMILIES))}: leave "
            "--against out, or measure another network"
        )
    return _FAMILIES[name](config, channels, classes)


def _conv(features: int, kernel: int, padding: str, *, bias: bool, **others: Any) -> Layer:
    layer = {"kind": "conv", "features": features, "kernel": kernel, "padding": padding}
    return {**layer, "bias": bias, "stride": 1, "groups": 1, "frozen": [], **others}


def _activation(function: str) -> Layer:
    return {"kind": "activation", "function": function}


def _dense(features: int, *, bias: bool) -> Layer:
    return {"kind": "dense", "features": features, "bias": bias}


def _plain(config: Mapping[str, Any], channels: int, classes: int) -> list[Layer]:
    """See `models.plain.Plain`."""
    del channels
    section = config["model"]["plain"]
    layers: list[Layer] = []
    for stage in plain.stages(section):
        if stage.conv != "standard" or stage.dilation != 1:
            raise UsageError(
                f"peers know only standard convolutions without dilation, got {stage.conv!r} with "
                f"dilation {stage.dilation}: leave --against out, or measure another network"
            )
        if stage.padding == "SAME" and (stage.stride != 1 or stage.kernel_size % 2 == 0):
            raise UsageError(
                "peers know padding 'SAME' only for odd kernels and stride 1, got "
                f"{stage.kernel_size} and {stage.stride}: leave --against out, or measure another "
                "network"
            )
        for features in stage.filters:
            bias, others = not section["batch_norm"], {"stride": stage.stride}
            others["groups"] = stage.groups
            layers.append(_conv(features, stage.kernel_size, stage.padding, bias=bias, **others))
            if section["batch_norm"]:
                layers.append(_batch_norm(scale=True, momentum=0.99, epsilon=1e-5))
            layers.append(_activation(section["activation"]))
        if stage.pool != "none":
            layers.append(_pool(stage.pool, stage.pool_size, stage.pool_stride))
        if stage.conv_dropout:
            layers.append({"kind": "dropout", "rate": stage.conv_dropout})
    layers.append({"kind": "flatten"})
    for features in section["dense"]:
        layers += [_dense(features, bias=True), _activation(section["activation"])]
        if section["dense_dropout"]:
            layers.append({"kind": "dropout", "rate": section["dense_dropout"]})
    return [*layers, _dense(classes, bias=True)]


def _airbench(config: Mapping[str, Any], channels: int, classes: int) -> list[Layer]:
    """The network of Jordan 2024 (arXiv:2404.00498), see `models/airbench.py`."""
    section, lr_mults = config["model"]["airbench"], config["optim"]["lr_mults"]
    # Whether the bias is trained decides if the first block needs the gradient of its input.
    frozen = [name for name in ("kernel", "bias") if not lr_factor(f"whitening/{name}", lr_mults)]
    size = section["whitening_size"]
    activation = _activation(section["activation"])
    norm = _batch_norm(
        scale=False,
        momentum=section["batch_norm_momentum"],
        epsilon=section["batch_norm_epsilon"],
    )
    layers = [_conv(2 * size**2 * channels, size, "VALID", bias=True, frozen=frozen), activation]
    for width in section["widths"]:
        conv = _conv(width, 3, "SAME", bias=False)
        layers += [conv, _pool("max", 2, 2), norm, activation]
        if section["depth"] == 2:
            layers += [conv, norm, activation]
        else:
            branch = [conv, norm, activation, conv, norm]
            layers += [{"kind": "residual", "layers": branch}, activation]
    layers += [{"kind": "global_max"}, {"kind": "scale", "factor": section["logit_scale"]}]
    return [*layers, _dense(classes, bias=False)]


def _batch_norm(*, scale: bool, momentum: float, epsilon: float) -> Layer:
    return {"kind": "batch_norm", "scale": scale, "momentum": momentum, "epsilon": epsilon}


def _pool(function: str, size: int, stride: int) -> Layer:
    return {"kind": "pool", "function": function, "size": size, "stride": stride}


_FAMILIES = {"plain": _plain, "airbench": _airbench}
