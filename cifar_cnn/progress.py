"""What a running job tells its user: a live line on a terminal, plain lines elsewhere."""

import datetime
import threading
import time
from collections.abc import Sequence

import rich.box
import rich.console
import rich.panel
import rich.progress
import rich.text

# Seconds after which a compilation that is still going on says so, without a terminal.
_STILL_SECONDS = 20.0


class Progress:
    """Progress of a training run.

    On a terminal one live line with a bar; otherwise a plain line with the time of day whenever
    `plain_seconds` have passed and at the end of every epoch, so that a log file stays readable.
    """

    def __init__(
        self,
        *,
        total_steps: int,
        done_steps: int,
        batch_size: int,
        epochs: int = 1,
        plain_seconds: float = 10.0,
    ):
        """Starts the clock.

        Args:
          total_steps: steps of the whole run.
          done_steps: steps made by earlier starts of the run.
          batch_size: examples a step, for images/s.
          epochs: of the whole run.
        """
        self._console = rich.console.Console(highlight=False, soft_wrap=True)
        self._live = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.BarColumn(bar_width=20),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.description}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._live.add_task("starting", total=total_steps, completed=done_steps)
        self._total = total_steps
        self._batch_size = batch_size
        self._epochs = epochs
        self._plain_seconds = plain_seconds
        self._last_plain = time.monotonic()
        self._seconds_per_step: float | None = None
        self._best: float | None = None
        self._compiled = threading.Event()

    def __enter__(self) -> "Progress":
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._compiled.set()
        self._live.stop()

    def say(self, message: str) -> None:
        """Prints a line of its own, above the live line."""
        now = "" if self._console.is_terminal else f"{datetime.datetime.now():%H:%M:%S} "
        self._console.print(f"{now}{message}", markup=False)

    def compiling(self, what: str) -> None:
        """Says that a program is compiled, and goes on saying so until `compiled`."""
        self._live.update(self._task, description=f"compiling {what}")
        self._compiled = threading.Event()
        if self._live.disable:
            self.say(f"compiling {what}; the first steps come in some ten seconds")
            done = self._compiled
            threading.Thread(target=self._still, args=(what, done), daemon=True).start()

    def compiled(self, seconds: float) -> None:
        """Says how long compiling, and the steps of the same call, have taken."""
        self._compiled.set()
        self.say(f"compiled, and the first steps made, in {seconds:.0f} s")

    def _still(self, what: str, done: threading.Event) -> None:
        start = time.monotonic()
        while not done.wait(_STILL_SECONDS):
            self.say(f"still compiling {what}, {time.monotonic() - start:.0f} s so far")

    def advance(self, step: int, steps: int, seconds: float) -> None:
        """Moves the bar.

        Args:
          step: last step made.
          steps, seconds: how many were made in how long since the last time; 0 seconds where the
            time was spent on compiling and says nothing.
        """
        if seconds:
            now = seconds / steps
            old = self._seconds_per_step
            self._seconds_per_step = now if old is None else 0.7 * old + 0.3 * now
        self._live.update(self._task, completed=step)

    def validated(self, accuracy: float) -> None:
        """Notes a validation; the best one so far is shown from here on."""
        self._best = accuracy if self._best is None else max(self._best, accuracy)

    def update(self, step: int, *, epoch: float, loss: float, accuracy: float) -> None:
        """Shows the state after some steps.

        Args:
          step: last step made.
          epoch: passes over the training part so far.
          loss, accuracy: means over these steps; loss in nats, accuracy in [0, 1].
        """
        words = f"epoch {epoch:.2f}/{self._epochs}  loss {loss:.4f}  accuracy {accuracy:.2%}"
        if self._best is not None:
            words += f"  best validation {self._best:.2%}"
        if self._seconds_per_step:
            speed = self._batch_size / self._seconds_per_step
            left = (self._total - step) * self._seconds_per_step
            words += f"  {speed:,.0f} images/s  {_duration(left)} left"
        self._live.update(self._task, description=words)
        waited = time.monotonic() - self._last_plain
        if self._live.disable and (waited >= self._plain_seconds or step == self._total):
            self._last_plain = time.monotonic()
            self.say(f"step {step}/{self._total}  {words}")


def print_box(title: str, lines: Sequence[str]) -> None:
    """Prints lines in a box on a terminal, and as they are elsewhere."""
    console = rich.console.Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        print("\n".join([title, *lines]))
        return
    text = rich.text.Text("\n".join(lines))
    console.print(
        rich.panel.Panel(text, title=title, title_align="left", box=rich.box.ROUNDED, expand=False),
        soft_wrap=False,
    )


def _duration(seconds: float) -> str:
    """'1:02:03' or '2:03'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
