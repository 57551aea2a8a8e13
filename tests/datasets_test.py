import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cifar_cnn import datasets
from cifar_cnn.checks import MachineError, UsageError
from cifar_cnn.datasets import names, shapes10
from cifar_cnn.datasets.png import encode_png

ROOT = pathlib.Path(__file__).parent.parent
CIFAR10_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"


@pytest.fixture
def small_shapes10(monkeypatch):
    monkeypatch.setattr(shapes10, "NUM_EXAMPLES", {"train": 20, "test": 10})


@pytest.fixture
def prepared(small_shapes10, tmp_path) -> pathlib.Path:
    """A data directory with a small shapes10, under the name of a set that TFDS lacks."""
    datasets.make_builder("shapes10", data_dir=str(tmp_path), cache_dir=tmp_path)
    (tmp_path / "tensorflow_datasets").rename(tmp_path / "data")
    return tmp_path / "data"


def error_of(name: str, data_dir, cache_dir="/nonexistent") -> str:
    start = time.monotonic()
    with pytest.raises(UsageError) as raised:
        datasets.make_builder(name, data_dir=data_dir and str(data_dir), cache_dir=cache_dir)
    assert time.monotonic() - start < 5
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["cifarten", "CIFAR10", "", "../x", "a/b/c", "cifar10:3", 3])
def test_unknown_name_lists_the_known_ones(name, tmp_path):
    message = error_of(name, tmp_path)
    assert f"unknown data set {name!r}" in message
    assert "cifar10, cifar100, emnist, fashion_mnist, kmnist, mnist, shapes10" in message
    assert "any TFDS image-classification set prepared as array_record" in message
    assert len(message) < 300


def test_unknown_name_suggests_the_nearest(tmp_path):
    assert "did you mean 'cifar10'?" in error_of("CIFAR-10", tmp_path)
    assert "did you mean 'fashion_mnist'?" in error_of("fashionmnist", tmp_path)


def test_unknown_config_and_version(tmp_path):
    assert "expected one of: balanced, byclass" in error_of("emnist/foo", tmp_path)
    assert "it has no configs" in error_of("cifar10/foo", tmp_path)
    assert "no version 2.0.0" in error_of("cifar10:2.0.0", tmp_path)


@pytest.mark.parametrize("data_dir", ["there", "missing"])
def test_not_prepared_names_the_place_and_the_remedies(data_dir, tmp_path):
    (tmp_path / "there").mkdir()
    folder = tmp_path / data_dir
    message = error_of("cifar10", folder)
    assert "'cifar10' is not prepared" in message
    assert f"{folder}/cifar10/3.0.2 is missing" in message
    assert f"python scripts/prepare_data.py --name=cifar10 --data_dir={folder}" in message
    assert "--archive=cifar-10-python.tar.gz" in message
    assert "--config=configs/quickstart.py" in message
    assert "--archive" not in error_of("mnist", folder)
    assert sorted(os.listdir(tmp_path)) == ["there"]


def test_default_directory_is_that_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    for data_dir in (None, ""):
        message = error_of("cifar10", data_dir)
        assert f"{tmp_path}/tfds/cifar10/3.0.2 is missing" in message
        assert "--data_dir" not in message
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert names.default_data_dir(None) == os.path.expanduser("~/tensorflow_datasets")


def test_older_version_on_disk_is_offered(prepared):
    (prepared / "shapes10").rename(prepared / "mnist")
    (prepared / "mnist" / "1.0.0").rename(prepared / "mnist" / "2.0.0")
    assert "there is version 2.0.0: name it as in mnist:2.0.0" in error_of("mnist", prepared)


def test_set_that_only_the_disk_knows(prepared):
    info = prepared / "shapes10" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"shapes10"', '"my_shapes"'))
    (prepared / "shapes10").rename(prepared / "my_shapes")
    for file in (prepared / "my_shapes" / "1.0.0").glob("shapes10-*"):
        file.rename(file.with_name(file.name.replace("shapes10", "my_shapes")))
    for name in ("my_shapes", "my_shapes:1.0.0"):
        builder = datasets.make_builder(name, data_dir=str(prepared), cache_dir="/nonexistent")
        assert builder.info.features["label"].names == list(shapes10.CLASS_NAMES)
        assert len(builder.as_data_source("train")) == 20
    assert "no version 2.0.0" not in error_of("my_shapes:2.0.0", prepared)


CUSTOM = {"pythonClassName": "evil_features.Feature", "text": {}}
TEXT = "tensorflow_datasets.core.features.text_feature.Text"


