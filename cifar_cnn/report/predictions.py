"""Predictions on a split, one row per example, as a CSV file that other tools can recompute from.

Also holds what all reports share: the checks of labels and logits, and the log-probabilities in
float64.
"""

import csv
import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from cifar_cnn.checks import UsageError, check_shape
from cifar_cnn.files import replacing
from cifar_cnn.report.table import csv_name

COLUMNS = ("index", "true", "true_name", "predicted", "predicted_name", "correct", "probability")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A predictions file in memory.

    Attributes:
      indices: int64 [n], position of each example in its split.
      labels: int64 [n], true classes.
      predicted: int64 [n], predicted classes.
      probabilities: float64 [n, K].
      class_names: K names, in label order.
    """

    indices: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]


def check_labels(name: str, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns `labels` as int64 [n].

    Args:
      name: what the labels are called in an error.
      labels: integers [n], n >= 1.
      num_classes: K; each label has to be in [0, K).

    Raises:
      UsageError: on another rank or dtype, no example at all, or a label out of range.
    """
    labels = np.asarray(labels)
    check_shape(name, labels.shape, (None,))
    if not labels.size:
        raise UsageError(f"{name} is empty, expected at least one example")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(f"{name} has dtype {labels.dtype}, expected integers")
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise UsageError(
            f"{name}[{outside[0]}] is {labels[outside[0]]}, expected 0 to {num_classes - 1}"
        )
    return labels.astype(np.int64)


def check_logits(
    logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (logits as float64 [n, K], labels as int64 [n]) for K class names.

    Raises:
      UsageError: on fewer than two classes, shapes that do not match, a label out of range, or
        a logit that is not finite.
    """
    if len(class_names) < 2:
        raise UsageError(f"class_names has {len(class_names)} names, expected at least 2")
    labels = check_labels("labels", labels, len(class_names))
    logits = np.asarray(logits, dtype=np.float64)
    check_shape("logits", logits.shape, (len(labels), len(class_names)))
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if bad.size:
        raise UsageError(
            f"logits of {bad.size} of {len(logits)} examples are not finite (first: row {bad[0]}),"
            " expected finite numbers: has the training diverged?"
        )
    return logits, labels


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities float64 [n, K] in nats; never log(0), however far apart the logits lie."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def write_predictions_csv(
    path: str | os.PathLike,
    indices: np.ndarray,
    labels: np.ndarray,
    logits: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """Writes one row per example: COLUMNS, then `p_<name>`, the probability of each class.

    Probabilities are printed so that float() gives back the same float64: accuracy and
    cross-entropy recomputed from the file are those of the logits (a probability below 1e-308
    loses digits, below 5e-324 it is 0).

    Args:
      path: the CSV file (UTF-8); replaced as a whole.
      indices: integers [n], position of each example in its split.
      labels: integers [n], true classes.
      logits: floats [n, K].
      class_names: K names, in label order.

    Raises:
      UsageError: on shapes that do not match, labels out of range or logits that are not finite.
      MachineError: if the file cannot be written.
    """
    logits, labels = check_logits(logits, labels, class_names)
    indices = np.asarray(indices)
    check_shape("indices", indices.shape, labels.shape)
    if not np.issubdtype(indices.dtype, np.integer):
        raise UsageError(f"indices has dtype {indices.dtype}, expected integers")
    probabilities = np.exp(log_softmax(logits))
    # From the logits: probabilities of near-equal logits can round to a tie.
    predicted = logits.argmax(axis=1)
    names = list(class_names)
    cells = [csv_name(name) for name in names]
    # Lists of plain Python numbers: csv prints them about ten times faster than numpy scalars.
    columns = (
        indices.tolist(),
        labels.tolist(),
        [cells[label] for label in labels],
        predicted.tolist(),
        [cells[label] for label in predicted],
        (labels == predicted).astype(int).tolist(),
        np.take_along_axis(probabilities, predicted[:, None], axis=1)[:, 0].tolist(),
        *probabilities.T.tolist(),
    )
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *(f"p_{name}" for name in names)])
        writer.writerows(zip(*columns, strict=True))


def read_predictions_csv(path: str | os.PathLike) -> Predictions:
    """Reads a file of `write_predictions_csv`.

    Raises:
      UsageError: if the file is missing, has other columns, or a row that cannot be read.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist, expected a predictions file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}") from error
    fixed, class_names = header[: len(COLUMNS)], header[len(COLUMNS) :]
    if tuple(fixed) != COLUMNS or not all(name.startswith("p_") for name in class_names):
        raise UsageError(
            f"{path} starts with {','.join(header)[:80]!r}, expected the columns"
            f" {','.join(COLUMNS)},p_<class>,..."
        )
    shape = (len(rows), len(class_names))
    integers = np.empty((len(rows), 3), np.int64)
    probabilities = np.empty(shape, np.float64)
    for row_number, row in enumerate(rows):
        try:
            if len(row) != len(header):
                raise ValueError(f"{len(row)} columns, expected {len(header)}")
            integers[row_number] = int(row[0]), int(row[1]), int(row[3])
            probabilities[row_number] = [float(value) for value in row[len(COLUMNS) :]]
        except ValueError as error:
            raise UsageError(f"{path}, example row {row_number + 1}: {error}") from error
    indices, labels, predicted = integers.T
    names = tuple(name.removeprefix("p_") for name in class_names)
    return Predictions(indices, labels, predicted, probabilities, names)
