"""How every command of this project ends: errors for people, exit codes for machines.

Exit codes: 0 success, 1 a fault of the machine, 2 a mistake in the command, the config or the
files it names, 130 interrupted from the keyboard.
"""

import sys
from collections.abc import Callable

from absl import logging

from cifar_cnn.checks import MachineError, UsageError


def run(command: Callable[[], None]) -> int:
    """Runs a command and returns its exit code; foreseen errors become one line on stderr."""
    # Libraries log details at lower levels (Orbax on every save, TFDS on its image decoder).
    logging.set_verbosity(logging.ERROR)
    # A log file shows each line when it is printed, not when a buffer is full.
    sys.stdout.reconfigure(line_buffering=True)
    try:
        command()
    except UsageError as error:
        return _fail(error, 2)
    except MachineError as error:
        return _fail(error, 1)
    except KeyboardInterrupt as interrupt:
        return _fail(str(interrupt) or "interrupted", 130)
    return 0


def _fail(message: object, code: int) -> int:
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    return code
