"""Trains one config with several seeds, each as the command line would, and sums up."""

import contextlib
import json
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from cifar_cnn import checkpoint, experiment, files
from cifar_cnn.checks import UsageError, check_choice, check_int
from cifar_cnn.report.comparison import percent, percent_range
from cifar_cnn.report.intervals import over_seeds
from cifar_cnn.report.results import (
    evaluation_folder,
    read_curves,
    read_evaluation,
    read_seconds,
)
from cifar_cnn.report.table import format_table

_ROOT = pathlib.Path(__file__).resolve().parent.parent
# Seconds. Ctrl-C in a terminal reaches the training too, a signal to this process alone does not:
# whoever is not gone by then is told. Soon enough for a training to take the two for one.
_GRACE = 0.5


def train_seeds(
    config: str,
    *,
    seeds: int,
    first_seed: int,
    workdir: pathlib.Path,
    split: str | None,
    which: str,
    tta: bool,
    overrides: Sequence[str],
) -> dict[str, Any]:
    """Trains and evaluates WORKDIR/NAME-SEED one after another for configs/NAME.py.

    Each seed is a process of `python -m cifar_cnn.main`, which resumes what was interrupted, says
    of a finished run that it is finished, and refuses a directory that holds another config. An
    evaluation that is there is kept. Writes WORKDIR/NAME-seeds.json.

    Args:
      config: file of the config.
      seeds: how many.
      first_seed: the others follow it.
      workdir: the folder of the run directories.
      split: 'test' or 'validation', what accuracy is told of; None for `experiment.choose_split`.
      which: 'best' or 'latest' checkpoint.
      tta: whether it is evaluated over mirrored and shifted views, see scripts/evaluate.py.
      overrides: flags that main takes besides, such as --config.train.epochs=3.

    Returns:
      What NAME-seeds.json holds.

    Raises:
      UsageError: a mistake in these arguments, or a damaged run.
      SystemExit: a seed failed; with its exit code, after its own message.
      KeyboardInterrupt: interrupted; the training has ended.
    """
    check_int("--seeds", seeds, minimum=1)
    check_int("--first_seed", first_seed, minimum=0, maximum=2**31 - seeds)
    if split is not None:
        check_choice("--split", split, ("test", "validation"))
    check_choice("--checkpoint", which, ("best", "latest"))
    if any(word.lstrip("-").split("=")[0] == "config.seed" for word in overrides):
        raise UsageError("--config.seed is set by this script: use --first_seed and --seeds")
    # As main does: a config file may be followed by ':' and an argument of its own.
    name = pathlib.Path(config.split(":")[0]).stem
    rows = []
    for number, seed in enumerate(range(first_seed, first_seed + seeds)):
        folder = workdir / f"{name}-{seed}"
        print(f"seed {seed}, {number + 1} of {seeds}: {folder}")
        what = f"seed {seed}"
        train = ["-m", "cifar_cnn.main", f"--config={config}", *overrides]
        _run([*train, f"--config.seed={seed}", f"--workdir={folder}"], f"the training of {what}")
        step = checkpoint.choose(folder, which)
        split = experiment.choose_split(split, [experiment.read_run(folder)[0]])
        if read_evaluation(folder, split, step, tta=tta) is None:
            script = str(_ROOT / "scripts" / "evaluate.py")
            flags = [f"--workdir={folder}", f"--split={split}", f"--checkpoint={which}"]
            flags += ["--tta"] if tta else []
            _run([script, *flags], f"the evaluation of {what}")
        else:
            print(f"evaluated already: {evaluation_folder(folder, split, step, tta=tta)}")
        rows.append(_numbers(folder, seed, split, step, tta))
        print()
    result = {
        "config": config,
        "overrides": list(overrides),
        "split": split,
        "checkpoint": which,
        "tta": tta,
        "seeds": rows,
        "accuracy": over_seeds([row["accuracy"] for row in rows]),
    }
    path = workdir / f"{name}-seeds.json"
    files.write_text(path, json.dumps(result, indent=2) + "\n")
    print(format_seeds(result))
    print(f"written to {path}")
    return result


def format_seeds(result: dict[str, Any]) -> str:
    """The table of the seeds, and what follows from it for the mean."""
    split, accuracy = result["split"], result["accuracy"]
    head = ("seed", "validation", split, f"95 % over {split} images", "seconds", "compiling")
    rows = [
        (
            str(row["seed"]),
            percent(row["validation_accuracy"]),
            percent(row["accuracy"]),
            percent_range(row["accuracy_interval_95"]),
            f"{row['seconds']:,.0f}",
            f"{row['compiling_seconds']:,.0f}",
        )
        for row in result["seeds"]
    ]
    lines = [
        format_table(head, rows, left=0),
        f"Accuracies of the {result['checkpoint']} checkpoint"
        + (f", on {split} over mirrored and shifted views." if result["tta"] else "."),
        "seconds: of training alone; compiling: of the calls among them that compiled.",
        "",
    ]
    if split == "validation" and result["checkpoint"] == "best":
        lines.append("The checkpoint was chosen by the same accuracy, which so is a little high.")
    if accuracy["n"] == 1:
        lines.append(
            f"{split} accuracy {percent(accuracy['mean'])}; one seed has no standard deviation and "
            "no interval: use --seeds=3 or more"
        )
        return "\n".join(lines)
    lines += [
        f"{split} accuracy over {accuracy['n']} seeds",
        f"  mean                       {percent(accuracy['mean'])}",
        f"  standard deviation (n - 1) {100 * accuracy['std']:6.2f} points",
        f"  smallest to largest        {percent_range([accuracy['min'], accuracy['max']])}",
        f"  95 % interval of the mean  {percent_range(accuracy['interval_95'])}  (Student's t)",
    ]
    return "\n".join(lines)


def _numbers(folder: pathlib.Path, seed: int, split: str, step: int, tta: bool) -> dict[str, Any]:
    evaluation = read_evaluation(folder, split, step, tta=tta)
    if evaluation is None:
        raise UsageError(
            f"{evaluation_folder(folder, split, step, tta=tta)} cannot be read: delete it"
        )
    curves = read_curves(folder)
    last = curves.train_epochs[-1]
    seconds, compiling = read_seconds(folder)
    best = curves.best_validation
    return {
        "seed": seed,
        "workdir": str(folder),
        "step": step,
        "epochs": int(last),
        "validation_accuracy": best[0] if best else None,
        "accuracy": evaluation["accuracy"],
        "accuracy_interval_95": evaluation["accuracy_interval_95"],
        "examples": evaluation["examples"],
        "seconds": seconds,
        "compiling_seconds": compiling,
    }


def _run(arguments: Sequence[str], what: str) -> None:
    """Runs a Python command in a process of its own, with this one's screen and folder.

    Raises:
      SystemExit: it failed; with its exit code.
      KeyboardInterrupt: this process or that one was interrupted; that one has ended.
    """
    process = subprocess.Popen([sys.executable, *arguments])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
        code = 130
    if code == 130:
        raise KeyboardInterrupt(f"interrupted in {what}: the same command goes on from there")
    if code:
        print(
            f"{what} ended with exit code {code}, as told above: mend it, and the same command "
            "goes on with it",
            file=sys.stderr,
        )
        # A process that a signal ended has a negative code, which a shell counts from 128.
        raise SystemExit(code if code > 0 else 128 - code)
