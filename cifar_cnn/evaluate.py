"""Evaluates a checkpoint of a run on a whole split and writes the report."""

import json
import pathlib
from typing import Any

import numpy as np

from cifar_cnn import experiment, files, hosts, peers
from cifar_cnn.checks import check_choice, printable
from cifar_cnn.report import classification, confusion, predictions
from cifar_cnn.report.results import evaluation_folder


def evaluate_run(
    workdir: pathlib.Path,
    *,
    split: str | None,
    which: str,
    tta: bool,
    rows: str,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Evaluates one checkpoint on every example of a split, each exactly once, in one process or
    several.

    Prints the report and writes metrics.json, confusion_matrix.png, confusion_matrix.csv and
    predictions.csv to WORKDIR/eval/SPLIT-STEP (SPLIT-STEP-tta with test-time augmentation).

    Args:
      workdir: of the run; needs config.json, run.json and checkpoints/.
      split: 'test', 'validation' or 'train' (without the validation part); None for
        `experiment.choose_split`.
      which: 'best', 'latest' or a step.
      tta: average the probabilities over mirrored and shifted views.
      rows: 'true' or 'predicted', what the rows of the confusion matrix are.
      settings: keys of the section `run` that differ on this machine, such as data_dir.

    Returns:
      What metrics.json holds.

    Raises:
      UsageError: not a run directory, no such checkpoint or split.
      MachineError: a damaged checkpoint, no device, a disk that fails.
    """
    if split is not None:
        check_choice("--split", split, ("test", "train", "validation"))
    check_choice("--rows", rows, ("predicted", "true"))
    with peers.needed():
        return _evaluate(workdir, split, which, tta, rows, settings)


def _evaluate(
    workdir: pathlib.Path,
    split: str | None,
    which: str,
    tta: bool,
    rows: str,
    settings: dict[str, Any],
) -> dict[str, Any]:
    trained = experiment.open_trained(workdir, which, settings=settings, tta=tta, alone=False)
    facts, step = trained.facts, trained.step
    split = experiment.choose_split(split, [trained.config])
    examples = trained.examples(split)
    sums, logits = trained.run.evaluate(trained.variables, examples)
    logits = np.asarray(logits)
    indices = np.asarray(examples.indices)
    labels = np.asarray(examples.labels)[indices]

    report = classification.classification_metrics(logits, labels, facts.class_names)
    assert report["examples"] == int(sums.compute()["count"]) == len(indices)
    metrics = {
        "data": facts.name,
        "split": split,
        "step": step,
        "checkpoint": which,
        "tta": tta,
        "class_names": list(facts.class_names),
        **report,
    }
    with hosts.first_then_others():  # They stay until the reports are written.
        if hosts.is_first():
            _report(workdir, metrics, indices, labels, logits, rows)
    return metrics


def _report(
    workdir: pathlib.Path,
    metrics: dict[str, Any],
    indices: np.ndarray,
    labels: np.ndarray,
    logits: np.ndarray,
    rows: str,
) -> None:
    """Writes the files of an evaluation, and prints the tables."""
    names, split, step = metrics["class_names"], metrics["split"], metrics["step"]
    predicted = logits.argmax(axis=-1)
    matrix = confusion.confusion_matrix(labels, predicted, len(names))
    folder = evaluation_folder(workdir, split, step, tta=metrics["tta"])
    title = f"{metrics['data']} {split}, step {step}: accuracy {metrics['accuracy']:.2%}"
    files.write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    confusion.plot(matrix, names, folder / "confusion_matrix.png", rows, title)
    confusion.write_csv(matrix, names, folder / "confusion_matrix.csv", rows)
    predictions.write_predictions_csv(folder / "predictions.csv", indices, labels, logits, names)
    print(classification.format_report(metrics))
    print(confusion.format_matrix(matrix, names, rows))
    print(f"written to {printable(folder)}")
