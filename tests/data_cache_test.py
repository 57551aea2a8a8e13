"""The cache of decoded data and prepared sets, damaged in every way: made anew, or one line."""

import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import time

import numpy as np
import pytest

from cifar_cnn import data, datasets, files
from cifar_cnn.checks import MachineError, UsageError
from cifar_cnn.datasets import shapes10
from tests import commands
from tests.data_test import FakeBuilder
from tests.folders import fill, opened


@pytest.fixture
def fake(tmp_path):
    (tmp_path / "prepared").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    return FakeBuilder(tmp_path / "prepared", images, np.arange(20) % 10)


def entry_of(cache):
    (checksums,) = cache.rglob("checksums.json")
    return checksums.parent


def write_whole(entry, images, labels):
    """An entry whose checksums are right, whatever is in it."""
    shutil.rmtree(entry)
    data._write_entry(entry, images, labels)


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)


def as_loop(path):
    path.unlink()
    path.symlink_to(path)


def header(shape, order=False, descr="|u1"):
    """A .npy file that claims a shape, and holds 100 bytes."""
    text = repr({"descr": descr, "fortran_order": order, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(100)


CONTENTS = {
    "checksums.json": (
        b"", b"[]", b"null", b"3", b'{"images": "x"}', b"\xff\xfe", b"[" * 100_000,
        b'{"images": NaN}',
    ),
    "images.npy": (
        b"", b"PK\x03\x04", header((10**15, 8, 8, 3)), header((-1, 8)), header(()), header(("x",)),
        header((2, 2), order=True), header((10,), descr="|O"), header((10,), descr="V9999999999"),
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65_535, b"\x93NUMPY\x09\x00", b"\x80\x04N.",
    ),
    "labels.npy": (b"", header((20,), descr="<f8"), header((10**12,))),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENTS)
def test_files_of_any_content_are_made_anew(fake, tmp_path, name):
    cache = tmp_path / "cache"
    expected = np.array(data.load_arrays(fake, "train", cache, [].append).images)
    damages = [lambda path, c=content: path.write_bytes(c) for content in CONTENTS[name]]
    for damage in (*damages, as_folder, as_pipe, as_loop):
        damage(entry_of(cache) / name)
        said = []
        again = data.load_arrays(fake, "train", cache, said.append)
        np.testing.assert_array_equal(again.images, expected)
        assert "is damaged" in said[0]
        assert all(line.isprintable() and len(line) < 500 for line in said)
        assert len(said) == 2


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((20, 8, 8, 3), np.uint8), np.zeros(19, np.uint8)),
        (np.zeros((20, 8, 8), np.uint8), np.zeros(20, np.uint8)),
        (np.zeros((20, 8, 8, 3), np.float32), np.zeros(20, np.uint8)),
        (np.zeros((20, 8, 8, 3), np.uint8), np.full(20, 10, np.uint8)),
        (np.zeros((20, 8, 8, 3), np.uint8), np.full(20, -1, np.int64)),
        (np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, np.uint8)),
    ],
)
def test_whole_files_of_another_set_are_noticed(fake, tmp_path, images, labels):
    cache = tmp_path / "cache"
    expected = np.array(data.load_arrays(fake, "train", cache, [].append).images)
    write_whole(entry_of(cache), images, labels)
    said = []
    again = data.load_arrays(fake, "train", cache, said.append)
    np.testing.assert_array_equal(again.images, expected)
    assert "is damaged" in said[0]


