"""TensorBoard's event files of a run, read back with TensorBoard's own reader."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from cifar_cnn.events import Events
from cifar_cnn.report import small
from tests import commands


def opened(workdir):
    """What TensorBoard knows of a run."""
    multiplexer = EventMultiplexer(size_guidance={"images": 0, "scalars": 0}).AddRunsFromDirectory(
        str(workdir)
    )
    multiplexer.Reload()
    return multiplexer.GetAccumulator("tensorboard")


def test_scalars_are_those_of_metrics_jsonl(trained):
    events = opened(trained)
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    for key, tag in (
        ("train_loss", "loss/training"),
        ("validation_loss", "loss/validation"),
        ("train_accuracy", "accuracy/training"),
        ("validation_accuracy", "accuracy/validation"),
        ("learning_rate", "learning_rate"),
    ):
        wanted = {line["step"]: line[key] for line in lines if key in line}
        found = {event.step: event.value for event in events.Scalars(tag)}
        assert found == pytest.approx(wanted, rel=1e-6)


def test_every_validation_has_its_pictures(trained):
    events = opened(trained)
    steps = [event.step for event in events.Scalars("accuracy/validation")]
    for tag in ("confusion_matrix", "predictions"):
        pictures = events.Images(tag)
        assert [picture.step for picture in pictures] == steps
        with Image.open(io.BytesIO(pictures[-1].encoded_image_string)) as picture:
            assert min(picture.size) > 200


def test_hyper_parameters_are_the_config(trained):
    plugins = opened(trained).SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert plugins.plugin_name == "hparams"
    assert b"optim.learning_rate" in plugins.content
    assert b"run.platform" not in plugins.content


def test_a_resumed_run_takes_back_what_was_lost(tmp_path):
    commands.train(tmp_path, "--config.train.epochs=2")
    with Events(tmp_path, {}, keep_to_step=30) as events:
        events.write(40, train_loss=0.25)
    found = {event.step: event.value for event in opened(tmp_path).Scalars("loss/training")}
    assert max(found) == 40
    assert found[40] == 0.25
    assert 45 not in found
    assert 20 in found


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
