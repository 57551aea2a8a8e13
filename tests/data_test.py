"""The cache of decoded arrays: made once, verified, repaired. And the train split's division."""

import dataclasses
import json
import time
import types

import jax
import numpy as np
import pytest

from cifar_cnn import data, datasets, experiment, mesh
from cifar_cnn.checks import UsageError
from tests.conftest import make_config, real_data


class FakeBuilder:
    """As much of a TFDS builder as is read: for faults that no prepared set has."""

    def __init__(self, folder, images, labels, num_classes=10):
        self.data_path = folder
        names = [f"class {i}" for i in range(num_classes)]
        label = types.SimpleNamespace(names=names, num_classes=num_classes)
        split = types.SimpleNamespace(num_examples=len(images))
        self.info = types.SimpleNamespace(
            name="fake", full_name="fake/1.0.0", supervised_keys=("image", "label"),
            features={"image": None, "label": label}, splits={"train": split},
        )  # fmt: skip
        self.examples = [{"image": i, "label": y} for i, y in zip(images, labels, strict=True)]

    def as_data_source(self, split):
        return self.examples


@pytest.fixture
def fake(tmp_path):
    (tmp_path / "prepared").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    return FakeBuilder(tmp_path / "prepared", images, np.arange(20) % 10)


def cache_files(cache):
    return {p.name: p for p in cache.rglob("*") if p.is_file()}


def test_decoded_once_then_read(fake, tmp_path):
    said = []
    first = data.load_arrays(fake, "train", tmp_path / "cache", said.append)
    fake.as_data_source = None  # Not to be read again.
    second = data.load_arrays(fake, "train", tmp_path / "cache", said.append)
    assert len(said) == 1
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(second.labels, np.arange(20) % 10)
    assert second.images.dtype == second.labels.dtype == np.uint8
    assert isinstance(second.images, np.memmap)
    assert second.class_names[3] == "class 3"


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "checksums.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_cache_is_said_and_made_anew(fake, tmp_path, name, damage):
    cache = tmp_path / "cache"
    original = np.array(data.load_arrays(fake, "train", cache).images)
    path = cache_files(cache)[name]
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        content[-4] ^= 1
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    said = []
    again = data.load_arrays(fake, "train", cache, said.append)
    np.testing.assert_array_equal(again.images, original)
    assert "is damaged" in said[0]
    assert len(said) == 2
    assert set(cache_files(cache)) == {"images.npy", "labels.npy", "checksums.json"}


def test_an_interrupted_cache_leaves_nothing_that_is_read(fake, tmp_path, monkeypatch):
    cache = tmp_path / "cache"

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(data.json, "dumps", interrupt)
    with pytest.raises(KeyboardInterrupt):
        data.load_arrays(fake, "train", cache)
    assert not cache_files(cache)


def test_labels_out_of_range_and_images_of_two_sizes_are_told(tmp_path, fake):
    fake.examples[7]["label"] = 10
    with pytest.raises(UsageError, match="example 7 of train has label 10, expected 0 to 9"):
        data.load_arrays(fake, "train", tmp_path / "cache")
    fake.examples[7] = {"image": np.zeros((8, 9, 3), np.uint8), "label": 1}
    with pytest.raises(UsageError, match=r"image 7 of train is uint8 \(8, 9, 3\)"):
        data.load_arrays(fake, "train", tmp_path / "cache")
    with pytest.raises(UsageError, match="no split 'test', expected one of: train"):
        data.load_arrays(fake, "test", tmp_path / "cache")


def test_copies_of_one_version_have_caches_of_their_own(fake, tmp_path):
    data.load_arrays(fake, "train", tmp_path / "cache")
    (tmp_path / "prepared" / "dataset_info.json").write_text("{}")
    said = []
    data.load_arrays(fake, "train", tmp_path / "cache", said.append)
    assert "decoding" in said[0]


def test_the_validation_part_is_held_out_by_a_fixed_seed():
    train, validation = data.hold_out(1000, 100, 0)
    assert len(train) == 900
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(1000))
    np.testing.assert_array_equal(data.hold_out(1000, 100, 0)[1], validation)
    assert not np.array_equal(data.hold_out(1000, 100, 1)[1], validation)
    # Pinned: another division would make old and new runs incomparable.
    np.testing.assert_array_equal(validation[:5], [1, 14, 27, 31, 45])
    assert len(data.hold_out(10, 0, 0)[1]) == 0
    with pytest.raises(UsageError, match="expected at most 9"):
        data.hold_out(10, 10, 0)


def test_a_share_is_held_out_like_its_number_and_is_never_nothing():
    for share, count in ((0.1, 100), (0.25, 250), (0.0004, 1), (0.0, 0)):
        for by_share, by_count in zip(
            data.hold_out(1000, share, 3), data.hold_out(1000, count, 3), strict=True
        ):
            np.testing.assert_array_equal(by_share, by_count)
    with pytest.raises(UsageError, match=r"is 5, but .* such as --config.data.validation_size=0.1"):
        data.hold_out(3, 5, 0)
    with pytest.raises(UsageError, match="expected at most 0"):
        data.hold_out(1, 0.5, 0)


def test_channel_statistics_match_numpy():
    images = np.random.default_rng(0).integers(0, 256, (2500, 4, 5, 3), np.uint8)
    images[..., 2] = 7
    rows = np.arange(0, 2500, 2)
    mean, std = data.channel_statistics(images, rows)
    pixels = images[rows].astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std[:2], pixels.std((0, 1, 2))[:2], rtol=1e-12)
    assert std[2] == 1 / 255


@real_data("cifar10")
def test_the_second_start_on_cifar10_takes_less_than_a_second(cache):
    builder = datasets.make_builder("cifar10", data_dir=None, cache_dir=str(cache))
    data.load_arrays(builder, "train", cache)
    begin = time.monotonic()
    builder = datasets.make_builder("cifar10", data_dir=None, cache_dir=str(cache))
    arrays = data.load_arrays(builder, "train", cache)
    assert time.monotonic() - begin < 1
    assert arrays.images.shape == (50000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(arrays.labels), [5000] * 10)
    assert arrays.class_names[0] == "airplane"


def test_training_never_opens_the_test_split(monkeypatch):
    opened = []
    load = data.load_arrays

    def spy(builder, split, *rest):
        opened.append(split)
        return load(builder, split, *rest)

    monkeypatch.setattr(data, "load_arrays", spy)
    devices = mesh.make_mesh(jax.devices()[:2])
    facts, train, validation = experiment.load_training(make_config(), devices, print)
    assert opened == ["train"]
    assert facts.train_examples == len(train.indices) == 4500
    assert facts.validation_examples == len(validation.indices) == 500
    assert not set(np.asarray(train.indices)) & set(np.asarray(validation.indices))
    assert data.Facts.from_json(json.loads(json.dumps(dataclasses.asdict(facts)))) == facts
