"""What a run has left in its directory, read and checked: curves, seconds, evaluations."""

import dataclasses
import json
import pathlib
import re
from typing import Any

import numpy as np

from cifar_cnn.checks import UsageError, shown
from cifar_cnn.record import read_scalars


@dataclasses.dataclass(frozen=True)
class Curves:
    """Loss (nats) and accuracy of a run, epoch by epoch; float64 arrays.

    Attributes:
      train_epochs: [n], the numbers of the complete epochs, from 1.
      train_loss, train_accuracy: [n], means over the steps of each epoch, as measured in
        training: with dropout and augmentation on.
      validation_epochs: [m], at the end of which there was a validation.
      validation_loss, validation_accuracy: [m].
    """

    train_epochs: np.ndarray
    train_loss: np.ndarray
    train_accuracy: np.ndarray
    validation_epochs: np.ndarray
    validation_loss: np.ndarray
    validation_accuracy: np.ndarray

    @property
    def gap(self) -> float | None:
        """Training accuracy minus validation accuracy in the last epoch that has both."""
        common = np.intersect1d(self.train_epochs, self.validation_epochs)
        if not common.size:
            return None
        train = self.train_accuracy[self.train_epochs == common[-1]]
        return float(train[0] - self.validation_accuracy[self.validation_epochs == common[-1]][0])

    @property
    def best_validation(self) -> tuple[float, float] | None:
        """The best validation accuracy and the epoch after which it was, the first of equals; None
        where there was no validation with a finite loss."""
        finite = np.isfinite(self.validation_loss)
        if not finite.any():
            return None
        best = int(np.where(finite, self.validation_accuracy, -np.inf).argmax())
        return float(self.validation_accuracy[best]), float(self.validation_epochs[best])


def read_curves(workdir: pathlib.Path) -> Curves:
    """Reads metrics.jsonl.

    Raises:
      UsageError: no complete epoch in it, or a damaged line.
    """
    path = workdir / "metrics.jsonl"
    windows: dict[int, list[tuple[float, float, float]]] = {}
    validations: dict[int, tuple[float, float]] = {}
    done, last = 0, 0
    for line in read_lines(path):
        try:
            epoch = float(line["epoch"])
            if "validation_accuracy" in line:
                scores = float(line["validation_loss"]), float(line["validation_accuracy"])
                validations[round(epoch)] = scores
                continue
            scores = float(line["train_loss"]), float(line["train_accuracy"])
            # The end of an epoch belongs to it, and not to the next.
            number = int(np.ceil(epoch - 1e-9))
            if line["step"] <= last:
                raise ValueError("a step that was recorded before")
            windows.setdefault(number, []).append((float(line["step"] - last), *scores))
            done, last = int(epoch + 1e-9), line["step"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise damaged(path, f"{shown(line)} is no line of it") from error
    if not done:
        raise UsageError(
            f"{workdir} has not finished its first epoch: train it on with the command that "
            "started it"
        )
    train = [
        np.average([window[1:] for window in windows[k]], axis=0, weights=_steps(windows[k]))
        for k in sorted(windows)
        if k <= done
    ]
    losses, accuracies = np.asarray(train, np.float64).T
    pairs = np.asarray([validations[k] for k in sorted(validations)], np.float64).reshape(-1, 2)
    return Curves(
        np.asarray([k for k in sorted(windows) if k <= done], np.float64),
        losses,
        accuracies,
        np.asarray(sorted(validations), np.float64),
        *pairs.T,
    )


def best_validation(workdir: pathlib.Path) -> tuple[float, float] | None:
    """The best validation accuracy in metrics.jsonl and the epoch after which it was, see
    `Curves.best_validation`; None where a line is damaged, too."""
    try:
        return read_curves(workdir).best_validation
    except UsageError:
        return None


def read_seconds(workdir: pathlib.Path) -> tuple[float, float]:
    """Seconds of training in timing.jsonl, without validations and checkpoints: (all of them,
    those of the windows in which the program was compiled too).

    Raises:
      UsageError: a missing file or a damaged line.
    """
    path = workdir / "timing.jsonl"
    total = compiling = 0.0
    for line in read_lines(path):
        try:
            total += float(line["seconds"])
            compiling += float(line["seconds"]) if line["compiling"] else 0.0
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise damaged(path, f"{shown(line)} is no line of it") from error
    return total, compiling


def read_parameters(workdir: pathlib.Path) -> int | None:
    """The number of parameters that model.txt states; None where it states none."""
    try:
        text = (workdir / "model.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r"^Parameters:\s+([\d,]+)", text, re.MULTILINE)
    return int(found[1].replace(",", "")) if found else None


def evaluation_folder(
    workdir: pathlib.Path, split: str, step: int, *, tta: bool = False
) -> pathlib.Path:
    """Where scripts/evaluate.py writes the report of a checkpoint."""
    return workdir / "eval" / (f"{split}-{step}" + ("-tta" if tta else ""))


def read_evaluation(
    workdir: pathlib.Path, split: str, step: int, *, tta: bool = False
) -> dict[str, Any] | None:
    """metrics.json of an evaluation; None where it is not there, not whole, or damaged."""
    folder = evaluation_folder(workdir, split, step, tta=tta)
    # The predictions are written last.
    if not (folder / "predictions.csv").exists():
        return None
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        float(metrics["accuracy"]), int(metrics["examples"]), metrics["accuracy_interval_95"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return metrics


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl or timing.jsonl.

    Raises:
      UsageError: a missing file or a damaged line.
    """
    try:
        lines = read_scalars(path)
    except FileNotFoundError as error:
        raise UsageError(
            f"{path} is not there: train first, with "
            f"python -m cifar_cnn.main --config=CONFIG --workdir={path.parent}"
        ) from error
    except json.JSONDecodeError as error:
        raise damaged(path, f"{error.doc.strip()[:60]!r} is no JSON") from error
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    return lines


def damaged(path: pathlib.Path, reason: str) -> UsageError:
    """What to raise for a file of a run that cannot be read."""
    return UsageError(f"{path} is damaged ({reason[:200]}): restore it from a copy, or train anew")


def _steps(windows: list[tuple[float, float, float]]) -> list[float]:
    return [steps for steps, _, _ in windows]
