"""Networks: linen modules `model(images, *, train, mask=None) -> logits`, one file a family."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from cifar_cnn.checks import check_choice
from cifar_cnn.models import airbench, plain, resnet, wide_resnet

# Name of the family and of its config section -> module, and the check of that section.
MODELS: dict[str, tuple[type[nn.Module], Callable[[Mapping[str, Any]], tuple[str, ...]]]] = {
    "plain": (plain.Plain, plain.check),
    "airbench": (airbench.Airbench, airbench.check),
    "resnet": (resnet.ResNet, resnet.check),
    "wide_resnet": (wide_resnet.WideResNet, wide_resnet.check),
}


def make_model(
    name: str, section: Mapping[str, Any], *, num_classes: int, dtype: Any, precision: Any = None
) -> nn.Module:
    """Builds the network `name` from its config section.

    Raises:
      UsageError: unknown name, or a value of the section that is out of range.
    """
    check_choice("model.name", name, MODELS)
    module, check = MODELS[name]
    check(section)
    return module(num_classes=num_classes, dtype=dtype, precision=precision, **section)
