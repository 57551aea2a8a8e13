"""Data sets in TFDS's prepared format, made and read without TensorFlow."""

from cifar_cnn.datasets.opening import make_builder
from cifar_cnn.datasets.preparing import prepare

__all__ = ["make_builder", "prepare"]
