"""Networks: linen modules `model(images, *, train, mask=None) -> logits`, one file a family."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from cifar_cnn.checks import UsageError, check_choice
from cifar_cnn.models import airbench, plain, resnet, wide_resnet

# Name of the family and of its config section -> module, and the check of that section.
MODELS: dict[str, tuple[type[nn.Module], Callable[[Mapping[str, Any]], tuple[str, ...]]]] = {
    "plain": (plain.Plain, plain.check),
    "airbench": (airbench.Airbench, airbench.check),
    "resnet": (resnet.ResNet, resnet.check),
    "wide_resnet": (wide_resnet.WideResNet, wide_resnet.check),
}
# Fields of every module that are no keys of its section.
_GIVEN = {"num_classes", "dtype", "precision", "name", "parent"}


def make_model(
    name: str, section: Mapping[str, Any], *, num_classes: int, dtype: Any, precision: Any = None
) -> nn.Module:
    """Builds the network `name` from its config section.

    Raises:
      UsageError: unknown name, other keys in the section than the module has fields, or a value
        that is out of range.
    """
    check_choice("model.name", name, MODELS)
    module, check = MODELS[name]
    fields = [field for field in dataclasses.fields(module) if field.name not in _GIVEN]
    known = {field.name for field in fields}
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    for key in sorted(section.keys() ^ known):
        if key not in known:
            raise UsageError(f"model.{name} has the key {key}, which {module.__name__} has not")
        if key in needed:
            raise UsageError(f"model.{name} lacks the key {key}, which {module.__name__} needs")
    check(section)
    return module(num_classes=num_classes, dtype=dtype, precision=precision, **section)
