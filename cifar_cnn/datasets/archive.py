"""The four published CIFAR archives, read in memory and checked piece by piece.

Nothing is unpacked to disk, no size is taken on trust, and only pickles whose bytes are known are
unpickled.
"""

import dataclasses
import functools
import gzip
import hashlib
import itertools
import os
import posixpath
import tarfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from cifar_cnn.checks import MachineError, UsageError, printable, shown
from cifar_cnn.datasets import unpickle
from cifar_cnn.datasets.flavours import FLAVOURS, Flavour

_PIXELS = 3 * 32 * 32
_MAX_ARCHIVE_BYTES = 320 << 20  # Unpacked; the published ones take 185 MB.


@dataclasses.dataclass(frozen=True)
class Contents:
    """What an archive holds.

    Attributes:
        name: of the TFDS data set.
        label_names: TFDS feature -> class names.
        splits: split -> (images uint8 [N, 32, 32, 3], TFDS feature -> labels uint8 [N]).
    """

    name: str
    label_names: dict[str, list[str]]
    splits: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]


def read(path: str | os.PathLike, say: Callable[[str], None] = print) -> Contents:
    """Reads one of the CIFAR archives, recognised by what is inside.

    Args:
        path: a .tar.gz, or the .tar that some browsers make of it.
        say: receives a warning if it is not, byte for byte, the published file.

    Raises:
        UsageError: no such file, not a whole and well-formed CIFAR archive, or pickles that are not
            the published ones.
        MachineError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            file.seek(0)
            members = _read_members(path, file)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise UsageError(
            f"cannot open the archive {path}: {error.strerror}; give --archive the path of a "
            f"CIFAR archive ({_published()})"
        ) from error
    except UsageError:
        raise
    except OSError as error:
        if not isinstance(error, gzip.BadGzipFile):
            raise MachineError(f"cannot read the archive {path}: {error}") from error
        raise _bad(path, f"not a whole .tar.gz file ({error})") from error
    except Exception as error:  # Of tarfile, zlib, or what damaged headers make of int().
        reason = str(error) or type(error).__name__
        raise _bad(path, f"not a whole .tar.gz file ({reason})") from error

    flavour = next((f for f in FLAVOURS if any(n.startswith(f.folder) for n in members)), None)
    if flavour is None:
        raise _bad(path, "none of the CIFAR files is in it")
    if flavour.meta:
        _check_known(path, flavour, members)
    contents = _parse(path, flavour, members)
    if md5 != flavour.md5:
        right = "the files in it are" if flavour.meta else "its structure is right"
        say(
            f"warning: {printable(path)} is not the published {flavour.archive} (md5 {md5}, "
            f"expected {flavour.md5}); {right}, so it is used"
        )
    return contents


def _check_known(path: str | os.PathLike, flavour: Flavour, members: dict[str, bytes]) -> None:
    """Raises UsageError unless every pickle of an archive is, to the byte, the published one."""
    for name in (flavour.meta, *itertools.chain(*flavour.files.values())):
        data = _member(path, flavour, members, name)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if md5 != flavour.member_md5s[name]:
            raise UsageError(
                f"{path}: {name} is not the published file (md5 {md5}), and unknown pickles are "
                f"not opened, because they can run code; get the file again, {flavour.archive} as "
                f"published, or give the binary version"
            )


def _member(
    path: str | os.PathLike, flavour: Flavour, members: dict[str, bytes], name: str
) -> bytes:
    try:
        return members[posixpath.join(flavour.folder, name)]
    except KeyError:
        raise _bad(path, f"{flavour.folder}/{name} is missing") from None


def _published() -> str:
    return ", ".join(flavour.archive for flavour in FLAVOURS)


def _bad(path: str | os.PathLike, reason: str) -> UsageError:
    return UsageError(f"{path}: {reason}; get the file again, one of {_published()}")


class _Bounded:
    """A stream that refuses to deliver more than `limit` bytes: no decompression bombs."""

    def __init__(self, stream: BinaryIO, limit: int, refusal: Exception):
        self._stream = stream
        self._left = limit
        self._refusal = refusal

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise self._refusal
        return data


def _read_members(path: str | os.PathLike, file: BinaryIO) -> dict[str, bytes]:
    """Returns the members that belong to a CIFAR archive, by name."""
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    largest = {}  # Pickles are a little larger than the records they hold.
    for flavour in FLAVOURS:
        for split, files in flavour.files.items():
            limit = flavour.records[split] * (_PIXELS + 200) + (1 << 16)
            largest |= {posixpath.join(flavour.folder, name): limit for name in files}
        for name in [flavour.meta] if flavour.meta else flavour.names.values():
            largest[posixpath.join(flavour.folder, name)] = 1 << 16

    too_large = _bad(path, f"more than {_MAX_ARCHIVE_BYTES >> 20} MiB when unpacked")
    plain = gzip.GzipFile(fileobj=file) if zipped else file
    stream = _Bounded(plain, _MAX_ARCHIVE_BYTES, too_large)
    members = {}
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            name = posixpath.normpath(member.name)
            if name.startswith(("/", "..")):
                raise _bad(path, f"member {member.name!r} points out of the archive")
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise _bad(path, f"member {member.name!r} is a link or device, expected a file")
            if name not in largest:
                continue
            if name in members:
                raise _bad(path, f"member {member.name!r} occurs twice")
            if member.size > largest[name]:
                raise _bad(
                    path,
                    f"member {member.name!r} has {member.size:,} bytes, expected at most "
                    f"{largest[name]:,}",
                )
            members[name] = tar.extractfile(member).read()
    while stream.read(1 << 20):  # To the end, where gzip compares its checksum.
        pass
    return members


def _parse(path: str | os.PathLike, flavour: Flavour, members: dict[str, bytes]) -> Contents:
    member = functools.partial(_member, path, flavour, members)
    parse_file = _parse_pickle if flavour.meta else _parse_binary
    try:
        label_names = _label_names(flavour, member)
        splits = {}
        for split, files in flavour.files.items():
            parts = [parse_file(name, member(name), flavour, split) for name in files]
            images = np.concatenate([part[0] for part in parts])
            labels = {key: np.concatenate([part[1][key] for part in parts]) for key in parts[0][1]}
            splits[split] = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels
    except _Malformed as error:
        raise _bad(path, str(error)) from error
    return Contents(flavour.name, label_names, splits)


class _Malformed(Exception):
    """Says what is wrong with a member."""


def _label_names(flavour: Flavour, member: Callable[[str], bytes]) -> dict[str, list[str]]:
    if flavour.meta:
        meta = _load_pickle(flavour.meta, member(flavour.meta))
        lines = {key: meta.get(source.encode()) for key, source in flavour.names.items()}
    else:
        lines = {key: member(source).splitlines() for key, source in flavour.names.items()}
    label_names = {}
    for key, count in flavour.labels.items():
        raw = lines[key] if isinstance(lines[key], list) else []
        raw = [name for name in raw if isinstance(name, bytes | str) and name.strip()]
        names = [n.decode("ascii", "replace") if isinstance(n, bytes) else n for n in raw]
        names = [name.strip() for name in names]
        for name in names:  # TFDS writes them into a file, one a line.
            if not name.isprintable():
                raise _Malformed(
                    f"{flavour.names[key]} has the class name {shown(name)}, expected printable "
                    "characters"
                )
        if len(set(names)) != count or len(names) != count:
            raise _Malformed(
                f"{flavour.names[key]} has {len(set(names))} different class names, "
                f"expected {count}"
            )
        label_names[key] = names
    return label_names


def _parse_binary(
    name: str, data: bytes, flavour: Flavour, split: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns pixels uint8 [N, 3072] and the labels of a file of fixed-size records."""
    width = len(flavour.labels) + _PIXELS
    count = flavour.records[split]
    if len(data) != count * width:
        raise _Malformed(
            f"{name} has {len(data):,} bytes, expected {count * width:,} ({count:,} records of "
            f"{width})"
        )
    records = np.frombuffer(data, np.uint8).reshape(count, width)
    labels = {
        key: _check_labels(name, records[:, column], classes)
        for column, (key, classes) in enumerate(flavour.labels.items())
    }
    return records[:, len(flavour.labels) :], labels


