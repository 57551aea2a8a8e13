"""The confusion matrix: its counts, and as CSV, plot and text.

A matrix here always has true classes as rows and predicted classes as columns; what is written or
drawn can have them the other way round (`rows="predicted"`), and says which is which.
"""

import csv
import os
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.colors import Normalize, PowerNorm

from cifar_cnn.checks import UsageError, check_choice, check_shape
from cifar_cnn.files import replacing
from cifar_cnn.report.figure import FONT, new_figure, plottable, save
from cifar_cnn.report.predictions import check_labels
from cifar_cnn.report.table import csv_name

ROWS = ("true", "predicted")
MOST_ANNOTATED = 20  # Classes up to which the numbers in the cells can be read.


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts int64 [K, K]: rows are true classes, columns predicted classes.

    Args:
      labels: integers [n], true classes.
      predicted: integers [n], predicted classes.
      num_classes: K.

    Raises:
      UsageError: on lengths that differ, no example, or a class out of range.
    """
    labels = check_labels("labels", labels, num_classes)
    predicted = check_labels("predicted", predicted, num_classes)
    check_shape("predicted", predicted.shape, labels.shape)
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def most_confused(
    matrix: np.ndarray, class_names: Sequence[str], top: int = 5
) -> list[tuple[str, str, int]]:
    """The most frequent errors as (true, predicted, count), most first, equals in label order."""
    matrix = _check_matrix(matrix, class_names)
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-errors, axis=None, kind="stable")[:top]
    pairs = (np.unravel_index(place, errors.shape) for place in order)
    return [(class_names[i], class_names[j], int(errors[i, j])) for i, j in pairs if errors[i, j]]


def write_csv(
    matrix: np.ndarray, class_names: Sequence[str], path: str | os.PathLike, rows: str = "true"
) -> None:
    r"""Writes the counts with class names on both axes; the corner cell is `true \ predicted`
    (rows \ columns), or `predicted \ true`.

    Args:
      matrix: counts [K, K], true by predicted.
      class_names: K names, in label order.
      path: the CSV file (UTF-8); replaced as a whole.
      rows: "true" or "predicted": which classes the rows of the file are.

    Raises:
      UsageError: on another `rows` or a matrix that does not fit the names.
      MachineError: if the file cannot be written.
    """
    matrix, columns = _orient(_check_matrix(matrix, class_names), rows)
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [csv_name(name) for name in class_names]
        writer.writerow([f"{rows} \\ {columns}", *names])
        for name, counts in zip(names, matrix.tolist(), strict=True):
            writer.writerow([name, *counts])


def format_matrix(matrix: np.ndarray, class_names: Sequence[str], rows: str = "true") -> str:
    """The matrix as text, its columns named by their number; `rows` is "true" or "predicted".

    With more than 20 classes, too wide for a terminal, it is the list of the most frequent errors
    instead.
    """
    matrix = _check_matrix(matrix, class_names)
    if len(class_names) > MOST_ANNOTATED:
        pairs = most_confused(matrix, class_names, top=10)
        lines = [f"{count:>7,}  {true} -> {predicted}" for true, predicted, count in pairs]
        head = f"most frequent errors among {len(class_names)} classes, true -> predicted:"
        return "\n".join([head, *(lines or ["  none"])])
    matrix, columns = _orient(matrix, rows)
    corner = f"{rows} \\ {columns}"
    last = len(class_names) - 1
    heads = [f"{label:>{len(str(last))}} {name}" for label, name in enumerate(class_names)]
    left = max(map(len, [corner, *heads]))
    cell = max(len(str(matrix.max())), len(str(last)))
    lines = [" ".join([f"{corner:<{left}} ", *(f"{label:>{cell}}" for label in range(last + 1))])]
    for head, counts in zip(heads, matrix.tolist(), strict=True):
        lines.append(" ".join([f"{head:<{left}} ", *(f"{count:>{cell}}" for count in counts)]))
    return "\n".join(lines)


def plot(
    matrix: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike,
    rows: str = "true",
    title: str = "Confusion matrix",
) -> None:
    """Draws the matrix as a PNG.

    A cell's colour, and its percentage, is the share of its true class's examples, whichever
    classes the rows are: turning the matrix moves the cells and changes no number. Up to 20
    classes each cell shows count and percentage; with more, colour follows the square root of
    the share so that rare errors can be seen, and with many more not every class is named.

    Args:
      matrix: counts [K, K], true by predicted.
      class_names: K names, in label order.
      path: the PNG file; replaced as a whole.
      rows: "true" or "predicted": which classes the rows of the plot are.
      title: printed above, wrapped to the width of the plot.

    Raises:
      UsageError: on another `rows` or a matrix that does not fit the names.
      MachineError: if the file cannot be written.
    """
    matrix = _check_matrix(matrix, class_names)
    counts, columns = _orient(matrix, rows)
    support = matrix.sum(axis=1, keepdims=True)
    # Masked where a class has no example: its shares are undefined, not zero.
    shares = np.ma.masked_array(
        matrix / np.maximum(support, 1), np.repeat(support == 0, len(matrix), 1)
    )
    shares, _ = _orient(shares, rows)
    annotated = len(matrix) <= MOST_ANNOTATED
    # Inches. A cell holds two lines of text, or else one tick label has 0.115 of the height.
    side = len(matrix) * np.clip(7.5 / len(matrix), 0.68, 1.4)
    if not annotated:
        side = np.clip(0.115 * len(matrix), 8.0, 14.0)

    # Only the size of the axes is set; saving fits the page around whatever labels there are.
    figure = new_figure(side, side)
    axes = figure.add_axes((0, 0, 1, 1))
    image = axes.imshow(
        shares,
        cmap=matplotlib.colormaps["Blues"].with_extremes(bad="0.85"),
        norm=Normalize(0, 1) if annotated else PowerNorm(0.5, 0, 1),
        interpolation="nearest",
        aspect="equal",
    )
    _label_axes(axes, [plottable(str(name), k) for k, name in enumerate(class_names)], side)
    note = "" if support.all() else "\n(grey: true class without examples)"
    style = {"fontfamily": FONT, "fontsize": 11, "labelpad": 8}
    axes.set_ylabel(f"{rows} class", **style)
    axes.set_xlabel(f"{columns} class{note}", **style)
    axes.set_title(
        textwrap.fill(title, max(24, int(side * 10))),
        fontfamily=FONT, fontsize=13, pad=12, parse_math=False,
    )  # fmt: skip
    bar = figure.colorbar(image, cax=figure.add_axes((1 + 0.2 / side, 0, 0.22 / side, 1)))
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1] if annotated else [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1]
    bar.set_ticks(ticks, labels=[f"{tick:.0%}" for tick in ticks], fontfamily=FONT, fontsize=9)
    scale = "" if annotated else " (square-root scale)"
    bar.set_label(f"share of the true class's examples{scale}", fontfamily=FONT, fontsize=10)
    if annotated:
        _annotate(axes, image, counts, shares, fontsize=np.clip(11.5 * side / len(matrix), 7.8, 12))
    save(figure, path)


def _check_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Returns the matrix as int64 [K, K]; UsageError unless it holds counts for K names."""
    matrix = np.asarray(matrix)
    check_shape("confusion matrix", matrix.shape, (len(class_names), len(class_names)))
    if not np.issubdtype(matrix.dtype, np.integer) or matrix.min(initial=0) < 0:
        raise UsageError("confusion matrix has negative or non-integer entries, expected counts")
    return matrix.astype(np.int64)


