"""Data sets in TFDS's prepared format, made and read without TensorFlow; folders of pictures."""

from cifar_cnn.datasets.folder import ImageFolder, open_folder
from cifar_cnn.datasets.layout import read_layout
from cifar_cnn.datasets.metadata import read_metadata
from cifar_cnn.datasets.opening import make_builder
from cifar_cnn.datasets.preparing import prepare
from cifar_cnn.datasets.resizing import encoded_example, resize, varies

__all__ = [
    "ImageFolder",
    "encoded_example",
    "make_builder",
    "open_folder",
    "prepare",
    "read_layout",
    "read_metadata",
    "resize",
    "varies",
]
