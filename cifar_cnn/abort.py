"""The last words of a process that JAX's coordination service aborts.

It does so when another process of the job has died while this one waits outside of a collective, as
in a save. A handler of Python's own would not run before the process is gone.
"""

import contextlib
import ctypes
import os
import signal
from typing import Any

_kept: list[Any] = []  # What C calls must not be collected.


def announce(label: str) -> None:
    """Ends this process, from here on, with a line and exit code 1 where it is aborted.

    Args:
      label: what the line begins with, after 'error: '.
    """
    words = (
        f"error: {label}aborted as told above, most likely because another process of this job is "
        "gone: its own messages say why; the same command goes on after the last checkpoint\n"
    ).encode()

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def aborted(number: int) -> None:
        del number
        with contextlib.suppress(OSError):
            os.write(2, words)
        os._exit(1)

    _kept.append(aborted)
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = (ctypes.c_int, type(aborted))
    libc.signal(signal.SIGABRT, aborted)
