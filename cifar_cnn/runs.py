"""All runs below a folder, in one table."""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from cifar_cnn import lock, rundir
from cifar_cnn.checks import UsageError, check_choice, printable, shown
from cifar_cnn.record import read_scalars
from cifar_cnn.report.results import read_evaluation, read_seconds
from cifar_cnn.report.table import format_table

# Columns of the table, and how a run's value is written there.
COLUMNS: dict[str, Callable[[Any], str]] = {
    "run": str,
    "config": str,
    "data": str,
    "epochs": str,
    "validation": lambda share: f"{100 * share:.2f} %",
    "test": lambda share: f"{100 * share:.2f} %",
    "seconds": lambda seconds: f"{seconds:,.0f}",
    "state": str,
}
_LEFT = 3  # Columns of text.
# What a run keeps in its own directory; other runs may lie beside that.
_OWN = {
    "checkpoints", "damaged-checkpoints", "eval", "explain", "replaced-checkpoint", "report",
    "tensorboard",
}  # fmt: skip
_LONGEST_REASON = 200


def list_runs(folder: pathlib.Path, *, sort: str = "run", as_json: bool = False) -> list[dict]:
    """Prints every run below `folder`, and returns them.

    Nothing is computed and no device is touched. A directory that cannot be read as a run is listed
    with the reason.

    Args:
      folder: searched whole, links left out.
      sort: a key of `COLUMNS`; scores, epochs and seconds with the highest first.
      as_json: whether a JSON document is printed instead of a table.

    Returns:
      A dictionary a run, with 'run' (its path below the folder), 'config' (its name, or the
      network where that is not recorded), 'data', 'epochs' (done), 'planned' epochs, 'validation'
      (the best accuracy), 'test' (accuracy of the newest evaluation there), 'seconds' of training,
      'state' (running, finished, interrupted or unreadable), 'holder' (the process of a running
      one) and 'reason' (of an unreadable one); None for what is not known.

    Raises:
      UsageError: no such folder, no such column.
    """
    check_choice("--sort", sort, COLUMNS)
    if not folder.is_dir():
        raise UsageError(f"{printable(folder)} is no folder: name one that holds run directories")
    runs = [_read(path, folder) for path in _find(folder)]
    if runs and isinstance(next((r[sort] for r in runs if r[sort] is not None), ""), str):
        runs.sort(key=lambda run: (run[sort] or "", run["run"]))
    else:
        runs.sort(key=lambda run: -1 if run[sort] is None else run[sort], reverse=True)
    if as_json:
        print(json.dumps(runs, indent=2))
    elif runs:
        print(format_table(list(COLUMNS), [_cells(run) for run in runs], left=_LEFT))
    else:
        print(f"no runs in {printable(folder)}: train one with python -m cifar_cnn.main")
    return runs


def _find(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Run directories, and those of runs that still prepare their data: these hold a lock alone."""
    for place, folders, names in os.walk(folder):
        path = pathlib.Path(place)
        if {"config.json", "run.json"} <= set(names):
            folders[:] = [name for name in folders if name not in _OWN]
            yield path
        elif "lock" in names and lock.holder(path):
            yield path
        folders.sort()


def _read(workdir: pathlib.Path, root: pathlib.Path) -> dict[str, Any]:
    run = dict.fromkeys((*COLUMNS, "planned", "holder", "reason"))
    run["run"] = printable(workdir.relative_to(root)) if workdir != root else printable(root)
    try:
        run["holder"] = lock.holder(workdir)
        if run["holder"] and not rundir.is_run(workdir):
            run["state"] = "running"
            return run
        config, about = rundir.read(workdir, "config.json"), rundir.read(workdir, "run.json")
        data, train = about["data"], config["train"]
        run["config"] = printable(about.get("name") or config["model"]["name"])
        run["data"] = printable(data["name"])
        run["planned"] = _count(train["epochs"])
        lines = read_scalars(workdir / "metrics.jsonl") if _has(workdir, "metrics.jsonl") else []
        run["epochs"] = int(max((_finite(line["epoch"]) for line in lines), default=0) + 1e-9)
        validations = [line for line in lines if "validation_accuracy" in line]
        scores = [
            _finite(line["validation_accuracy"])
            for line in validations
            if math.isfinite(line["validation_loss"])
        ]
        run["validation"] = max(scores, default=None)
        run["test"] = _newest_test(workdir)
        timed = _has(workdir, "timing.jsonl")
        run["seconds"] = _finite(read_seconds(workdir)[0]) if timed else 0.0
        # The checkpoint decides: without it the last steps would be made once more.
        steps = -(-_count(data["train_examples"]) // _count(train["batch_size"]))
        done = _last_checkpoint(workdir) >= steps * run["planned"]
        run["state"] = "running" if run["holder"] else "finished" if done else "interrupted"
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError
    ) as error:  # fmt: skip
        told = isinstance(error, UsageError)
        reason = str(error) if told else f"{type(error).__name__}: {error}"
        # The table names the directory anyway, and a long path would leave no room for the rest.
        reason = reason.removeprefix(f"{workdir}{os.sep}").removeprefix(f"{workdir} ")
        run["state"], run["reason"] = "unreadable", printable(reason)[:_LONGEST_REASON]
    return run


def _has(workdir: pathlib.Path, name: str) -> bool:
    return (workdir / name).exists()


def _last_checkpoint(workdir: pathlib.Path) -> int:
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _newest_test(workdir: pathlib.Path) -> float | None:
    """Accuracy of the test evaluation that was written last, without test-time augmentation."""
    found = []
    for path in (workdir / "eval").glob("test-*/metrics.json"):
        step = path.parent.name.removeprefix("test-")
        with contextlib.suppress(OSError, ValueError, OverflowError):
            metrics = read_evaluation(workdir, "test", int(step)) if step.isdecimal() else None
            if metrics is not None:
                found.append((path.stat().st_mtime, _finite(metrics["accuracy"])))
    return max(found)[1] if found else None


def _finite(value: Any) -> float:
    """A number of a file that may hold anything; ValueError where JSON has none for it."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{shown(value)} is no finite number")
    return number


def _count(value: Any) -> int:
    count = int(value)
    if not 0 < count < 2**63:
        raise ValueError(f"{shown(value)} is no number of them")
    return count


def _cells(run: dict[str, Any]) -> list[str]:
    cells = []
    for column, write in COLUMNS.items():
        value = run[column]
        if column == "epochs" and value is not None:
            value = f"{value}/{run['planned']}"
        if column == "state":
            value = ": ".join(filter(None, (value, run["holder"] or run["reason"])))
        cells.append("" if value is None else write(value))
    return cells
