"""The evaluation script against scikit-learn, computed from the predictions that it writes."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sklearn_metrics

from cifar_cnn import cli
from cifar_cnn.evaluate import evaluate_run
from scripts import evaluate as script
from tests import commands

SCRIPT = "scripts/evaluate.py"


@pytest.fixture(scope="module")
def trained(trained, tmp_path_factory):
    """A copy of the suite's run, because evaluations are written into it."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("evaluate") / "run")


@pytest.fixture
def refusal(monkeypatch, capsys):
    """Runs the script with some flags; returns the one line on stderr that it ends with."""

    def run(flags, code):
        monkeypatch.setattr(sys, "argv", [SCRIPT, *flags])
        assert cli.run(script.main) == code
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    return run


def test_figures_equal_those_recomputed_from_the_predictions(trained):
    out = commands.run(SCRIPT, f"--workdir={trained}")
    step = json.loads(out.split("checkpoint of step ")[1].split(",")[0])
    folder = trained / "eval" / f"test-{step}"
    assert {p.name for p in folder.iterdir()} == {
        "metrics.json", "confusion_matrix.png", "confusion_matrix.csv", "predictions.csv",
    }  # fmt: skip
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    report = json.loads((folder / "metrics.json").read_text())
    names = report["class_names"]
    assert len(rows) == report["examples"] == 1000
    assert sorted(int(r["index"]) for r in rows) == list(range(1000))
    true = np.array([int(r["true"]) for r in rows])
    predicted = np.array([int(r["predicted"]) for r in rows])
    probabilities = np.array([[float(r[f"p_{name}"]) for name in names] for r in rows])
    np.testing.assert_array_equal(probabilities.argmax(1), predicted)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    assert report["accuracy"] == pytest.approx(np.mean(true == predicted), abs=1e-12)
    assert report["misclassification_rate"] == pytest.approx(1 - report["accuracy"])
    assert report["cross_entropy"] == pytest.approx(
        sklearn_metrics.log_loss(true, probabilities), rel=1e-6
    )
    assert report["top_k"]["5"] == pytest.approx(
        sklearn_metrics.top_k_accuracy_score(true, probabilities, k=5)
    )
    expected = sklearn_metrics.classification_report(
        true, predicted, target_names=names, output_dict=True, zero_division=0
    )
    for row in report["per_class"]:
        assert row["recall"] == pytest.approx(expected[row["name"]]["recall"])
        assert row["support"] == expected[row["name"]]["support"]
    with (folder / "confusion_matrix.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["true \\ predicted", *names]
    matrix = np.array([[int(x) for x in line[1:]] for line in table[1:]])
    np.testing.assert_array_equal(matrix, sklearn_metrics.confusion_matrix(true, predicted))
    with Image.open(folder / "confusion_matrix.png") as picture:
        assert min(picture.size) > 600
    assert f"{report['accuracy']:.4f}" in out

    out = commands.run(SCRIPT, f"--workdir={trained}", "--rows=predicted", "--cpu_devices=1")
    with (folder / "confusion_matrix.csv").open(newline="") as file:
        turned = list(csv.reader(file))
    assert turned[0][0] == "predicted \\ true"
    turned = np.array([[int(x) for x in line[1:]] for line in turned[1:]])
    # Another number of devices: the same predictions, but for ties in the last bit.
    assert np.abs(turned.T - matrix).sum() <= 2


def evaluate(workdir, split="test", which="best", tta=False):
    return evaluate_run(workdir, split=split, which=which, tta=tta, rows="true", settings={})


def test_validation_agrees_with_training_and_parts_do_not_overlap(trained):
    lines = [json.loads(x) for x in (trained / "metrics.jsonl").read_text().splitlines()]
    validated = {x["step"]: x for x in lines if "validation_accuracy" in x}
    report = evaluate(trained, "validation", "latest")
    evaluate(trained, "train", "latest")
    last = max(validated)
    assert report["examples"] == 500
    assert report["accuracy"] == pytest.approx(validated[last]["validation_accuracy"])
    assert report["cross_entropy"] == pytest.approx(validated[last]["validation_loss"], rel=1e-5)

    def indices(part):
        with (trained / "eval" / f"{part}-{last}" / "predictions.csv").open(newline="") as file:
            return {int(row["index"]) for row in csv.DictReader(file)}

    assert len(indices("train")) == 4500
    assert indices("train") | indices("validation") == set(range(5000))


def test_best_is_the_highest_validation_accuracy_and_steps_can_be_named(trained):
    lines = [json.loads(x) for x in (trained / "metrics.jsonl").read_text().splitlines()]
    scores = {x["step"]: x["validation_accuracy"] for x in lines if "validation_accuracy" in x}
    best = max(scores, key=lambda step: (scores[step], step))
    assert evaluate(trained)["step"] == best
    assert evaluate(trained, which="90")["step"] == 90


def test_tta_is_written_apart(trained):
    evaluate(trained, which="latest", tta=True)
    report = json.loads((trained / "eval" / "test-135-tta" / "metrics.json").read_text())
    assert report["tta"] is True
    assert report["examples"] == 1000


def test_mistakes_are_one_line(trained, tmp_path, refusal):
    empty, broken, old = tmp_path / "empty", tmp_path / "broken", tmp_path / "old"
    shutil.copytree(trained, old)
    shutil.copytree(trained, empty, ignore=shutil.ignore_patterns("checkpoints"))
    shutil.copytree(empty, broken)
    (broken / "config.json").write_text("{")
    about = json.loads((old / "run.json").read_text())
    del about["format"]
    (old / "run.json").write_text(json.dumps(about))
    cases = {
        (f"--workdir={tmp_path}",): "is not a run directory",
        ("--workdir=nowhere",): "is not a run directory",
        (f"--workdir={trained}", "--split=dev"): "expected one of: test, train, validation",
        (f"--workdir={trained}", "--rows=class"): "expected one of: predicted, true",
        (f"--workdir={trained}", "--checkpoint=7"): "expected best, latest or one of",
        (f"--workdir={empty}",): "no checkpoint in",
        (f"--workdir={broken}",): "config.json cannot be read",
        (f"--workdir={old}",): "another version of cifar_cnn",
    }
    for flags, words in cases.items():
        assert words in refusal(flags, 2)


def test_a_damaged_checkpoint_is_named_and_not_touched(trained, tmp_path, refusal):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    largest = max((copy / "checkpoints" / "135").rglob("d/*"), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    err = refusal((f"--workdir={copy}", "--checkpoint=135"), 1)
    assert "checkpoints/135 is damaged" in err
    assert (copy / "checkpoints" / "135").is_dir()
