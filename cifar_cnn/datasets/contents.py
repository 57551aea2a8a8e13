"""What the files of a folder of pictures hold: digests by which it is known again.

A changed name, size or time of change is noticed at every start from the listing alone, without
opening a file. Only then are the files read, and the digests of their contents decide: so a copy
of the folder, or one whose files were only touched, is still the same data. A file that changes
but keeps its size and its time of change, to the nanosecond, is not noticed.
"""

import collections
import dataclasses
import hashlib
import json
import os
import pathlib
import stat
from collections.abc import Callable, Iterator

from cifar_cnn import files
from cifar_cnn.checks import printable
from cifar_cnn.datasets.layout import Layout, in_short
from cifar_cnn.images import MAX_BYTES

_SIZE = "size "  # Begins what stands for the digest of a file that is not read.


@dataclasses.dataclass(frozen=True)
class Contents:
    """Attributes:
    digests: split -> hex digest of the names, labels and bytes of its files.
    notes: about identical files, one line each.
    """

    digests: dict[str, str]
    notes: tuple[str, ...]


def read_contents(
    layout: Layout, cache_dir: str | os.PathLike, say: Callable[[str], None]
) -> Contents:
    """Returns the digests of a folder; reads its files only if the listing is a new one.

    Raises:
      MachineError: the cache cannot be written.
    """
    listing = hashlib.sha256(layout_key(layout)).hexdigest()
    known = pathlib.Path(cache_dir) / "folders" / f"{listing[:32]}.json"
    try:
        saved = json.loads(known.read_text(encoding="utf-8"))
        contents = Contents(dict(saved["digests"]), tuple(saved["notes"]))
        texts = (*contents.digests.values(), *contents.notes)
        if contents.digests.keys() == layout.splits.keys() and all(map(str.isprintable, texts)):
            return contents
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # Damaged, or not there: the files are read.
    count = sum(len(pictures) for pictures in layout.splits.values())
    say(f"reading {count:,} files of {printable(layout.folder)}, to know them again")
    digests = {
        split: [_file_digest(picture.path) for picture in pictures]
        for split, pictures in layout.splits.items()
    }
    contents = Contents(
        {split: _split_digest(layout, split, digests[split]) for split in layout.splits},
        tuple(_identical(layout, digests)),
    )
    # What cannot be opened now may be opened later, with the same size and time.
    if all(digest for split in digests.values() for digest in split):
        files.write_text(known, json.dumps(dataclasses.asdict(contents), indent=2) + "\n")
    return contents


def layout_key(layout: Layout) -> bytes:
    """Bytes that differ wherever two listings do."""
    about = [
        (split, picture.label, picture.name, picture.size, picture.mtime)
        for split, pictures in layout.splits.items()
        for picture in pictures
    ]
    return json.dumps([str(layout.folder), layout.class_names, about]).encode()


def _file_digest(path: str) -> str:
    """Hex digest of a file's bytes; '' if it cannot be read; of one that `images.read_image`
    refuses for its size, that size."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):  # It was, when it was listed.
            return ""
        if about.st_size > MAX_BYTES:  # Perhaps a terabyte of nothing.
            return f"{_SIZE}{about.st_size}"
        if not about.st_size:  # So are those of /proc that never end.
            return hashlib.sha256().hexdigest()
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _split_digest(layout: Layout, split: str, digests: list[str]) -> str:
    about = [
        (picture.label, picture.name, digest)
        for picture, digest in zip(layout.splits[split], digests, strict=True)
    ]
    return hashlib.sha256(json.dumps([layout.class_names, about]).encode()).hexdigest()


def _identical(layout: Layout, digests: dict[str, list[str]]) -> Iterator[str]:
    """Notes on files that are there twice, byte for byte, where that spoils a result."""
    places = collections.defaultdict(list)
    for split, pictures in layout.splits.items():
        for picture, digest in zip(pictures, digests[split], strict=True):
            if digest and not digest.startswith(_SIZE):
                places[digest].append((split, picture))
    repeated = [found for found in places.values() if len(found) > 1]
    train = [[p for split, p in found if split == "train"] for found in repeated]

    for split in ("validation", "test"):
        shared = [
            f"{printable(p.name)} = {printable(in_train[0].name)}"
            for found, in_train in zip(repeated, train, strict=True)
            for where, p in found
            if where == split and in_train
        ]
        if shared:
            yield (
                f"note: byte for byte the same as a training picture, which makes {split} "
                f"accuracy too high: {len(shared):,} of {len(layout.splits[split]):,} {split} "
                f"files, {in_short(shared)}"
            )
    twice = [
        " = ".join(printable(p.name) for p in found[:3])
        for found in train
        if len({p.label for p in found}) > 1
    ]
    if twice:
        yield (
            "note: byte for byte the same training picture in more than one class, "
            f"{len(twice):,} times: {in_short(twice)}"
        )
    again = [
        " = ".join(printable(p.name) for p in found[:3])
        for found in train
        if len(found) > 1 and len({p.label for p in found}) == 1
    ]
    if again and "validation" not in layout.splits:
        yield (
            "note: byte for byte the same training picture more than once, so that a copy may be "
            f"held out for validation, {len(again):,} times: {in_short(again)}"
        )
