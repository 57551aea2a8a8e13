"""How well a classifier does on a split: the numbers, ready for JSON, and their text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support

from cifar_cnn.checks import check_int
from cifar_cnn.report.predictions import check_logits, log_softmax

SCORES = ("precision", "recall", "f1")


def expected_calibration_error(
    confidences: np.ndarray, correct: np.ndarray, *, bins: int = 15
) -> float:
    """How far confidence lies from accuracy, in [0, 1].

    ECE = sum over bins b of |B_b| / n * |accuracy(B_b) - mean confidence(B_b)|, where B_b holds
    the examples whose highest probability lies in ((b - 1) / bins, b / bins]
    (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3).

    Args:
      confidences: float [n], probability of the predicted class.
      correct: bool [n].
      bins: number of bins of equal width.
    """
    check_int("bins", bins, minimum=1)
    members = confidence_bins(confidences, bins)
    # |B| * |accuracy - confidence| is the difference of two sums: an empty bin divides nothing.
    gaps = np.bincount(members, weights=correct.astype(float) - confidences, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))


def confidence_bins(confidences: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each confidence, from 0: ((b - 1) / bins, b / bins] is the one of number b - 1."""
    return np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)


def top_k_accuracies(
    logits: np.ndarray, labels: np.ndarray, top_k: Sequence[int]
) -> dict[str, float]:
    """Share of examples whose true class is among the k highest logits, for each k.

    k is clipped to K - 1, since the top K of K classes is always right; the keys are the k used.
    Equal logits rank in label order, as argmax does, so top-1 is the accuracy.

    Args:
      logits: float [n, K].
      labels: int [n].
      top_k: values of k, each at least 1.
    """
    for k in top_k:
        check_int("top_k", k, minimum=1)
    classes = logits.shape[1]
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(classes)[None, :] < labels[:, None]
    ranks = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)
    used = sorted({min(k, classes - 1) for k in top_k})
    return {str(k): float((ranks < k).mean()) for k in used}


def classification_metrics(
    logits: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    top_k: Sequence[int] = (1, 5),
    bins: int = 15,
) -> dict[str, Any]:
    """Every number of a classification report, as plain values that JSON can hold.

    The prediction is the argmax, the first one of equals. A score whose denominator is zero is
    None: precision of a class never predicted, recall of a class without examples, f1 of a class
    that is neither. The macro mean (each class the same) and the weighted mean (by support) run
    over the classes that have examples, and there a class never predicted counts with
    precision 0.

    Args:
      logits: float [n, K], any float dtype; probabilities are taken in float64.
      labels: int [n], true classes.
      class_names: K names, in label order.
      top_k: values of k of the top-k accuracies, clipped to K - 1.
      bins: bins of the expected calibration error.

    Returns:
      examples, correct: counts. accuracy, misclassification_rate: shares.
      accuracy_interval_95: [low, high], Wilson score interval (Wilson 1927).
      top_k: {"1": share, ...}. cross_entropy: nats, mean over examples.
      expected_calibration_error, calibration_bins: see the function of that name.
      per_class: for each class name, label, precision, recall, f1, support, predicted (counts).
      macro, weighted: precision, recall, f1.

    Raises:
      UsageError: on shapes that do not match, no example, labels out of range or logits that are
        not finite.
    """
    logits, labels = check_logits(logits, labels, class_names)
    log_probabilities = log_softmax(logits)
    predicted = logits.argmax(axis=1)
    correct = predicted == labels
    hits = int(correct.sum())
    interval = stats.binomtest(hits, len(labels)).proportion_ci(0.95, method="wilson")
    every = np.arange(len(class_names))
    present = np.unique(labels)
    scores = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=np.nan)
    macro, weighted = (
        precision_recall_fscore_support(
            labels, predicted, labels=present, average=average, zero_division=0.0
        )[:3]
        for average in ("macro", "weighted")
    )
    predictions = np.bincount(predicted, minlength=len(class_names))
    return {
        "examples": len(labels),
        "correct": hits,
        "accuracy": hits / len(labels),
        "accuracy_interval_95": [float(interval.low), float(interval.high)],
        "misclassification_rate": (len(labels) - hits) / len(labels),
        "top_k": top_k_accuracies(logits, labels, top_k),
        "cross_entropy": float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        "expected_calibration_error": expected_calibration_error(
            np.exp(log_probabilities.max(axis=1)), correct, bins=bins
        ),
        "calibration_bins": bins,
        "per_class": [
            {
                "name": str(name),
                "label": label,
                **{
                    key: _number(column[label]) for key, column in zip(SCORES, scores, strict=False)
                },
                "support": int(scores[3][label]),
                "predicted": int(predictions[label]),
            }
            for label, name in enumerate(class_names)
        ],
        "macro": {key: float(value) for key, value in zip(SCORES, macro, strict=True)},
        "weighted": {key: float(value) for key, value in zip(SCORES, weighted, strict=True)},
    }


def format_report(metrics: dict[str, Any]) -> str:
    """The text of `classification_metrics` for a terminal: a headline, then a row per class."""
    low, high = metrics["accuracy_interval_95"]
    facts = [
        (
            "accuracy",
            f"{metrics['accuracy']:.4f}  ({metrics['correct']:,} of {metrics['examples']:,};"
            f" 95 % Wilson interval {low:.4f} to {high:.4f})",
        ),
        ("misclassification rate", f"{metrics['misclassification_rate']:.4f}"),
        *((f"top-{k} accuracy", f"{v:.4f}") for k, v in metrics["top_k"].items() if k != "1"),
        ("cross-entropy", f"{metrics['cross_entropy']:.4f} nats"),
        (
            "expected calibration error",
            f"{metrics['expected_calibration_error']:.4f}  ({metrics['calibration_bins']} bins)",
        ),
    ]
    left = max(len(name) for name, _ in facts)
    lines = [f"{name:<{left}}  {value}" for name, value in facts]

    classes = metrics["per_class"]
    means = [
        {"name": f"{key} mean", **metrics[key], "support": metrics["examples"]}
        for key in ("macro", "weighted")
    ]
    width = max(len(row["name"]) for row in [*classes, *means])
    table = [_row(row, width) for row in [*classes, *means]]
    header = f"{'class':<{width}}  {'precision':>9}  {'recall':>9}  {'f1':>9}  {'support':>9}"
    rule = "-" * len(header)
    lines += ["", header, rule, *table[: len(classes)], rule, *table[len(classes) :]]

    absent = [row["name"] for row in classes if not row["support"]]
    unseen = [row["name"] for row in classes if not row["predicted"]]
    if absent:
        lines += [
            "",
            f"No example of: {_some(absent)}. Recall undefined (-), left out of the means.",
        ]
    if unseen:
        lines += ["", f"Never predicted: {_some(unseen)}. Precision undefined (-), 0 in the means."]
    return "\n".join(lines)


def _number(value: float) -> float | None:
    """A float that JSON can hold."""
    return None if np.isnan(value) else float(value)


def _row(row: dict[str, Any], width: int) -> str:
    """One line of the table; an undefined score is a dash."""
    cells = ["-" if row[key] is None else f"{row[key]:.4f}" for key in SCORES]
    cells.append(f"{row['support']:,}")
    return f"{row['name']:<{width}}  " + "  ".join(f"{cell:>9}" for cell in cells)


def _some(names: list[str], most: int = 8) -> str:
    """The first names of a list that may be long."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
