import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import io
import os
import pathlib
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo

from cifar_cnn import datasets
from cifar_cnn.checks import MachineError
from cifar_cnn.datasets import archive, cifar, mnist, names, preparing, shapes10
from scripts import prepare_data

ROOT = pathlib.Path(__file__).parent.parent
RECORDS = {"train": 12, "test": 8}
PUBLISHED = archive.FLAVOURS
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer"]
CIFAR10_NAMES += ["dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(autouse=True)
def small_archives(monkeypatch):
    """Archives in the true formats, but with a few records a file."""
    small = tuple(dataclasses.replace(f, records=RECORDS) for f in archive.FLAVOURS)
    monkeypatch.setattr(archive, "FLAVOURS", small)


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


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_python_and_binary_archives_give_the_same_set(name, tmp_path, capsys):
    dashed = name.replace("cifar", "cifar-")
    prepared = {}
    for kind in ("python", "binary"):
        layout = flavour(f"{dashed}-{kind}")
        # The file's name says nothing, its contents everything.
        path = write_tar(tmp_path / f"{kind}.download", synthetic_files(layout))
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


def test_meta_in_protocol_0_and_pickles_of_python_3(tmp_path):
    layout = flavour("cifar-10-python")
    members = synthetic_files(layout, dump=lambda value: pickle.dumps(value, protocol=2))
    names = "".join(f"S'{n}'\na" for n in CIFAR10_NAMES)
    members[f"{layout.folder}/batches.meta"] = f"(dS'label_names'\n(l{names}s.".encode()
    contents = archive.read(write_tar(tmp_path / "a.tar.gz", members))
    assert contents.label_names == {"label": CIFAR10_NAMES}
    expected = archive.read(write_tar(tmp_path / "b.tar.gz", synthetic_files(layout)))
    np.testing.assert_array_equal(contents.splits["train"][0], expected.splits["train"][0])


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
def test_archives_of_the_true_size_are_read(layout, tmp_path, monkeypatch):
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
    contents = archive.read(write_tar(tmp_path / "a.tar", members, mode="w"))
    assert contents.name == layout.name
    assert {s: images.shape for s, (images, _) in contents.splits.items()} == {
        "train": (50_000, 32, 32, 3),
        "test": (10_000, 32, 32, 3),
    }
    assert set(contents.splits["test"][1]) == set(layout.labels)


class Malicious:
    def __reduce__(self):
        return os.system, ("echo ran > $EVIDENCE",)


@pytest.mark.parametrize("member", ["batches.meta", "data_batch_3"])
def test_malicious_pickle_is_refused_and_does_not_run(member, tmp_path, capsys, monkeypatch):
    evidence = tmp_path / "evidence"
    monkeypatch.setenv("EVIDENCE", str(evidence))
    layout = flavour("cifar-10-python")
    members = synthetic_files(layout)
    members[f"{layout.folder}/{member}"] = pickle.dumps(Malicious(), protocol=2)
    path = write_tar(tmp_path / "a.tar.gz", members)
    assert run(f"--archive={path}", f"--data_dir={tmp_path / 'data'}") == 2
    assert f"{member} names posix.system, which no CIFAR file does" in one_error(capsys)
    assert not evidence.exists()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02.",
        b"garbage",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": np.zeros((12, 3072))}, protocol=2),
        pickle.dumps({"data": np.array([print])}, protocol=2),
        python2_pickle({b"data": np.zeros((3, 3072), np.uint8), b"labels": [0] * 3}),
        python2_pickle({b"data": np.zeros((12, 3072), np.uint8), b"labels": [0] * 11}),
        python2_pickle({b"data": np.zeros((12, 3072), np.uint8), b"labels": [b"x"] * 12}),
        python2_pickle({b"data": np.zeros((12, 3072), np.uint8), b"labels": [0] * 11 + [10]}),
        python2_pickle({b"data": np.zeros((12, 3072), np.uint8), b"labels": [-1] * 12}),
        python2_pickle({b"labels": [0] * 12}),
        python2_pickle({b"data": np.zeros((12, 3072), np.uint8)})[:-500],
    ],
)
def test_malformed_pickle_is_one_line(data, tmp_path, capsys):
    layout = flavour("cifar-10-python")
    members = synthetic_files(layout) | {f"{layout.folder}/data_batch_2": data}
    path = write_tar(tmp_path / "a.tar.gz", members)
    assert run(f"--archive={path}", f"--data_dir={tmp_path / 'data'}") == 2
    message = one_error(capsys)
    assert "data_batch_2" in message
    assert "get the file again" in message


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


def test_name_and_archive_have_to_agree(tmp_path, capsys):
    path = write_tar(tmp_path / "a.tar.gz", synthetic_files(flavour("cifar-10-binary")))
    data = tmp_path / "data"
    assert run("--name=cifar100", f"--archive={path}", f"--data_dir={data}") == 2
    assert "--name is 'cifar100', but" in one_error(capsys)
    assert run("--name=mnist", f"--archive={path}", f"--data_dir={data}") == 2
    assert "--archive is for cifar10 and cifar100" in one_error(capsys)
    assert run(f"--data_dir={data}") == 2
    assert "--name=NAME" in one_error(capsys)
    assert not data.exists()
    assert run("--name=cifar10", f"--archive={path}", f"--data_dir={data}") == 0