def test_what_stands_where_the_cache_should_be(fake, tmp_path):
    cache = tmp_path / "cache"
    data.load_arrays(fake, "train", cache, [].append)
    entry = entry_of(cache)
    shutil.rmtree(entry)
    entry.write_text("a file")
    said = []
    assert len(data.load_arrays(fake, "train", cache, said.append).labels) == 20
    assert "is damaged" in said[0]
    for place in (cache, cache / "arrays", entry.parent):
        shutil.rmtree(cache, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("a file")
        with pytest.raises(MachineError, match="cannot write to") as caught:
            data.load_arrays(fake, "train", cache, [].append)
        assert "\n" not in str(caught.value)
        place.unlink()


def test_class_names_of_a_prepared_set_are_safe_to_print(fake, tmp_path):
    fake.info.features["label"].names[:2] = ["\x1b[31mred", "two\nlines"]
    arrays = data.load_arrays(fake, "train", tmp_path / "cache", [].append)
    assert arrays.class_names[:2] == (r"\x1b[31mred", r"two\nlines")


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    """A prepared set of 30 images."""
    root = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes10, "NUM_EXAMPLES", {"train": 20, "test": 10})
        datasets.prepare("shapes10", data_dir=str(root), say=[].append)
    return root


def flipped(content, rng):
    for _ in range(rng.choice([1, 5, 60])):
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return content


