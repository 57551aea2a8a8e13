"""A TFDS set whose images have several sizes: prepared, trained on, evaluated as any other."""

import io
import json
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cifar_cnn import data, datasets, experiment, filtering, predict, shift, train
from cifar_cnn.checks import UsageError
from cifar_cnn.evaluate import evaluate_run
from cifar_cnn.explore import explore
from configs import default
from tests import commands
from tests.cifar_archives import run
from tests.conftest import make_config

COLOURS = {"blue": (40, 60, 220), "red": (220, 50, 40)}
COUNTS = {"train": 40, "test": 12}  # Of each class.
KINDS = (("RGB", "PNG"), ("RGB", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("L", "JPEG"))


def picture(name, number):
    """The bytes of a noisy picture of a colour: five kinds, three sizes, some on their side."""
    height, width = ((20, 31), (44, 24), (16, 16))[number % 3]
    noise = np.random.RandomState(number).randint(-35, 36, (height, width, 3))
    pixels = (np.array(COLOURS[name]) + noise).clip(0, 255).astype(np.uint8)
    pixels[: height // 2] //= 2  # Up and down can be told apart.
    mode, kind = KINDS[number % 5]
    exif = Image.Exif()
    exif[0x112] = (1, 6, 3)[number % 3]
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, exif=exif.tobytes())
    return buffer.getvalue()


class SeveralSizes(tfds.core.GeneratorBasedBuilder):
    """Pictures as files have them, of which TFDS knows neither height nor width."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None
    damaged = None  # (split, number) of a picture that breaks off.

    def _info(self):
        label = tfds.features.ClassLabel(names=list(COLOURS))
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": label}),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split):
        for name in COLOURS:
            for number in range(COUNTS[split]):
                content = picture(name, number + 100 * len(split))
                if (split, number) == self.damaged:
                    content = content[: len(content) // 2]
                yield f"{name} {number}", {"image": content, "label": name}


def prepare(folder, monkeypatch=None, **attributes):
    for name, value in attributes.items():
        monkeypatch.setattr(SeveralSizes, name, value)
    assert run("--name=several_sizes", f"--data_dir={folder}") == 0
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data directory with the set, made by the command that users have."""
    return prepare(tmp_path_factory.mktemp("sets"))


def config_of(prepared, tmp_path, **overrides):
    config = make_config(
        {
            "data.name": "several_sizes", "run.data_dir": str(prepared),
            "run.cache_dir": str(tmp_path / "cache"), "data.validation_size": 0.25, **overrides,
        }
    )  # fmt: skip
    experiment.check(config, default.get_config().to_dict())
    return config


def load(config, split="train", say=None):
    tell = [].append if say is None else say.append
    builder = experiment.make_builder(config, tell)
    return data.load_arrays(builder, split, experiment.cache_dir(config), tell)


def as_set(arrays):
    return sorted(
        (int(label), image.tobytes())
        for image, label in zip(arrays.images, arrays.labels, strict=True)
    )


OPTIONS = (
    {},
    {"data.image_size": (12, 20), "data.fit": "pad"},
    {"data.image_size": 12, "data.channels": 1, "data.fit": "stretch"},
)


@pytest.mark.parametrize("options", OPTIONS)
def test_images_are_those_of_a_folder_of_the_same_files(prepared, tmp_path, options):
    for split, count in COUNTS.items():
        for name in COLOURS:
            for number in range(count):
                path = tmp_path / "folder" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture(name, number + 100 * len(split)))
    own = {"data.name": "shapes10", "data.folder": str(tmp_path / "folder"), "run.data_dir": ""}
    for split, count in COUNTS.items():
        arrays = load(config_of(prepared, tmp_path, **options), split)
        assert len(arrays.labels) == 2 * count
        assert as_set(arrays) == as_set(
            load(config_of(prepared, tmp_path, **options, **own), split)
        )


def test_each_way_of_reading_has_a_cache_and_a_fingerprint_of_its_own(prepared, tmp_path):
    prints = set()
    for options in ({}, {"data.image_size": 16}, {"data.channels": 1}, {"data.fit": "pad"}):
        config, said = config_of(prepared, tmp_path, **options), []
        first = load(config, say=said)
        assert len([line for line in said if "decoding several_sizes train" in line]) == 1
        assert first.images.shape[1:] == experiment.describe_data(config)[1]
        again = []
        np.testing.assert_array_equal(load(config, say=again).images, first.images)
        assert not again
        prints.add(data.fingerprint(experiment.make_builder(config)))
    assert len(prints) == 4


def test_a_set_of_one_size_stays_as_it_is(cache):
    config = make_config()
    builder = experiment.make_builder(config, [].append)
    plain = datasets.make_builder("shapes10", data_dir=None, cache_dir=cache)
    assert data.fingerprint(builder) == data.fingerprint(plain)
    config["data"] |= {"image_size": 16, "fit": "pad", "channels": 1}
    assert data.fingerprint(experiment.make_builder(config, [].append)) == data.fingerprint(plain)


