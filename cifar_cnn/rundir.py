"""The run directory explains itself: config.json and run.json beside checkpoints and metrics.

config.json is the complete config; run.json the data (name, version, class names, normalisation,
division), the versions of the libraries, the commit, and the name of the config, the command and
the devices that the run started with.
"""

import contextlib
import json
import pathlib
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from typing import Any

from cifar_cnn import files, hosts
from cifar_cnn.checks import MachineError, UsageError, shown
from cifar_cnn.versions import versions

# Where a run computes, and not what: may differ between the starts of one run.
FREE_SECTION = "run"
# Of config.json and run.json: raised when a key that readers need is added, or one gets another
# meaning. Runs without `name` and `command` are read as well.
FORMAT = 3
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")


def open_run(
    workdir: pathlib.Path,
    config: dict[str, Any],
    data: dict[str, Any],
    devices: str,
    command: Sequence[str] = (),
    name: str | None = None,
) -> None:
    """Writes config.json and run.json of a new run, or checks that an old run goes on.

    Args:
      workdir: made if it is not there.
      config: the complete config as nested dictionaries.
      data: facts of the data set, see `data.Facts`.
      devices: in words.
      command: the words that started the run.
      name: of the config, 'dropout' for configs/dropout.py.

    Raises:
      UsageError: the directory holds a run with another config or other data.
      MachineError: the directory cannot be written.
    """
    new = {"config.json": _as_json(config), "run.json": _as_json({"data": data})}
    if is_run(workdir):
        check_same(workdir, config)
        old = read(workdir, "run.json").get("data")
        if not isinstance(old, dict):
            raise UsageError(
                f"{workdir / 'run.json'} does not say what the data is: restore it from a copy"
            )
        differing = _differences(old, json.loads(new["run.json"])["data"])
        if differing:
            raise UsageError(
                f"{workdir} was trained on other data ({'; '.join(differing)}): use that data, "
                "or another --workdir"
            )
        return
    about = {
        "format": FORMAT,
        "data": data,
        "devices": devices,
        "name": name,
        "command": list(command),
        "commit": _commit(),
        "versions": versions(_LIBRARIES),
    }
    files.write_text(workdir / "run.json", _as_json(about))
    # Last, because its presence marks the directory as a run.
    files.write_text(workdir / "config.json", new["config.json"])


def is_run(workdir: pathlib.Path) -> bool:
    """Whether the directory holds a run."""
    return (workdir / "config.json").exists()


def check_same(workdir: pathlib.Path, config: dict[str, Any]) -> None:
    """Raises UsageError with the differing keys if `workdir` holds a run of another config, or
    checkpoints of one that nobody knows any more."""
    if not is_run(workdir):
        # config.json is there before the first checkpoint is.
        if any(path.name.isdecimal() for path in (workdir / "checkpoints").glob("*")):
            raise UsageError(
                f"{workdir} has checkpoints, but its config.json is gone: restore it from a copy, "
                "or use another --workdir"
            )
        return
    old, new = read(workdir, "config.json"), json.loads(_as_json(config))
    old.pop(FREE_SECTION, None)
    new.pop(FREE_SECTION, None)
    differing = _differences(old, new)
    if differing:
        raise UsageError(
            f"{workdir} holds a run with another config ({'; '.join(differing)}): use the same "
            "config to resume it, or another --workdir"
        )


def check_writable(workdir: pathlib.Path) -> None:
    """Makes the directory if needed; raises MachineError unless files can be written there."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        raise MachineError(
            f"cannot write to --workdir {workdir}: {error.strerror}; choose another directory"
        ) from error


def check_shared(workdir: pathlib.Path) -> None:
    """Raises MachineError in a process that does not see what process 0 writes to the directory;
    the others end too."""
    # A name that no network file system can remember as missing.
    mark = workdir / hosts.from_first(f".shared-{uuid.uuid4().hex}")
    try:
        with hosts.first_then_others():
            if hosts.is_first() and hosts.find().count > 1:
                mark.touch()
            elif not hosts.is_first() and not mark.exists():
                raise MachineError(
                    f"--workdir {workdir.absolute()} is not the folder that process 0 writes to: "
                    "name one on a file system that all hosts share"
                )
    finally:
        with contextlib.suppress(OSError):
            mark.unlink()


def read(workdir: pathlib.Path, name: str) -> dict[str, Any]:
    """Reads config.json or run.json.

    Raises:
      UsageError: the directory is no run, the file is damaged, or another version wrote it.
    """
    path = workdir / name
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"{workdir} is not a run directory: it has no {name}; give --workdir the directory "
            "that cifar_cnn.main trained in"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}; restore it from a copy") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no keys and values; restore it from a copy")
    if name == "run.json" and values.get("format") != FORMAT:
        raise UsageError(
            f"{workdir} was written by another version of cifar_cnn (commit "
            f"{values.get('commit')}): use that version, or train again in another --workdir"
        )
    return values


def _as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    """'key: old there, new here' for every leaf in which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for name in sorted(old.keys() | new.keys())
            for line in _differences(
                old.get(name, "nothing"), new.get(name, "nothing"), f"{key}.{name}".lstrip(".")
            )
        ]
    return [] if old == new else [f"{key}: {shown(old)} there, {shown(new)} here"]


def _commit() -> str | None:
    """The commit of this source tree, '+' for uncommitted changes; None outside of git."""
    root = pathlib.Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if pathlib.Path(git("rev-parse", "--show-toplevel")) != root:
            return None
        dirty = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "HEAD") + dirty
    except (OSError, subprocess.CalledProcessError):
        return None
