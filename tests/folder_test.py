"""Your own pictures as arrays: pixels and labels, what is told, and changes that are noticed."""

import builtins
import hashlib
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from cifar_cnn import data, images
from cifar_cnn.checks import MachineError, UsageError
from cifar_cnn.datasets import folder as folder_lib
from tests import commands
from tests.folders import arrays_of, fill, opened, picture


def test_pixels_labels_and_the_list_of_files_agree(tmp_path):
    root = tmp_path / "pictures"
    expected = {
        f"{name}/{i}.png": picture(root / name / f"{i}.png", seed=i + 10 * k, size=(8, 8))
        for k, name in enumerate(("b", "a"))
        for i in range(4)
    }
    (root / "a" / "2.png").write_bytes(b"broken")
    builder = opened(root, tmp_path)
    arrays = data.load_arrays(builder, "train", tmp_path / "cache", [].append)
    (listed,) = (tmp_path / "cache").rglob("files.txt")
    names = builder.file_names("train")
    assert names == [f"{c}/{i}.png" for c in "ab" for i in range(4) if (c, i) != ("a", 2)]
    for row, name in enumerate(names):
        np.testing.assert_array_equal(arrays.images[row], expected[name])
        assert arrays.class_names[arrays.labels[row]] == name[0]
    listed.unlink()
    with pytest.raises(MachineError, match=r"files.txt cannot be read: No such file"):
        builder.file_names("train")


def test_size_channels_and_fit_are_those_of_the_config(tmp_path):
    root = tmp_path / "pictures"
    half = np.zeros((16, 32), np.uint8)  # Black on the left, white on the right.
    half[:, 16:] = 255
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        Image.fromarray(half).save(root / name / "half.png")
    crop = arrays_of(root, tmp_path, image_shape=(16, 16, 1)).images[0]
    assert crop.shape == (16, 16, 1)
    assert set(np.unique(crop)) == {0, 255}  # The middle, without any resampling.
    assert arrays_of(root, tmp_path, image_shape=(4, 12, 3)).images.shape == (2, 4, 12, 3)
    pad = arrays_of(root, tmp_path, image_shape=(32, 32, 1), fit="pad").images[0, ..., 0]
    np.testing.assert_array_equal(pad[8:24, :14], 0)
    np.testing.assert_array_equal(pad[8:24, 18:], 255)
    stretch = arrays_of(root, tmp_path, image_shape=(32, 32, 1), fit="stretch").images[0, ..., 0]
    np.testing.assert_array_equal(stretch[:, 0], 0)
    np.testing.assert_array_equal(stretch[:, -1], 255)


def test_a_second_start_opens_no_picture(tmp_path, monkeypatch):
    root = fill(tmp_path / "pictures")
    (root / "cat" / "broken.jpg").write_bytes(b"x")
    first = arrays_of(root, tmp_path)
    monkeypatch.setattr(folder_lib, "read_image", None)
    monkeypatch.setattr("hashlib.file_digest", None)
    said = []
    second = arrays_of(root, tmp_path, said=said)
    np.testing.assert_array_equal(first.images, second.images)
    assert len(said) == 1
    assert "1 of 7 files of train left out, as they cannot be read: see " in said[0]


def test_files_that_are_refused_for_their_size_are_not_read(tmp_path, monkeypatch):
    root = fill(tmp_path / "pictures")
    for name in ("cat/empty.png", "cat/huge.png", "dog/huge.png"):
        (root / name).touch()
    for name in ("cat/huge.png", "dog/huge.png"):
        os.truncate(root / name, images.MAX_BYTES + 1)  # Of nothing: it takes no place.
    digest, sizes = hashlib.file_digest, []

    def watched(file, name):
        sizes.append(os.fstat(file.fileno()).st_size)
        return digest(file, name)

    monkeypatch.setattr("hashlib.file_digest", watched)
    said = []
    first = opened(root, tmp_path, said)
    assert 0 < min(sizes) <= max(sizes) < 1000
    assert not [line for line in said if "the same" in line]
    os.truncate(root / "cat" / "huge.png", images.MAX_BYTES + 2)
    assert data.fingerprint(opened(root, tmp_path)) != data.fingerprint(first)
    arrays = arrays_of(root, tmp_path, said=said)
    assert len(arrays.labels) == len(sizes) / 2
    assert "3 of 9 files of train left out" in said[-1]


@pytest.mark.parametrize("change", ["content", "add", "remove", "rename", "class"])
def test_a_changed_folder_is_noticed(tmp_path, change):
    root = fill(tmp_path / "pictures")
    old = opened(root, tmp_path)
    path = root / "cat" / "1.png"
    if change == "content":
        about = path.stat()
        pixels = np.asarray(Image.open(path)).copy()
        Image.fromarray(255 - pixels).save(path)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    elif change == "add":
        shutil.copy(path, root / "cat" / "4.png")
    elif change == "remove":
        path.unlink()
    elif change == "rename":
        path.rename(root / "cat" / "9.png")
    else:
        (root / "cat").rename(root / "cow")
    new = opened(root, tmp_path)
    assert data.fingerprint(new) != data.fingerprint(old)
    again = data.load_arrays(new, "train", tmp_path / "cache", [].append)
    rows = [f"{p.name}" for p in new.layout.splits["train"]]
    index = rows.index("dog/0.png")
    np.testing.assert_array_equal(again.images[index], np.asarray(Image.open(root / rows[index])))