@pytest.fixture(scope="module")
def trained_on_it(prepared, tmp_path_factory):
    """A run by the main command, whose process knows the set by its files alone."""
    base = tmp_path_factory.mktemp("run")
    commands.train(
        base / "run", "--config.data.name=several_sizes", f"--config.run.data_dir={prepared}",
        "--config.data.validation_size=0.25", "--config.data.image_size=16",
        "--config.data.fit=pad", "--config.train.epochs=1", "--config.model.plain.dense=()",
        "--config.model.plain.filters=((8,),)", "--config.augment.names=()",
        "--config.train.batch_size=20", "--config.run.cpu_devices=1",
    )  # fmt: skip
    return base / "run"


def test_a_run_is_trained_and_evaluated(trained_on_it, prepared):
    facts = json.loads((trained_on_it / "run.json").read_text())["data"]
    assert facts["image_shape"] == [16, 16, 3]
    assert (facts["train_examples"], facts["validation_examples"]) == (60, 20)
    report = evaluate_run(
        trained_on_it, split="test", which="best", tta=False, rows="true", settings={}
    )
    assert report["examples"] == 24
    assert report["class_names"] == list(COLOURS)


def test_files_are_read_as_the_set_was(trained_on_it, prepared, tmp_path, capsys):
    """The same pictures as files: predicted with the probabilities that the evaluation found."""
    trained = experiment.open_trained(trained_on_it, say=[].append)
    examples = trained.examples("test", [].append)
    probabilities = predict.make_predictor(trained)(np.asarray(examples.images))
    paths = [tmp_path / f"{name}-{i}.png" for name in COLOURS for i in range(COUNTS["test"])]
    for path in paths:
        name, number = path.stem.split("-")
        path.write_bytes(picture(name, int(number) + 400))
    predict.predict_files(trained_on_it, paths, as_json=True)
    found = [p["top"] for p in json.loads(capsys.readouterr().out)["predictions"]]
    blue = [next(c["probability"] for c in classes if c["class"] == "blue") for classes in found]
    np.testing.assert_allclose(sorted(blue), sorted(probabilities[:, 0]), rtol=0, atol=1e-6)
    assert shift.natural_fill(trained, [].append) in ("edge", "zero")


def test_a_run_on_images_of_another_size_does_not_go_on(trained_on_it):
    config = json.loads((trained_on_it / "config.json").read_text())
    config["data"]["image_size"] = 20
    with pytest.raises(UsageError, match=r"image_size") as caught:
        train.train_and_evaluate(config, trained_on_it)
    assert "\n" not in str(caught.value)


def test_it_is_looked_at_and_filtered(prepared, tmp_path):
    config = config_of(prepared, tmp_path, **{"data.image_size": 12})
    summary = explore(config, tmp_path / "out", say=[].append)
    assert summary["image_shape"] == [12, 12, 3]
    assert summary["splits"]["train"]["class_counts"] == [40, 40]
    title, image = filtering.read_source("several_sizes:3", gray=False, data_dir=str(prepared))
    assert image.shape[:2] in {(20, 31), (31, 20), (44, 24), (24, 44), (16, 16)}
    assert re.search(r"train image 3 \(class (blue|red)\)", title)
    with pytest.raises(UsageError, match="has 80 images in its train split, expected 0 to 79"):
        filtering.read_source("several_sizes:80", gray=False, data_dir=str(prepared))


def test_a_damaged_picture_is_one_line(tmp_path, monkeypatch):
    prepare(tmp_path / "sets", monkeypatch, damaged=("train", 5))
    with pytest.raises(UsageError) as caught:
        load(config_of(tmp_path / "sets", tmp_path))
    message = str(caught.value)
    assert re.match(r"image \d+ of train is broken or not complete: ", message)
    assert f"{tmp_path}/sets/several_sizes/1.0.0 is damaged, delete that directory" in message
    assert "\n" not in message
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_more_pixels_than_memory_are_refused_before_reading(prepared, tmp_path):
    builder = experiment.make_builder(config_of(prepared, tmp_path))
    huge = datasets.resize(builder.builder, image_shape=(10**6, 10**6, 3), fit="crop")
    with pytest.raises(UsageError, match=r"choose a smaller data.image_size"):
        huge.as_data_source("train")


def test_a_set_without_test_pictures_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.delitem(COUNTS, "test")
    config = config_of(prepare(tmp_path / "sets"), tmp_path)
    facts = data.Facts("x", "0", (32, 32, 3), tuple(COLOURS), (0.5,) * 3, (0.5,) * 3, 60, 20)
    with pytest.raises(UsageError, match=r"has no split 'test': evaluate with --split=validation"):
        experiment.load_evaluation(config, facts, "test", None, [].append)
