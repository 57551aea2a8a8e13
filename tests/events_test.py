"""TensorBoard's event files of a run, read back with TensorBoard's own reader."""

import errno
import io
import itertools
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data
from tensorboard.util import tensor_util

from cifar_cnn.events import Events
from cifar_cnn.report import small
from tests import commands

TAGS = {
    "train_loss": "loss/training",
    "validation_loss": "loss/validation",
    "train_accuracy": "accuracy/training",
    "validation_accuracy": "accuracy/validation",
    "learning_rate": "learning_rate",
}


def opened(workdir):
    """What TensorBoard knows of a run."""
    multiplexer = EventMultiplexer(size_guidance={"tensors": 0}).AddRunsFromDirectory(str(workdir))
    multiplexer.Reload()
    return multiplexer.GetAccumulator("tensorboard")


def values(events, tag):
    """(step, value) pairs of a tag, in the order in which they were written."""
    return [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]


def check_scalars(workdir):
    """Every number of metrics.jsonl is there once, and no other."""
    events = opened(workdir)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for key, tag in TAGS.items():
        wanted = [(line["step"], line[key]) for line in lines if key in line]
        found = [(step, float(value)) for step, value in values(events, tag)]
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in wanted], tag


def test_scalars_are_those_of_metrics_jsonl(trained):
    check_scalars(trained)


def test_every_validation_has_its_pictures(trained):
    events = opened(trained)
    steps = [step for step, _ in values(events, "accuracy/validation")]
    for tag in ("confusion_matrix", "predictions"):
        pictures = values(events, tag)
        assert [step for step, _ in pictures] == steps
        with Image.open(io.BytesIO(pictures[-1][1][2])) as picture:  # After width and height.
            assert min(picture.size) > 200


def hyper_parameters(workdir):
    plugin = opened(workdir).SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert plugin.plugin_name == "hparams"
    return parse_session_start_info_plugin_data(plugin.content).hparams


def test_hyper_parameters_are_the_config(trained):
    found = hyper_parameters(trained)
    assert found["optim.learning_rate"].number_value == pytest.approx(0.003)
    assert "run.platform" not in found


def test_hyper_parameters_may_be_any_plain_value(tmp_path):
    config = {"bytes": "a\udcffb", "big": 2**53 + 1, "huge": 10**400, "inf": float("inf")}
    with Events(tmp_path, {**config, "on": True, "sizes": (1, (2,))}, keep_to_step=0):
        pass
    found = hyper_parameters(tmp_path)
    assert found["bytes"].string_value == r"a\xffb"
    assert found["big"].string_value == str(2**53 + 1)
    assert found["inf"].string_value == "inf"
    assert found["on"].bool_value is True
    assert found["sizes"].string_value == "(1, (2,))"


def test_a_run_that_is_killed_and_resumed_shows_each_number_once(tmp_path):
    flags = ("--config.train.epochs=3",)  # As of `trained`, whose programs are in the cache.
    process = commands.start(
        "-m", "cifar_cnn.main", *commands.TINY, f"--workdir={tmp_path}", *flags
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoints" / "45").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    commands.finish(process)
    assert commands.train(tmp_path, *flags, "--quiet") == ""
    assert len(os.listdir(tmp_path / "tensorboard")) == 2
    check_scalars(tmp_path)


def test_a_resume_takes_back_what_was_lost_though_the_clock_jumps(tmp_path, monkeypatch):
    clock = itertools.count(2e9, -1e6)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    found = []
    # Resumed twice, and before the first checkpoint.
    for keep, steps in ((0, (10, 20)), (0, (10, 20, 30, 40)), (20, (30, 40)), (30, (40,))):
        with Events(tmp_path, {}, keep_to_step=keep) as events:
            for step in steps:
                events.write(step, train_loss=len(found))
        shown = values(opened(tmp_path), "loss/training")
        found.append([(step, int(value)) for step, value in shown])
    assert found[1] == [(10, 1), (20, 1), (30, 1), (40, 1)]
    assert found[2] == [(10, 1), (20, 1), (30, 2), (40, 2)]
    assert found[3] == [(10, 1), (20, 1), (30, 2), (40, 3)]


@pytest.mark.parametrize("written", [None, 7])
def test_a_disk_that_is_full_is_said_once_and_ends_nothing(tmp_path, monkeypatch, written):
    """The disk takes nothing any more, or a part of a record."""
    write, said = os.write, []

    def full(file, record):
        if written is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, record[:written])

    with Events(tmp_path, {}, keep_to_step=0, say=said.append) as events:
        events.write(10, train_loss=0.5)
        monkeypatch.setattr(os, "write", full)
        events.write(20, train_loss=0.25)
        monkeypatch.undo()
        events.write(30, train_loss=0.125)
        events.picture(30, "predictions", np.zeros((4, 4, 3), np.uint8))
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert values(opened(tmp_path), "loss/training") == [(10, 0.5)]
    # The next start goes on in a file of its own.
    with Events(tmp_path, {}, keep_to_step=10, say=said.append) as events:
        events.write(20, train_loss=0.25)
    assert values(opened(tmp_path), "loss/training") == [(10, 0.5), (20, 0.25)]
    shutil.rmtree(tmp_path / "tensorboard")
    (tmp_path / "tensorboard").write_text("")
    with Events(tmp_path, {}, keep_to_step=0, say=said.append) as events:
        events.write(10, train_loss=0.5)
    assert len(said) == 2


def test_small_pictures_show_what_they_are_given():
    names = ["cat", "dog", "frog"]
    matrix = np.array([[9, 1, 0], [0, 10, 0], [5, 5, 0]])
    picture = small.confusion_picture(matrix, names)
    other = small.confusion_picture(matrix.T, names)
    assert picture.dtype == np.uint8
    assert picture.shape == other.shape
    assert (picture != other).any()
    assert small.confusion_picture(np.eye(100, dtype=int), [str(k) for k in range(100)]).ndim == 3
    images = np.random.default_rng(0).integers(0, 256, (10, 28, 28, 1), np.uint8)
    right = small.predictions_picture(images, np.zeros(10, int), np.zeros(10, int), names)
    wrong = small.predictions_picture(images, np.zeros(10, int), np.ones(10, int), names)
    assert right.shape == wrong.shape
    assert (right != wrong).any()


def test_pictures_of_many_classes_and_of_any_names():
    matrix = np.zeros((3000, 3000), int)
    np.fill_diagonal(matrix, 5)
    begin = time.monotonic()
    picture = small.confusion_picture(matrix, [str(k) for k in range(3000)])
    assert time.monotonic() - begin < 5
    assert max(picture.shape) < 900
    assert tuple(picture[24 + 400, 4 + 400]) == (8, 81, 156)  # The diagonal.
    assert tuple(picture[24 + 400, 4 + 300]) == (255, 255, 255)
    names = ["\udcff", "\n"]
    assert small.confusion_picture(np.eye(2, dtype=int), names).ndim == 3
    images = np.zeros((1, 8, 8, 3), np.uint8)
    assert small.predictions_picture(images, [0], [1], names).ndim == 3
