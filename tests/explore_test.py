"""What `explore` finds in a data set, recomputed with numpy and planted in folders of pictures."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from cifar_cnn import datasets, experiment
from cifar_cnn.augment import AUGMENTS
from cifar_cnn.checks import UsageError
from cifar_cnn.data import Arrays
from cifar_cnn.datasets import shapes10
from cifar_cnn.explore import augmented, check_arrays, explore, find_duplicates
from tests import commands
from tests.conftest import make_config, real_data

SCRIPT = "scripts/explore_data.py"
PICTURES = {
    "samples.png", "class_counts.png", "pixels.png", "class_means.png", "augmentations.png",
}  # fmt: skip


def quiet(line):
    """Hears what is said."""


def check_figures(summary, splits):
    """Compares a summary with {split: (images, labels)}."""
    for split, (images, labels) in splits.items():
        figures = summary["splits"][split]
        assert figures["images"] == len(labels)
        assert figures["left_out"] == 0
        assert (figures["minimum"], figures["maximum"]) == (images.min(), images.max())
        assert figures["class_counts"] == [
            int((labels == k).sum()) for k in range(len(summary["class_names"]))
        ]
        for channel, counts in enumerate(figures["histogram"]):
            expected, _ = np.histogram(images[..., channel], bins=np.arange(257))
            assert counts == expected.tolist()
    for channel in range(summary["image_shape"][-1]):
        # Flat and contiguous, where numpy sums pairwise: its error stays far below the tolerance.
        values = (splits["train"][0][..., channel] / 255).ravel()
        assert summary["mean"][channel] == pytest.approx(values.mean(), rel=1e-12)
        assert summary["std"][channel] == pytest.approx(values.std(), rel=1e-12)


def test_script_describes_the_embedded_set(tmp_path):
    out = commands.run(SCRIPT, "--name=shapes10", f"--out={tmp_path / 'out'}", "--examples=2")
    assert "no image occurs twice" in out
    assert "note: " not in out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == PICTURES | {"summary.json"}
    assert set(summary["files"]) == PICTURES
    for name in PICTURES:
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 300
    assert summary["class_names"] == list(shapes10.CLASS_NAMES)
    assert summary["image_shape"] == [32, 32, 3]
    check_figures(summary, {split: shapes10.draw_split(split) for split in ("train", "test")})


@real_data("mnist")
def test_real_mnist(tmp_path):
    config = make_config({"data.name": "mnist"})
    summary = explore(config, tmp_path, say=quiet)
    source = datasets.make_builder(
        "mnist", data_dir=None, cache_dir=experiment.cache_dir(config)
    ).as_data_source("test")
    pairs = [source[i] for i in range(len(source))]
    test = np.stack([x["image"] for x in pairs]), np.array([x["label"] for x in pairs])
    figures = summary["splits"]["test"]
    assert figures["images"] == len(pairs)
    assert figures["class_counts"] == np.bincount(test[1]).tolist()
    assert figures["histogram"][0] == np.bincount(test[0].ravel(), minlength=256).tolist()
    assert summary["image_shape"] == [28, 28, 1]
    # The well-known figures of the training images.
    np.testing.assert_allclose(summary["mean"] + summary["std"], [0.1307, 0.3081], atol=5e-5)
    assert {path.name for path in tmp_path.iterdir()} == PICTURES | {"summary.json"}


def write_folder(root: pathlib.Path, seed: int, duplicates: bool = False) -> pathlib.Path:
    """A folder of random 16x12 pictures in three splits and two classes, of equal train parts."""
    for place, (split, count) in enumerate((("train", 8), ("val", 4), ("test", 5))):
        rng = np.random.RandomState([place, seed if place else 0])
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.randint(0, 256, (16, 12, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    if duplicates:
        # Equal pixels in files that differ, and cat/3 in the other class.
        copy(root / "train/cat/0.png", root / "train/cat/9.bmp")
        copy(root / "train/cat/3.png", root / "train/dog/9.bmp")
        copy(root / "train/dog/1.png", root / "test/dog/8.bmp")
        copy(root / "train/dog/2.png", root / "test/cat/9.bmp")
        copy(root / "test/cat/0.png", root / "test/cat/a.bmp")
        copy(root / "val/dog/0.png", root / "test/cat/b.bmp")
        Image.new("RGB", (12, 16), (9, 9, 9)).save(root / "train/dog/blank.png")
        (root / "train/dog/broken.png").write_text("no picture")
    return root


def copy(source, target):
    with Image.open(source) as picture:
        picture.save(target)


def look(folder, out, **options):
    config = make_config({"data.folder": str(folder), "data.image_size": (16, 12)})
    return explore(config, out, say=quiet, **options)


def test_planted_duplicates_and_odd_files_are_found(tmp_path):
    folder = write_folder(tmp_path / "pets", seed=1, duplicates=True)
    summary = look(folder, tmp_path / "out")
    found = {
        kind: (x["count"], x["conflicting"], sorted(map(tuple, (p["files"] for p in x["pairs"]))))
        for kind, x in summary["duplicates"].items()
    }
    assert found == {
        "train": (2, 1, [("cat/0.png", "cat/9.bmp"), ("cat/3.png", "dog/9.bmp")]),
        "validation": (0, 0, []),
        "test": (1, 0, [("cat/0.png", "cat/a.bmp")]),
        "train_validation": (0, 0, []),
        "train_test": (2, 1, [("dog/1.png", "dog/8.bmp"), ("dog/2.png", "cat/9.bmp")]),
        "validation_test": (1, 1, [("dog/0.png", "cat/b.bmp")]),
    }
    # Rows are sorted by class and name: cat/0 to cat/7, cat/9, dog/0 and so on.
    first, second = summary["duplicates"]["train"]["pairs"]
    assert first == {
        "first": 3, "second": 17, "labels": [0, 1], "files": ["cat/3.png", "dog/9.bmp"],
    }  # fmt: skip
    assert (second["first"], second["second"], second["labels"]) == (0, 8, [0, 0])
    figures = summary["splits"]["train"]
    assert (figures["images"], figures["left_out"], figures["blank"]) == (19, 1, 1)
    assert "duplicates.png" in summary["files"]
    assert (tmp_path / "out" / "duplicates.png").exists()
    for note in (
        "images of train that occur there before: 2, with another label: 1",
        "images of test that are in train as well: 2, with another label: 1",
        "files of train that cannot be read: 1",
        "images of one single colour in train: 1",
    ):
        assert note in summary["notes"]


def test_pictures_depend_on_seed_and_train_split_alone(tmp_path):
    folders = [write_folder(tmp_path / str(seed) / "pets", seed) for seed in (1, 2)]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "duplicates.png").write_text("of an earlier look at other data")
    look(folders[0], tmp_path / "a")
    look(folders[1], tmp_path / "other_test")
    look(folders[0], tmp_path / "other_seed", seed=1)

    def content(name, picture):
        return (tmp_path / name / picture).read_bytes()

    assert {path.name for path in (tmp_path / "a").iterdir()} == PICTURES | {"summary.json"}
    for picture in ("samples.png", "class_means.png", "augmentations.png"):
        assert content("other_test", picture) == content("a", picture)
    assert content("other_test", "pixels.png") != content("a", "pixels.png")
    for picture in ("samples.png", "augmentations.png"):
        assert content("other_seed", picture) != content("a", picture)


def test_duplicates_are_those_of_comparing_every_pair():
    rng = np.random.default_rng(0)
    arrays = {
        split: Arrays(
            rng.integers(0, 2, (count, 2, 2, 1)).astype(np.uint8), rng.integers(0, 3, count), "abc"
        )
        for split, count in (("train", 20), ("test", 15))
    }
    found = find_duplicates(arrays)
    for kind, first, second in (
        ("train", "train", "train"), ("test", "test", "test"), ("train_test", "train", "test"),
    ):  # fmt: skip
        count = conflicting = 0
        for j, image in enumerate(arrays[second].images):
            before = arrays[first].images[:j] if first == second else arrays[first].images
            equal = [i for i, other in enumerate(before) if (other == image).all()]
            count += bool(equal)
            conflicting += bool(equal) and (
                arrays[first].labels[equal[0]] != arrays[second].labels[j]
            )
        assert (found[kind]["count"], found[kind]["conflicting"]) == (count, conflicting)
        assert 0 < conflicting < count
        assert len(found[kind]["pairs"]) == min(10, count)


IMAGES = np.zeros((4, 5, 6, 3), np.uint8)
LABELS = np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES / 255, LABELS, "images of x are float64, expected uint8"),
        (IMAGES.astype(np.int64), LABELS, "images of x are int64, expected uint8"),
        (IMAGES[..., 0], LABELS, r"shape \(4, 5, 6\), expected \(images, height"),
        (IMAGES[:, :4], LABELS, r"shape \(4, 4, 6, 3\), expected \(any, 5, 6, 3\)"),
        (IMAGES[:0], LABELS[:0], "expected at least one image"),
        (IMAGES, LABELS[:3], "4 images and 3 labels"),
        (IMAGES, LABELS[:, None], r"labels of x are int64 of shape \(4, 1\)"),
        (IMAGES, LABELS / 1.0, "labels of x are float64"),
        (IMAGES, np.array([0, 3, 1, 7]), "2 labels out of range, the first is 3 of image 1"),
        (IMAGES, np.array([0, 1, -1, 0]), "the first is -1 of image 2: expected 0 to 2"),
    ],
)
def test_malformed_arrays_are_one_clear_error(images, labels, message):
    with pytest.raises(UsageError, match=message) as error:
        check_arrays(images, labels, num_classes=3, image_shape=(5, 6, 3), name="x")
    assert "\n" not in str(error.value)


def test_channels_are_grey_or_rgb():
    check_arrays(IMAGES, LABELS, num_classes=3)
    check_arrays(IMAGES[..., :1], LABELS, num_classes=3)
    with pytest.raises(UsageError, match="have 2 channels, expected 1"):
        check_arrays(IMAGES[..., :2], LABELS, num_classes=3)


@pytest.mark.parametrize(
    ("option", "message"),
    [({"seed": -1}, "--seed is -1"), ({"examples": 0}, "--examples is 0")],
)
def test_arguments_out_of_range_are_refused(option, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        explore(make_config(), tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


def test_every_augmentation_is_shown_with_the_options_of_its_section():
    images = np.random.RandomState(0).randint(0, 256, (2, 12, 12, 1)).astype(np.uint8)
    config = make_config({"augment.flip.probability": 0.4})
    rows = augmented(config, images, seed=3, say=quiet, draws=40)
    assert [label.split("\n")[0] for label in rows] == [*AUGMENTS, "all in"]
    assert "flip\nalternate False\nprobability 0.4" in rows
    for draws in rows.values():
        assert draws.shape == (2, 40, 12, 12, 1)
        assert len({draw.tobytes() for draw in draws[0]}) > 1
    flips = rows["flip\nalternate False\nprobability 0.4"]
    for image, draws in zip(images, flips, strict=True):
        kept = (draws == image).all(axis=(1, 2, 3))
        mirrored = (draws == image[:, ::-1]).all(axis=(1, 2, 3))
        assert (kept ^ mirrored).all()


def test_augmentations_that_do_not_suit_the_images_are_said_and_left_out():
    lines = []
    rows = augmented(make_config(), np.zeros((1, 6, 6, 3), np.uint8), seed=0, say=lines.append)
    assert "cutout" in lines[0]
    assert not any(label.startswith("cutout") for label in rows)
    assert any(label.startswith("crop") for label in rows)
