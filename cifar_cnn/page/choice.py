"""Which images of a split a page shows: of every cell of the confusion matrix, and in the gallery.

A split may have any size and any number of classes, the page not: what is shown first is what is
asked for most.
"""

from collections.abc import Container, Iterator

import numpy as np

from cifar_cnn.page.sprite import MOST_IMAGES, Sprite
from cifar_cnn.report.predictions import Predictions

# Images of one cell, and of one class in a part of the gallery.
_A_CELL = 12
_A_CLASS = 12
# Of all images of a page, for the cells and for each part of the gallery; the rest is for
# comparisons.
_FOR_CELLS, _FOR_PART = MOST_IMAGES * 5 // 10, MOST_IMAGES // 10
# Of a part of the gallery, whatever their class.
FIRST = 60


def cells(
    predictions: Predictions, sprite: Sprite, wanted: Container[tuple[int, int]] | None = None
) -> dict[str, list[int]]:
    """Rows of `predictions` to show for each cell, by 'true,predicted'.

    In each cell the surest come first. Where there is not room for all, every cell has its first
    image before one has its second, and those with the most images come first.

    Args:
      wanted: (true, predicted) of the cells that can be chosen; None for all.
    """
    sure = predictions.probabilities.max(axis=1)
    order = np.argsort(-sure, kind="stable")
    members: dict[tuple[int, int], list[int]] = {}
    for row in order.tolist():
        cell = int(predictions.labels[row]), int(predictions.predicted[row])
        if wanted is None or cell in wanted:
            members.setdefault(cell, []).append(row)
    ranked = sorted(members, key=lambda cell: -len(members[cell]))
    shown: dict[str, list[int]] = {}
    left = _FOR_CELLS
    for place in range(_A_CELL):
        for cell in ranked:
            if place < len(members[cell]) and left > 0:
                row = members[cell][place]
                if sprite.add(int(predictions.indices[row])) is not None:
                    shown.setdefault("{},{}".format(*cell), []).append(row)
                    left -= 1
    return shown


def gallery(predictions: Predictions, sprite: Sprite) -> dict[str, list[int]]:
    """Rows of `predictions` for 'mistakes' (the surest first), 'unsure' (hits, the least sure
    first) and 'random', a plain sample.

    The first `FIRST` of the first two are those of the whole split; behind them stand the first of
    each class, as far as there is room.
    """
    sure = predictions.probabilities.max(axis=1)
    hits = predictions.predicted == predictions.labels
    by_doubt = np.argsort(sure, kind="stable")
    sample = np.random.default_rng(0).permutation(len(sure))[:_FOR_PART]
    kinds = {"mistakes": by_doubt[::-1][~hits[by_doubt[::-1]]], "unsure": by_doubt[hits[by_doubt]]}
    chosen = {kind: [*_first(order, predictions)] for kind, order in kinds.items()}
    chosen["random"] = sample.tolist()
    return {
        kind: [row for row in rows if sprite.add(int(predictions.indices[row])) is not None]
        for kind, rows in chosen.items()
    }


def _first(order: np.ndarray, predictions: Predictions) -> Iterator[int]:
    """The first `FIRST` rows in the given order; then, of each class, what is missing of its own
    first ones."""
    yield from order[:FIRST].tolist()
    count = len(predictions.class_names)
    each = max(1, min(_A_CLASS, (_FOR_PART - FIRST) // count))
    taken = np.bincount(predictions.labels[order[:FIRST]], minlength=count)
    left = _FOR_PART - FIRST
    for row in order[FIRST:].tolist():
        label = predictions.labels[row]
        if taken[label] < each and left > 0:
            taken[label] += 1
            left -= 1
            yield row
