"""Signals that end a run: what was computed is saved first, and a second signal ends at once.

Python runs a handler only between two of its instructions, which a compiled program of many steps
keeps waiting. A thread therefore hears of every signal at the moment at which it comes.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

# Slurm and schedulers like it send SIGUSR1 as a warning, some time before they end a job.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_WARNINGS = (signal.SIGUSR1,)
# Ctrl-C reaches a process both from the terminal and from whoever started it: signals that come
# within these seconds are one.
SAME_SECONDS = 1.0


class Interrupted(KeyboardInterrupt):
    """A run that a signal ended; says what was saved.

    Attributes:
      number: of the signal; the exit code is 128 more.
    """

    def __init__(self, number: int, what: str):
        super().__init__(f"interrupted by {signal.Signals(number).name}: {what}")
        self.number = number


class Watch:
    """What a run knows of its signals; made by `watched`.

    Attributes:
      received: number of the first signal, or None.
      deferred: whether a signal is only noted, for the run to look at between two calls;
        otherwise the first one raises Interrupted wherever the run is.
      unsaved: whether there is something to save. Where there is not, a signal that is only noted
        ends the process at once: it compiles, which nothing else can interrupt.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.deferred = False
        self.unsaved = False
        self._first: float | None = None
        self._raised = False

    def handle(self, number: int, frame: object) -> None:
        """The handler, which Python calls in the main thread."""
        del frame
        self.received = self.received or number
        if not self.deferred and not self._raised:
            self._raised = True
            raise Interrupted(number, "nothing was begun that has to be saved")

    def listen(self, pipe: int) -> None:
        """Reads the numbers of signals from `pipe` until it is closed."""
        while numbers := os.read(pipe, 1):
            if numbers[0] in SIGNALS:
                self._hear(signal.Signals(numbers[0]))

    def _hear(self, number: signal.Signals) -> None:
        now = time.monotonic()
        self.received = self.received or number
        if self.deferred and not self.unsaved:
            _exit(number, "before the first step; the same command goes on")
        if number in _WARNINGS:
            # Not counted: what comes after a warning is the first that means it.
            if self.deferred and self._first is None:
                _say(f"{number.name}: finishing the step and saving")
        elif self._first is None:
            self._first = now
            if self.deferred:
                _say(f"{number.name}: finishing the step and saving; a second signal ends at once")
        elif now - self._first >= SAME_SECONDS:
            _exit(number, "a second signal: the same command goes on after the last checkpoint")


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """Takes over SIGINT, SIGTERM, SIGHUP and SIGUSR1 in the block; call it in the main thread.

    A signal that the process was started to ignore, as by nohup, stays ignored.
    """
    watch = Watch()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    old_pipe = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    old = {number: signal.getsignal(number) for number in SIGNALS}
    old = {number: handler for number, handler in old.items() if handler is not signal.SIG_IGN}
    for number in old:
        signal.signal(number, watch.handle)
    listener = threading.Thread(target=watch.listen, args=(reading,), name="signals", daemon=True)
    listener.start()
    try:
        yield watch
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_pipe)
        os.close(writing)
        listener.join()
        os.close(reading)


def _exit(number: signal.Signals, what: str) -> None:
    """Ends this process now, whatever its other threads do."""
    # A bar that is drawn on a terminal hides the cursor.
    show = "\x1b[?25h" if sys.stderr.isatty() else ""
    _say(f"{show}error: {Interrupted(number, what)}")
    os._exit(128 + number)


def _say(message: str) -> None:
    """Prints a line to stderr, which may be gone: SIGHUP tells that the terminal is."""
    with contextlib.suppress(OSError, ValueError):
        print(message, file=sys.stderr, flush=True)
