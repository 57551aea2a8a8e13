"""How every command of this project ends: errors for people, exit codes for machines.

Exit codes: 0 success, 1 a fault of the machine, 2 a mistake in the command, the config or the
files it names, 128 and its number after a signal: 129 SIGHUP, 130 SIGINT (Ctrl-C), 138 SIGUSR1, 143
SIGTERM.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from absl import logging

from cifar_cnn import hosts
from cifar_cnn.checks import MachineError, UsageError, printable, why
from cifar_cnn.signals import Interrupted

# Of a command that several processes run together, where their launcher does not say it.
PROCESS_FLAGS = {
    "coordinator_address": (str, "HOST:PORT of process 0; or $JAX_COORDINATOR_ADDRESS"),
    "num_processes": (int, "how many processes run this command; or $JAX_NUM_PROCESSES"),
    "process_id": (int, "which one this is, from 0; or $JAX_PROCESS_ID"),
    "connect_seconds": (int, "how long to wait for the others (300); or $JAX_CONNECT_SECONDS"),
}


def run(command: Callable[[], None]) -> int:
    """Runs a command and returns its exit code; foreseen errors become one line on stderr."""
    # Libraries log details (Orbax on every save, and pages when the disk is full); what matters of
    # them is told in our own words.
    logging.set_verbosity(logging.FATAL)
    # A log file shows each line when it is printed, not when a buffer is full.
    # A terminal that lacks a character of a name shows its code, as stderr does.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        command()
    except UsageError as error:
        return _fail(error, 2)
    except MachineError as error:
        return _fail(error, 1)
    except OSError as error:
        # A disk that is full or gone can fail anywhere.
        return _fail(why(error), 1)
    except Interrupted as interrupt:
        return _fail(interrupt, 128 + interrupt.number)
    except MemoryError:
        return _fail(
            "there is not enough memory: make the batch, the images or the network less", 1
        )
    except KeyboardInterrupt as interrupt:
        return _fail(str(interrupt) or "interrupted", 128 + signal.SIGINT)
    return 0


class Flags(argparse.ArgumentParser):
    """The parser of a script's flags; a mistake in them is one line, as everywhere."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError: of a flag that is unknown, missing or no number."""
        raise UsageError(f"{message} (--help lists the flags)")


def add_checkpoint_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint to a script that opens trained runs."""
    parser.add_argument(
        "--checkpoint", default="best", help="best, latest or a step (default: %(default)s)"
    )


def add_split_flag(parser: argparse.ArgumentParser, choices: str = "test or validation") -> None:
    """Adds --split to a script that reads the data of trained runs; None for
    `experiment.choose_split`."""
    parser.add_argument(
        "--split", help=f"{choices} (default: test, and validation where there is no test split)"
    )


def add_data_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --data_dir to a script that reads the data of trained runs."""
    parser.add_argument("--data_dir", help="prepared TFDS sets, if not where training found them")


def add_device_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --platform and --cpu_devices to a script that opens trained runs."""
    parser.add_argument("--platform", help="auto, cpu, cuda, rocm or tpu, if not the run's")
    parser.add_argument("--cpu_devices", type=int, help="devices that a CPU shows as")


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --coordinator_address, --num_processes, --process_id and --connect_seconds."""
    for name, (kind, text) in PROCESS_FLAGS.items():
        parser.add_argument(f"--{name}", type=kind, help=text)


def settings(flags: argparse.Namespace) -> dict[str, Any]:
    """The keys of a config's section `run` that were given as flags."""
    names = ("data_dir", "platform", "cpu_devices")
    return {name: value for name in names if (value := getattr(flags, name, None)) is not None}


def _fail(message: object, code: int) -> int:
    # Names of files and values of configs may hold anything, escapes of terminals too.
    text = printable(" ".join(str(message).split()))
    print(f"error: {hosts.label()}{text}", file=sys.stderr)
    return code
