"""The layers of a trained network as it runs on one image, without touching the network.

The network is any linen module of `models.MODELS`. Its layers are watched from outside while it is
traced; a layer is a module that calls no other module, as in `report.summary`.
"""

import collections
import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cifar_cnn.experiment import Trained
from cifar_cnn.report.arithmetic import arithmetic
from cifar_cnn.report.feature_maps import LayerOutput
from cifar_cnn.steps import Variables, forward

Visit = Callable[[str, nn.Module, jax.Array, jax.Array], jax.Array]


def activations(trained: Trained, image: np.ndarray) -> list[LayerOutput]:
    """The output of every layer for one image, in the order of their calls.

    Dropout is left out: it passes everything on in evaluation. The last output are the logits of
    the networks in this project.

    Args:
      image: uint8 [H, W, C].

    Returns:
      One `LayerOutput` a call, with values float32 [h, w, c] or [d] on the host.
    """
    return logits_and_activations(trained, image)[1]


def logits_and_activations(
    trained: Trained, image: np.ndarray
) -> tuple[np.ndarray, list[LayerOutput]]:
    """Logits float32 [K] of one image uint8 [H, W, C], and `activations` from the same pass."""
    program = jax.jit(functools.partial(capture, trained.run.model))
    logits, layers = program(*arguments(trained, image))
    return np.asarray(logits)[0], jax.device_get(layers)


def spatial_layers(layers: list[LayerOutput]) -> dict[str, tuple[int, ...]]:
    """Names and shapes [h, w, c] of the layers with feature maps of more than one position."""
    return {
        layer.name: layer.value.shape
        for layer in layers
        if layer.value.ndim == 3 and layer.value.shape[0] * layer.value.shape[1] > 1
    }


def first_kernels(
    trained: Trained, layers: list[LayerOutput]
) -> tuple[LayerOutput, np.ndarray] | None:
    """The first layer with weights, and these as pictures, float32 [h, w, C, n].

    A dense layer on the whole image has one weight a pixel, so each unit's weights are a picture
    of the image's shape. None where the first weights are neither of these.
    """
    for layer in layers:
        kernel = kernel_of(trained.variables, layer.name)
        if kernel is None:
            continue
        image_shape = trained.facts.image_shape
        if kernel.ndim == 2 and kernel.shape[0] == np.prod(image_shape):
            return layer, kernel.reshape(*image_shape, -1)
        return (layer, kernel) if kernel.ndim == 4 else None
    return None


def kernel_of(variables: Variables, name: str, ndim: int | None = None) -> np.ndarray | None:
    """The weights of a layer, float32; None if it has none (of `ndim` axes)."""
    found = variables["params"]
    for part in [*name.split("#")[0].split("/"), "kernel"]:
        found = found.get(part) if isinstance(found, Mapping) else None
    if found is None or ndim not in (None, found.ndim):
        return None
    return np.asarray(found, np.float32)


def arguments(trained: Trained, image: np.ndarray) -> tuple[Any, ...]:
    """Variables, float32 [1, H, W, C] in grey levels 0 to 255, and the normalisation."""
    pixels = jnp.asarray(image, jnp.float32)[None]
    mean, std = jnp.asarray(trained.facts.mean), jnp.asarray(trained.facts.std)
    return trained.variables, pixels, mean, std


@contextlib.contextmanager
def watching(visit: Visit) -> Iterator[None]:
    """Calls visit(name, module, input, output) as each layer's call ends; what it returns takes
    the place of the output."""
    stack: list[tuple[tuple[str, ...], list[bool]]] = []
    seen = collections.Counter()

    def intercept(method, args, kwargs, context):
        module = context.module
        path = tuple(module.path)
        # A module's helper methods and its super().__call__ are part of the call it is in.
        if context.method_name == "setup" or (stack and stack[-1][0] == path):
            return method(*args, **kwargs)
        calls_others: list[bool] = []
        for _, outer in stack:
            outer.append(True)
        stack.append((path, calls_others))
        try:
            output = method(*args, **kwargs)
        finally:
            stack.pop()
        is_layer = isinstance(output, jax.Array) and not isinstance(module, nn.Dropout)
        if calls_others or not is_layer or not args:
            return output
        name = "/".join(path) or type(module).__name__
        seen[name] += 1
        return visit(name if seen[name] == 1 else f"{name}#{seen[name]}", module, args[0], output)

    with nn.intercept_methods(intercept):
        yield


def capture(model, variables, pixels, mean, std):
    """Logits float32 [1, K] and the list of `LayerOutput`s."""
    layers = []

    def visit(name, module, given, made):
        shapes = given.shape[1:], made.shape[1:]
        parameters = module.variables.get("params", {})
        layers.append(
            LayerOutput(
                value=made[0].astype(jnp.float32),
                name=name,
                kind=type(module).__name__,
                input_shape=shapes[0],
                arithmetic=arithmetic(module, *shapes, parameters),
            )
        )
        return made

    with watching(visit):
        logits, _ = forward(model, variables, pixels, mean=mean, std=std, train=False)
    return logits, layers