@pytest.mark.parametrize(
    "feature",
    [
        CUSTOM,
        {"python_class_name": "evil_features.Feature", "text": {}},
        {"type": "evil_features.Feature", "content": {}},
        {"pythonClassName": TEXT, "sequence": {"feature": CUSTOM, "length": "-1"}},
        {"pythonClassName": TEXT, "jsonFeature": {"json": json.dumps({"a": [CUSTOM]})}},
        {"type": TEXT, "content": json.dumps({"a": CUSTOM}), "proto_cls": "x"},
    ],
)
def test_a_set_imports_no_module_that_its_files_name(feature, prepared, tmp_path, monkeypatch):
    (tmp_path / "evil_features.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    (prepared / "shapes10").rename(prepared / "my_shapes")
    path = prepared / "my_shapes" / "1.0.0" / "features.json"
    about = json.loads(path.read_text())
    about["featuresDict"]["features"]["more"] = feature
    path.write_text(json.dumps(about))
    expected = "names the class 'evil_features.Feature', expected TFDS's own features"
    assert expected in error_of("my_shapes", prepared)
    with pytest.raises(UsageError, match=expected):
        datasets.read_metadata("my_shapes", data_dir=str(prepared))
    path.write_text("[" * 100_000)
    assert "is damaged (RecursionError)" in error_of("my_shapes", prepared)


def test_tfrecord_format_is_refused(prepared):
    info = prepared / "shapes10" / "1.0.0" / "dataset_info.json"
    values = json.loads(info.read_text()) | {"fileFormat": "tfrecord"}
    info.write_text(json.dumps(values))
    message = error_of("shapes10", prepared)
    assert "tfrecord format, which needs TensorFlow" in message
    assert "--data_dir=DIR" in message


def test_damaged_and_incomplete_sets_are_refused(prepared):
    folder = prepared / "shapes10" / "1.0.0"
    shard = next(folder.glob("*train*"))
    shard.rename(folder / "away")
    assert f"lacks {shard.name}: delete that directory" in error_of("shapes10", prepared)
    (folder / "dataset_info.json").write_text("{")
    assert "is damaged" in error_of("shapes10", prepared)


class TextSet(tfds.core.GeneratorBasedBuilder):
    """A set that is not for image classification."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None

    def _info(self):
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("text", "label"),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"text": "hello", "label": 0}


def test_set_without_images_is_refused(tmp_path):
    TextSet(data_dir=tmp_path).download_and_prepare(file_format="array_record")
    message = error_of("text_set", tmp_path)
    assert "text_set' is not for image classification: it has text (Text) and label" in message


def test_shapes10_is_made_once_in_the_cache(small_shapes10, tmp_path):
    said = []
    for _ in range(2):
        builder = datasets.make_builder(
            "shapes10", data_dir="/proc/read-only", cache_dir=tmp_path / "cache", say=said.append
        )
    folder = tmp_path / "cache" / "tensorflow_datasets" / "shapes10" / "1.0.0"
    assert said == [f"making the embedded data set shapes10, once, in {folder}"]
    assert builder.data_dir == str(folder)
    assert builder.info.supervised_keys == ("image", "label")
    assert [len(builder.as_data_source(s)) for s in ("train", "test")] == [20, 10]
    assert os.listdir(folder.parent.parent) == ["shapes10"]


def test_unwritable_cache_is_a_machine_fault(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"cannot write to .*file/cache"):
        datasets.make_builder(
            "shapes10", data_dir="/nonexistent", cache_dir=tmp_path / "file" / "cache"
        )


def test_killed_while_making_shapes10(small_shapes10, tmp_path):
    """Even SIGKILL leaves nothing that is read later."""
    program = (
        "import os, sys; from cifar_cnn import datasets; "
        "from cifar_cnn.datasets import preparing, shapes10; "
        "shapes10.NUM_EXAMPLES = {'train': 20, 'test': 10}; "
        "preparing.publish = lambda *_: os.kill(os.getpid(), 9); "
        "datasets.make_builder('shapes10', data_dir='/nonexistent', cache_dir=sys.argv[1])"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    assert killed.returncode == -9
    folder = tmp_path / "tensorflow_datasets" / "shapes10"
    assert not folder.exists()
    builder = datasets.make_builder("shapes10", data_dir="/nonexistent", cache_dir=tmp_path)
    assert builder.info.splits["train"].num_examples == 20


def test_no_tensorflow_is_imported(tmp_path, small_shapes10):
    datasets.make_builder("shapes10", data_dir="/nonexistent", cache_dir=tmp_path)
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (5, 7, 3)])
def test_png_is_lossless(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    feature = tfds.features.Image(shape=shape)
    np.testing.assert_array_equal(feature.decode_example_np(encode_png(image).read()), image)


@pytest.mark.skipif(
    not pathlib.Path(os.environ.get("TFDS_DATA_DIR", "/nonexistent"), "cifar10/3.0.2").is_dir(),
    reason="TFDS_DATA_DIR holds no cifar10",
)
@pytest.mark.parametrize("name", ["cifar10", "cifar10:3.0.2"])
def test_real_cifar10(name):
    builder = datasets.make_builder(name, data_dir=None, cache_dir="/nonexistent")
    assert builder.info.features["label"].names == CIFAR10_NAMES.split()
    assert {s: i.num_examples for s, i in builder.info.splits.items()} == {
        "train": 50_000,
        "test": 10_000,
    }
    example = builder.as_data_source("test")[0]
    assert example["image"].shape == (32, 32, 3)
    assert 0 <= example["label"] < 10
