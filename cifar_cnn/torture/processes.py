"""Several processes: one is killed or hangs, and the others end; all are signalled, and save."""

import os
import pathlib
import random
import signal
import sys
import time
from collections.abc import Iterator

from cifar_cnn import checkpoint, launch
from cifar_cnn.torture.running import INTERVAL, ROOT, Bench, Start, Trial, is_saving, last_step

# How long the others may take: as long as the launcher leaves them to end by themselves.
_LIMIT = launch.GRACE


def one_killed(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Kills -9 one of two processes during steps and saves."""
    unbroken = folder / "unbroken"
    with _start(bench, unbroken) as run:
        problem = f"the unbroken run fails: {run.last_words()}" if run.wait() else ""
    for number in range(tries):
        workdir = folder / f"run{number}"
        victim = number % 2
        with _start(bench, workdir) as run:
            run.until(run.steps)
            time.sleep(rng.uniform(0, bench.phases["steps"] / 2))
            if number // 2 % 2:
                run.until(lambda run=run: is_saving(run.workdir))
            recorded, saved = last_step(workdir), max(checkpoint.steps(workdir), default=0)
            begun = time.monotonic()
            children = pathlib.Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
            pid = int(children.read_text().split()[victim])
            os.kill(pid, signal.SIGKILL)
            code = run.wait()
            seconds = time.monotonic() - begun
        other = f"[{1 - victim}] error: process {1 - victim}: "
        wrong = ""
        if code != 137 or other not in run.err:
            wrong = f"exit code {code}: {run.last_words()}"
        elif seconds > _LIMIT:
            wrong = f"the other took {seconds:.0f} seconds to end"
        with _start(bench, workdir) as run:
            code = run.wait()
        repeated = max(recorded - run.resumed, 0)
        if code:
            wrong = wrong or f"does not go on: exit code {code}, {run.last_words()}"
        elif run.resumed < saved or repeated > INTERVAL:
            wrong = wrong or f"{repeated} steps repeated: resumed after step {run.resumed}"
        wrong = wrong or problem or bench.differs(workdir, unbroken)
        yield Trial(
            f"process {victim} of 2 killed", f"at step {recorded}", wrong, repeated, seconds
        )


def all_stopped(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Sends a signal to the launcher, which passes it on to both."""
    unbroken = folder / "unbroken"
    with _start(bench, unbroken) as run:
        problem = f"the unbroken run fails: {run.last_words()}" if run.wait() else ""
    for number in range(tries):
        workdir = folder / f"run{number}"
        with _start(bench, workdir) as run:
            run.until(run.steps)
            time.sleep(rng.uniform(0, bench.phases["steps"] / 2))
            begun = time.monotonic()
            run.process.send_signal(signal.SIGTERM)
            code = run.wait()
            seconds = time.monotonic() - begun
        saved = max(checkpoint.steps(workdir), default=0)
        wrong = ""
        if code != 143 or f"interrupted by SIGTERM: saved at step {saved};" not in run.err:
            wrong = f"exit code {code}: {run.last_words()}"
        elif saved != last_step(workdir):
            wrong = f"saved at step {saved}, but step {last_step(workdir)} was made"
        with _start(bench, workdir) as run:
            code = run.wait()
        if code:
            wrong = wrong or f"does not go on: exit code {code}, {run.last_words()}"
        wrong = wrong or problem or bench.differs(workdir, unbroken)
        yield Trial("SIGTERM to 2 processes", f"at step {saved}", wrong, 0, seconds)


def _start(bench: Bench, workdir: pathlib.Path) -> Start:
    """Starts or resumes a run of two processes with one device each."""
    launcher = [sys.executable, str(ROOT / "scripts" / "launch_local.py")]
    flags = bench.command(workdir)[3:]  # After python -m cifar_cnn.main.
    return Start([*launcher, "--processes=2", "--devices=1", "--", *flags], workdir)
