"""Your own pictures: a folder of class folders trains, is checked, and is known again."""

import builtins
import csv
import json
import os
import pathlib
import shutil
import unicodedata

import jax
import numpy as np
import pytest
from PIL import Image

from cifar_cnn import data, datasets, evaluate, experiment, mesh, train
from cifar_cnn.checks import MachineError, UsageError
from cifar_cnn.datasets import folder as folder_lib
from configs import default
from tests import commands
from tests.conftest import make_config

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
FORMATS = ("jpg", "png", "gif", "webp", "BMP", "jpeg", "tif")


def picture(path, seed=0, size=(32, 32), colour=(90, 90, 90), mode="RGB"):
    """Saves a noisy picture of a colour; returns its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.RandomState(seed).randint(-35, 36, (*size, 3))
    pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return pixels


def fill(root, classes=("cat", "dog"), count=3):
    """Saves `count` small PNG pictures in each class folder; none is like another."""
    for name in classes:
        for i in range(count):
            picture(root / name / f"{i}.png", seed=hash((str(root), name, i)) % 2**32, size=(8, 8))
    return root


def opened(root, tmp_path, said=None, **options):
    options = {"image_shape": (8, 8, 3), "fit": "crop", **options}
    say = [].append if said is None else said.append
    return datasets.open_folder(root, cache_dir=tmp_path / "cache", say=say, **options)


def arrays_of(root, tmp_path, split="train", said=None, **options):
    builder = opened(root, tmp_path, said, **options)
    say = [].append if said is None else said.append
    return data.load_arrays(builder, split, tmp_path / "cache", say)


def refusal(root, tmp_path):
    """The one line with which a folder is refused, without its own path."""
    with pytest.raises(UsageError) as caught:
        arrays_of(root, tmp_path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(root), "FOLDER")


def folder_config(root, tmp_path, **overrides):
    return make_config(
        {
            "data.folder": str(root), "data.image_size": 8, "data.validation_size": 0.25,
            "train.batch_size": 4, "run.cache_dir": str(tmp_path / "cache"),
            **overrides,
        }
    )  # fmt: skip


def load(config, said=None):
    experiment.check(config, default.get_config().to_dict())
    say = [].append if said is None else said.append
    return experiment.load_training(config, mesh.make_mesh(jax.devices()[:2]), say)


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A run on pictures of three colours, in all formats, sizes and modes, some files broken."""
    base = tmp_path_factory.mktemp("own")
    root = base / "my pictures"
    for split, count in (("train", 50), ("test", 20)):
        for name, colour in COLOURS.items():
            for i in range(count):
                suffix = FORMATS[i % len(FORMATS)]
                size = ((32, 32), (20, 47), (90, 64))[i % 3]
                mode = "P" if suffix == "gif" else "RGB"
                seed = len(split) * 1000 + i
                picture(root / split / name / f"{i}.{suffix}", seed, size, colour, mode)
    whole = (root / "train/red/0.jpg").read_bytes()
    (root / "train/red/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train/red/empty.png").touch()
    (root / "train/green/page.png").write_text("<html>")
    (root / "train/green/notes.txt").write_text("not a picture")
    (root / "train/green/Thumbs.db").write_text("of the system")
    flags = (
        "--config.data.folder=my pictures", "--config.data.validation_size=0.2",
        "--config.data.image_size=16", "--config.model.plain.filters=((16,),)",
        "--config.augment.names=()", "--config.run.cpu_devices=1",
        "--config.train.batch_size=20", "--config.train.epochs=4",
    )  # fmt: skip
    out = commands.train("run", *flags, cwd=base)
    return root, base / "run", out


def test_the_command_trains_on_a_folder_and_leaves_out_what_is_broken(own_run):
    root, workdir, out = own_run
    assert "note: 3 of 153 files of train left out, as they cannot be read: " in out
    for name in ("green/page.png", "red/cut.jpg", "red/empty.png"):
        assert name in out.split("left out, as")[1].splitlines()[0]
    assert "not used, as they are no pictures (1): train/green/notes.txt\n" in out
    assert "Thumbs.db" not in out
    reasons = pathlib.Path(out.split("reasons in ")[1].splitlines()[0]).read_text().splitlines()
    assert [line.split(" is ")[0].split("/")[-1] for line in reasons] == [
        "page.png", "cut.jpg", "empty.png",
    ]  # fmt: skip
    facts = json.loads((workdir / "run.json").read_text())["data"]
    assert facts["name"] == "folder:my pictures"
    assert facts["class_names"] == ["blue", "green", "red"]
    assert (facts["train_examples"], facts["validation_examples"]) == (120, 30)
    # A relative path in the command, so that the run can be used from anywhere.
    config = json.loads((workdir / "config.json").read_text())
    assert config["data"]["folder"] == str(root)


def test_evaluation_needs_only_the_run_directory(own_run, tmp_path, monkeypatch, capsys):
    _, workdir, _ = own_run
    monkeypatch.chdir(tmp_path)
    evaluate.evaluate_run(workdir, split="test", which="best", tta=False, rows="true", settings={})
    out = capsys.readouterr().out
    assert "trained on folder:my pictures\n" in out
    folder = pathlib.Path(out.split("written to ")[1].strip())
    report = json.loads((folder / "metrics.json").read_text())
    assert report["examples"] == 60
    assert report["class_names"] == ["blue", "green", "red"]
    assert report["data"] == "folder:my pictures"
    assert report["accuracy"] > 0.8
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"p_blue", "p_green", "p_red"} <= rows[0].keys()


