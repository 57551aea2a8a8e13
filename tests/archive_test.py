"""CIFAR's archives: what is prepared from them, and how damaged and hostile ones are refused."""

import dataclasses
import gzip
import hashlib
import pickle
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cifar_cnn.datasets import archive
from tests import cifar_archives
from tests.cifar_archives import (
    CIFAR10_NAMES,
    RECORDS,
    examples,
    flavour,
    one_error,
    python2_pickle,
    run,
    same,
    synthetic_files,
    write_tar,
)

small_archives = cifar_archives.small_archives  # For every test here.
publish = cifar_archives.publish
PUBLISHED = archive.FLAVOURS


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_python_and_binary_archives_give_the_same_set(name, publish, tmp_path, capsys):
    dashed = name.replace("cifar", "cifar-")
    prepared = {}
    for kind in ("python", "binary"):
        layout = flavour(f"{dashed}-{kind}")
        # The file's name says nothing, its contents everything.
        path = write_tar(tmp_path / f"{kind}.download", publish(synthetic_files(layout)))
        assert run(f"--archive={path}", f"--data_dir={tmp_path / kind}") == 0
        out = capsys.readouterr().out
        assert f"warning: {path} is not the published {layout.archive}" in out
        prepared[kind] = examples(tmp_path / kind, name)
        assert [p.name for p in (tmp_path / kind).iterdir()] == [name]
    assert same(prepared["python"]["train"], prepared["binary"]["train"])
    assert same(prepared["python"]["test"], prepared["binary"]["test"])
    assert len(prepared["python"]["train"]) == RECORDS["train"] * len(layout.files["train"])


def test_prepared_set_holds_the_records_in_tfds_order(tmp_path):
    layout = flavour("cifar-10-binary")
    members = synthetic_files(layout)
    path = write_tar(tmp_path / "a.tar.gz", members)
    assert run(f"--archive={path}", f"--data_dir={tmp_path}") == 0
    raw = b"".join(members[f"{layout.folder}/{file}"] for file in layout.files["train"])
    records = np.frombuffer(raw, np.uint8).reshape(-1, 3073)
    builder = tfds.builder("cifar10", data_dir=tmp_path)
    assert builder.info.features["label"].names == CIFAR10_NAMES
    assert set(builder.info.features) == {"id", "image", "label"}
    ids = []
    for example in builder.as_data_source("train"):
        ids.append(example["id"].decode())
        record = records[int(ids[-1].removeprefix("train_"))]
        assert example["label"] == record[0]
        np.testing.assert_array_equal(
            example["image"], record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
        )
    # TFDS sorts by the md5 of split and key, and its own builder's key is the index.
    digests = [hashlib.md5(f"train{i}".encode()).hexdigest() for i in range(len(records))]
    order = sorted(range(len(records)), key=digests.__getitem__)
    assert ids == [f"train_{i:05d}" for i in order]


def test_plain_tar_and_leading_dots_are_read(tmp_path, capsys):
    members = synthetic_files(flavour("cifar-10-binary"))
    members = {f"./{name}": data for name, data in members.items()} | {"./readme.html": b"hello"}
    path = write_tar(tmp_path / "a.tar", members, mode="w")
    assert archive.read(path).name == "cifar10"


