"""The predictions file: what is in it, and that the metrics can be recomputed from it."""

import csv
import math
import time

import numpy as np
import pytest

from cifar_cnn.checks import MachineError, UsageError
from cifar_cnn.report.classification import classification_metrics
from cifar_cnn.report.predictions import (
    log_softmax,
    read_predictions_csv,
    write_predictions_csv,
)

NAMES = ["plain", "comma, inside", 'quote " and\nnewline']


def case(n=50, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    logits = (4 * rng.normal(size=(n, classes))).astype(np.float32)
    return rng.permutation(n), rng.integers(0, classes, n), logits


def test_metrics_recomputed_from_the_file_agree(tmp_path):
    indices, labels, logits = case()
    write_predictions_csv(tmp_path / "p.csv", indices, labels, logits, NAMES)
    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[7:] == [f"p_{name}" for name in NAMES]
    losses = [-math.log(float(row["p_" + row["true_name"]])) for row in rows]
    want = classification_metrics(logits, labels, NAMES)
    assert sum(losses) / len(rows) == pytest.approx(want["cross_entropy"], abs=1e-12)
    assert sum(row["true"] == row["predicted"] for row in rows) == want["correct"]
    assert sum(int(row["correct"]) for row in rows) == want["correct"]
    for row, index, label, logit in zip(rows, indices, labels, logits, strict=True):
        assert (int(row["index"]), int(row["true"])) == (index, label)
        assert int(row["predicted"]) == logit.argmax()
        assert row["predicted_name"] == NAMES[logit.argmax()]
        chances = [float(row[f"p_{name}"]) for name in NAMES]
        assert sum(chances) == pytest.approx(1)
        assert float(row["probability"]) == max(chances)


def test_reading_gives_back_what_was_written(tmp_path):
    indices, labels, logits = case()
    write_predictions_csv(tmp_path / "p.csv", indices, labels, logits, NAMES)
    got = read_predictions_csv(tmp_path / "p.csv")
    np.testing.assert_array_equal(got.indices, indices)
    np.testing.assert_array_equal(got.labels, labels)
    np.testing.assert_array_equal(got.predicted, logits.argmax(axis=1))
    np.testing.assert_array_equal(got.probabilities, np.exp(log_softmax(logits)))
    assert got.class_names == tuple(NAMES)
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.csv"]


def test_extreme_logits_and_one_example(tmp_path):
    write_predictions_csv(tmp_path / "p.csv", [7], [1], [[1e4, -1e4]], ["a", "b"])
    got = read_predictions_csv(tmp_path / "p.csv")
    np.testing.assert_array_equal(got.probabilities, [[1.0, 0.0]])


def test_prediction_is_of_the_logits_where_probabilities_round_to_a_tie(tmp_path):
    logits = np.array([[0.0, 1e-17]])
    write_predictions_csv(tmp_path / "p.csv", [0], [1], logits, ["a", "b"])
    got = read_predictions_csv(tmp_path / "p.csv")
    assert got.probabilities[0, 0] == got.probabilities[0, 1]
    assert got.predicted.tolist() == [1]


def test_ten_thousand_rows_are_quick(tmp_path):
    indices, labels, logits = case(10_000, 10)
    # Processor time: a busy machine must not fail the test.
    start = time.process_time()
    write_predictions_csv(tmp_path / "p.csv", indices, labels, logits, [f"n{k}" for k in range(10)])
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    ("indices", "labels", "logits", "message"),
    [
        ([0], [0, 1], np.zeros((2, 3)), "indices has shape"),
        ([0.5, 1], [0, 1], np.zeros((2, 3)), "indices has dtype float64"),
        ([0, 1], [0, 3], np.zeros((2, 3)), r"labels\[1\] is 3"),
        ([0, 1], [0, 1], np.zeros((2, 2)), "logits has shape"),
        ([0, 1], [0, 1], np.full((2, 3), np.inf), "not finite"),
    ],
)
def test_bad_input_is_refused_and_writes_nothing(indices, labels, logits, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        write_predictions_csv(tmp_path / "p.csv", indices, labels, logits, NAMES)
    assert not list(tmp_path.iterdir())


def test_unwritable_path_is_one_line(tmp_path):
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(MachineError, match=r"cannot write .*p\.csv"):
        write_predictions_csv(tmp_path / "p.csv", *case(), NAMES)
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.csv"]


HEADER = "index,true,true_name,predicted,predicted_name,correct,probability,p_a,p_b\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("", "expected the columns"),
        ("a,b\n1,2\n", "expected the columns"),
        (HEADER + "0,0,a,0,a,1,0.5,0.5,0.5\n0,0,a\n", "example row 2: 3 columns, expected 9"),
        (HEADER + "0,0,a,0,a,1,0.5,0.5,much\n", "example row 1: could not convert"),
    ],
)
def test_bad_file_is_one_line(content, message, tmp_path):
    path = tmp_path / "p.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_predictions_csv(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
