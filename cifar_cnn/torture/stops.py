"""Signals: what was computed is saved, and a second one ends at once."""

import pathlib
import random
import signal
import time
from collections.abc import Iterator

from cifar_cnn import checkpoint
from cifar_cnn.signals import SAME_SECONDS, SIGNALS
from cifar_cnn.torture.running import INTERVAL, Bench, Trial, last_step

# Seconds that a signalled run may take to end; a step and a save here take well under one.
_LIMIT = 10.0


def stop(bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int) -> Iterator[Trial]:
    """Sends signals during steps; no step may be lost, and the end has to be the same.

    Args:
      folder: of the run directories; made.
    """
    number = done = 0
    while done < tries:
        workdir = folder / f"run{number}"
        number += 1
        trials: list[Trial] = []
        while done < tries:
            name = SIGNALS[done % len(SIGNALS)]
            with bench.start(workdir) as run:
                run.until(run.steps)
                time.sleep(rng.uniform(0, bench.phases["steps"] / 4))
                if run.process.poll() is not None:
                    break
                left = INTERVAL * bench.epochs - last_step(workdir)
                seconds, code = run.end(name)
            if code == 0 and left <= INTERVAL:
                break  # It was at its last steps.
            done += 1
            if code == 0:
                problem = f"it was ignored {left} steps before the end"
                trials.append(Trial(f"{name.name}", "", problem, 0, seconds))
                break
            saved = max(checkpoint.steps(workdir), default=0)
            words = f"error: interrupted by {name.name}: saved at step {saved}; "
            problem = ""
            if code != 128 + name or words not in run.err:
                problem = f"exit code {code}: {run.last_words()}"
            elif saved != last_step(workdir):
                problem = f"saved at step {saved}, but step {last_step(workdir)} was made"
            elif seconds > _LIMIT:
                problem = f"ended after {seconds:.0f} seconds"
            trials.append(Trial(f"{name.name}", f"at step {saved}", problem, 0, seconds))
        problem, _ = bench.finish(workdir)
        if problem and not trials:  # It fails by itself, and would for ever.
            yield Trial("signal", "", problem)
            return
        for trial in trials:
            yield Trial(trial.fault, trial.detail, trial.problem or problem, 0, trial.seconds)


def stop_early(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Sends SIGTERM before the first step: it ends at once, and leaves nothing in the way."""
    for number in range(tries):
        workdir = folder / f"run{number}"
        cold = f"--config.run.cache_dir={folder}/cold{number}"
        with bench.start(workdir, cold) as run:
            words = rng.choice(["cifar_cnn", "decoding", "compiling the"])
            run.until(lambda words=words, run=run: words in run.out)
            time.sleep(rng.uniform(0, bench.phases["data"]))
            seconds, code = run.end(signal.SIGTERM)
        problem = "" if code == 143 else f"exit code {code}: {run.last_words()}"
        if seconds > _LIMIT:
            problem = f"ended after {seconds:.0f} seconds"
        # With the same cache, in which something may lie in the way.
        problem = problem or bench.finish(workdir, cold)[0]
        yield Trial("SIGTERM before the first step", f"after {words!r}", problem, 0, seconds)


def stop_twice(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Sends a second signal while a save, which takes long here, is not done."""
    for number in range(tries):
        workdir = folder / f"run{number}"
        with bench.start(workdir, fault="slow_save:60") as run:
            run.until(run.steps)
            run.process.send_signal(rng.choice([signal.SIGTERM, signal.SIGINT]))
            time.sleep(SAME_SECONDS + rng.uniform(0.2, 0.5))
            early = run.process.poll()
            seconds, code = run.end(signal.SIGTERM)
        problem = "" if code == 143 and early is None else f"exit code {code}: {run.last_words()}"
        if seconds > 1:
            problem = f"ended after {seconds:.1f} seconds"
        problem = problem or bench.finish(workdir)[0]
        yield Trial("a second signal during the save", "", problem, 0, seconds)