def test_a_damaged_prepared_set_is_read_or_one_line(small_set, tmp_path, monkeypatch):
    # Where it counts as not prepared, the embedded set is made anew.
    monkeypatch.setattr(shapes10, "NUM_EXAMPLES", {"train": 20, "test": 10})
    rng, refused = np.random.default_rng(1), []
    names = [path.relative_to(small_set) for path in small_set.rglob("*") if path.is_file()]
    assert len(names) >= 4
    for number in range(60):
        root = tmp_path / str(number)
        shutil.copytree(small_set, root)
        path = root / names[number % len(names)]
        content = np.frombuffer(path.read_bytes(), np.uint8).copy()
        kind = ("flip", "cut", "empty", "folder", "flip", "junk")[number // len(names) % 6]
        if kind == "folder":
            as_folder(path)
        else:
            content = {
                "flip": lambda c: flipped(c, rng),
                "cut": lambda c: c[: rng.integers(len(c))],
                "empty": lambda c: c[:0],
                "junk": lambda c: rng.integers(0, 256, 500, np.uint8),
            }[kind](content)
            path.write_bytes(content.tobytes())
        try:
            builder = datasets.make_builder(
                "shapes10", data_dir=str(root), cache_dir=str(root / "cache"), say=[].append
            )
            arrays = data.load_arrays(builder, "train", root / "cache", [].append)
            assert arrays.images.shape == (20, 32, 32, 3)
        except (UsageError, MachineError) as error:
            refused.append((kind, str(error)))
    assert {kind for kind, _ in refused} == {"flip", "cut", "empty", "folder", "junk"}
    for _, message in refused:
        assert message.isprintable()
        assert "prepare" in message, message


BUILD_SLOWLY = """
import sys, time
from cifar_cnn import data

data.np.save = lambda path, array, save=data.np.save: (save(path, array), print("half", flush=True),
                                                       time.sleep(float(sys.argv[2])))
from tests.data_cache_test import a_fake
data.load_arrays(a_fake(sys.argv[1]), "train", sys.argv[1] + "/cache", lambda line: None)
print("done")
"""


def a_fake(folder):
    """The same data set in every process."""
    prepared = pathlib.Path(folder) / "prepared"
    prepared.mkdir(exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    return FakeBuilder(prepared, images, np.arange(20) % 10)


def incomplete(folder):
    return sorted(folder.rglob("incomplete.*"))


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    killed = commands.start("-c", BUILD_SLOWLY, str(tmp_path), "60")
    assert killed.stdout.readline() == "half\n"
    living = commands.start("-c", BUILD_SLOWLY, str(tmp_path), "0.01")
    assert commands.finish(living)[1].endswith("done\n")
    # The one that lives was done before; the other one's folder is still there, half written.
    (left,) = incomplete(tmp_path)
    assert (left / "train" / "images.npy").exists()
    shutil.rmtree(entry_of(tmp_path))
    data.load_arrays(a_fake(tmp_path), "train", tmp_path / "cache", [].append)
    assert incomplete(tmp_path) == [left], "taken from a living process"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert incomplete(tmp_path) == [left]
    shutil.rmtree(entry_of(tmp_path))
    arrays = data.load_arrays(a_fake(tmp_path), "train", tmp_path / "cache", [].append)
    np.testing.assert_array_equal(arrays.labels, np.arange(20) % 10)
    assert incomplete(tmp_path) == []


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_preparing_a_set_that_was_killed_leaves_nothing_for_the_next(tmp_path, seconds):
    script = ("scripts/prepare_data.py", "--name=shapes10", f"--data_dir={tmp_path}")
    process = commands.start(*script)
    begin = time.monotonic()
    while not incomplete(tmp_path) and process.poll() is None and time.monotonic() - begin < 60:
        time.sleep(0.02)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if not seconds:  # On a quick machine it may be done by then.
        assert incomplete(tmp_path)
    commands.run(*script)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes10"]


def test_only_what_is_surely_abandoned_is_removed(tmp_path):
    def folder(name, signature=None, age=0.0):
        path = tmp_path / f"incomplete.{name}"
        path.mkdir()
        (path / "part").write_text("half")
        if signature is not None:
            (path / files._WRITER).write_bytes(signature)
        os.utime(path, (time.time() - age,) * 2)
        return path

    here, day = socket.gethostname().encode(), 86_400.0
    gone = [folder("dead", here), folder("older-version", age=1.1 * day)]
    locked = folder("living", here, age=2 * day)
    kept = [
        locked,
        folder("elsewhere", b"another-machine", age=9 * day),
        folder("unsigned", b"", age=9 * day),
        folder("garbled", b"\xff\xfe", age=9 * day),
        folder("new", age=60),
    ]
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / files._WRITER).write_bytes(here)
    (tmp_path / "incomplete.link").symlink_to(tmp_path / "outside")
    (tmp_path / "incomplete.file").write_text("a file")
    with open(locked / files._WRITER) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with files.staging(tmp_path) as workshop:
            assert not any(path.exists() for path in gone)
            with files.staging(tmp_path) as other:  # Nor its own.
                assert workshop.exists()
            assert not other.exists()
    assert all((path / "part").exists() for path in kept)
    assert (tmp_path / "outside" / files._WRITER).exists()
    assert not workshop.exists()


def test_lists_of_a_folder_of_pictures_are_made_anew(tmp_path):
    root = fill(tmp_path / "pictures")
    expected = data.fingerprint(opened(root, tmp_path))
    (known,) = (tmp_path / "cache" / "folders").glob("*.json")
    good = json.loads(known.read_text())
    for content in (
        "", "[]", "[" * 100_000, "null", '{"digests": 5, "notes": 3}',
        '{"digests": {}, "notes": []}',
        json.dumps({**good, "digests": {"train": None}}), json.dumps({**good, "notes": [5]}),
        json.dumps({**good, "notes": ["\x1b[31m"]}), json.dumps({**good, "digests": []}),
    ):  # fmt: skip
        known.write_text(content)
        said = []
        assert data.fingerprint(opened(root, tmp_path, said)) == expected
        assert any("to know them again" in line for line in said)
        assert json.loads(known.read_text()) == good
    arrays = data.load_arrays(opened(root, tmp_path), "train", tmp_path / "cache", [].append)
    (listed,) = (tmp_path / "cache").rglob("files.txt")
    listed.write_bytes(b"\xff\xfe\n")
    with pytest.raises(MachineError, match=r"files.txt cannot be read: it is no text; delete"):
        opened(root, tmp_path).file_names("train")
    (listed.parent / "left_out.txt").write_bytes(b"\xff\n")
    said = []
    opened(root, tmp_path, said)
    assert any(re.search("1 of 6 files of train left out", line) for line in said)
    assert len(arrays.labels) == 6
