"""The steps that one line of metrics.jsonl covers, and how many of them one call makes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Seconds that one call should last: a signal waits for its end; to start one takes milliseconds.
CALL_SECONDS = 1.0


class Window:
    """Records of the steps since the last line, gathered over calls and over starts of the run.

    Attributes:
      first: the window's first step.
      steps: how many steps it has.
    """

    def __init__(self, step: int, records: Mapping[str, Sequence[float]]):
        """Goes on with the records that were saved with the checkpoint of `step`."""
        self._pieces = {name: [np.asarray(values, float)] for name, values in records.items()}
        self.steps = len(next(iter(records.values()), ()))
        self.first = step - self.steps

    def add(self, records: Mapping[str, Any], count: int) -> None:
        """Adds the first `count` entries of the records of `steps.train_chunk`."""
        for name, values in records.items():
            self._pieces.setdefault(name, []).append(np.asarray(values, np.float64)[:count])
        self.steps += count

    @property
    def records(self) -> dict[str, list[float]]:
        """What has to be saved beside the state; nothing at the end of a window."""
        return {name: np.concatenate(pieces).tolist() for name, pieces in self._pieces.items()}

    def bad_step(self) -> tuple[int, float] | None:
        """The first step whose loss is not finite, and its loss; None where all are."""
        losses = np.concatenate(self._pieces["loss"])
        bad = np.flatnonzero(~np.isfinite(losses))
        return (self.first + int(bad[0]), float(losses[bad[0]])) if bad.size else None

    def close(self) -> dict[str, float]:
        """Mean loss and accuracy over the examples of the window; the next one begins."""
        arrays = {name: np.concatenate(pieces) for name, pieces in self._pieces.items()}
        self.first += self.steps
        self.steps, self._pieces = 0, {}
        total = arrays["count"].sum()
        return {
            "loss": float((arrays["loss"] * arrays["count"]).sum() / total),
            "accuracy": float(arrays["correct"].sum() / total),
        }


class Pace:
    """How many steps a call makes, so that it lasts about `CALL_SECONDS`."""

    def __init__(self) -> None:
        self.steps = 1

    def restart(self) -> None:
        """Before a program that is not known yet."""
        self.steps = 1

    def update(self, steps: int, seconds: float) -> None:
        """Learns from a call that compiled nothing."""
        wanted = int(CALL_SECONDS * steps / max(seconds, 1e-9))
        # One call alone can mislead.
        self.steps = max(1, min(wanted, 10 * self.steps))
