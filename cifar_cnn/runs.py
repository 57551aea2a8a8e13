"""All runs below a folder, in one table."""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from cifar_cnn import lock, rundir
from cifar_cnn.checks import UsageError, check_choice, printable
from cifar_cnn.record import read_scalars
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


def list_runs(folder: pathlib.Path, *, sort: str = "run", as_json: bool = False) -> list[dict]:
    """Prints every run below `folder`, and returns them.

    Nothing is computed and no device is touched. A directory that cannot be read as a run is
    listed with the reason as its state.

    Args:
      folder: searched whole, links left out.
      sort: a key of `COLUMNS`; scores, epochs and seconds with the highest first.
      as_json: whether a JSON document is printed instead of a table.

    Returns:
      A dictionary a run, with 'run' (its path below the folder), 'config' (its file, or the
      network where that is not recorded), 'data', 'epochs' (done), 'planned' epochs, 'validation'
      (the best accuracy), 'test' (accuracy of the newest evaluation there), 'seconds' of training
      and 'state' (running, finished or interrupted); None for what is not known.

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
    """Run directories; a run is not searched for others."""
    for place, folders, names in os.walk(folder):
        if {"config.json", "run.json"} <= set(names):
            folders.clear()
            yield pathlib.Path(place)
        folders.sort()


def _read(workdir: pathlib.Path, root: pathlib.Path) -> dict[str, Any]:
    run = dict.fromkeys((*COLUMNS, "planned"))
    run["run"] = printable(workdir.relative_to(root)) if workdir != root else printable(root)
    try:
        config, about = rundir.read(workdir, "config.json"), rundir.read(workdir, "run.json")
        data, train = about["data"], config["train"]
        run["config"] = printable(_config_name(about) or config["model"]["name"])
        run["data"] = printable(data["name"])
        run["planned"] = train["epochs"]
        steps_an_epoch = -(-data["train_examples"] // train["batch_size"])
        last = _last_checkpoint(workdir)
        run["epochs"] = last // steps_an_epoch
        lines = _lines(workdir / "metrics.jsonl")
        scores = [line["validation_accuracy"] for line in lines if "validation_accuracy" in line]
        run["validation"] = max(scores, default=None)
        run["test"] = _newest_test(workdir)
        run["seconds"] = sum(line["seconds"] for line in _lines(workdir / "timing.jsonl"))
        holder = lock.holder(workdir)
        done = last == steps_an_epoch * train["epochs"]
        run["state"] = f"running: {holder}" if holder else "finished" if done else "interrupted"
    except (UsageError, OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        run["state"] = printable(f"cannot be read: {error}")[:80]
    return run


def _config_name(about: dict[str, Any]) -> str | None:
    """'dropout' of the command that started the run."""
    for word in about.get("command") or []:
        if word.startswith("--config="):
            return pathlib.Path(word.removeprefix("--config=").split(":")[0]).stem
    return None


def _last_checkpoint(workdir: pathlib.Path) -> int:
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
    return read_scalars(path) if path.exists() else []


def _newest_test(workdir: pathlib.Path) -> float | None:
    """Accuracy of the test evaluation that was written last, without test-time augmentation."""
    found = []
    for path in (workdir / "eval").glob("test-*/metrics.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            metrics = json.loads(path.read_text(encoding="utf-8"))
            if not metrics["tta"]:
                found.append((path.stat().st_mtime, float(metrics["accuracy"])))
    return max(found)[1] if found else None


def _cells(run: dict[str, Any]) -> list[str]:
    cells = []
    for column, write in COLUMNS.items():
        value = run[column]
        if column == "epochs" and value is not None:
            value = f"{value}/{run['planned']}"
        cells.append("" if value is None else write(value))
    return cells
