"""Where a network looks: gradients of a class's logit, brought back to the image."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cifar_cnn.checks import check_choice
from cifar_cnn.experiment import Trained
from cifar_cnn.explain.layers import (
    arguments,
    capture,
    kernel_of,
    spatial_layers,
    watching,
)
from cifar_cnn.report.feature_maps import LayerOutput
from cifar_cnn.steps import forward


def default_layer(trained: Trained, layers: list[LayerOutput]) -> str | None:
    """The last convolutional activation, where Grad-CAM looks unless told otherwise: the last
    convolution, or what follows it at the same size up to the next pooling (normalisation,
    activation); None for a network without feature maps."""
    spatial = spatial_layers(layers)
    convolutions = [
        place
        for place, layer in enumerate(layers)
        if layer.name in spatial and kernel_of(trained.variables, layer.name, ndim=4) is not None
    ]
    if not convolutions:
        return next(reversed(spatial), None)
    place = convolutions[-1]
    while (
        place + 1 < len(layers)
        and layers[place + 1].value.shape == layers[place].value.shape
        and layers[place + 1].kind != "Pool"
    ):
        place += 1
    return layers[place].name


def grad_cam(trained: Trained, image: np.ndarray, class_index: int, layer: str) -> np.ndarray:
    """Where the evidence for a class lies: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391).

    The maps of the layer are summed with the mean gradient of the class's logit in each map as
    weights; what is negative is cut to zero. The result is brought to the image's size bilinearly.

    Args:
      image: uint8 [H, W, C].
      class_index: whose logit is followed back.
      layer: name of a layer with feature maps, as `activations` gives it.

    Returns:
      float32 [H, W], at least 0.

    Raises:
      UsageError: no such layer, or one without feature maps (the others are listed).
    """
    return look(trained, image, [class_index], layer)[0][0]


def saliency(trained: Trained, image: np.ndarray, class_index: int) -> np.ndarray:
    """How much each pixel moves the logit of a class (Simonyan et al. 2014, arXiv:1312.6034).

    Args:
      image: uint8 [H, W, C].
      class_index: whose logit is followed back.

    Returns:
      float32 [H, W]: the largest absolute derivative over the channels, in logits a grey level
      (one of 255).
    """
    return look(trained, image, [class_index], None)[1][0]


def look(
    trained: Trained, image: np.ndarray, classes: Sequence[int], layer: str | None
) -> tuple[np.ndarray | None, np.ndarray]:
    """`grad_cam` (None where `layer` is None) and `saliency` of several classes, each float32
    [n, H, W], from one forward pass."""
    model, given, zeros = trained.run.model, arguments(trained, image), None
    if layer is not None:
        _, shapes = jax.eval_shape(functools.partial(capture, model), *given)
        spatial = spatial_layers(shapes)
        check_choice("--layer", layer, spatial)
        zeros = jnp.zeros((1, *spatial[layer]))
    program = jax.jit(functools.partial(_look, model, layer, tuple(classes)))
    return jax.device_get(program(*given, zeros))


def _look(model, layer, classes, variables, pixels, mean, std, zeros):
    """The gradient with respect to a layer's output is that of `zeros`, added to it."""

    def logits_of(zeros, pixels):
        features = []

        def visit(name, module, given, made):
            if name != layer:
                return made
            features.append(made)
            return made + zeros.astype(made.dtype)

        with watching(visit):
            logits, _ = forward(model, variables, pixels, mean=mean, std=std, train=False)
        return logits[0], features

    logits, pull, features = jax.vjp(logits_of, zeros, pixels, has_aux=True)
    gradients = [pull(jnp.zeros_like(logits).at[k].set(1)) for k in classes]
    sensitivity = jnp.stack([jnp.abs(by_pixel[0]).max(axis=-1) for _, by_pixel in gradients])
    if layer is None:
        return None, sensitivity
    maps = features[0][0].astype(jnp.float32)
    heats = [
        jnp.maximum(jnp.einsum("hwc,c->hw", maps, by_map[0].mean(axis=(0, 1))), 0)
        for by_map, _ in gradients
    ]
    size = (len(classes), *pixels.shape[1:3])
    return jax.image.resize(jnp.stack(heats), size, "bilinear"), sensitivity
