"""The numbers of a classification report against plain counting."""

import json
import math

import numpy as np
import pytest

from cifar_cnn.checks import UsageError
from cifar_cnn.report.classification import (
    classification_metrics,
    expected_calibration_error,
    format_report,
)


def random_case(n=500, classes=7, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += rng.normal(1, 1, n)
    return logits, labels, [f"class {k}" for k in range(classes)]


def softmax(logits):
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def one_hot_logits(predicted, classes, scale=5.0):
    return scale * np.eye(classes)[np.asarray(predicted)]


def test_scores_equal_those_counted_by_hand():
    logits, labels, names = random_case()
    got = classification_metrics(logits, labels, names, top_k=(1, 3, 5))
    predicted = [max(range(7), key=lambda k, row=row: row[k]) for row in logits]
    hits = sum(p == y for p, y in zip(predicted, labels, strict=True))
    assert got["examples"] == 500
    assert got["correct"] == hits
    assert got["accuracy"] == hits / 500
    assert got["misclassification_rate"] == (500 - hits) / 500
    recalls, weights = [], []
    for k, row in enumerate(got["per_class"]):
        true_positives = sum(p == k == y for p, y in zip(predicted, labels, strict=True))
        support, guesses = list(labels).count(k), predicted.count(k)
        assert (row["name"], row["label"]) == (names[k], k)
        assert (row["support"], row["predicted"]) == (support, guesses)
        assert row["precision"] == pytest.approx(true_positives / guesses)
        assert row["recall"] == pytest.approx(true_positives / support)
        assert row["f1"] == pytest.approx(2 * true_positives / (support + guesses))
        recalls.append(true_positives / support)
        weights.append(support / 500)
    assert got["macro"]["recall"] == pytest.approx(np.mean(recalls))
    assert got["weighted"]["recall"] == pytest.approx(np.dot(recalls, weights))
    assert got["weighted"]["recall"] == pytest.approx(got["accuracy"])
    for k in (1, 3, 5):
        order = np.argsort(-logits, axis=1)[:, :k]
        assert got["top_k"][str(k)] == np.mean(
            [y in row for y, row in zip(labels, order, strict=True)]
        )


def test_cross_entropy_and_calibration_follow_their_formulas():
    logits, labels, names = random_case()
    got = classification_metrics(logits, labels, names)
    probabilities = softmax(logits)
    own = probabilities[np.arange(500), labels]
    assert got["cross_entropy"] == pytest.approx(-np.log(own).mean(), abs=1e-12)
    confidence, correct = probabilities.max(axis=1), logits.argmax(axis=1) == labels
    error = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            error += inside.sum() / 500 * gap
    assert got["expected_calibration_error"] == pytest.approx(error, abs=1e-12)


def test_calibration_error_of_a_case_done_by_hand():
    confidences = np.array([0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, False, True, True])
    # Two bins of ten hold two examples each: gaps |0.5 - 0.95| and |1 - 0.55|.
    assert expected_calibration_error(confidences, correct, bins=10) == pytest.approx(0.45)
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0


def test_wilson_interval_follows_its_formula():
    logits = one_hot_logits([0] * 8 + [1] * 2, 2)
    low, high = classification_metrics(logits, np.zeros(10, int), ["a", "b"])[
        "accuracy_interval_95"
    ]
    z, p, n = 1.959963984540054, 0.8, 10
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-9)


def test_absent_and_unpredicted_classes_are_none_in_json_and_told_in_the_text():
    # Labels 0 0 1 1, predictions 0 0 0 2: class 1 is never predicted, 2 has no example, 3 neither.
    got = classification_metrics(
        one_hot_logits([0, 0, 0, 2], 4), np.array([0, 0, 1, 1]), ["a", "b", "c", "d"]
    )
    json.dumps(got, allow_nan=False)
    scores = [[row[key] for key in ("precision", "recall", "f1")] for row in got["per_class"]]
    assert scores == [
        [pytest.approx(2 / 3), 1, pytest.approx(0.8)],
        [None, 0, 0],
        [0, None, 0],
        [None] * 3,
    ]
    # Means over the classes with examples: a and b.
    assert got["macro"] == pytest.approx({"precision": 1 / 3, "recall": 0.5, "f1": 0.4})
    assert got["weighted"] == pytest.approx({"precision": 1 / 3, "recall": 0.5, "f1": 0.4})
    text = format_report(got)
    assert "No example of: c, d." in text
    assert "Never predicted: b, d." in text
    assert "nan" not in text.lower()