def _parse_pickle(
    name: str, data: bytes, flavour: Flavour, split: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns pixels uint8 [N, 3072] and the labels of a pickled batch."""
    batch = _load_pickle(name, data)
    count = flavour.records[split]
    pixels = batch.get(b"data")
    if not isinstance(pixels, np.ndarray) or pixels.shape != (count, _PIXELS):
        raise _Malformed(
            f"{name} has images of shape {getattr(pixels, 'shape', None)}, expected "
            f"({count}, {_PIXELS})"
        )
    labels = {}
    for key, classes in flavour.labels.items():
        values = batch.get(flavour.keys[key].encode())
        if not isinstance(values, list) or len(values) != count:
            got = len(values) if isinstance(values, list) else "no"
            raise _Malformed(f"{name} has {got} {flavour.keys[key]}, expected {count}")
        if not all(type(value) is int for value in values):
            raise _Malformed(f"{name} has {flavour.keys[key]} that are not integers")
        labels[key] = _check_labels(name, np.array(values), classes).astype(np.uint8)
    return pixels, labels


def _load_pickle(name: str, data: bytes) -> dict[bytes, Any]:
    try:
        return unpickle.loads(data)
    except unpickle.MalformedError as error:
        raise _Malformed(f"{name} {error}") from error


def _check_labels(name: str, labels: np.ndarray, classes: int) -> np.ndarray:
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise _Malformed(f"{name} has label {wrong}, expected 0 to {classes - 1}")
    return labels
