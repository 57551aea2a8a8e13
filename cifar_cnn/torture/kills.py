"""kill -9 at any moment: the run goes on after the last save, to the same end."""

import os
import pathlib
import random
import shutil
import time
from collections.abc import Iterator

from cifar_cnn import checkpoint
from cifar_cnn.torture.running import INTERVAL, Bench, Start, Trial, is_saving, last_step

# When, and how many of a hundred kills.
MOMENTS = {
    "while it starts": 15,
    "during data preparation": 10,
    "during the first compile": 15,
    "during steps": 35,
    "during a save": 25,
}
# Seconds: of starting with warm caches, and of a save; kills fall anywhere in them.
_START, _SAVE = 4.0, 0.15


def kill(bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int) -> Iterator[Trial]:
    """Kills runs `tries` times, each again and again until it has come to its end.

    Args:
      folder: of the run directories; made.
    """
    number = done = 0
    while done < tries:
        workdir = folder / f"run{number}"
        number += 1
        trials: list[Trial] = []
        ended = False
        while done < tries and not ended:
            moment = rng.choices(list(MOMENTS), list(MOMENTS.values()))[0]
            before = (last_step(workdir), max(checkpoint.steps(workdir), default=0))
            with bench.start(workdir, *_flags(bench, moment, folder)) as run:
                ended = not _reach(bench, run, moment, rng)
                run.process.kill()
                code = run.wait()
            if trials:
                trials[-1] = judged(trials[-1], run, *before)
            if ended:
                if code:
                    yield Trial(f"kill -9 {moment}", "", f"ended by itself: {run.last_words()}")
                break
            detail = f"at step {last_step(workdir)}"
            trials.append(Trial(f"kill -9 {moment}", detail))
            done += 1
        before = (last_step(workdir), max(checkpoint.steps(workdir), default=0))
        problem, run = bench.finish(workdir)
        if trials and not ended:
            trials[-1] = judged(trials[-1], run, *before)
        for trial in trials:
            # One that is not as it should be at the end spoils all that led to it.
            yield trial if trial.problem or not problem else _replaced(trial, problem)
        shutil.rmtree(folder / "cold", ignore_errors=True)


def _flags(bench: Bench, moment: str, folder: pathlib.Path) -> list[str]:
    """Flags of a start that is to be killed at a moment which warm caches would skip."""
    cold = folder / "cold"
    shutil.rmtree(cold, ignore_errors=True)
    if moment == "during data preparation":
        return [f"--config.run.cache_dir={cold}"]
    if moment == "during the first compile":
        cold.mkdir(parents=True)
        os.symlink(bench.cache / "arrays", cold / "arrays")
        return [f"--config.run.cache_dir={cold}"]
    return []


def _reach(bench: Bench, run: Start, moment: str, rng: random.Random) -> bool:
    """Waits for a moment and then for some part of it; False if the run ended before."""
    if moment == "while it starts":
        time.sleep(rng.uniform(0, _START))
    elif moment == "during data preparation":
        run.until(lambda: "decoding" in run.out)
        time.sleep(rng.uniform(0, bench.phases["data"]))
    elif moment == "during the first compile":
        run.until(lambda: "compiling;" in run.out)
        time.sleep(rng.uniform(0, bench.phases["compile"]))
    elif moment == "during steps":
        run.until(run.steps)
        time.sleep(rng.uniform(0, bench.phases["steps"] / 4))
    else:
        run.until(run.steps)
        run.until(lambda: is_saving(run.workdir))
        time.sleep(rng.uniform(0, _SAVE))
    return run.process.poll() is None


def judged(trial: Trial, run: Start, recorded: int, saved: int) -> Trial:
    """The trial, with what the start after it tells.

    Args:
      recorded: last step that was recorded before that start.
      saved: newest checkpoint that was there.
    """
    if not run.resumed and "compiling;" not in run.out and "is finished" not in run.out:
        return trial  # Killed itself before it could say.
    resumed = recorded if "is finished" in run.out else run.resumed
    problem = trial.problem
    if resumed < saved:
        problem = f"resumed after step {resumed}, although {saved} was saved"
    elif recorded - resumed > INTERVAL:
        problem = f"{recorded - resumed} steps repeated, a save interval has {INTERVAL}"
    repeated = max(trial.repeated, recorded - resumed)
    return Trial(trial.fault, trial.detail, problem, repeated)


def _replaced(trial: Trial, problem: str) -> Trial:
    return Trial(trial.fault, trial.detail, problem, trial.repeated)
