"""What a process does when another one of its job is gone: it says so, and ends at once."""

import contextlib
import os
import sys
from collections.abc import Iterator

import jax

from cifar_cnn import hosts
from cifar_cnn.checks import MachineError


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """Ends one of several processes at once where the block fails: the others then notice.

    A collective fails within a moment when a process that takes part has ended, and after
    `hosts.HEARTBEAT_SECONDS` when its host is gone or hangs. Leaving Python as usual would wait for
    the lost one to leave too.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MachineError) as error:
        if hosts.find().count == 1:
            raise
        reason = str(error)
        if isinstance(error, jax.errors.JaxRuntimeError):
            reason = (
                f"another process of this job is gone ({reason.splitlines()[0][:200]}): its own "
                "messages say why; the same command goes on after the last checkpoint"
            )
        with contextlib.suppress(OSError):
            print(f"error: {hosts.label()}{reason}", file=sys.stderr, flush=True)
        os._exit(1)
