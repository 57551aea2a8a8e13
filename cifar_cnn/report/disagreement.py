"""The images that one network gets right and another wrong: which they are, and a page of them.

The two networks are called A and B.
"""

import csv
import os
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cifar_cnn.checks import UsageError
from cifar_cnn.files import replacing
from cifar_cnn.report.figure import COLOURS, TEXT, new_figure, plottable, save, show_image
from cifar_cnn.report.predictions import Predictions
from cifar_cnn.report.table import csv_name

COLUMNS = (
    "index", "true", "true_name", "right",
    "predicted_a", "predicted_a_name", "p_a", "predicted_b", "predicted_b_name", "p_b",
)  # fmt: skip
_COLOUR_OF = {"a": COLOURS[0], "b": COLOURS[1]}
_ROWS = 2  # Of images, of each kind.
# Inches.
_PAGE, _SIDE, _LINE, _GAP = 10.5, 1.0, 0.145, 0.16


def align(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """Both predictions in the order of the images' positions in the split.

    Raises:
      UsageError: these are not the same images with the same labels.
    """
    first, second = _sorted(first), _sorted(second)
    if first.class_names != second.class_names:
        raise UsageError(
            f"their classes differ ({_some(first.class_names)} and {_some(second.class_names)})"
        )
    if not np.array_equal(first.indices, second.indices):
        raise UsageError(
            f"their images differ ({len(first.indices):,} and {len(second.indices):,} of them)"
        )
    differing = int((first.labels != second.labels).sum())
    if differing:
        raise UsageError(f"the true labels of {differing:,} of {len(first.labels):,} images differ")
    return first, second


def right(predictions: Predictions) -> np.ndarray:
    """bool [n], where the prediction is the true class."""
    return predictions.predicted == predictions.labels


def write_csv(path: str | os.PathLike, a: Predictions, b: Predictions) -> None:
    """Writes every image that exactly one of A and B gets right: COLUMNS, in order of the index.

    `right` is a or b, `p_a` and `p_b` the probabilities that A and B give their predictions.

    Args:
      path: the CSV file (UTF-8); replaced as a whole.
      a, b: as `align` returns them.

    Raises:
      MachineError: if the file cannot be written.
    """
    names, p_a, p_b = [csv_name(name) for name in a.class_names], _confidence(a), _confidence(b)
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for i in np.flatnonzero(right(a) != right(b)).tolist():
            true, guess_a, guess_b = int(a.labels[i]), int(a.predicted[i]), int(b.predicted[i])
            writer.writerow(
                [
                    int(a.indices[i]), true, names[true], "a" if guess_a == true else "b",
                    guess_a, names[guess_a], float(p_a[i]),
                    guess_b, names[guess_b], float(p_b[i]),
                ]
            )  # fmt: skip


def plot(
    path: str | os.PathLike,
    images: np.ndarray,
    a: Predictions,
    b: Predictions,
    *,
    names: tuple[str, str],
    title: str,
) -> None:
    """Draws some images that only A gets right, and some that only B does, as a PNG.

    Of each kind those are shown of which both networks were surest: the highest products of the
    probabilities that they give their predictions.

    Args:
      path: the PNG file; replaced as a whole.
      images: uint8 [N, H, W, C], rows as `a.indices` counts them.
      a, b: as `align` returns them.
      names: what A and B are called.
      title: printed above.

    Raises:
      MachineError: if the file cannot be written.
    """
    captions = _captions(a, b)
    kinds = [("a", right(a) & ~right(b)), ("b", right(b) & ~right(a))]
    surest = np.argsort(-_confidence(a) * _confidence(b), kind="stable")
    shown = {kind: surest[members[surest]] for kind, members in kinds}
    # 0.072 inches a character is DejaVu's widest average at 7.5 points.
    candidates = [i for rows in shown.values() for i in rows[: 8 * _ROWS]]
    longest = max((len(line) for i in candidates for line in captions(i)), default=0)
    width = max(_SIDE + _GAP, 0.072 * longest + _GAP)
    columns = int(np.clip(_PAGE // width, 1, 8))
    tile = _SIDE + 3 * _LINE + 1.3 * _GAP
    shown = {kind: rows[: _ROWS * columns] for kind, rows in shown.items()}
    filled = {kind: -(-len(rows) // columns) for kind, rows in shown.items()}
    head, section = 1.0, 0.42
    height = head + sum(section + rows * tile for rows in filled.values())
    page = max(columns * width, 7.0)
    figure = new_figure(page, height)

    _write(figure, 0, 0.0, textwrap.fill(title, int(page * 10)), fontsize=13, va="bottom")
    for place, (kind, name, predictions) in enumerate((("a", names[0], a), ("b", names[1], b))):
        line = f"{kind.upper()}  {name}, accuracy {right(predictions).mean():.2%}"
        _write(figure, 0, 0.16 + 0.22 * place, line, color=_COLOUR_OF[kind], fontsize=10.5)
    note = "Bold: the true class. Below it what A and B predict, and with what probability."
    _write(figure, 0, 0.16 + 0.44, note, fontsize=8.5, color="0.3")
    top = head
    for kind, members in kinds:
        count, some = int(members.sum()), len(shown[kind])
        more = f", the {some} shown are those of which both are surest" if some < count else ""
        heading = f"Only {kind.upper()} is right: {count:,} of {len(members):,} images{more}"
        _write(figure, 0, top, heading, fontsize=10.5)
        top += section - 0.1
        for number, i in enumerate(shown[kind]):
            row, column = divmod(number, columns)
            x, y = column * width, top + row * tile
            _show(figure, x, y, images[a.indices[i]], captions(i))
        top += filled[kind] * tile + 0.1
    save(figure, path)


def _show(figure: Figure, x: float, y: float, image: np.ndarray, captions: Sequence[str]) -> None:
    """One image with its three lines; x and y in inches from the page's upper left corner."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((x / width, 1 - (y + _SIDE) / height, _SIDE / width, _SIDE / height))
    show_image(axes, image)
    axes.set_anchor("SW")
    styles = ({"fontweight": "bold"}, {"color": _COLOUR_OF["a"]}, {"color": _COLOUR_OF["b"]})
    for number, (line, style) in enumerate(zip(captions, styles, strict=True)):
        below = y + _SIDE + 0.05 + number * _LINE
        _write(figure, x, below, line, fontsize=7.5, **style)


def _write(figure: Figure, x: float, y: float, text: str, va: str = "top", **style) -> None:
    """Text with its upper left corner at x, y inches from the page's upper left corner."""
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, text, va=va, **TEXT, **style)


def _captions(a: Predictions, b: Predictions):
    """Row -> (true class, 'A class probability', 'B class probability')."""
    names = [plottable(str(name), k) for k, name in enumerate(a.class_names)]

    def captions(i: int) -> tuple[str, str, str]:
        guesses = (
            f"{kind}  {names[p.predicted[i]]} {p.probabilities[i, p.predicted[i]]:.0%}"
            for kind, p in (("A", a), ("B", b))
        )
        return (names[a.labels[i]], *guesses)

    return captions


def _confidence(predictions: Predictions) -> np.ndarray:
    """float64 [n], the probability of the predicted class."""
    rows = np.arange(len(predictions.predicted))
    return predictions.probabilities[rows, predictions.predicted]


def _sorted(predictions: Predictions) -> Predictions:
    order = np.argsort(predictions.indices, kind="stable")
    return Predictions(
        predictions.indices[order],
        predictions.labels[order],
        predictions.predicted[order],
        predictions.probabilities[order],
        predictions.class_names,
    )


def _some(names: Sequence[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
