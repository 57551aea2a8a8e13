"""What a running job tells its user: a live line on a terminal, plain lines elsewhere."""

import time

import rich.console
import rich.progress


class Progress:
    """Progress of a training run.

    On a terminal one live line with a bar; otherwise a plain line whenever `plain_seconds` have
    passed and at the end of every epoch, so that a log file stays readable.
    """

    def __init__(
        self, *, total_steps: int, done_steps: int, batch_size: int, plain_seconds: float = 10.0
    ):
        """Starts the clock.

        Args:
          total_steps: steps of the whole run.
          done_steps: steps made by earlier starts of the run.
          batch_size: examples a step, for images/s.
        """
        self._console = rich.console.Console(highlight=False, soft_wrap=True)
        self._live = rich.progress.Progress(
            rich.progress.BarColumn(bar_width=20),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.description}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._live.add_task("compiling", total=total_steps, completed=done_steps)
        self._total = total_steps
        self._batch_size = batch_size
        self._plain_seconds = plain_seconds
        self._last_plain = time.monotonic()
        self._seconds_per_step: float | None = None

    def __enter__(self) -> "Progress":
        self._live.start()
        if self._live.disable:
            self.say("compiling; the first steps come in some ten seconds")
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def say(self, message: str) -> None:
        """Prints a line of its own, above the live line."""
        self._console.print(message, markup=False)

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

    def update(self, step: int, *, epoch: float, loss: float, accuracy: float) -> None:
        """Shows the state after some steps.

        Args:
          step: last step made.
          epoch: passes over the training part so far.
          loss, accuracy: means over these steps; loss in nats, accuracy in [0, 1].
        """
        words = f"epoch {epoch:.2f}  loss {loss:.4f}  accuracy {accuracy:.2%}"
        if self._seconds_per_step:
            speed = self._batch_size / self._seconds_per_step
            left = (self._total - step) * self._seconds_per_step
            words += f"  {speed:,.0f} images/s  {_duration(left)} left"
        self._live.update(self._task, description=words)
        waited = time.monotonic() - self._last_plain
        if self._live.disable and (waited >= self._plain_seconds or step == self._total):
            self._last_plain = time.monotonic()
            self.say(f"step {step}/{self._total}  {words}")


def _duration(seconds: float) -> str:
    """'1:02:03' or '2:03'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