@pytest.mark.parametrize(("predicted", "accuracy"), [([0, 1, 2], 1.0), ([1, 2, 0], 0.0)])
def test_perfect_and_all_wrong(predicted, accuracy):
    got = classification_metrics(one_hot_logits(predicted, 3), np.arange(3), ["a", "b", "c"])
    assert got["accuracy"] == accuracy == got["macro"]["f1"] == got["weighted"]["precision"]
    low, high = got["accuracy_interval_95"]
    assert 0 <= low <= accuracy <= high <= 1


def test_one_example_of_two_classes():
    got = classification_metrics(np.array([[0.0, 1.0]]), np.array([1]), ["a", "b"])
    json.dumps(got, allow_nan=False)
    assert got["accuracy"] == 1
    assert got["top_k"] == {"1": 1.0}  # top-5 of two classes would always be right.
    assert got["cross_entropy"] == pytest.approx(math.log(1 + math.exp(-1)))
    assert got["per_class"][0]["f1"] is None
    assert "top-" not in format_report(got)


def test_ties_go_to_the_first_class_in_accuracy_and_in_top_k():
    got = classification_metrics(np.zeros((4, 4)), np.arange(4), list("abcd"), top_k=(1, 2, 3))
    assert got["accuracy"] == 0.25
    assert got["top_k"] == {"1": 0.25, "2": 0.5, "3": 0.75}
    assert got["cross_entropy"] == pytest.approx(math.log(4))


def test_logits_far_apart_do_not_overflow():
    logits = np.array([[3e38, -3e38], [0.0, 2000.0]], np.float32)
    got = classification_metrics(logits, np.array([0, 0]), ["a", "b"])
    assert got["cross_entropy"] == pytest.approx(1000.0)  # mean of 0 and 2000


def test_metrics_are_plain_values():
    logits, labels, names = random_case()
    got = classification_metrics(logits.astype(np.float16), labels.astype(np.uint8), names)
    assert json.loads(json.dumps(got, allow_nan=False)) == got


@pytest.mark.parametrize("classes", [2, 10, 120])
def test_report_is_aligned_for_any_number_and_length_of_names(classes):
    logits, labels, _ = random_case(n=3000, classes=classes)
    names = [f"class {k} " + "x" * (k % 31) for k in range(classes)]
    text = format_report(classification_metrics(logits, labels, names))
    lines = text.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("class  ")) :]
    assert len({len(line) for line in table}) == 1
    assert len(table) == classes + 5  # header, two rules, two means
    assert table[-2].startswith("macro mean")
    assert table[-1].startswith("weighted mean")
    for word in ("Wilson interval", "misclassification rate", "cross-entropy", "calibration"):
        assert word in text


def test_report_shortens_long_lists_of_names():
    text = format_report(
        classification_metrics(np.zeros((1, 100)), np.array([0]), [f"n{k}" for k in range(100)])
    )
    assert "n1, n2, n3, n4, n5, n6, n7, n8 and 91 more" in text


@pytest.mark.parametrize(
    ("logits", "labels", "names", "message"),
    [
        (np.zeros((2, 3)), [0, 3], "abc", r"labels\[1\] is 3, expected 0 to 2"),
        (np.zeros((2, 3)), [-1, 0], "abc", r"labels\[0\] is -1"),
        (np.zeros((2, 3)), [0, 1, 2], "abc", r"logits has shape \(2, 3\), expected \(3, 3\)"),
        (np.zeros((2, 3)), [0, 1], "ab", r"expected \(2, 2\)"),
        (np.zeros((2, 3)), [0.0, 1.0], "abc", "dtype float64, expected integers"),
        (np.zeros((0, 3)), np.zeros(0, int), "abc", "labels is empty"),
        (np.zeros((2, 3)), [[0], [1]], "abc", "labels has shape"),
        (np.zeros((2, 1)), [0, 0], "a", "expected at least 2"),
        (np.array([[0, np.nan], [np.inf, 0]]), [0, 1], "ab", "2 of 2 examples are not finite"),
    ],
)
def test_bad_input_is_one_line(logits, labels, names, message):
    with pytest.raises(UsageError, match=message) as caught:
        classification_metrics(logits, np.asarray(labels), list(names))
    assert "\n" not in str(caught.value)


def test_top_k_below_one_is_refused():
    with pytest.raises(UsageError, match="top_k is 0"):
        classification_metrics(np.zeros((1, 2)), np.array([0]), ["a", "b"], top_k=(0,))
