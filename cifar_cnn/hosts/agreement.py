"""How the processes of a job agree: all of them call each of these at the same point."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from cifar_cnn.checks import MachineError, UsageError, leaves
from cifar_cnn.hosts.process import find, is_first

_told = False  # Whether a failure of one process is known to all.


def all_know() -> bool:
    """Whether a failure of one process has been told to all, so that each can end as usual."""
    return _told


def is_loss(error: BaseException) -> bool:
    """Whether an error says that an exchange between processes failed: another one is gone.

    Within JAX's own programs it is a JaxRuntimeError, around them a ValueError.
    """
    return isinstance(error, ValueError | RuntimeError) and "Gloo" in str(error)


def highest(value: int) -> int:
    """The highest value of any process; all have to call it at the same point."""
    return max(_gather(value))


def from_first(value: Any) -> Any:
    """The value that process 0 gives, which JSON can hold; all have to call it."""
    import numpy as np
    from jax.experimental import multihost_utils

    if find().count == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
    text = np.resize(text, size) if is_first() else np.zeros(size, np.uint8)
    return json.loads(multihost_utils.broadcast_one_to_all(text).tobytes())


def check_agree(what: str, values: Mapping[str, Any]) -> None:
    """Raises MachineError in a process whose values are not process 0's, with the differing keys.

    The others end without a word, with the same exit code.

    Args:
      what: opens the message.
      values: nested dictionaries of what JSON can hold.
    """
    if find().count == 1:
        return
    own = json.loads(json.dumps(dict(leaves(values))))
    theirs = from_first(own)
    differing = [
        f"{key}: {theirs.get(key)!r} there, {own.get(key)!r} here"
        for key in sorted(own.keys() | theirs.keys())
        if own.get(key) != theirs.get(key)
    ]
    _settle(int(bool(differing)), f"{what} than process 0 ({'; '.join(differing)})")


@contextlib.contextmanager
def first_then_others() -> Iterator[None]:
    """Runs a block in process 0, and then in the others, which find what it has made.

    Where it fails in one process, that one says why, and the others end with its exit code.
    """
    if find().count == 1:
        yield
        return
    if not is_first():
        _settle(0)
    try:
        yield
    except BaseException as error:
        _tell(2 if isinstance(error, UsageError) else 1)
        raise
    _settle(0)
    if is_first():
        _settle(0)


def _settle(code: int, message: str = "") -> None:
    """Ends every process if `code` is not 0 in one of them; that one says why."""
    codes = _tell(code)
    if code:
        raise MachineError(message)
    if any(codes):
        if is_first():
            failed = next(number for number, code in enumerate(codes) if code)
            print(f"error: process {failed} failed and says why itself", file=sys.stderr)
        raise SystemExit(max(codes))


def _tell(code: int) -> list[int]:
    """Exchanges exit codes, 0 where all is well, and notes that a failure is known to all."""
    global _told
    codes = _gather(code)
    _told = _told or any(codes)
    return codes


def _gather(value: int) -> list[int]:
    """The values of all processes, in their order."""
    import numpy as np
    from jax.experimental import multihost_utils

    if find().count == 1:
        return [value]
    return np.ravel(multihost_utils.process_allgather(np.int32(value))).tolist()
