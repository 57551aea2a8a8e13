"""The network of a config, before there is any data."""

import pathlib

import flax.linen as nn

from cifar_cnn import datasets, models
from cifar_cnn.checks import UsageError, check_int
from cifar_cnn.experiment.parts import DTYPES, Config


def describe_data(
    config: Config, image_shape: tuple[int, ...] | None = None, classes: int | None = None
) -> tuple[str, tuple[int, ...], int]:
    """Name, image shape (H, W, C) and number of classes of a config's data.

    They come from what TFDS knows of the set, which need not be prepared, or from the names of a
    folder's classes; nothing is downloaded.

    Args:
      image_shape, classes: taken instead of the data's own; with both, the data is not asked.

    Raises:
      UsageError: they cannot be known.
    """
    if classes is not None:
        check_int("classes", classes, minimum=2)
    section = config["data"]
    name = section["folder"] or section["name"]
    if image_shape is not None and classes is not None:
        return name, tuple(image_shape), classes
    try:
        if section["folder"]:
            size = section["image_size"]
            height, width = size if isinstance(size, tuple | list) else (size, size)
            folder = config["run"]["data_dir"] or section["folder"]
            shape = (height, width, section["channels"])
            count = classes or len(
                datasets.read_layout(pathlib.Path(folder).expanduser().absolute()).class_names
            )
        else:
            shape, count = datasets.read_metadata(
                section["name"], data_dir=config["run"]["data_dir"] or None
            )
    except UsageError as error:
        raise UsageError(
            f"{error}; or say what the images are like: --image_shape=32,32,3 --classes=10"
        ) from error
    return name, tuple(image_shape or shape), classes or count


def make_network(config: Config, classes: int) -> nn.Module:
    """The network of a config.

    Raises:
      UsageError: see `models.make_model`.
    """
    name = config["model"]["name"]
    dtype = DTYPES[config["model"]["dtype"]]
    return models.make_model(name, config["model"][name], num_classes=classes, dtype=dtype)
