"""Losses and parameters that are not numbers: the run stops, names the step, and has saved none."""

import pathlib
import random
from collections.abc import Iterator

from cifar_cnn import checkpoint
from cifar_cnn.torture.running import INTERVAL, Bench, Trial


def not_a_number(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Puts a NaN into one step; without it the same command goes on to the same end."""
    total = INTERVAL * bench.epochs
    for number in range(tries):
        workdir = folder / f"run{number}"
        if number % 2:
            # The last update of an epoch, which no loss sees before the state would be saved.
            fault, step = "nan_params", INTERVAL * rng.randrange(1, bench.epochs + 1) - 1
            words = f"error: the parameters after step {step} are not finite: training stopped"
        else:
            fault, step = "nan_loss", rng.randrange(total)
            words = f"error: the loss of step {step} is nan: training stopped"
        good = step // INTERVAL * INTERVAL
        words += f", the last good checkpoint is of step {good};" if good else ", there is no"
        with bench.start(workdir, fault=f"{fault}:{step}") as run:
            code = run.wait()
        problem = ""
        if code != 1 or not run.err.startswith(words) or run.err.count("\n") != 1:
            problem = f"exit code {code}: {run.last_words()}"
        elif max(checkpoint.steps(workdir), default=0) != good:
            problem = f"checkpoints {checkpoint.steps(workdir)}"
        problem = problem or bench.finish(workdir)[0]
        yield Trial("NaN at a step", f"{fault}:{step}", problem, step + 1 - good)