def test_a_moved_folder_is_named_and_is_the_same_data(own_run, tmp_path):
    root, workdir, _ = own_run
    moved = tmp_path / "my pictures"
    shutil.copytree(root, moved, copy_function=shutil.copyfile)  # Other times of change.
    settings = {"data_dir": str(moved)}
    trained = experiment.open_trained(workdir, settings=settings, say=[].append)
    said = []
    assert len(trained.examples("validation", said.append).indices) == 30
    assert not [line for line in said if "not those" in line]
    # The test pictures may change, those that were trained on may not.
    (moved / "test/red/0.jpg").unlink()
    assert len(trained.examples("test").indices) == 59
    (moved / "train/red/0.jpg").unlink()
    with pytest.raises(UsageError, match=r"not those that this run saw.*--split=test"):
        trained.examples("validation")
    trained.examples("test", said.append)
    assert "are not those that this run saw; the test pictures count as they are" in said[-1]
    config = {**trained.config, "run": {**trained.config["run"], "data_dir": str(moved)}}
    before = (workdir / "run.json").read_bytes()
    with pytest.raises(UsageError, match=r"was trained on other data \(fingerprint: ") as caught:
        train.train_and_evaluate(config, workdir)
    assert "\n" not in str(caught.value)
    assert (workdir / "run.json").read_bytes() == before
    shutil.rmtree(moved)
    with pytest.raises(UsageError, match=r"does not exist: give data.folder its path.*--data_dir"):
        trained.examples("test")


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


def test_val_and_test_folders_are_the_parts(tmp_path):
    root = tmp_path / "pictures"
    fill(root / "Train", count=8)
    fill(root / "valid", count=2)
    fill(root / "test", ("dog",), count=2)
    said = []
    config = folder_config(root, tmp_path, **{"data.validation_size": 5000})
    facts, part, validation = load(config, said)
    assert (facts.train_examples, facts.validation_examples) == (16, 4)
    assert validation.images.shape == (4, 8, 8, 3)
    assert len(part.indices) == 16
    assert [line for line in said if "data.validation_size is not read" in line]
    assert f"note: {root}/test has no picture of cat" in said
    mean = np.asarray(part.images).astype(np.float64).mean((0, 1, 2)) / 255
    np.testing.assert_allclose(facts.mean, mean, rtol=1e-9)
    devices = mesh.make_mesh(jax.devices()[:2])
    for split, labels in (
        ("validation", [0, 0, 1, 1]),
        ("test", [1, 1]),
        ("train", [0] * 8 + [1] * 8),
    ):
        examples = experiment.load_evaluation(config, facts, split, devices, [].append)
        np.testing.assert_array_equal(np.asarray(examples.labels)[examples.indices], labels)


def test_without_test_pictures_one_line_says_what_to_do(tmp_path):
    root = fill(tmp_path / "flat")
    config = folder_config(root, tmp_path)
    facts, part, validation = load(config)
    assert (len(part.indices), len(validation.indices)) == (4, 2)
    devices = mesh.make_mesh(jax.devices()[:2])
    with pytest.raises(UsageError, match=r"has no test pictures: .*--split=validation, or move"):
        experiment.load_evaluation(config, facts, "test", devices, print)
    held_out = experiment.load_evaluation(config, facts, "validation", devices, [].append)
    np.testing.assert_array_equal(held_out.indices, validation.indices)
    # That advice: the class folders go into train/ as they are, and the run still knows them.
    for name in ("cat", "dog"):
        (root / "train").mkdir(exist_ok=True)
        (root / name).rename(root / "train" / name)
    fill(root / "test", count=1)
    said = []
    test = experiment.load_evaluation(config, facts, "test", devices, said.append)
    assert len(test.indices) == 2
    assert not [line for line in said if "not those" in line]


def test_too_few_pictures_for_the_usual_validation_part(tmp_path):
    root = fill(tmp_path / "pictures")
    with pytest.raises(UsageError, match=r"5000, but the train.*--config.data.validation_size=0.1"):
        load(folder_config(root, tmp_path, **{"data.validation_size": 5000}))
    with pytest.raises(UsageError, match=r"train.batch_size is 100, expected at most the 4 exam"):
        load(folder_config(root, tmp_path, **{"train.batch_size": 100}))


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.image_size": 64}, "data.image_size is 64, but nothing reads it .*data.folder is"),
        ({"data.channels": 1}, "data.channels is 1, but nothing reads it"),
        ({"data.fit": "pad"}, "data.fit is 'pad', but nothing reads it"),
        ({"data.folder": "x", "data.fit": "fill"}, "data.fit is 'fill', expected one of: crop"),
        ({"data.folder": "x", "data.channels": 2}, r"data.channels is 2, expected 3 \(RGB\) or 1"),
        ({"data.folder": "x", "data.image_size": 0}, "data.image_size is 0, expected an integer"),
        ({"data.folder": "x", "data.image_size": (8, 8, 3)}, r"expected pixels or \(height, wid"),
        ({"data.validation_size": 1.5}, "data.validation_size is 1.5, expected an integer number"),
        ({"data.validation_size": "10%"}, "data.validation_size is '10%', expected an integer"),
        ({"data.validation_size": True}, "data.validation_size is True, expected"),
        ({"data.validation_size": -1}, "data.validation_size is -1, expected"),
    ],
)
def test_keys_of_a_folder_are_checked(overrides, message):
    with pytest.raises(UsageError, match=message):
        experiment.check(make_config(overrides), default.get_config().to_dict())