def _orient(matrix: np.ndarray, rows: str) -> tuple[np.ndarray, str]:
    """Returns (the matrix with the asked rows, what its columns are)."""
    check_choice("rows", rows, ROWS)
    return (matrix, "predicted") if rows == "true" else (matrix.T, "true")


def _label_axes(axes, names: list[str], side: float) -> None:
    """Names the ticks of both axes: all classes, or every n-th where they would touch."""
    annotated = len(names) <= MOST_ANNOTATED
    size = 9.5 if annotated else np.clip(72 * side / len(names) * 0.78, 6.5, 9)
    step = max(1, int(np.ceil(len(names) * size * 1.2 / (72 * side))))
    ticks, shown = range(0, len(names), step), names[::step]
    fits = max(map(len, names)) * size * 0.65 / 72 < 0.95 * side / len(names)
    slant = {"rotation": 0 if fits else 90}
    if annotated and not fits:
        slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    style = {"fontfamily": FONT, "fontsize": size, "parse_math": False}
    axes.set_xticks(ticks, labels=shown, **style, **slant)
    axes.set_yticks(ticks, labels=shown, **style)
    if annotated:
        axes.set_xticks(np.arange(0.5, len(names) - 1), minor=True)
        axes.set_yticks(np.arange(0.5, len(names) - 1), minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)


def _annotate(axes, image, counts: np.ndarray, shares: np.ma.MaskedArray, fontsize: float) -> None:
    """Writes count and percentage into each cell, dark on light and light on dark."""
    red, green, blue, _ = np.moveaxis(image.to_rgba(shares), -1, 0)
    # Relative luminance of WCAG 2 with a plain gamma of 2.2; at 0.18 black and white contrast
    # equally.
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    for row, column in np.ndindex(counts.shape):
        axes.text(
            column, row,
            f"{counts[row, column]:,}\n{_percent(shares[row, column])}",
            ha="center", va="center", fontfamily=FONT, fontsize=fontsize, linespacing=1.15,
            color="black" if luminance[row, column] > 0.18 else "white",
        )  # fmt: skip


def _percent(share: float) -> str:
    """A share as a percentage that is 0 or 100 only when it is exactly that."""
    if share is np.ma.masked:
        return "-"
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{share:.1%}"