def test_touched_files_and_other_options_of_reading(tmp_path):
    root = fill(tmp_path / "pictures")
    old = opened(root, tmp_path)
    os.utime(root / "cat" / "0.png", ns=(0, 0))
    said = []
    assert data.fingerprint(opened(root, tmp_path, said)) == data.fingerprint(old)
    assert "to know them again" in said[0]
    for options in ({"image_shape": (4, 4, 3)}, {"image_shape": (8, 8, 1)}, {"fit": "pad"}):
        assert data.fingerprint(opened(root, tmp_path, **options)) != data.fingerprint(old)


def test_pictures_that_cannot_be_opened_today_are_tried_again(tmp_path, monkeypatch):
    root = fill(tmp_path / "pictures")
    closed = str(root / "cat" / "0.png")

    def refuse(path, *rest, **options):  # As chmod does, which does not stop the superuser.
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return opens(path, *rest, **options)

    opens = builtins.open
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", refuse)
        said = []
        assert len(arrays_of(root, tmp_path, said=said).labels) == 5
        assert "1 of 6 files of train left out" in said[-1]
    assert len(arrays_of(root, tmp_path).labels) == 6


def test_identical_files_are_counted(tmp_path):
    root = tmp_path / "pictures"
    fill(root / "train")
    fill(root / "test")
    shutil.copy(root / "train/cat/0.png", root / "test/cat/same.png")
    shutil.copy(root / "train/cat/1.png", root / "test/dog/same.png")
    shutil.copy(root / "train/cat/1.png", root / "train/dog/both.png")
    shutil.copy(root / "train/dog/2.png", root / "train/dog/twice.png")
    for _ in range(2):  # Said at every start, not only where the files are read.
        said = []
        opened(root, tmp_path, said)
        notes = [line for line in said if "byte for byte" in line]
        assert len(notes) == 3
        assert "2 of 8 test files, cat/same.png = cat/0.png, dog/same.png = cat/1.png" in notes[0]
        assert "in more than one class, 1 times: cat/1.png = dog/both.png" in notes[1]
        assert "1 times: dog/2.png = dog/twice.png" in notes[2]


def test_many_odd_files_are_named_in_short(tmp_path):
    root = fill(tmp_path / "pictures")
    for i in range(47):
        (root / "cat" / f"{i:02}.jpg").write_text("no picture")
        (root / "dog" / f"{i:02}.txt").write_text("no picture")
    said = []
    assert len(arrays_of(root, tmp_path, said=said).labels) == 6
    assert any(line.endswith("dog/08.txt, dog/09.txt and 37 more") for line in said)
    assert any("cat/08.jpg, cat/09.jpg and 37 more; reasons in" in line for line in said)
    (listed,) = (tmp_path / "cache").rglob("left_out.txt")
    assert len(listed.read_text().splitlines()) == 47


def test_more_pixels_than_memory_are_refused_before_reading(tmp_path):
    root = fill(tmp_path / "pictures")
    builder = opened(root, tmp_path, image_shape=(10**6, 10**6, 3))
    with pytest.raises(UsageError, match=r"choose a smaller data.image_size"):
        builder.as_data_source("train")


def test_two_processes_at_once_get_the_same_arrays(tmp_path):
    root = fill(tmp_path / "pictures", count=20)
    program = (
        "import sys; from cifar_cnn import data, datasets; "
        "builder = datasets.open_folder(sys.argv[1], image_shape=(8, 8, 3), fit='crop', "
        "cache_dir=sys.argv[2]); "
        "arrays = data.load_arrays(builder, 'train', sys.argv[2]); "
        "print(int(arrays.images.sum()), len(arrays.labels))"
    )
    both = [commands.start("-c", program, str(root), f"{tmp_path}/cache") for _ in range(2)]
    ends = [commands.finish(process) for process in both]
    expected = sum(int(np.asarray(Image.open(p)).sum()) for p in root.rglob("*.png"))
    for code, out, err in ends:
        assert code == 0, err
        assert out.splitlines()[-1] == f"{expected} 40"
    assert not list((tmp_path / "cache").rglob("*incomplete*"))
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_interrupted_reading_leaves_nothing_that_is_read(tmp_path, monkeypatch):
    root = fill(tmp_path / "pictures")

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder_lib, "read_image", interrupt)
        with pytest.raises(KeyboardInterrupt):
            arrays_of(root, tmp_path)
    assert not list((tmp_path / "cache").rglob("*.npy"))
    assert len(arrays_of(root, tmp_path).labels) == 6