def test_the_published_md5_gives_no_warning(tmp_path, capsys, monkeypatch):
    path = write_tar(tmp_path / "a.tar.gz", synthetic_files(flavour("cifar-10-binary")))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    published = tuple(dataclasses.replace(f, md5=md5) for f in archive.FLAVOURS)
    monkeypatch.setattr(archive, "FLAVOURS", published)
    archive.read(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("layout", PUBLISHED, ids=lambda layout: layout.archive)
def test_archives_of_the_true_size_are_read(layout, publish, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FLAVOURS", PUBLISHED)
    blank = {count: np.zeros((count, 3072), np.uint8) for count in layout.records.values()}
    members = synthetic_files(dataclasses.replace(layout, records=RECORDS))
    for split, files in layout.files.items():
        count = layout.records[split]
        for file in files:
            if layout.meta:
                batch = {key.encode(): [3] * count for key in layout.keys.values()}
                data = python2_pickle(batch | {b"data": blank[count]})
            else:
                data = bytes([3] * len(layout.labels) + [0] * 3072) * count
            members[f"{layout.folder}/{file}"] = data
    contents = archive.read(write_tar(tmp_path / "a.tar", publish(members), mode="w"))
    assert contents.name == layout.name
    assert {s: images.shape for s, (images, _) in contents.splits.items()} == {
        "train": (50_000, 32, 32, 3),
        "test": (10_000, 32, 32, 3),
    }
    assert set(contents.splits["test"][1]) == set(layout.labels)


@pytest.mark.parametrize("name", ["cifar-10-python", "cifar-100-python"])
def test_each_pickle_has_to_be_the_published_one(name, publish, tmp_path):
    layout = flavour(name)
    members = publish(synthetic_files(layout))
    path = tmp_path / "a.tar.gz"
    for member in members:
        write_tar(path, members | {member: members[member] + b"\n"})
        with pytest.raises(ValueError, match=f"{member.rsplit('/')[-1]} is not the published file"):
            archive.read(path)
    # Other files in it do not matter, nor does the way it is packed.
    path = write_tar(tmp_path / "a.tar", members | {f"{layout.folder}/readme": b"x"}, mode="w")
    assert archive.read(path).name == layout.name


def broken_members(kind: str) -> dict[str, bytes]:
    layout = flavour("cifar-10-binary")
    members = synthetic_files(layout)
    batch = f"{layout.folder}/data_batch_4.bin"
    if kind == "label out of range":
        members[batch] = b"\x0a" + members[batch][1:]
    elif kind == "record cut off":
        members[batch] = members[batch][:-1]
    elif kind == "file missing":
        del members[batch]
    elif kind == "names missing":
        members[f"{layout.folder}/batches.meta.txt"] = b"airplane\n"
    elif kind == "too large":
        members[batch] = bytes(1 << 20)
    elif kind == "other files":
        members = {"photos/1.jpg": b"jpeg"}
    elif kind == "path out of the archive":
        members[f"{layout.folder}/../../evil"] = b"evil"
    elif kind == "absolute path":
        members["/tmp/evil"] = b"evil"
    return members


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("label out of range", "data_batch_4.bin has label 10, expected 0 to 9"),
        ("record cut off", "data_batch_4.bin has 36,875 bytes, expected 36,876"),
        ("file missing", "cifar-10-batches-bin/data_batch_4.bin is missing"),
        ("names missing", "batches.meta.txt has 1 different class names, expected 10"),
        ("too large", "has 1,048,576 bytes, expected at most"),
        ("other files", "none of the CIFAR files is in it"),
        ("path out of the archive", "points out of the archive"),
        ("absolute path", "points out of the archive"),
    ],
)
def test_broken_archive_is_one_line(kind, words, tmp_path, capsys):
    path = write_tar(tmp_path / "a.tar.gz", broken_members(kind))
    assert run(f"--archive={path}", f"--data_dir={tmp_path / 'data'}") == 2
    message = one_error(capsys)
    assert str(path) in message
    assert words in message
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "\ud800"])
def test_class_names_that_no_line_can_hold_are_refused(name, publish, tmp_path, capsys):
    layout = flavour("cifar-10-python")
    names = [name, *CIFAR10_NAMES[1:]]
    members = synthetic_files(layout)
    members[f"{layout.folder}/{layout.meta}"] = pickle.dumps({"label_names": names}, protocol=2)
    path = write_tar(tmp_path / "a.tar.gz", publish(members))
    assert run(f"--archive={path}", f"--data_dir={tmp_path / 'data'}") == 2
    message = one_error(capsys)
    assert f"label_names has the class name {name!r}, expected printable" in message
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind, tmp_path):
    path = write_tar(tmp_path / "a.tar", synthetic_files(flavour("cifar-10-binary")), mode="w")
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("cifar-10-batches-bin/link")
        link.type, link.linkname = kind, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ValueError, match="is a link or device"):
        archive.read(path)


def test_damaged_files_are_one_line(tmp_path, capsys):
    whole = write_tar(tmp_path / "a.tar.gz", synthetic_files(flavour("cifar-10-binary")))
    data = whole.read_bytes()
    flipped = bytearray(data)
    flipped[-6] ^= 1  # In gzip's checksum, behind the end of the tar.
    damaged = {
        "cut.tar.gz": data[: len(data) // 2],
        "almost.tar.gz": data[:-4],
        "flipped.tar.gz": bytes(flipped),
        "empty.tar.gz": b"",
        "text.tar.gz": b"<html>404 not found</html>" * 50,
        "cut.tar": gzip.decompress(data)[:100_000],
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        assert run(f"--archive={tmp_path / name}", f"--data_dir={tmp_path / 'data'}") == 2, name
        assert name in one_error(capsys)
    assert run(f"--archive={tmp_path / 'none'}") == 2
    assert "No such file" in one_error(capsys)
    assert run(f"--archive={tmp_path}") == 2
    assert "Is a directory" in one_error(capsys)


def test_decompression_bomb_stops_early(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_MAX_ARCHIVE_BYTES", 1 << 20)
    path = write_tar(tmp_path / "a.tar.gz", {"zeros": bytes(4 << 20)})
    with pytest.raises(ValueError, match="more than 1 MiB when unpacked"):
        archive.read(path)
