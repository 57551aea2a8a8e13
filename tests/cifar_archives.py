"""Archives of CIFAR with a few records a file, the script that prepares sets, and its results."""

import dataclasses
import hashlib
import io
import pathlib
import struct
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cifar_cnn.datasets import archive
from scripts import prepare_data

RECORDS = {"train": 12, "test": 8}
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer"]
CIFAR10_NAMES += ["dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(autouse=True)
def small_archives(monkeypatch):
    """Archives in the true formats, but with a few records a file."""
    small = tuple(dataclasses.replace(f, records=RECORDS) for f in archive.FLAVOURS)
    monkeypatch.setattr(archive, "FLAVOURS", small)


@pytest.fixture
def publish(small_archives, monkeypatch):
    """A function that makes the members of an archive the published ones, by their md5s."""

    def publish(members: dict[str, bytes]) -> dict[str, bytes]:
        md5s = {name: hashlib.md5(data).hexdigest() for name, data in members.items()}
        published = tuple(
            dataclasses.replace(
                f, member_md5s={n: md5s.get(f"{f.folder}/{n}", old) for n, old in known.items()}
            )
            for f in archive.FLAVOURS
            for known in [f.member_md5s]
        )
        monkeypatch.setattr(archive, "FLAVOURS", published)
        return members

    return publish


def flavour(name: str) -> archive.Flavour:
    return next(f for f in archive.FLAVOURS if f.archive == f"{name}.tar.gz")


def python2_pickle(value) -> bytes:
    """Protocol 2 as Python 2 writes it, with 8-bit strings and numpy's old module names."""

    def dump(value) -> bytes:
        if value is None:
            return b"N"
        if isinstance(value, bool):
            return b"\x88" if value else b"\x89"
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        if isinstance(value, bytes):
            return b"T" + struct.pack("<i", len(value)) + value
        if isinstance(value, tuple):
            return b"(" + b"".join(map(dump, value)) + b"t"
        if isinstance(value, list):
            return b"](" + b"".join(map(dump, value)) + b"e"
        if isinstance(value, dict):
            return b"}(" + b"".join(dump(k) + dump(v) for k, v in value.items()) + b"u"
        dtype = b"cnumpy\ndtype\n" + dump((b"u1", 0, 1)) + b"R"
        dtype += dump((3, b"|", None, None, None, -1, -1, 0)) + b"b"
        empty = b"cnumpy.core.multiarray\n_reconstruct\n"
        empty += b"(cnumpy\nndarray\n" + dump((0,)) + dump(b"b") + b"tR"
        state = b"(" + dump(1) + dump(value.shape) + dtype + dump(False) + dump(value.tobytes())
        return empty + state + b"tb"

    return b"\x80\x02" + dump(value) + b"."


def label_names(count: int) -> list[bytes]:
    return (
        [n.encode() for n in CIFAR10_NAMES] if count == 10 else [b"c%d" % i for i in range(count)]
    )


def synthetic_files(layout: archive.Flavour, dump=python2_pickle) -> dict[str, bytes]:
    """The members of an archive; the same images and labels in the python and binary flavour."""
    rng = np.random.default_rng(7)
    members = {}
    for split, files in layout.files.items():
        for file in files:
            count = layout.records[split]
            pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
            labels = {k: rng.integers(0, n, count, np.uint8) for k, n in layout.labels.items()}
            if layout.meta:
                batch = {b"batch_label": b"a batch", b"data": pixels}
                batch |= {layout.keys[k].encode(): v.tolist() for k, v in labels.items()}
                batch[b"filenames"] = [b"x.png"] * count
                members[file] = dump(batch)
            else:
                columns = [v[:, None] for v in labels.values()]
                members[file] = np.concatenate([*columns, pixels], axis=1).tobytes()
    names = {layout.names[key]: label_names(count) for key, count in layout.labels.items()}
    if layout.meta:
        members[layout.meta] = dump({k.encode(): v for k, v in names.items()})
    else:
        members |= {file: b"\n".join(lines) + b"\n\n" for file, lines in names.items()}
    return {f"{layout.folder}/{name}": data for name, data in members.items()}


def write_tar(path: pathlib.Path, members: dict[str, bytes], mode: str = "w:gz") -> pathlib.Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def examples(data_dir, name: str) -> dict[str, list[dict]]:
    """Everything in a prepared set, read with plain TFDS."""
    builder = tfds.builder(name, data_dir=data_dir)
    return {split: list(builder.as_data_source(split)) for split in ("train", "test")}


def same(one: list[dict], other: list[dict]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
        for a, b in zip(one, other, strict=True)
    )


def run(*flags: str) -> int:
    return prepare_data.main([str(flag) for flag in flags])


def one_error(capsys) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]
