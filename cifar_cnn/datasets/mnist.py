"""MNIST and its relatives as TFDS defines them, generated without TensorFlow."""

import gzip
import os
import struct
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from tensorflow_datasets.image_classification import mnist as tfds_mnist

from cifar_cnn.checks import MachineError
from cifar_cnn.datasets.png import encode_png

_SIDE = 28


class _NoExtraction:
    """A download manager that leaves archives as they are: TFDS unpacks them with TensorFlow."""

    def __init__(self, dl_manager: Any):
        self.download_and_extract = dl_manager.download

    def extract(self, paths: Any) -> Any:
        return paths


class _FromIdx:
    """Reads the .gz files in which all of these sets come."""

    # TFDS would look for them beside this file; its own table of all sets has them too.
    url_infos = None

    def _split_generators(self, dl_manager: Any) -> Any:
        return super()._split_generators(_NoExtraction(dl_manager))

    def _generate_examples(
        self, num_examples: int, data_path: os.PathLike, label_path: os.PathLike
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        images = read_idx(data_path, (num_examples, _SIDE, _SIDE))
        labels = read_idx(label_path, (num_examples,))
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            # The key decides TFDS's order, so it has to be the one of TFDS's own builder.
            yield index, {"image": encode_png(image[..., None]), "label": int(label)}


class MNIST(_FromIdx, tfds_mnist.MNIST, skip_registration=True):
    """TFDS's mnist."""


class FashionMNIST(_FromIdx, tfds_mnist.FashionMNIST, skip_registration=True):
    """TFDS's fashion_mnist."""


class KMNIST(_FromIdx, tfds_mnist.KMNIST, skip_registration=True):
    """TFDS's kmnist."""


class EMNIST(_FromIdx, tfds_mnist.EMNIST, skip_registration=True):
    """TFDS's emnist, whose .gz files lie in one .zip."""


def read_idx(path: str | os.PathLike, shape: tuple[int, ...]) -> np.ndarray:
    """Reads a gzipped file of unsigned bytes in the format of the MNIST authors.

    Args:
        path: a .gz file; or 'A.zip/MEMBER' for one in an archive A.zip.
        shape: that the header has to give.

    Returns:
        uint8 array of that shape.

    Raises:
        MachineError: the file is damaged; its checksum was right when it was downloaded.
    """
    header = struct.pack(f">HBB{len(shape)}I", 0, 0x08, len(shape), *shape)
    size = len(header) + int(np.prod(shape))
    try:
        with _open(os.fspath(path)) as packed, gzip.GzipFile(fileobj=packed) as file:
            data = file.read(size + 1)
    except OSError as error:
        if not isinstance(error, gzip.BadGzipFile):
            raise
        raise MachineError(f"{path} is damaged ({error}); delete it and try again") from error
    except Exception as error:  # Of zlib and zipfile: of what they meet in damaged bytes.
        raise MachineError(f"{path} is damaged ({error}); delete it and try again") from error
    if len(data) != size or data[: len(header)] != header:
        raise MachineError(f"{path} does not hold bytes of shape {shape}; delete it and try again")
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


def _open(path: str) -> BinaryIO:
    """Opens a file, or a member of the .zip that is one of its parents."""
    archive, inner = path, ""
    while archive and not os.path.exists(archive):
        archive, last = os.path.split(archive)
        inner = f"{last}/{inner}".rstrip("/")
    if not inner:
        return open(path, "rb")
    with zipfile.ZipFile(archive) as zipped:
        return zipped.open(inner)