def test_prepared_set_is_never_overwritten(tmp_path, capsys):
    path = write_tar(tmp_path / "a.tar.gz", synthetic_files(flavour("cifar-10-binary")))
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    assert run(f"--archive={path}", f"--data_dir={tmp_path}") == 2
    assert "holds no prepared data set" in one_error(capsys)
    folder.rmdir()
    assert run(f"--archive={path}", f"--data_dir={tmp_path}") == 0
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert run("--name=cifar10", f"--data_dir={tmp_path}") == 0
    assert "already prepared" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in folder.iterdir()}


def test_unwritable_directory_is_a_machine_fault(tmp_path, capsys):
    (tmp_path / "file").touch()
    path = write_tar(tmp_path / "a.tar.gz", synthetic_files(flavour("cifar-10-binary")))
    assert run(f"--archive={path}", f"--data_dir={tmp_path / 'file' / 'data'}") == 1
    assert "cannot write to" in one_error(capsys)


def test_failure_in_the_middle_leaves_nothing(tmp_path, capsys, monkeypatch):
    def full_disk(image):
        del image
        raise OSError(28, "No space left on device")

    path = write_tar(tmp_path / "a.tar.gz", synthetic_files(flavour("cifar-10-binary")))
    monkeypatch.setattr(cifar, "encode_png", full_disk)
    assert run(f"--archive={path}", f"--data_dir={tmp_path / 'made' / 'data'}") == 1
    assert "No space left on device" in one_error(capsys)
    assert not (tmp_path / "made").exists()


def test_two_processes_at_once(tmp_path, capsys):
    """Both succeed, and the set of the one that was first stays."""
    command = [sys.executable, "scripts/prepare_data.py", "--name=shapes10"]
    command.append(f"--data_dir={tmp_path}")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, cwd=ROOT, env=environment) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert os.listdir(tmp_path) == ["shapes10"]
    assert os.listdir(tmp_path / "shapes10") == ["1.0.0"]
    builder = datasets.make_builder("shapes10", data_dir=str(tmp_path), cache_dir="/nonexistent")
    assert builder.info.splits["train"].num_examples == 5000


