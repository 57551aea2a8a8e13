"""The picture that is explained: a file, or an example of a split."""

import contextlib
import dataclasses
import pathlib
import warnings
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from cifar_cnn.checks import UsageError, check_int, printable
from cifar_cnn.experiment import Trained
from cifar_cnn.images import read_image

_SIDE = 480  # Pixels of the longer side of a picture that is shown as given.


@dataclasses.dataclass(frozen=True)
class Subject:
    """The picture that is explained: its name in titles and in a file's name, uint8 [H, W, C],
    the picture as given and its size, the true label where known, and what the JSON file tells."""

    name: str
    stem: str
    image: np.ndarray
    told: dict[str, Any]
    label: int | None = None
    given: np.ndarray | None = None
    given_size: tuple[int, int] = (0, 0)


def open_file(trained: Trained, path: pathlib.Path, fit: str) -> Subject:
    image = read_image(path, image_shape=trained.facts.image_shape, fit=fit)
    given, size = _as_given(path)
    # Every plot's font has the letters of Latin-1.
    name = printable(path.name).encode("latin-1", "replace").decode("latin-1")
    name = name if len(name) <= 40 else f"{name[:24]}…{name[-12:]}"
    told = {"image": printable(path), "size": list(size), "fit": fit}
    return Subject(name, path.stem, image, told, given=given, given_size=size)


def open_example(trained: Trained, split: str, index: int) -> Subject:
    examples = trained.examples(split)
    indices = np.asarray(examples.indices)
    check_int("--index", index, minimum=0, maximum=int(indices.max()))
    if index not in indices:
        some = ", ".join(map(str, np.sort(indices)[:5]))
        raise UsageError(
            f"--index is {index}, which is no example of the {split} split: it is held out of "
            f"train, and has {some} and others"
        )
    image, label = np.asarray(examples.images[index]), int(examples.labels[index])
    told = {"split": split, "index": index}
    return Subject(f"{split} example {index}", f"{split}-{index}", image, told, label)


def _as_given(path: pathlib.Path) -> tuple[np.ndarray, tuple[int, int]]:
    """The whole upright picture uint8 [h, w, 3], reduced to be looked at, and its (height, width)
    in the file. The file is one that `read_image` has read."""
    with warnings.catch_warnings(), Image.open(path) as picture:
        warnings.simplefilter("ignore")
        height, width = picture.height, picture.width
        # Broken EXIF raises many types; `read_image`, too, ignores what it cannot read of it.
        with contextlib.suppress(Exception):
            if picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8):
                height, width = width, height
    scale = min(1.0, _SIDE / max(height, width))
    shape = (max(1, round(height * scale)), max(1, round(width * scale)), 3)
    return read_image(path, image_shape=shape, fit="stretch"), (height, width)
