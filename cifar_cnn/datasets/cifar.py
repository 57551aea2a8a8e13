"""CIFAR-10 and CIFAR-100 as TFDS defines them, generated without TensorFlow."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from tensorflow_datasets.image_classification import cifar as tfds_cifar

from cifar_cnn.datasets import archive
from cifar_cnn.datasets.png import encode_png


class Cifar10(tfds_cifar.Cifar10, skip_registration=True):
    """TFDS's cifar10, from an archive instead of its own download.

    Attributes:
        contents: what was read from the archive.
    """

    # TFDS would look for them beside this file.
    url_infos = None
    contents: archive.Contents

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager
        for feature, names in self.contents.label_names.items():
            self.info.features[feature].names = names
        return {
            split: self._generate_examples(split, images, labels)
            for split, (images, labels) in self.contents.splits.items()
        }

    def _generate_examples(
        self, split: str, images: np.ndarray, labels: dict[str, np.ndarray]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, image in enumerate(images):
            # The key decides TFDS's order, so it has to be the one of TFDS's own builder.
            yield (
                index,
                {
                    "id": f"{split}_{index:05d}",
                    "image": encode_png(image),
                    **{feature: int(values[index]) for feature, values in labels.items()},
                },
            )


class Cifar100(Cifar10, tfds_cifar.Cifar100, skip_registration=True):
    """TFDS's cifar100, from an archive instead of its own download."""
