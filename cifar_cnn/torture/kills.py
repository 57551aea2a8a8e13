"""kill -9 at any moment: the run goes on after the last save, to the same end."""

import pathlib
import random
import shutil
import time
from collections.abc import Iterator

from cifar_cnn import checkpoint
from cifar_cnn.torture.running import (
    INTERVAL,
    Bench,
    Start,
    Trial,
    has_data,
    is_saving,
    last_step,
)

# When, and about how many of a hundred kills.
MOMENTS = {
    "while it starts": 15,
    "during data preparation": 10,
    "during the first compile": 15,
    "during steps": 35,
    "during a save": 25,
}
# Those of them which warm caches would skip.
_COLD = ("during data preparation", "during the first compile")
# Seconds: of starting with warm caches, of a save and of writing decoded pictures; kills fall
# anywhere in them.
_START, _SAVE, _WRITE = 4.0, 0.1, 0.005
# Kills that come too early or too late for their moment, for each one that does not.
_MISSES = 5


def kill(bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int) -> Iterator[Trial]:
    """Kills runs `tries` times, each again and again until it has come to its end.

    Args:
      folder: of the run directories; made.
    """
    number = done = made = 0
    # Every moment comes once before any comes again.
    pending = rng.sample(list(MOMENTS), len(MOMENTS))
    cold = folder / "cold"
    flag = f"--config.run.cache_dir={cold}"
    while done < tries and made < _MISSES * tries:
        workdir = folder / f"run{number}"
        number += 1
        trials: list[Trial] = []
        flags: list[str] = []
        ended = False
        # Whether what a kill left in the cache has not been met by a start yet.
        unmet = False
        while done < tries and made < _MISSES * tries and not ended:
            moments = [moment for moment in MOMENTS if not (unmet and moment in _COLD)]
            due = [moment for moment in pending if moment in moments]
            moment = due[0] if due else rng.choices(moments, [MOMENTS[x] for x in moments])[0]
            if moment in _COLD:
                _cool(bench, moment, cold)
                flags = [flag]
            before = (last_step(workdir), max(checkpoint.steps(workdir), default=0))
            made += 1
            with bench.start(workdir, *flags) as run:
                ended = not _reach(bench, run, moment, rng, cold)
                run.process.kill()
                code = run.wait()
            if trials:
                trials[-1] = judged(trials[-1], run, *before)
            if ended:
                if code:
                    yield Trial(f"kill -9 {moment}", "", f"ended by itself: {run.last_words()}")
                break
            hit = _hit(run, moment, cold)
            if hit:
                done += 1
                pending = [other for other in pending if other != moment]
            unmet = (hit and moment in _COLD) or (unmet and not run.steps())
            detail = f"at step {last_step(workdir)}"
            trials.append(Trial(f"kill -9 {moment if hit else 'between these moments'}", detail))
        before = (last_step(workdir), max(checkpoint.steps(workdir), default=0))
        problem, run = bench.finish(workdir, *flags)
        if trials and not ended:
            trials[-1] = judged(trials[-1], run, *before)
        for trial in trials:
            # One that is not as it should be at the end spoils all that led to it.
            yield trial if trial.problem or not problem else _replaced(trial, problem)
        shutil.rmtree(cold, ignore_errors=True)
    for moment in pending if tries >= 2 * len(MOMENTS) or done < tries else ():
        yield Trial(f"kill -9 {moment}", "", f"not one of {made} kills came then")


def _cool(bench: Bench, moment: str, cold: pathlib.Path) -> None:
    """Empties a cache, for a start that is to be killed at a moment which a warm one would skip."""
    shutil.rmtree(cold, ignore_errors=True)
    if moment == "during the first compile":
        cold.mkdir(parents=True)
        shutil.copytree(bench.cache / "arrays", cold / "arrays")


def _reach(bench: Bench, run: Start, moment: str, rng: random.Random, cold: pathlib.Path) -> bool:
    """Waits for a moment and then for some part of it; False if the run ended before."""
    if moment == "while it starts":
        time.sleep(rng.uniform(0, _START))
    elif moment == "during data preparation":
        run.until(lambda: "decoding" in run.out)
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, bench.phases["data"]))
        else:
            # Writing takes a small part of it, and alone leaves something behind.
            run.until(lambda: any(cold.glob("arrays/*/incomplete.*")) or has_data(cold))
            time.sleep(rng.uniform(0, _WRITE))
    elif moment == "during the first compile":
        run.until(lambda: "compiling the" in run.out)
        time.sleep(rng.uniform(0, bench.phases["compile"]))
    elif moment == "during steps":
        _some_saved(run, rng)
        time.sleep(rng.uniform(0, bench.phases["steps"] / 4))
    else:
        _some_saved(run, rng)
        run.until(lambda: is_saving(run.workdir))
        time.sleep(rng.uniform(0, _SAVE))
    return run.process.poll() is None


def _some_saved(run: Start, rng: random.Random) -> None:
    """Waits for steps, mostly until there is a checkpoint: else the next start resumes nothing."""
    run.until(run.steps)
    if rng.random() < 0.8:
        run.until(lambda: bool(checkpoint.steps(run.workdir)))


def _hit(run: Start, moment: str, cold: pathlib.Path) -> bool:
    """Whether a run that has been killed was killed at that moment indeed."""
    if moment == "while it starts":
        return not run.steps()
    if moment == "during data preparation":
        return "decoding" in run.out and not has_data(cold)
    if moment == "during the first compile":
        return "compiling the" in run.out and not run.steps()
    return run.steps() and (moment == "during steps" or is_saving(run.workdir))


def judged(trial: Trial, run: Start, recorded: int, saved: int) -> Trial:
    """The trial, with what the start after it tells.

    Args:
      recorded: last step that was recorded before that start.
      saved: newest checkpoint that was there.
    """
    if not run.resumed and "compiling the" not in run.out and "is finished" not in run.out:
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
