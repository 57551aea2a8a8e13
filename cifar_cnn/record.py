"""Scalars of a run as JSON lines, one object a line, each with its step."""

import json
import os
import pathlib
from typing import Any

from cifar_cnn import hosts
from cifar_cnn.files import replacing


class Scalars:
    """Appends to a JSON-lines file, and cuts it back to a step when a run is resumed.

    A resumed run so continues its file as if it had never stopped: the same lines, byte for byte.
    Of several processes only the first writes.
    """

    def __init__(self, path: pathlib.Path, *, keep_to_step: int):
        """Opens `path`, keeping the lines up to and including `keep_to_step`."""
        if hosts.is_first():
            _cut(path, keep_to_step)
        else:
            path = pathlib.Path(os.devnull)
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, **scalars: Any) -> None:
        """Appends one line at once, so that a killed run keeps what it has written."""
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()

    def __enter__(self) -> "Scalars":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def read_scalars(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads a file that `Scalars` wrote, without a last line that is cut short."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _cut(path: pathlib.Path, keep_to_step: int) -> None:
    """Keeps the lines up to and including a step; makes the file where there is none."""
    kept = []
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if _step_of(line) <= keep_to_step]
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def _step_of(line: str) -> float:
    """The step of a line; infinity for one that was cut short by a kill."""
    try:
        return json.loads(line)["step"] if line.endswith("\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")
