"""The script that prepares data sets: its flags, what it never overwrites, and its faults."""

import os
import subprocess
import sys

import numpy as np
import tensorflow_datasets as tfds

from cifar_cnn import datasets
from cifar_cnn.datasets import cifar, names, preparing, shapes10
from tests import cifar_archives
from tests.cifar_archives import flavour, one_error, run, synthetic_files, write_tar
from tests.conftest import ROOT

small_archives = cifar_archives.small_archives  # For every test here.


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
