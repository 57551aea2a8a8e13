"""What a running job tells its user: a live line on a terminal, plain lines elsewhere."""

import datetime
import threading
import time
from collections.abc import Iterator, Sequence

import rich.box
import rich.console
import rich.panel
import rich.progress
import rich.text

# Seconds after which a compilation that is still going on says so, without a terminal.
_STILL_SECONDS = 20.0


class _Live(rich.progress.Progress):
    """A bar with words behind it, and a line below: 80 columns show both whole.

    Attributes:
      below: that line; none while it is ''.
    """

    below = ""

    def get_renderables(self) -> Iterator[rich.console.RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.below:
            yield rich.text.Text(self.below)


class Progress:
    """Progress of a training run.

    On a terminal a live bar with speed and time left, and what was learned so far below it. On one
    that cannot move its cursor, and elsewhere, a plain line with the time of day whenever
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
        console: rich.console.Console | None = None,
    ):
        """Starts the clock.

        Args:
          total_steps: steps of the whole run.
          done_steps: steps made by earlier starts of the run.
          batch_size: examples a step, for images/s.
          epochs: of the whole run.
          console: where to print, if not to stdout.
        """
        self._console = console or _stdout()
        self._live = _Live(
            rich.progress.SpinnerColumn(),
            rich.progress.BarColumn(bar_width=20),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            console=self._console,
            disable=not self._console.is_interactive,
        )
        self._task = self._live.add_task("starting", total=total_steps, completed=done_steps)
        self._step = done_steps
        self._total = total_steps
        self._batch_size = batch_size
        self._epochs = epochs
        self._best: float | None = None
        self._plain_seconds = plain_seconds
        self._last_plain = time.monotonic()
        self._seconds_per_step: float | None = None
        self._means = ""
        self._compiled = threading.Event()

    def __enter__(self) -> "Progress":
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._compiled.set()
        self._live.stop()

    def say(self, message: str) -> None:
        """Prints a line of its own, above the live line."""
        now = f"{datetime.datetime.now():%H:%M:%S} " if self._live.disable else ""
        self._console.print(f"{now}{message}", markup=False)

    def compiling(self, what: str) -> None:
        """Says that a program is compiled, and goes on saying so until `compiled`."""
        self._live.update(self._task, description=f"compiling {what}")
        self._compiled = threading.Event()
        if self._live.disable:
            self.say(f"compiling {what}, for some ten seconds or more")
            done = self._compiled
            threading.Thread(target=self._still, args=(what, done), daemon=True).start()

    def compiled(self, seconds: float, done: str = "") -> None:
        """Says how long compiling has taken, and what the same call has `done` besides."""
        self._compiled.set()
        self._show()
        self.say(f"compiled{done and f', and {done},'} in {seconds:.0f} s")

    def _still(self, what: str, done: threading.Event) -> None:
        start = time.monotonic()
        while not done.wait(_STILL_SECONDS):
            self.say(f"still compiling {what}, {time.monotonic() - start:.0f} s so far")

    def advance(
        self,
        step: int,
        steps: int,
        seconds: float,
        *,
        loss: float | None = None,
        accuracy: float = 0.0,
    ) -> None:
        """Moves the bar, and prints a plain line where one is due.

        Args:
          step: last step made.
          steps, seconds: how many were made in how long since the last time; 0 seconds where the
            time was spent on compiling and says nothing.
          loss, accuracy: means over a window of steps that ends here, which are shown from here on;
            loss in nats, accuracy in [0, 1].
        """
        self._step = step
        if seconds:
            now = seconds / steps
            old = self._seconds_per_step
            self._seconds_per_step = now if old is None else 0.7 * old + 0.3 * now
        if loss is not None:
            self._means = f"loss {loss:.4f}  accuracy {accuracy:.2%}"
        self._live.update(self._task, completed=step)
        words = self._show()
        ends_epoch = step * self._epochs % self._total == 0
        waited = time.monotonic() - self._last_plain
        if self._live.disable and (ends_epoch or waited >= self._plain_seconds):
            self._last_plain = time.monotonic()
            self.say(f"step {step}/{self._total}  {words}")

    def validated(self, accuracy: float) -> None:
        """Notes a validation; the best one so far is shown from here on."""
        self._best = accuracy if self._best is None else max(self._best, accuracy)
        self._show()

    def _show(self) -> str:
        """Brings the live line up to date; returns its words."""
        behind = ""
        if self._seconds_per_step:
            left = (self._total - self._step) * self._seconds_per_step
            speed = self._batch_size / self._seconds_per_step
            behind = f"{speed:,.0f} images/s  {_duration(left)} left"
        best = "" if self._best is None else f"best validation {self._best:.2%}"
        epoch = f"epoch {self._step * self._epochs / self._total:.2f}/{self._epochs}"
        below = "  ".join(filter(None, (epoch, self._means, best)))
        self._live.below = below
        self._live.update(self._task, description=behind)
        return "  ".join(filter(None, (below, behind)))


def print_box(title: str, lines: Sequence[str]) -> None:
    """Prints lines in a box on a terminal, and as they are elsewhere."""
    console = _stdout()
    if not console.is_terminal:
        print("\n".join([title, *lines]))
        return
    text = rich.text.Text("\n".join(lines))
    console.print(
        rich.panel.Panel(text, title=title, title_align="left", box=rich.box.ROUNDED, expand=False),
        soft_wrap=False,
    )


def _stdout() -> rich.console.Console:
    """Prints text as it is: nothing in it is coloured, broken into lines or taken for a picture."""
    return rich.console.Console(highlight=False, soft_wrap=True, emoji=False)


def _duration(seconds: float) -> str:
    """'1:02:03' or '2:03'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
