"""Several processes: one is killed or hangs, and the others end; all are signalled, and save."""

import os
import pathlib
import random
import signal
import sys
import time
from collections.abc import Iterator

from cifar_cnn import checkpoint, hosts, launch
from cifar_cnn.torture.running import INTERVAL, ROOT, Bench, Start, Trial, is_saving, last_step

# How long the others may take: as long as the launcher leaves them to end by themselves.
_LIMIT = launch.GRACE
# Of one that hangs they hear after its heartbeat has failed to come; then they end as quickly.
_HANG_LIMIT = hosts.HEARTBEAT_SECONDS + _LIMIT


def one_killed(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Kills -9 one of two processes during steps and saves."""
    unbroken, problem = _unbroken(bench, folder)
    for number in range(tries):
        workdir = folder / f"run{number}"
        victim = number % 2
        # One in five falls before the first checkpoint, and begins anew.
        resumes = number % 5 != 4
        with _start(bench, workdir) as run:
            run.until(run.steps)
            if resumes:
                run.until(lambda workdir=workdir: bool(checkpoint.steps(workdir)))
                time.sleep(rng.uniform(0, bench.phases["steps"] / 4))
            if number // 2 % 2:
                run.until(lambda run=run: is_saving(run.workdir))
            recorded, saved = last_step(workdir), max(checkpoint.steps(workdir), default=0)
            begun = time.monotonic()
            os.kill(_children(run)[victim], signal.SIGKILL)
            moment = ", in a save" if is_saving(workdir) else ""
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
        elif run.resumed < saved or repeated > INTERVAL or (resumes and not run.resumed):
            wrong = wrong or f"{repeated} steps repeated: resumed after step {run.resumed}"
        wrong = wrong or problem or bench.differs(workdir, unbroken)
        detail = f"at step {recorded}{moment}, resumed after {run.resumed}"
        yield Trial(f"process {victim} of 2 killed", detail, wrong, repeated, seconds)


def one_hangs(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Stops one of two processes with SIGSTOP: the other ends, and says why."""
    unbroken, problem = _unbroken(bench, folder)
    for number in range(tries):
        workdir = folder / f"run{number}"
        victim = 1 - number % 2
        with _start(bench, workdir) as run:
            run.until(lambda workdir=workdir: bool(checkpoint.steps(workdir)))
            time.sleep(rng.uniform(0, bench.phases["steps"] / 4))
            recorded, saved = last_step(workdir), max(checkpoint.steps(workdir), default=0)
            pids = _children(run)
            begun = time.monotonic()
            os.kill(pids[victim], signal.SIGSTOP)
            while _lives(pids[1 - victim]) and time.monotonic() - begun < _HANG_LIMIT:
                time.sleep(0.1)
            seconds = time.monotonic() - begun
            os.kill(pids[victim], signal.SIGKILL)
            run.wait()
        wrong = ""
        if seconds >= _HANG_LIMIT:
            wrong = f"the other had not ended after {seconds:.0f} seconds"
        elif f"[{1 - victim}] error: process {1 - victim}: " not in run.err:
            wrong = f"the other did not say why it ended: {run.last_words()}"
        with _start(bench, workdir) as run:
            code = run.wait()
        if code:
            wrong = wrong or f"does not go on: exit code {code}, {run.last_words()}"
        elif run.resumed < saved:
            wrong = wrong or f"resumed after step {run.resumed}, {saved} was saved"
        wrong = wrong or problem or bench.differs(workdir, unbroken)
        repeated = max(recorded - run.resumed, 0)
        yield Trial(f"process {victim} of 2 hangs", f"at step {recorded}", wrong, repeated, seconds)


def all_stopped(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Sends a signal to the launcher, which passes it on to both."""
    unbroken, problem = _unbroken(bench, folder)
    for number in range(tries):
        workdir = folder / f"run{number}"
        with _start(bench, workdir) as run:
            run.until(run.steps)
            time.sleep(rng.uniform(0, bench.phases["steps"] / 2))
            seconds, code = run.end(signal.SIGTERM)
        saved = max(checkpoint.steps(workdir), default=0)
        wrong = ""
        if code != 143 or f"interrupted by SIGTERM: saved at step {saved};" not in run.err:
            wrong = f"exit code {code}: {run.last_words()}"
        elif saved != last_step(workdir):
            wrong = f"saved at step {saved}, but step {last_step(workdir)} was made"
        elif seconds > _LIMIT:
            wrong = f"they took {seconds:.0f} seconds to end"
        with _start(bench, workdir) as run:
            code = run.wait()
        if code:
            wrong = wrong or f"does not go on: exit code {code}, {run.last_words()}"
        wrong = wrong or problem or bench.differs(workdir, unbroken)
        yield Trial("SIGTERM to 2 processes", f"at step {saved}", wrong, 0, seconds)


def _unbroken(bench: Bench, folder: pathlib.Path) -> tuple[pathlib.Path, str]:
    """A run of two processes that nothing breaks, and what is wrong with it; '' for nothing."""
    workdir = folder / "unbroken"
    with _start(bench, workdir) as run:
        return workdir, f"the unbroken run fails: {run.last_words()}" if run.wait() else ""


def _children(run: Start) -> list[int]:
    """The launcher's processes, in the order of their numbers."""
    path = pathlib.Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended stays a zombie until the launcher looks."""
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _start(bench: Bench, workdir: pathlib.Path) -> Start:
    """Starts or resumes a run of two processes with one device each."""
    launcher = [sys.executable, str(ROOT / "scripts" / "launch_local.py")]
    flags = bench.command(workdir)[3:]  # After python -m cifar_cnn.main.
    return Start([*launcher, "--processes=2", "--devices=1", "--", *flags], workdir)
