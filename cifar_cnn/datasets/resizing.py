"""TFDS sets whose images have several sizes: brought to one, as a folder of pictures is."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cifar_cnn.checks import UsageError
from cifar_cnn.datasets.reading import READER, Progress, check_memory
from cifar_cnn.images import Encoded, NotInstalledError, read_image


@dataclasses.dataclass(frozen=True)
class ResizedSet:
    """As much of a TFDS builder as this project reads, for a prepared set of several image sizes.

    Attributes:
      builder: of the prepared set.
      image_shape: (H, W, C) that its images are brought to.
      fit: how, see `images.read_image`.
      say: told how far the reading is.
    """

    builder: tfds.core.DatasetBuilder
    image_shape: tuple[int, int, int]
    fit: str
    say: Callable[[str], None]

    @property
    def data_path(self) -> Any:
        """The prepared set's folder."""
        return self.builder.data_path

    @property
    def info(self) -> tfds.core.DatasetInfo:
        """The prepared set's."""
        return self.builder.info

    @property
    def read_as(self) -> str:
        """What the images depend on besides the prepared set; part of its fingerprint."""
        return json.dumps([READER, self.image_shape, self.fit])

    def as_data_source(self, split: str) -> Sequence[dict[str, np.ndarray | int]]:
        """The examples of a split, each read when it is asked for.

        Returns:
          {'image': uint8 [H, W, C], 'label': int} under the names of the set's own keys.

        Raises:
          UsageError: more pixels than the machine's memory holds; later, an image that cannot be
            read.
        """
        source = _encoded(self.builder, split)
        check_memory(len(source), self.image_shape, copies=1)
        return _Resized(self, split, source, Progress(split, len(source), self.say))


@dataclasses.dataclass(frozen=True)
class _Resized(Sequence):
    """Read one by one; the fields are those of the set, and the examples with encoded images."""

    of: ResizedSet
    split: str
    source: Sequence[dict[str, Any]]
    progress: Progress

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
        example, (key, _) = self.source[index], self.of.info.supervised_keys
        picture = Encoded(example[key], f"image {index} of {self.split}")
        try:
            image = read_image(picture, image_shape=self.of.image_shape, fit=self.of.fit)
        except NotInstalledError:
            raise
        except UsageError as error:
            raise UsageError(
                f"{error}; if the data set in {self.of.data_path} is damaged, delete that "
                "directory and prepare it again"
            ) from error
        self.progress.read(index + 1)
        return {**example, key: image}


def resize(
    builder: tfds.core.DatasetBuilder,
    *,
    image_shape: tuple[int, int, int],
    fit: str,
    say: Callable[[str], None] = print,
) -> tfds.core.DatasetBuilder | ResizedSet:
    """The builder as it is where its images have one size, else as a `ResizedSet`."""
    return ResizedSet(builder, tuple(image_shape), fit, say) if varies(builder) else builder


def varies(builder: tfds.core.DatasetBuilder) -> bool:
    """Whether the images of a set are pictures of several sizes or kinds, as TFDS declares it."""
    image = builder.info.features[builder.info.supervised_keys[0]]
    return len(image.shape) == 3 and None in image.shape and image.np_dtype == np.uint8


def encoded_example(
    builder: tfds.core.DatasetBuilder, split: str, index: int
) -> tuple[Encoded, int]:
    """The picture file of one example, as `images.open_image` takes it, and its label."""
    example, (image_key, label_key) = _encoded(builder, split)[index], builder.info.supervised_keys
    name = f"image {index} of {split} in {builder.data_path}"
    return Encoded(example[image_key], name), int(example[label_key])


def _encoded(builder: tfds.core.DatasetBuilder, split: str) -> Sequence[dict[str, Any]]:
    """The examples of a split with their images as the bytes of picture files."""
    key = builder.info.supervised_keys[0]
    return builder.as_data_source(split, decoders={key: tfds.decode.SkipDecoding()})
