"""What a network gets right and wrong on a split, as JSON for the page."""

from collections.abc import Iterable, Mapping
from typing import Any

from cifar_cnn.page import choice
from cifar_cnn.page.sprite import Sprite
from cifar_cnn.report import confusion
from cifar_cnn.report.classification import confidence_bins
from cifar_cnn.report.predictions import Predictions

_CONFUSED = 12  # Pairs that are put into words; more where there are many classes,
_MOST_CONFUSED = 60  # but no more than these.
# A matrix of more is too fine to be looked at: the pairs in words stand in for it.
_MOST_CLASSES = 200


def answers(predictions: Predictions, metrics: Mapping[str, Any], sprite: Sprite) -> dict[str, Any]:
    """Everything that the page shows of the answers, but for the images themselves.

    Args:
      predictions: on the split.
      metrics: metrics.json of the same evaluation.
      sprite: takes up the images that are shown.
    """
    names = predictions.class_names
    matrix = confusion.confusion_matrix(predictions.labels, predictions.predicted, len(names))
    whole = len(names) <= _MOST_CLASSES
    top = min(_MOST_CONFUSED, max(_CONFUSED, len(names) // 4))
    pairs = [
        (names.index(true), names.index(predicted), count)
        for true, predicted, count in confusion.most_confused(matrix, names, top=top)
    ]
    in_words = {(true, predicted) for true, predicted, _ in pairs}
    return {
        "matrix": matrix.tolist() if whole else None,
        "confused": [
            {"true": true, "predicted": predicted, "count": count}
            for true, predicted, count in pairs
        ],
        "classes": [
            {key: row[key] for key in ("precision", "recall", "f1", "support")}
            for row in metrics["per_class"]
        ],
        "reliability": reliability(predictions, metrics["calibration_bins"]),
        "calibration_error": metrics["expected_calibration_error"],
        "misclassification_rate": metrics["misclassification_rate"],
        "cells": choice.cells(predictions, sprite, None if whole else in_words),
        "gallery": choice.gallery(predictions, sprite),
        "gallery_first": choice.FIRST,
    }


def reliability(predictions: Predictions, bins: int) -> list[dict[str, Any]]:
    """One entry a bin of confidence ((b - 1) / bins, b / bins]: 'right' and 'wrong' counts, and the
    mean 'confidence' (None in an empty bin)."""
    sure = predictions.probabilities.max(axis=1)
    hits = predictions.predicted == predictions.labels
    members = confidence_bins(sure, bins)
    found = []
    for number in range(bins):
        inside = members == number
        found.append(
            {
                "right": int((inside & hits).sum()),
                "wrong": int((inside & ~hits).sum()),
                "confidence": float(sure[inside].mean()) if inside.any() else None,
            }
        )
    return found


def rows(
    predictions: Predictions, sprite: Sprite, used: Iterable[int]
) -> dict[int, dict[str, Any]]:
    """What the page says of single images, by the row of `predictions`."""
    found = {}
    for row in sorted(set(used)):
        index, label = int(predictions.indices[row]), int(predictions.labels[row])
        guess = int(predictions.predicted[row])
        found[row] = {
            "image": sprite.add(index),
            "index": index,
            "true": label,
            "predicted": guess,
            "sure": float(predictions.probabilities[row, guess]),
            "of_true": float(predictions.probabilities[row, label]),
        }
    return found
