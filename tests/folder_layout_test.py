"""Folders of class folders: which files and classes are found, and what is refused."""

import os
import unicodedata

import numpy as np
import pytest

from cifar_cnn.checks import UsageError
from tests.folders import arrays_of, fill, opened, picture


def refusal(root, tmp_path):
    """The one line with which a folder is refused, without its own path."""
    with pytest.raises(UsageError) as caught:
        arrays_of(root, tmp_path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(root), "FOLDER")


def test_what_systems_leave_behind_is_not_there(tmp_path):
    root = fill(tmp_path / "pictures")
    for name in (".DS_Store", "cat/Thumbs.db", "cat/._0.png", "dog/desktop.ini"):
        (root / name).write_bytes(b"x")
    fill(root / "__MACOSX")
    fill(root / ".git")
    said = []
    arrays = arrays_of(root, tmp_path, said=said)
    assert arrays.class_names == ("cat", "dog")
    assert len(arrays.labels) == 6
    assert not [line for line in said if line.startswith("note")]


def test_folders_inside_a_class_belong_to_it_and_links_do_not_loop(tmp_path):
    root = fill(tmp_path / "pictures")
    fill(root / "cat", ("indoors", "outdoors/summer"), 2)
    elsewhere = fill(tmp_path / "elsewhere", ("birds", "more"), 2)
    (root / "bird").symlink_to(elsewhere / "birds")
    (root / "dog" / "linked").symlink_to(elsewhere / "more")
    (root / "dog" / "loop").symlink_to(root / "dog")
    (root / "dog" / "self.png").symlink_to(root / "dog" / "self.png")
    (root / "dog" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "dog" / "file.png").symlink_to(root / "cat" / "0.png")
    os.mkfifo(root / "dog" / "pipe.png")
    said = []
    arrays = arrays_of(root, tmp_path, said=said)
    assert arrays.class_names == ("bird", "cat", "dog")
    np.testing.assert_array_equal(np.bincount(arrays.labels), [2, 7, 6])
    (odd,) = [line for line in said if "not used" in line]
    for words in (
        "dog/loop/ (a link to a folder that is read already)", "dog/self.png (a link to nothing)",
        "dog/gone.png (a link to nothing)", "dog/pipe.png (a pipe, socket or device)",
    ):  # fmt: skip
        assert words in odd


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("b", "a", "C"), ("C", "a", "b")),
        (("10", "2", "1"), ("1", "2", "10")),
        (("10", "2", "x"), ("10", "2", "x")),
        (("été", "-dash", "two words", "🐈"), ("-dash", "two words", "été", "🐈")),
        (("line\nend", "bell\a"), ("bell\\x07", "line\\nend")),
        (("train", "car", "bus"), ("bus", "car", "train")),
        (("test", "exam"), ("exam", "test")),
    ],
)
def test_class_names_and_their_order(tmp_path, names, order):
    root = fill(tmp_path / "pictures", names, 1)
    arrays = arrays_of(root, tmp_path)
    assert arrays.class_names == order
    assert list(opened(root, tmp_path).layout.splits) == ["train"]


def test_names_in_two_spellings_and_no_encoding(tmp_path):
    root = tmp_path / "pictures"
    composed = unicodedata.normalize("NFC", "café")
    fill(root / "train", (composed, "Tea", "tea"), 2)
    fill(root / "test", (unicodedata.normalize("NFD", "café"),), 1)
    latin = os.fsdecode(b"th\xe9")
    fill(root / "train", (latin,), 1)
    picture(root / "train" / "tea" / os.fsdecode(b"\xe9.png"), size=(8, 8))
    said = []
    arrays = arrays_of(root, tmp_path, said=said)
    assert arrays.class_names == ("Tea", "café", "tea", "th\\xe9")
    np.testing.assert_array_equal(np.bincount(arrays.labels), [2, 2, 3, 1])
    assert arrays_of(root, tmp_path, "test").labels.tolist() == [1]
    assert "note: Tea and tea are two classes, though only capitals tell them apart" in said
    "\n".join([*said, *arrays.class_names]).encode()  # Can be printed and written.


def _make(root, *paths):
    for i, path in enumerate(paths):
        if path.endswith("/"):
            (root / path).mkdir(parents=True, exist_ok=True)
        elif path.endswith(".png"):
            picture(root / path, seed=i, size=(8, 8))
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("x")


GOOD = ("train/a/1.png", "train/b/1.png")
REFUSED = [
    (("x.txt",), "FOLDER has no class folders: expected FOLDER/CLASS/picture.jpg, or FOLDER/train"),
    (("/",), "FOLDER has no class folders"),
    (("1.png", "2.png"), "FOLDER has 2 pictures but no class folders"),
    (("a/1.png",), "FOLDER has one class folder, a, expected at least two"),
    (("set/a/1.png", "set/b/1.png"), "(or is it FOLDER/set that you mean?)"),
    (("train/a/1.png",), "FOLDER/train has one class folder, a, expected at least two"),
    (("a/1.png", "b/", "c/x.txt"), "no picture in the class folders b, c of FOLDER"),
    (
        ("a/1.png", "a/x.jpg", "b/y.jpg"),
        "no file of b in FOLDER is a picture that can be read: FOLDER/b/y.jpg",
    ),
    (("test/a/1.png", "test/b/1.png"), "FOLDER has test/ but no train/"),
    (("val/a/1.png", "test/b/1.png"), "FOLDER has val/ and test/ but no train/"),
    (("train/1.png", "test/1.png"), "FOLDER/train has no class folders"),
    ((*GOOD, "test/1.png"), "FOLDER/test has no class folders"),
    ((*GOOD, "test/a/"), "there is no picture in FOLDER/test"),
    ((*GOOD, "test/c/1.png"), "FOLDER/test has c, which the training part does not have"),
    ((*GOOD, "val/A/1.png"), "FOLDER/val has A, which the training part does not have (did you"),
    ((*GOOD, "c/1.png"), "FOLDER has train/ and beside it other folders with pictures, c: move"),
    (("a/1.png", "b/1.png", "test/a/1.png"), "FOLDER has test/ and beside it other folders"),
    ((*GOOD, "val/a/1.png", "valid/b/1.png"), "FOLDER has val/ and valid/ for the same part"),
]


@pytest.mark.parametrize(("paths", "message"), REFUSED, ids=[" ".join(p) for p, _ in REFUSED])
def test_other_layouts_are_refused_in_one_line(tmp_path, paths, message):
    root = tmp_path / "pictures"
    root.mkdir()
    _make(root, *(path for path in paths if path != "/"))
    assert message in refusal(root, tmp_path)


def test_a_path_that_is_no_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert "is not a folder: give data.folder" in refusal(tmp_path / "file", tmp_path)
    assert "does not exist: give data.folder" in refusal(tmp_path / "nowhere", tmp_path)
    assert "does not exist" in refusal(tmp_path / "two\nlines", tmp_path)
    root = fill(tmp_path / "pictures")

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("cifar_cnn.datasets.layout.os.scandir", refuse)
    assert refusal(root, tmp_path) == "FOLDER cannot be read: Permission denied"


def test_folders_beside_train_without_pictures_are_noted(tmp_path):
    root = tmp_path / "pictures"
    _make(root, *GOOD, "results/log.txt", "labels.csv")
    said = []
    assert len(arrays_of(root, tmp_path, said=said).labels) == 2
    assert "note: not used, as they are no pictures (2): labels.csv, results/" in said
