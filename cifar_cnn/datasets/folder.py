"""A folder of pictures as a data set: the same face as a prepared TFDS builder.

Nothing is copied: the pictures are read when `data.load_arrays` asks for a split that its cache
does not have.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import types
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cifar_cnn import files
from cifar_cnn.checks import MachineError, UsageError, printable
from cifar_cnn.datasets.contents import read_contents
from cifar_cnn.datasets.layout import Layout, Picture, in_short, read_layout
from cifar_cnn.datasets.reading import READER, Progress, check_memory
from cifar_cnn.images import NotInstalledError, read_image


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """As much of a TFDS builder as this project reads, for a folder of pictures.

    Attributes:
      layout: its classes and files.
      digests: split -> of the files' contents.
      image_shape: (H, W, C) that pictures are brought to.
      fit: how, see `images.read_image`.
      cache_dir: where the lists of files and of faults are written.
      say: told in one line what is found.
    """

    layout: Layout
    digests: dict[str, str]
    image_shape: tuple[int, int, int]
    fit: str
    cache_dir: pathlib.Path
    say: Callable[[str], None]

    @property
    def data_path(self) -> str:
        """The folder, for messages."""
        return printable(self.layout.folder)

    @property
    def info(self) -> types.SimpleNamespace:
        """Name, splits, features and supervised keys as in `tfds.core.DatasetInfo`."""
        name = f"folder:{printable(self.layout.folder.name)[:60]}"
        label = types.SimpleNamespace(
            names=list(self.layout.class_names), num_classes=len(self.layout.class_names)
        )
        return types.SimpleNamespace(
            name=name,
            full_name=name,
            supervised_keys=("image", "label"),
            features={"image": types.SimpleNamespace(shape=self.image_shape), "label": label},
            splits={
                split: types.SimpleNamespace(num_examples=len(pictures))
                for split, pictures in self.layout.splits.items()
            },
        )

    def fingerprint(self, *splits: str) -> str:
        """Eight hex digits of what the given splits are as arrays; of others, nothing."""
        parts = [self.digests[split] for split in splits if split in self.digests]
        about = [READER, self.image_shape, self.fit, parts]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:8]

    def as_data_source(self, split: str) -> list[dict[str, np.ndarray | int]]:
        """Reads all pictures of a split; files that are no pictures are said and left out.

        Returns:
          One {'image': uint8 [H, W, C], 'label': int} a picture, sorted by class and name.

        Raises:
          UsageError: no picture of a class of the training part can be read, or none at all;
            more pixels than the machine's memory holds; a picture that takes a package which is
            not installed.
        """
        pictures = self.layout.splits[split]
        # Each twice: as they are read, and in one array.
        check_memory(len(pictures), self.image_shape, copies=2)
        examples, kept, faults = [], [], []
        for picture, image in zip(pictures, self._read(split, pictures), strict=True):
            if isinstance(image, UsageError):
                faults.append((picture, image))
            else:
                examples.append({"image": image, "label": picture.label})
                kept.append(picture)
        read = {picture.label for picture in kept}
        needed = range(len(self.layout.class_names)) if split == "train" else ()
        lost = [self.layout.class_names[label] for label in needed if label not in read]
        if lost or not kept:
            names = self.layout.class_names
            reason = next(e for p, e in faults if not lost or names[p.label] == lost[0])
            raise UsageError(
                f"no file of {in_short(lost) or split} in {self.data_path} is a picture that can "
                f"be read: {reason}"
            )
        folder = self._lists(split)
        files.write_text(folder / "files.txt", _lines(printable(p.name) for p in kept))
        if faults:
            files.write_text(folder / "left_out.txt", _lines(str(fault) for _, fault in faults))
            names = [printable(picture.name) for picture, _ in faults]
            self.say(
                f"note: {len(faults):,} of {len(pictures):,} files of {split} left out, as they "
                f"cannot be read: {in_short(names)}; reasons in "
                f"{printable(folder / 'left_out.txt')}"
            )
        return examples

    def file_names(self, split: str) -> list[str]:
        """The file of each row of a split that was loaded: 'CLASS/.../FILE'.

        Raises:
          MachineError: the list is gone from the cache.
        """
        path = self._lists(split) / "files.txt"
        try:
            return path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise MachineError(
                f"{path} cannot be read: {reason}; delete {self.cache_dir / 'arrays'}, and the "
                "pictures are read anew"
            ) from error

    def _lists(self, split: str) -> pathlib.Path:
        """Where the files of a split, in the order of its rows, and those left out are listed."""
        name = re.sub(r"[^\w.-]", "-", self.info.name, flags=re.ASCII)
        return self.cache_dir / "folders" / f"{name}-{self.fingerprint(split)}" / split

    def notes(self) -> Iterator[str]:
        """What an earlier start left out, one line a split."""
        for split, pictures in self.layout.splits.items():
            path = self._lists(split) / "left_out.txt"
            if path.is_file():
                count = len(path.read_bytes().splitlines())
                yield (
                    f"note: {count:,} of {len(pictures):,} files of {split} left out, as they "
                    f"cannot be read: see {printable(path)}"
                )

    def _read(self, split: str, pictures: Sequence[Picture]) -> Iterator[np.ndarray | UsageError]:
        """The pixels of each picture, or why there are none."""
        progress = Progress(split, len(pictures), self.say)
        for count, picture in enumerate(pictures):
            try:
                yield read_image(picture.path, image_shape=self.image_shape, fit=self.fit)
            except NotInstalledError:  # Else the examples would depend on what is installed.
                raise
            except UsageError as error:
                yield error
            progress.read(count + 1)


def open_folder(
    folder: str | os.PathLike,
    *,
    image_shape: tuple[int, int, int],
    fit: str,
    cache_dir: str | os.PathLike,
    say: Callable[[str], None] = print,
) -> ImageFolder:
    """Opens a folder of pictures as a data set.

    Args:
      folder: FOLDER/CLASS/picture.jpg, or FOLDER/train/CLASS/picture.jpg with val/ and test/
        beside train/; see `layout.read_layout`.
      image_shape: (H, W, C) that all pictures are brought to; C is 3 (RGB) or 1 (grey).
      fit: 'crop', 'pad' or 'stretch', see `images.read_image`.
      cache_dir: a directory that may be written.
      say: told, one line each, which files are odd.

    Raises:
      UsageError: see `layout.read_layout`.
      MachineError: the cache cannot be written.
    """
    layout = read_layout(folder)
    contents = read_contents(layout, cache_dir, say)
    opened = ImageFolder(
        layout, contents.digests, tuple(image_shape), fit, pathlib.Path(cache_dir), say
    )
    for note in (*layout.notes, *contents.notes, *opened.notes()):
        say(note)
    return opened


def _lines(values: Iterator[str]) -> str:
    return "".join(f"{value}\n" for value in values)
