"""Runs a command in several processes on this machine, as a cluster would on many."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from cifar_cnn import hosts
from cifar_cnn.checks import UsageError, check_int
from cifar_cnn.machine import usable_cores

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# Seconds. When one process has failed, the others are left to end by themselves for so long; then
# they are asked to, and after as long again they are killed.
GRACE = 30.0
_PR_SET_PDEATHSIG = 1  # Of prctl(2).


def launch(processes: int, devices: int, arguments: Sequence[str], *, grace: float = GRACE) -> int:
    """Runs `python -m cifar_cnn.main ARGUMENTS` in several processes, and waits for all.

    Their output is passed on with '[N] ' before each line; once nobody reads it, they are told by
    SIGHUP, as by a terminal that is closed. SIGINT, SIGTERM, SIGHUP, SIGUSR1 and
    SIGUSR2 are passed on to all. None of them outlives this process, not even where that is
    killed -9 (on Linux).

    Args:
      processes: how many.
      devices: CPU devices of each; 0 for an equal share of the cores.
      arguments: flags of cifar_cnn.main; or a script such as scripts/evaluate.py and its flags.
      grace: seconds that the others have to end by themselves when one has failed.

    Returns:
      0, or the exit code of the process that failed first; 128 + N for one that signal N ended.

    Raises:
      UsageError: numbers out of range, nothing to run.
    """
    check_int("--processes", processes, minimum=1, maximum=1024)
    check_int("--devices", devices, minimum=0, maximum=1024)
    if not arguments:
        raise UsageError("nothing to run: write -- and the flags of cifar_cnn.main after it")
    devices = devices or max(1, usable_cores() // processes)
    command = _command(arguments, devices)
    address = f"127.0.0.1:{_free_port()}"
    children: list[subprocess.Popen] = []
    received: list[int] = []
    ended: list[int] = []  # Exit codes in the order in which the processes end.
    unread = threading.Lock()  # Taken for good by the first reader whose words go nowhere.

    def hang_up() -> None:
        if unread.acquire(blocking=False):
            received.append(signal.SIGHUP)

    def note(number: int, frame: object) -> None:
        received.append(number)  # Passed on below, when all are there.

    # What nohup has this process ignore the others ignore, too.
    heard = [number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    old = {number: signal.signal(number, note) for number in heard}
    threads = []
    try:
        for process in range(processes):
            values = (address, processes, process)
            names = ("coordinator_address", "num_processes", "process_id")
            told = {hosts.VARIABLES[k]: str(v) for k, v in zip(names, values, strict=True)}
            child = subprocess.Popen(
                command,
                env={**os.environ, **told},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Out of reach of the terminal's own signals, which would come twice otherwise.
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),
            )
            children.append(child)
            waiter = threading.Thread(target=_note_end, args=(child, ended))
            waiter.start()
            threads.append(waiter)
            for source, target in ((child.stdout, sys.stdout), (child.stderr, sys.stderr)):
                reader = threading.Thread(target=_pass_on, args=(process, source, target, hang_up))
                reader.start()
                threads.append(reader)
        return _wait(children, received, ended, grace)
    finally:
        for child in children:
            _send(child, signal.SIGKILL)
            child.wait()
        for thread in threads:
            thread.join(5)
        for number, handler in old.items():
            signal.signal(number, handler)


def _command(arguments: Sequence[str], devices: int) -> list[str]:
    if not arguments[0].startswith("-"):
        if not arguments[0].endswith(".py"):
            raise UsageError(f"{arguments[0]!r} is neither a flag of cifar_cnn.main nor a script")
        return [sys.executable, *arguments, "--platform=cpu", f"--cpu_devices={devices}"]
    flags = ["--config.run.platform=cpu", f"--config.run.cpu_devices={devices}"]
    return [sys.executable, "-m", "cifar_cnn.main", *arguments, *flags]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _die_with_parent(parent: int):
    """What a child does first: it asks Linux to be killed when this process ends."""
    # Loaded here, because a child of a process with threads must not do much.
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def ask() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # It has ended before.
                os._exit(1)

    return ask


def _send(child: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(number)


def _pass_on(process: int, source, target, hang_up: Callable[[], None]) -> None:
    """Copies lines with the number of their process before them.

    Where they cannot be written any more it reads on, so that no process waits for it.
    """
    for line in source:
        text = line.decode(errors="backslashreplace").rstrip("\n")
        try:
            target.write(f"[{process}] {text}\n")
            target.flush()
        except (OSError, ValueError):
            hang_up()
            # What is left in the buffer would fail again at the end, with an exit code of its own.
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), target.fileno())


def _note_end(child: subprocess.Popen, ended: list[int]) -> None:
    """Waits for a process by itself: of two that end within a moment, one is the first."""
    ended.append(child.wait())


def _wait(
    children: Sequence[subprocess.Popen], received: list[int], ended: list[int], grace: float
) -> int:
    """Passes signals on until all have ended; returns the first exit code that is not 0."""
    first, since, asked = 0, 0.0, False
    while True:
        while received:
            number = received.pop(0)
            for child in children:
                _send(child, number)
        failed = [code for code in ended if code]
        if failed and not first:
            first, since = failed[0], time.monotonic()
        if len(ended) == len(children):
            return first if first >= 0 else 128 - first
        waited = time.monotonic() - since
        if first and waited > 2 * grace:
            number = signal.SIGKILL
        elif first and waited > grace and not asked:
            number, asked = signal.SIGTERM, True
        else:
            time.sleep(0.05)
            continue
        for child in children:
            _send(child, number)
