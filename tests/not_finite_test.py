"""Validations whose loss is not finite: said at once, never written, and never the best."""

import json
import shutil

import jax.numpy as jnp
import pytest

from cifar_cnn import checkpoint, models, train
from cifar_cnn.checks import MachineError
from cifar_cnn.models.plain import Plain
from cifar_cnn.record import Scalars
from cifar_cnn.report.results import best_validation
from cifar_cnn.runs import list_runs
from tests.conftest import make_config


class NanInEvaluation(Plain):
    """Right in training, as a fault of a compiler or an overflow in running statistics can be."""

    def __call__(self, images, *, train, mask=None):
        logits = super().__call__(images, train=train, mask=mask)
        return logits if train else jnp.full_like(logits, jnp.nan)


def strict_lines(path):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_a_validation_loss_that_is_not_finite_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(models.MODELS, "plain", (NanInEvaluation, models.MODELS["plain"][1]))
    steps = 5
    config = make_config({"data.validation_size": 1000 * 5 - 100 * steps})
    with pytest.raises(MachineError) as caught:
        train.train_and_evaluate(config, tmp_path / "run")
    assert str(caught.value).startswith(f"the validation loss after step {steps} is nan: training")
    assert "there is no checkpoint" in str(caught.value)
    lines = strict_lines(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [steps]
    assert "train_loss" in lines[0]
    assert checkpoint.steps(tmp_path / "run") == []


def test_no_number_that_is_not_finite_becomes_a_line(tmp_path):
    with Scalars(tmp_path / "metrics.jsonl", keep_to_step=0) as scalars:
        scalars.write(1, loss=1.0)
        with pytest.raises(ValueError, match="not JSON compliant"):
            scalars.write(2, loss=float("inf"))
    assert strict_lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]


@pytest.fixture
def old(trained, tmp_path):
    """A run of an older version, which went on after such a validation: that of step 90, with the
    highest accuracy."""
    workdir = tmp_path / "runs" / "old"
    shutil.copytree(trained, workdir, ignore=shutil.ignore_patterns("eval"))
    broken = {"validation_loss": float("nan"), "validation_accuracy": 1.0}
    (workdir / "checkpoints" / "90" / "metrics" / "metrics").write_text(json.dumps(broken))
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["step"] == 90 and "validation_loss" in line:
            line |= broken
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (workdir / "metrics.jsonl").write_text(text)
    scores = {x["step"]: x["validation_accuracy"] for x in lines if "validation_loss" in x}
    del scores[90]
    return workdir, scores


def test_such_a_checkpoint_of_an_older_version_is_not_the_best(old):
    workdir, scores = old
    kept = [step for step in checkpoint.steps(workdir) if step != 90]
    assert checkpoint.choose(workdir, "best") == max(kept, key=lambda step: (scores[step], step))
    assert checkpoint.validation_accuracy(workdir, 90) is None
    accuracy, epoch = best_validation(workdir)
    assert (accuracy, scores[45 * epoch]) == (max(scores.values()),) * 2
    (run,) = list_runs(workdir.parent)
    assert (run["state"], run["validation"]) == ("finished", max(scores.values()))


def test_such_a_checkpoint_is_not_kept_as_the_best(tmp_path):
    from cifar_cnn.state import TrainState

    losses = {1: 0.5, 2: float("nan"), 3: 0.7, 4: 0.8}
    accuracies = {1: 0.3, 2: 0.9, 3: 0.2, 4: 0.1}
    with checkpoint.saving(tmp_path, keep_latest=1, keep_best=1) as save:
        for step, loss in losses.items():
            state = TrainState(jnp.int32(step), {"a": jnp.ones(2)}, {}, (), None)
            scores = {"validation_loss": loss, "validation_accuracy": accuracies[step]}
            save(state, scores, {})
    assert checkpoint.steps(tmp_path) == [1, 4]
