"""What a trained network sees in one picture: kernels, feature maps, Grad-CAM, probabilities."""

from cifar_cnn.explain.attention import default_layer, grad_cam, saliency
from cifar_cnn.explain.layers import (
    activations,
    first_kernels,
    logits_and_activations,
    spatial_layers,
)
from cifar_cnn.explain.running import explain_run

__all__ = [
    "activations",
    "default_layer",
    "explain_run",
    "first_kernels",
    "grad_cam",
    "logits_and_activations",
    "saliency",
    "spatial_layers",
]
