"""What a difference another run makes: accuracies, classes, and images that changed sides."""

from typing import Any

import numpy as np

from cifar_cnn.page.sprite import Sprite
from cifar_cnn.report import disagreement, intervals
from cifar_cnn.report.predictions import Predictions

_IMAGES = 24  # That changed to either side.


def difference(name: str, ours: Predictions, theirs: Predictions, sprite: Sprite) -> dict[str, Any]:
    """Another run's predictions minus this one's.

    Args:
      name: of the other run.
      ours, theirs: on the same split; aligned here.
      sprite: takes up the images that are shown.

    Returns:
      'difference' of the accuracies with its 'interval', 'p' of McNemar's test, counts of images,
      for each class the difference of its recall, and for both sides the images that only one
      network gets right, those first of which both were surest.

    Raises:
      UsageError: these are not the same images with the same labels.
    """
    ours, theirs = disagreement.align(ours, theirs)
    our_hits, their_hits = disagreement.right(ours), disagreement.right(theirs)
    numbers = intervals.images_difference(our_hits, their_hits)
    support = np.bincount(ours.labels, minlength=len(ours.class_names))
    gained = np.bincount(ours.labels[their_hits & ~our_hits], minlength=len(support))
    lost = np.bincount(ours.labels[our_hits & ~their_hits], minlength=len(support))
    both_sure = ours.probabilities.max(axis=1) * theirs.probabilities.max(axis=1)
    order = np.argsort(-both_sure, kind="stable")

    def some(chosen: np.ndarray) -> list[dict[str, Any]]:
        return [
            {
                "image": sprite.add(int(ours.indices[row])),
                "index": int(ours.indices[row]),
                "true": int(ours.labels[row]),
                "ours": int(ours.predicted[row]),
                "theirs": int(theirs.predicted[row]),
            }
            for row in order[chosen[order]][:_IMAGES].tolist()
        ]

    return {
        "name": name,
        "accuracy": float(their_hits.mean()),
        "difference": numbers["difference"],
        "interval": numbers["interval_95"],
        "p": numbers["mcnemar_p"],
        "only_ours": numbers["only_first"],
        "only_theirs": numbers["only_second"],
        "classes": [
            {"gained": int(g), "lost": int(b), "support": int(n)}
            for g, b, n in zip(gained, lost, support, strict=True)
        ],
        "lost": some(our_hits & ~their_hits),
        "gained": some(their_hits & ~our_hits),
    }
