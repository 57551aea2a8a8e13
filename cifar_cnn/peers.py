"""What a process does when another one of its job is gone: it says so, and ends at once."""

import contextlib
import os
import sys
from collections.abc import Iterator

import jax

from cifar_cnn import hosts
from cifar_cnn.checks import MachineError, printable, why


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """Ends one of several processes at once where the block fails: the others then notice.

    A collective fails within a moment when a process that takes part has ended, and after a minute
    without a heartbeat when its host is gone or hangs. Leaving Python as usual would wait for the
    lost one to leave too; that is done only where all know of the failure.

    Raises:
      MachineError: a device is out of memory, in a process that runs alone.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MachineError, OSError, ValueError) as error:
        if isinstance(error, ValueError) and not hosts.is_loss(error):
            raise
        if hosts.find().count == 1 or hosts.all_know():
            if _is_memory(error):
                raise MachineError(_reason(error)) from error
            raise
        with contextlib.suppress(OSError):
            line = printable(" ".join(_reason(error).split()))
            print(f"error: {hosts.label()}{line}", file=sys.stderr, flush=True)
        os._exit(1)


def _is_memory(error: Exception) -> bool:
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return why(error)
    if isinstance(error, MachineError):
        return str(error)
    first = str(error).splitlines()[0][:200]
    if _is_memory(error):
        return (
            f"the device has too little memory ({first}): make train.batch_size or "
            "train.micro_batch_size less, or the network"
        )
    return (
        f"another process of this job is gone ({first}): its own messages say why; the same "
        "command goes on after the last checkpoint"
    )
