"""TensorBoard's event files of a run: scalars, the confusion matrix, predictions, the config.

`tensorboard --logdir runs` shows them. They are a view of what metrics.jsonl holds: nothing reads
them back, and no fault in writing them ends a run.
"""

import contextlib
import errno
import math
import os
import pathlib
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from cifar_cnn import hosts
from cifar_cnn.checks import leaves, printable

# TensorBoard puts what has the same word before the slash together.
_NAMES = {
    "train_loss": "loss/training",
    "validation_loss": "loss/validation",
    "train_accuracy": "accuracy/training",
    "validation_accuracy": "accuracy/validation",
    "learning_rate": "learning_rate",
}
_PREFIX = "events.out.tfevents."


class Events:
    """Writes event files into WORKDIR/tensorboard; of several processes only the first does.

    What is written is in the file when the call returns, so that a killed run keeps it. When the
    disk refuses, that is said once, and this start of the run writes no events any more.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        config: Mapping[str, Any],
        *,
        keep_to_step: int,
        say: Callable[[str], None] = print,
    ):
        """Opens a new event file.

        Args:
          config: complete and nested, without the section `run`; shown as hyper-parameters.
          keep_to_step: TensorBoard leaves out what older files of the run have beyond this step.
          say: told when the files cannot be written.
        """
        self._file: int | None = None
        self._say = say
        if not hosts.is_first():
            return
        try:
            self._file = _open_next(workdir / "tensorboard")
        except OSError as error:
            self._give_up(error)
        self._add(file_version="brain.Event:2")
        # TensorBoard drops what it has read from this step on, but not at the first such record of
        # a run: so there is one in the first file, too.
        self._add(step=keep_to_step + 1, session_log=SessionLog(status=SessionLog.START))
        plain = {key: _plain(value) for key, value in leaves(config)}
        # The third part would say that the run has succeeded.
        for part in summary.hparams(plain, {_NAMES["validation_accuracy"]: None})[:2]:
            self._add(summary=part)

    def write(self, step: int, **scalars: Any) -> None:
        """Writes the scalars that have a name here; the others are left out."""
        for name, value in scalars.items():
            if name in _NAMES:
                scalar = Summary.Value(tag=_NAMES[name], simple_value=float(value))
                self._add(step=step, summary=Summary(value=[scalar]))

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture uint8 [H, W, 3]."""
        if self._file is not None:
            self._add(step=step, summary=summary.image(name, image, dataformats="HWC"))

    def _add(self, **fields: Any) -> None:
        """Appends one record: its length, the event, and a checksum of each."""
        if self._file is None:
            return
        event = Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(event))
        record = length + _checksum(length) + event + _checksum(event)
        try:
            # At once and whole: half a record would hide what comes after it.
            if os.write(self._file, record) < len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._close()
        self._say(
            f"note: TensorBoard's files cannot be written ({error.strerror or error}): training "
            "goes on without them, metrics.jsonl has the same numbers"
        )

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # A file server may refuse only now.
                os.close(file)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()


def _open_next(folder: pathlib.Path) -> int:
    """Makes the next event file. TensorBoard reads them in the order of their names, which a clock
    that is set back must not change: they are numbered."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [path.name.removeprefix(_PREFIX).split(".")[0] for path in folder.glob(f"{_PREFIX}*")]
    number = max((int(name) for name in names if name.isdecimal()), default=-1) + 1
    path = folder / f"{_PREFIX}{number:06}"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))


def _plain(value: Any) -> bool | int | float | str:
    """What TensorBoard takes for a hyper-parameter: a number that float64 holds exactly, or text
    that is UTF-8."""
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return printable(value if isinstance(value, str) else repr(value))