@contextlib.contextmanager
def serve(files: dict[str, bytes], *, stall: bool = False):
    """A web server, also as a proxy, of files by name; or one that sends a little and waits."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rsplit("/", 1)[-1]
            if stall:
                self.send_response(200)
                self.send_header("Content-Length", str(1 << 20))
                self.end_headers()
                self.wfile.write(bytes(20_000))
                asked.set()
                with contextlib.suppress(OSError):
                    done.wait()
            elif name in files:
                self.send_response(200)
                self.send_header("Content-Length", str(len(files[name])))
                self.end_headers()
                self.wfile.write(files[name])
                asked.set()
            else:
                self.send_error(404)

        def log_message(self, *args):
            pass

    asked, done = threading.Event(), threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", asked
        finally:
            done.set()
            server.shutdown()
            thread.join()


def idx_files(count: dict[str, int]) -> tuple[dict[str, bytes], dict[str, tuple]]:
    rng = np.random.default_rng(3)
    files, arrays = {}, {}
    for prefix, split in (("train", "train"), ("t10k", "test")):
        images = rng.integers(0, 256, (count[split], 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count[split], dtype=np.uint8)
        arrays[split] = images, labels
        for kind, data in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{data.ndim}I", 0, 8, data.ndim, *data.shape)
            files[f"{prefix}-{kind}-ubyte.gz"] = gzip.compress(header + data.tobytes())
    return files, arrays


@pytest.fixture
def small_mnist(monkeypatch):
    monkeypatch.setattr("tensorflow_datasets.image_classification.mnist._TRAIN_EXAMPLES", 30)
    monkeypatch.setattr("tensorflow_datasets.image_classification.mnist._TEST_EXAMPLES", 20)
    return idx_files({"train": 30, "test": 20})


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_download_of_mnist_and_its_relatives(name, small_mnist, tmp_path, monkeypatch):
    files, arrays = small_mnist
    classes = {"mnist": mnist.MNIST, "fashion_mnist": mnist.FashionMNIST, "kmnist": mnist.KMNIST}
    with serve(files) as (url, _):
        monkeypatch.setattr(classes[name], "URL", url)
        assert run(f"--name={name}", f"--data_dir={tmp_path}") == 0
    for split, (images, labels) in arrays.items():
        prepared = examples(tmp_path, name)[split]
        got = {(e["image"].tobytes(), int(e["label"])) for e in prepared}
        want = {(i.tobytes(), int(n)) for i, n in zip(images, labels, strict=True)}
        assert got == want
        assert prepared[0]["image"].shape == (28, 28, 1)
    # What was downloaded is kept where TFDS finds it: the set can be made again offline.
    (tmp_path / name).rename(tmp_path / "away")
    assert run(f"--name={name}", f"--data_dir={tmp_path}") == 0


def test_emnist_files_are_read_inside_their_zip(tmp_path):
    files, arrays = idx_files({"train": 3, "test": 2})
    with zipfile.ZipFile(tmp_path / "gzip.zip", "w") as zipped:
        zipped.writestr("gzip/emnist-images.gz", files["train-images-idx3-ubyte.gz"])
    path = tmp_path / "gzip.zip" / "gzip" / "emnist-images.gz"
    np.testing.assert_array_equal(mnist.read_idx(path, (3, 28, 28)), arrays["train"][0])
    with pytest.raises(MachineError, match="does not hold bytes of shape"):
        mnist.read_idx(path, (4, 28, 28))
    with pytest.raises(MachineError, match="is damaged"):
        mnist.read_idx(path.with_name("other.gz"), (3, 28, 28))


def test_download_of_cifar(tmp_path, monkeypatch, capsys):
    path = write_tar(tmp_path / "a.tar.gz", synthetic_files(flavour("cifar-10-binary")))
    published = cifar.Cifar10._cifar_info.fget
    with serve({"cifar-10-binary.tar.gz": path.read_bytes()}) as (url, _):
        local = property(lambda self: published(self)._replace(url=url + "cifar-10-binary.tar.gz"))
        monkeypatch.setattr(cifar.Cifar10, "_cifar_info", local)
        assert run("--name=cifar10", f"--data_dir={tmp_path / 'web'}") == 0
    assert "about 170 MB; www.cs.toronto.edu has been slow" in capsys.readouterr().out
    assert run(f"--archive={path}", f"--data_dir={tmp_path / 'disk'}") == 0
    web, disk = examples(tmp_path / "web", "cifar10"), examples(tmp_path / "disk", "cifar10")
    assert same(web["train"], disk["train"])
    assert same(web["test"], disk["test"])


def test_wrong_checksum_leaves_nothing(small_mnist, tmp_path, capsys, monkeypatch):
    files, _ = small_mnist
    data = tmp_path / "data"
    with serve(files) as (url, _):
        monkeypatch.setattr(mnist.MNIST, "URL", url)
        expected = {url + name: UrlInfo(10, "0" * 64, name) for name in files}
        monkeypatch.setattr(mnist.MNIST, "url_infos", expected)
        assert run("--name=mnist", f"--data_dir={data}") == 1
        assert "does not have the expected checksum" in one_error(capsys)
    assert not data.exists()


def test_missing_file_on_the_server_is_one_line(small_mnist, tmp_path, capsys, monkeypatch):
    files, _ = small_mnist
    data = tmp_path / "data"
    with serve(files) as (url, _):
        monkeypatch.setattr(mnist.MNIST, "URL", url)
        del files["t10k-labels-idx1-ubyte.gz"]
        assert run("--name=mnist", f"--data_dir={data}") == 1
        assert "HTTP code: 404" in one_error(capsys)
    assert not (data / "mnist").exists()


def test_no_network_is_one_line_soon(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # Bound but not listening: connections are refused.
        proxy = f"http://127.0.0.1:{unused.getsockname()[1]}"
        variables = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
        start = time.monotonic()
        process = subprocess.run(
            [sys.executable, "scripts/prepare_data.py", "--name=cifar10"],
            cwd=ROOT,
            env=os.environ
            | dict.fromkeys(variables, proxy)
            | {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(tmp_path / "data"), "NO_PROXY": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert "--archive=PATH" in process.stderr
    assert "170 MB" in process.stdout
    assert time.monotonic() - start < 30
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_download_ends_at_once_and_leaves_nothing(sent, code, tmp_path):
    with serve({}, stall=True) as (url, asked):
        process = subprocess.Popen(
            [sys.executable, "scripts/prepare_data.py", "--name=fashion_mnist"],
            cwd=ROOT,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "http_proxy": url, "NO_PROXY": "", "no_proxy": ""}
            | {"TFDS_DATA_DIR": str(tmp_path / "data")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asked.wait(30)
        time.sleep(0.3)
        process.send_signal(sent)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in stderr
    assert not (tmp_path / "data").exists()


class TinyTfSet(tfds.core.GeneratorBasedBuilder):
    """A set as TFDS has many: it hands arrays to the Image feature, which takes TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 4, 3)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"image": np.zeros((4, 4, 3), np.uint8), "label": 0}


def test_set_that_needs_tensorflow_says_so(tmp_path, capsys):
    assert run("--name=tiny_tf_set", f"--data_dir={tmp_path / 'data'}") == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "tiny_tf_set can only be prepared with TensorFlow" in captured.err
    assert "*****" not in captured.out
    assert not (tmp_path / "data").exists()


def test_every_known_name_is_generated_without_tensorflow():
    assert set(preparing._WITHOUT_TENSORFLOW) == set(names.KNOWN)


def test_shapes10_is_prepared_like_any_other(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shapes10, "NUM_EXAMPLES", {"train": 20, "test": 10})
    assert run("--name=shapes10", f"--data_dir={tmp_path}") == 0
    assert "20 train, 10 test examples" in capsys.readouterr().out
