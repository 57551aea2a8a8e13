"""A machine that fails a run: a full disk, a read-only one, a deleted directory, a wrong clock."""

import functools
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence

from cifar_cnn import checkpoint
from cifar_cnn.torture.running import Bench, Start, Trial

# Seconds from the deletion of a run directory until its run may take to end.
_LIMIT = 10.0
# A mount namespace of its own, in which even a user who is not root may mount.
_ALONE = ("unshare", "--map-root-user", "--mount", "sh", "-c")
_FULL = """
mount -t tmpfs -o size="$SIZE"k none "$PLACE" || exit 99
"$@"; code=$?
mount -o remount,size=100m "$PLACE" && cp -r "$PLACE/run" "$COPY"
exit $code
"""
_READ_ONLY = """
mount --bind "$PLACE" "$PLACE" && mount -o remount,ro,bind "$PLACE" || exit 99
exec "$@"
"""


def disk_full(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Trains on a disk that fills up somewhere; with room again, it goes on."""
    if reason := _why_not():
        yield Trial("disk full", skipped=reason)
        return
    for number in range(tries):
        place, workdir = folder / f"disk{number}", folder / f"run{number}"
        place.mkdir(parents=True)
        size = rng.choice([rng.randrange(4, 40, 4), rng.randrange(40, 1600, 4)])
        command = bench.command(place / "run")
        environment = {"PLACE": str(place), "SIZE": str(size), "COPY": str(workdir)}
        code, run = _run(_FULL, command, workdir, environment)
        detail = f"{size} kB"
        if code == 99:
            yield Trial("disk full", detail, skipped="mounting is not allowed here")
            return
        problem = ""
        full = "No space left" in run.err or "no space left" in run.err
        if code != 1 or not full or run.err.count("\n") != 1:
            problem = f"exit code {code}: {run.last_words()}"
        saved = max(checkpoint.steps(workdir), default=0)
        end, again = bench.finish(workdir)
        if not problem and not end and again.resumed != saved:
            end = f"resumed after step {again.resumed}, {saved} was saved"
        yield Trial("disk full", detail, problem or end)


def read_only(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Starts, or resumes, in a directory that cannot be written."""
    del rng
    if reason := _why_not():
        yield Trial("read-only workdir", skipped=reason)
        return
    for number in range(tries):
        workdir = folder / f"run{number}"
        if number % 2:
            shutil.copytree(bench.reference, workdir)
        else:
            workdir.mkdir(parents=True)
        environment = {"PLACE": str(workdir)}
        code, run = _run(_READ_ONLY, bench.command(workdir), workdir, environment)
        if code == 99:
            yield Trial("read-only workdir", skipped="mounting is not allowed here")
            return
        problem = ""
        if code != 1 or "Read-only file system" not in run.err or run.err.count("\n") != 1:
            problem = f"exit code {code}: {run.last_words()}"
        yield Trial("read-only workdir", "", problem or bench.finish(workdir)[0])


def deleted(bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int) -> Iterator[Trial]:
    """Deletes, or moves, the directory of a run that trains."""
    for number in range(tries):
        workdir = folder / f"run{number}"
        with bench.start(workdir) as run:
            run.until(run.steps)
            if number % 4 < 3:
                run.until(lambda workdir=workdir: bool(checkpoint.steps(workdir)))
            time.sleep(rng.uniform(0, bench.phases["steps"] / 4))
            away = workdir.with_name("away")
            fault = "workdir deleted" if number % 2 else "workdir moved"
            if number % 2:
                # Held meanwhile, so that the copy is of one moment and nothing new is in the way.
                run.process.send_signal(signal.SIGSTOP)
                shutil.copytree(workdir, away)
                shutil.rmtree(workdir)
                run.process.send_signal(signal.SIGCONT)
            else:
                workdir.rename(away)
            begun = time.monotonic()
            code = run.wait()
            seconds = time.monotonic() - begun
        problem = ""
        if code != 1 or run.err.count("\n") != 1 or str(workdir) not in run.err:
            problem = f"exit code {code}: {run.last_words()}"
        elif checkpoint.steps(workdir) or (workdir / "metrics.jsonl").exists():
            # A save that was under way may leave its temporary files there, nothing else may.
            problem = f"it was written again: {sorted(os.listdir(workdir))}"
        elif seconds > _LIMIT:
            problem = f"ended after {seconds:.0f} seconds"
        shutil.rmtree(workdir, ignore_errors=True)
        away.rename(workdir)  # Restored from a copy, so to speak.
        yield Trial(fault, "", problem or bench.finish(workdir)[0], 0, seconds)


def clock(bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int) -> Iterator[Trial]:
    """Trains, is killed and resumes while the time of day jumps by up to a year at every look."""
    for number in range(tries):
        workdir = folder / f"run{number}"
        fault = f"jumping_clock:{number}"
        with bench.start(workdir, fault=fault) as run:
            run.until(run.steps)
            if number % 4 < 3:
                run.until(lambda workdir=workdir: bool(checkpoint.steps(workdir)))
            time.sleep(rng.uniform(0, bench.phases["steps"] / 4))
        saved = max(checkpoint.steps(workdir), default=0)
        problem, again = bench.finish(workdir, fault=fault)
        if not problem and "is finished" not in again.out and again.resumed != saved:
            problem = f"resumed after step {again.resumed}, {saved} was saved"
        yield Trial("clock jumping", "", problem)


@functools.cache
def _why_not() -> str:
    """Why there can be no mount namespace here; '' if there can."""
    try:
        subprocess.run([*_ALONE, "true"], check=True, capture_output=True)
    except OSError as error:
        return f"unshare cannot be started: {error.strerror}"
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").splitlines()
        return f"no mount namespace here: {words[0] if words else error.returncode}"
    return ""


def _run(
    script: str, command: Sequence[str], workdir: pathlib.Path, environment: dict[str, str]
) -> tuple[int, Start]:
    """Runs a shell script in a mount namespace of its own, with a command as its arguments."""
    with Start([*_ALONE, script, "sh", *command], workdir, environment) as run:
        return run.wait(), run
