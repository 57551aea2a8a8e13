"""Scalars of a run as JSON lines, one object a line, each with its step."""

import errno
import json
import os
import pathlib
from typing import Any

from cifar_cnn import hosts
from cifar_cnn.checks import MachineError
from cifar_cnn.files import replacing


class Scalars:
    """Appends to a JSON-lines file, and cuts it back to a step when a run is resumed.

    A resumed run so continues its file as if it had never stopped: the same lines, byte for byte.
    Of several processes only the first writes.
    """

    def __init__(self, path: pathlib.Path, *, keep_to_step: int):
        """Opens `path`, keeping the lines up to and including `keep_to_step`."""
        self.last_step = 0
        self._path = path if hosts.is_first() else pathlib.Path(os.devnull)
        if hosts.is_first():
            self.last_step = _cut(path, keep_to_step)
        # Without a buffer, which a full disk would make fail once more when the file is closed.
        self._file = self._path.open("ab", buffering=0)

    def write(self, step: int, **scalars: Any) -> None:
        """Appends one line at once, so that a killed run keeps what it has written.

        Raises:
          MachineError: the disk is full or cannot be written.
          ValueError: a scalar is not finite.
        """
        # A number that is not finite would be no JSON; who writes it here has not looked at it.
        line = (json.dumps({"step": step, **scalars}, allow_nan=False) + "\n").encode()
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._cannot_write(error) from error
        self.last_step = step

    def sync(self) -> None:
        """Returns when all lines are on the disk, where they outlive the machine's own end.

        Raises:
          MachineError: the disk fails.
        """
        try:
            if hosts.is_first():
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> MachineError:
        return MachineError(
            f"cannot write {self._path}: {error.strerror or error}: mend it, and the same command "
            "goes on after the last checkpoint"
        )

    def __enter__(self) -> "Scalars":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def read_scalars(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads a file that `Scalars` wrote, without a last line that is cut short."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def has_scalar(path: pathlib.Path, step: int, name: str) -> bool:
    """Whether a line of `step` holds the scalar `name`; a line that is damaged holds none."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return any(_step_of(line) == step and name in json.loads(line) for line in lines)


def _cut(path: pathlib.Path, keep_to_step: int) -> int:
    """Keeps the whole lines up to and including a step; makes the file where there is none.

    Returns:
      The step of the last line kept; 0 for none.
    """
    kept = []
    if path.exists():
        lines = path.read_bytes().split(b"\n")[:-1]  # The last was cut short by a kill, or is ''.
        steps = [(step, line) for line in lines if (step := _step_of(line)) is not None]
        kept = [(step, line) for step, line in steps if step <= keep_to_step]
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(line + b"\n" for _, line in kept))
    return kept[-1][0] if kept else 0


def _step_of(line: bytes) -> int | None:
    """The step of a line; None for one that a kill or a disk has damaged."""
    try:
        step = json.loads(line.decode())["step"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return step if type(step) is int else None
