"""What a network gets right and wrong on a split, as JSON for the page."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cifar_cnn.page import choice
from cifar_cnn.page.sprite import Sprite
from cifar_cnn.report import confusion
from cifar_cnn.report.predictions import Predictions

_BINS = 15  # Of the reliability diagram, as of the calibration error.
_CONFUSED = 12  # Pairs that are put into words.


def answers(predictions: Predictions, metrics: Mapping[str, Any], sprite: Sprite) -> dict[str, Any]:
    """Everything that the page shows of the answers, but for the images themselves.

    Args:
      predictions: on the split.
      metrics: metrics.json of the same evaluation.
      sprite: takes up the images that are shown.
    """
    names = predictions.class_names
    matrix = confusion.confusion_matrix(predictions.labels, predictions.predicted, len(names))
    return {
        "matrix": matrix.tolist(),
        "confused": [
            {"true": names.index(true), "predicted": names.index(predicted), "count": count}
            for true, predicted, count in confusion.most_confused(matrix, names, top=_CONFUSED)
        ],
        "classes": [
            {key: row[key] for key in ("precision", "recall", "f1", "support")}
            for row in metrics["per_class"]
        ],
        "reliability": reliability(predictions),
        "calibration_error": metrics["expected_calibration_error"],
        "misclassification_rate": metrics["misclassification_rate"],
        "cells": choice.cells(predictions, sprite),
        "gallery": choice.gallery(predictions, sprite),
    }


def reliability(predictions: Predictions) -> list[dict[str, Any]]:
    """One entry a bin of confidence ((b - 1) / 15, b / 15]: 'right' and 'wrong' counts, and the
    mean 'confidence' (None in an empty bin)."""
    sure = predictions.probabilities.max(axis=1)
    hits = predictions.predicted == predictions.labels
    members = np.clip(np.ceil(sure * _BINS).astype(int) - 1, 0, _BINS - 1)
    bins = []
    for number in range(_BINS):
        inside = members == number
        bins.append(
            {
                "right": int((inside & hits).sum()),
                "wrong": int((inside & ~hits).sum()),
                "confidence": float(sure[inside].mean()) if inside.any() else None,
            }
        )
    return bins


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
