"""Which images of a split a page shows: of every cell of the confusion matrix, and in the gallery.

A split may have any size and any number of classes, the page not: what is shown first is what is
asked for most.
"""

from collections.abc import Iterator

import numpy as np

from cifar_cnn.page.sprite import MOST_IMAGES, Sprite
from cifar_cnn.report.predictions import Predictions

# Images of one cell, and of one class in each part of the gallery.
_A_CELL = 12
_A_CLASS = 12
# Of all images of a page, for the cells and for the gallery; the rest is for comparisons.
_FOR_CELLS, _FOR_GALLERY = MOST_IMAGES * 5 // 10, MOST_IMAGES * 3 // 10


def cells(predictions: Predictions, sprite: Sprite) -> dict[str, list[int]]:
    """Rows of `predictions` to show for each cell, by 'true,predicted'.

    In each cell the surest come first. Where there is not room for all, every cell has its first
    image before one has its second; the cells with the most errors come first, and the hits last.
    """
    sure = predictions.probabilities.max(axis=1)
    order = np.argsort(-sure, kind="stable")
    count = len(predictions.class_names)
    members: dict[int, list[int]] = {}
    for row in order.tolist():
        cell = int(predictions.labels[row]) * count + int(predictions.predicted[row])
        members.setdefault(cell, []).append(row)
    ranked = sorted(members, key=lambda cell: (cell // count == cell % count, -len(members[cell])))
    shown: dict[str, list[int]] = {}
    left = _FOR_CELLS
    for place in range(_A_CELL):
        for cell in ranked:
            if place < len(members[cell]) and left > 0:
                row = members[cell][place]
                if sprite.add(int(predictions.indices[row])) is not None:
                    shown.setdefault(f"{cell // count},{cell % count}", []).append(row)
                    left -= 1
    return shown


def gallery(predictions: Predictions, sprite: Sprite) -> dict[str, list[int]]:
    """Rows of `predictions` for 'mistakes' (the surest first), 'unsure' (hits, the least sure
    first) and 'random', in each as many of every true class."""
    sure = predictions.probabilities.max(axis=1)
    hits = predictions.predicted == predictions.labels
    shuffled = np.random.default_rng(0).permutation(len(sure))
    by_doubt = np.argsort(sure, kind="stable")
    orders = {
        "mistakes": by_doubt[::-1][~hits[by_doubt[::-1]]],
        "unsure": by_doubt[hits[by_doubt]],
        "random": shuffled,
    }
    count = len(predictions.class_names)
    each = max(1, min(_A_CLASS, _FOR_GALLERY // (len(orders) * count)))
    return {
        name: list(_first_of_each(order, predictions, each, sprite))
        for name, order in orders.items()
    }


def _first_of_each(
    order: np.ndarray, predictions: Predictions, each: int, sprite: Sprite
) -> Iterator[int]:
    """The first `each` rows of every true class, in the given order."""
    taken = np.zeros(len(predictions.class_names), int)
    for row in order.tolist():
        label = predictions.labels[row]
        if taken[label] < each and sprite.add(int(predictions.indices[row])) is not None:
            taken[label] += 1
            yield row
