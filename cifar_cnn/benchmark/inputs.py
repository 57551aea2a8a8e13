"""The images that every engine trains on: the same files for all."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from cifar_cnn import data as data_lib
from cifar_cnn import experiment
from cifar_cnn.checks import UsageError

# (H, W, C) of sets for which random pixels can stand in: speed does not depend on what is shown.
_SHAPES = {"cifar10": (32, 32, 3), "mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1)}
_RANDOM_IMAGES = 10_000


def write_inputs(
    config: dict[str, Any], limit: int, folder: pathlib.Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Writes the train split of a config's data set as arrays that any library reads.

    Args:
      limit: at most so many images, the first ones; 0 for all.
      folder: where to.
      say: told where random images stand in for a set that is not there.

    Returns:
      name, images and labels (paths of uint8 [N, H, W, C] and int32 [N]), class_names, mean and
      std (of each channel, as shares of 255), examples (N), random (whether they are).

    Raises:
      UsageError: data that is not there, for which nothing can stand in.
    """
    section = config["data"]
    try:
        builder = experiment.make_builder(config, say)
    except UsageError as error:
        if section["folder"] or section["name"] not in _SHAPES:
            raise
        count = limit or _RANDOM_IMAGES
        say(f"note: {count:,} random images stand in for {section['name']}: {error}")
        random = np.random.RandomState(0)
        images = random.randint(0, 256, (count, *_SHAPES[section["name"]]), np.uint8)
        labels = random.randint(0, 10, count)
        name, class_names = f"random, for {section['name']}", [str(label) for label in range(10)]
    else:
        arrays = data_lib.load_arrays(builder, "train", experiment.cache_dir(config), say)
        count = min(limit or len(arrays.labels), len(arrays.labels))
        images, labels = arrays.images[:count], arrays.labels[:count]
        name, class_names = builder.info.full_name, list(arrays.class_names)
    mean, std = data_lib.channel_statistics(images, np.arange(count))
    paths = {part: str(folder / f"{part}.npy") for part in ("images", "labels")}
    folder.mkdir(parents=True)
    np.save(paths["images"], images)
    np.save(paths["labels"], labels.astype(np.int32))
    return {
        "name": name,
        **paths,
        "class_names": class_names,
        "mean": mean,
        "std": std,
        "examples": count,
        "random": name.startswith("random"),
    }
