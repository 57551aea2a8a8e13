"""Compares trained runs: tables, curves, differences with intervals, and where they disagree."""

import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cifar_cnn import checkpoint, experiment, files, rundir
from cifar_cnn.checks import UsageError, check_choice, leaves, printable
from cifar_cnn.data import load_arrays
from cifar_cnn.report import curves, disagreement, intervals
from cifar_cnn.report.comparison import format_comparison
from cifar_cnn.report.groups import Group, Run, config_differences, group_runs
from cifar_cnn.report.predictions import Predictions, read_predictions_csv
from cifar_cnn.report.results import (
    evaluation_folder,
    read_curves,
    read_evaluation,
    read_parameters,
    read_seconds,
)

# As `evaluate.evaluate_run`.
Evaluate = Callable[..., dict[str, Any]]


def compare_runs(
    workdirs: Sequence[pathlib.Path],
    *,
    evaluate: Evaluate,
    split: str | None,
    which: str,
    out: pathlib.Path | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Prints a comparison and writes comparison.json, curves.png and, for the first run of each
    group against that of the first group, the images they disagree about as CSV and PNG.

    Args:
      workdirs: of two runs or more.
      evaluate: `evaluate.evaluate_run`, for runs that were not evaluated yet.
      split: 'test' or 'validation'; None for `split_of`.
      which: checkpoint of each run: 'best', 'latest' or a step.
      out: folder of the files; by default `comparison` beside the first run.
      settings: keys of the section `run` that differ on this machine, such as data_dir.

    Returns:
      What comparison.json holds.

    Raises:
      UsageError: fewer than two runs, one of them twice, no run directory, an unfinished or
        damaged run.
      MachineError: a damaged checkpoint, no device, a disk that fails.
    """
    if split is not None:
        check_choice("--split", split, ("test", "validation"))
    if len(workdirs) < 2:
        raise UsageError(f"got {len(workdirs)} run directory, expected at least two to compare")
    names = run_names(workdirs)
    # All runs are checked before one is evaluated, which takes time.
    checked = [_check(workdir, which) for workdir in workdirs]
    steps = {workdir: parts["step"] for workdir, parts in zip(workdirs, checked, strict=True)}
    split = split_of(split, steps, settings)
    runs = []
    for workdir, name, parts in zip(workdirs, names, checked, strict=True):
        evaluation = evaluated(workdir, split, which, parts["step"], evaluate, settings)
        runs.append(Run(name=name, workdir=workdir, evaluation=evaluation, **parts))
    groups = group_runs(runs)
    folder = out or workdirs[0].absolute().parent / "comparison"
    # Of one recipe's seeds the first two are compared.
    pair_up = groups if len(groups) > 1 else [Group(run.name, (run,)) for run in runs[:2]]
    pairs = [_compare(pair_up[0], group, split) for group in pair_up[1:]]
    comparison = {
        "split": split,
        "checkpoint": which,
        "runs": [_run_numbers(run) for run in runs],
        "groups": [_group_numbers(group, groups[0]) for group in groups],
        "differences": [numbers for numbers, _ in pairs],
    }
    print(format_comparison(comparison))
    files.write_text(folder / "comparison.json", json.dumps(comparison, indent=2) + "\n")
    curves.plot(
        [(group.label, [run.curves for run in group.runs]) for group in groups],
        folder / "curves.png",
        title=f"Training and validation on {', '.join(dict.fromkeys(r.facts.name for r in runs))}",
    )
    written = ["comparison.json", "curves.png"]
    images = None
    for _, predictions in pairs:
        if predictions is None:
            continue
        (a, b), (first, second) = predictions
        stem = f"{_as_file(a.name)}-vs-{_as_file(b.name)}"
        disagreement.write_csv(folder / f"{stem}.csv", first, second)
        if images is None:
            images = _images(a, split, settings, first)
        disagreement.plot(
            folder / f"{stem}.png",
            images,
            first,
            second,
            names=(a.name, b.name),
            title=f"{a.facts.name} {split}: right in one network, wrong in the other",
        )
        written += [f"{stem}.csv", f"{stem}.png"]
    print(f"\nwritten to {printable(folder)}: {', '.join(written)}")
    return comparison


def run_names(workdirs: Sequence[pathlib.Path]) -> list[str]:
    """The shortest ends of the paths that are all different; 'dropout-0', or 'a/dropout-0'.

    Raises:
      UsageError: one of them twice.
    """
    paths = [pathlib.Path(os.path.realpath(workdir)) for workdir in workdirs]
    for place, path in enumerate(paths):
        if path in paths[:place]:
            raise UsageError(
                f"{workdirs[place]} is given twice (as {workdirs[paths.index(path)]} too): name "
                "every run once"
            )
    length = 1
    while len({path.parts[-length:] for path in paths}) < len(paths):
        length += 1
    return [printable("/".join(path.parts[-length:])) for path in paths]


def _check(workdir: pathlib.Path, which: str) -> dict[str, Any]:
    """Reads a run but for its evaluation; the fields of `Run`."""
    config, facts = experiment.read_run(workdir)
    step = checkpoint.choose(workdir, which)
    recipe = {
        key: value
        for key, value in leaves(config)
        if key != "seed" and not key.startswith(f"{rundir.FREE_SECTION}.")
    }
    return {
        "config": config,
        "recipe": recipe,
        "facts": facts,
        "step": step,
        "curves": read_curves(workdir),
        "seconds": read_seconds(workdir),
    }


def split_of(
    asked: str | None,
    steps: Mapping[pathlib.Path, int],
    settings: Mapping[str, Any],
    *,
    tta: bool = False,
) -> str:
    """See `experiment.choose_split`; where all are evaluated on test, their data is not opened.

    Args:
      steps: run directory -> step of its checkpoint.
    """
    if asked is None and all(
        read_evaluation(workdir, "test", step, tta=tta) for workdir, step in steps.items()
    ):
        return "test"
    configs = [experiment.read_run(workdir)[0] for workdir in steps]
    return experiment.choose_split(asked, configs, settings)


def evaluated(
    workdir: pathlib.Path,
    split: str,
    which: str,
    step: int,
    evaluate: Evaluate,
    settings: dict[str, Any],
    *,
    tta: bool = False,
) -> dict[str, Any]:
    """The evaluation of a checkpoint, made now if there is none; see `compare_runs`."""
    found = read_evaluation(workdir, split, step, tta=tta)
    if found is not None:
        return found
    print(
        f"{printable(workdir)}: step {step} has no evaluation on {split} yet, so it is "
        "evaluated now"
    )
    # Runs may come from several machines: all are evaluated on what there is here.
    here = {"platform": "auto", "cpu_devices": 0, **settings}
    result = evaluate(workdir, split=split, which=which, tta=tta, rows="true", settings=here)
    print()
    return result


def _run_numbers(run: Run) -> dict[str, Any]:
    seconds, compiling = run.seconds
    best = run.curves.best_validation
    return {
        "name": run.name,
        "workdir": str(run.workdir),
        "data": run.facts.name,
        "seed": run.seed,
        "parameters": read_parameters(run.workdir),
        "epochs": int(run.curves.train_epochs[-1]),
        "planned_epochs": run.config["train"]["epochs"],
        "train_accuracy": float(run.curves.train_accuracy[-1]),
        "best_validation_accuracy": best[0] if best else None,
        "step": run.step,
        "accuracy": run.evaluation["accuracy"],
        "accuracy_interval_95": run.evaluation["accuracy_interval_95"],
        "examples": run.evaluation["examples"],
        "seconds": seconds,
        "compiling_seconds": compiling,
    }


def _group_numbers(group: Group, first: Group) -> dict[str, Any]:
    gaps = [run.curves.gap for run in group.runs]
    return {
        "label": group.label,
        "runs": [run.name for run in group.runs],
        "seeds": [run.seed for run in group.runs],
        "config_differences": config_differences(first.runs[0], group.runs[0]),
        "accuracy": intervals.over_seeds(_accuracies(group.runs)),
        "train_accuracy": intervals.over_seeds(
            [float(run.curves.train_accuracy[-1]) for run in group.runs]
        ),
        "gap": None if None in gaps else intervals.over_seeds(gaps),
    }


def _compare(
    first: Group, second: Group, split: str
) -> tuple[dict[str, Any], tuple[tuple[Run, Run], tuple[Predictions, Predictions]] | None]:
    """Differences second - first, and the first run of each with its aligned predictions (None
    where the two cannot be compared)."""
    a, b = first.runs[0], second.runs[0]
    numbers = {
        "labels": [first.label, second.label],
        "names": [a.name, b.name],
        "runs": [len(first.runs), len(second.runs)],
        "refused": None,
        "welch": None,
        "paired": None,
        "images": None,
    }
    predictions = [predictions_of(run.workdir, split, run.step) for run in (a, b)]
    try:
        if a.facts.name != b.facts.name:
            raise UsageError(f"their data sets differ ({a.facts.name} and {b.facts.name})")
        aligned = disagreement.align(*predictions)
    except UsageError as error:
        return {**numbers, "refused": str(error)}, None
    if min(numbers["runs"]) > 1:
        numbers["welch"] = intervals.welch_difference(
            _accuracies(first.runs), _accuracies(second.runs)
        )
    of_seed = [{run.seed: run for run in group.runs} for group in (first, second)]
    if numbers["welch"] and of_seed[0].keys() == of_seed[1].keys():
        seeds = sorted(of_seed[0])
        numbers["paired"] = intervals.paired_difference(
            *(_accuracies([runs[seed] for seed in seeds]) for runs in of_seed)
        )
    numbers["images"] = intervals.images_difference(*map(disagreement.right, aligned))
    return numbers, ((a, b), aligned)


def _accuracies(runs: Sequence[Run]) -> list[float]:
    return [run.evaluation["accuracy"] for run in runs]


def predictions_of(
    workdir: pathlib.Path, split: str, step: int, *, tta: bool = False
) -> Predictions:
    """The predictions of an evaluation.

    Raises:
      UsageError: a missing or damaged file.
    """
    path = evaluation_folder(workdir, split, step, tta=tta) / "predictions.csv"
    try:
        return read_predictions_csv(path)
    except UsageError as error:
        raise UsageError(f"{error}; delete {path.parent}, and it is evaluated anew") from error


def _images(run: Run, split: str, settings: dict[str, Any], predictions: Predictions) -> np.ndarray:
    """The images that the predictions' indices count, uint8 [N, H, W, C]."""
    config = {**run.config, "run": {**run.config["run"], **settings}}
    builder = experiment.make_builder(config)
    part = experiment.source_split(builder, split)
    arrays = load_arrays(builder, part, experiment.cache_dir(config))
    rows = predictions.indices
    if rows.max() >= len(arrays.labels) or (arrays.labels[rows] != predictions.labels).any():
        raise UsageError(
            f"{builder.data_path} does not hold the images that {run.workdir} was evaluated on, so "
            "they cannot be shown: give that data with --data_dir"
        )
    return arrays.images


def _as_file(name: str) -> str:
    return name.replace("/", "-")
