"""Two runs on one run directory: the second refuses; what a run that is gone left does not."""

import json
import os
import pathlib
import random
import re
import socket
import threading
import time
from collections.abc import Iterator

from cifar_cnn import lock
from cifar_cnn.torture.running import Bench, Start, Trial

_OTHER = {"host": "elsewhere", "pid": 4711, "since": "before", "boot": "another", "token": "theirs"}
# Seconds by which what this harness sees of a wait may be wrong, on a busy machine.
_SLACK = 3.0


def second_run(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Starts a second run beside one that trains."""
    for number in range(tries):
        workdir = folder / f"run{number}"
        # So that it is still there when the second has started.
        with bench.start(workdir, fault="slow_save:6") as first:
            first.until(first.steps)
            time.sleep(rng.uniform(0, 0.5))
            with Start(bench.command(workdir), workdir, log=folder / f"second{number}") as run:
                code = run.wait()
            alive = first.process.poll() is None
            holder = f"is in use by process {first.process.pid} on {socket.gethostname()} since"
        problem = ""
        if code != 2 or holder not in run.err or run.err.count("\n") != 1:
            problem = f"exit code {code}: {run.last_words()}"
        elif not alive:
            problem = f"the first ended too: {first.last_words()}"
        problem = problem or bench.finish(workdir)[0]
        yield Trial("two runs on one workdir", "", problem)


def dead_elsewhere(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """The lock of a run on another host, without a heartbeat."""
    del rng
    for number in range(tries):
        workdir = folder / f"run{number}"
        workdir.mkdir(parents=True)
        (workdir / "lock").write_text(json.dumps({**_OTHER, "beat": 3}))
        with bench.start(workdir) as run:
            run.until(lambda run=run: "names process 4711 on elsewhere" in run.out)
            begun = time.monotonic()
            taken = run.until(
                lambda run=run: bool(re.search("process 4711 on elsewhere had .* is gone", run.out))
            )
            waited = time.monotonic() - begun
        problem = ""
        if not taken:
            problem = f"it is not said whose lock was taken: {run.last_words()}"
        elif abs(waited - lock.STALE_SECONDS) > _SLACK:
            problem = f"it waited {waited:.1f} s for a heartbeat, not {lock.STALE_SECONDS:.0f}"
        # That run was killed; its lock is of this machine, and nobody waits for it.
        problem = problem or bench.finish(workdir)[0]
        yield Trial("stale lock of another host", "", problem)


def alive_elsewhere(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """The lock of a run on another host that lives, on a file system that locks each for itself."""
    del rng
    for number in range(tries):
        workdir = folder / f"run{number}"
        workdir.mkdir(parents=True)
        done = threading.Event()

        def beat(path: pathlib.Path = workdir / "lock", done: threading.Event = done) -> None:
            file = os.open(path, os.O_RDWR | os.O_CREAT)
            count = 0
            while True:
                text = json.dumps({**_OTHER, "beat": count})
                os.pwrite(file, text.encode().ljust(1024), 0)
                count += 1
                if done.wait(lock.HEARTBEAT_SECONDS):
                    break
            os.close(file)

        heart = threading.Thread(target=beat)
        heart.start()
        time.sleep(0.2)
        try:
            with bench.start(workdir) as run:
                code = run.wait()
        finally:
            done.set()
            heart.join()
        problem = ""
        if code != 2 or "is in use by process 4711 on elsewhere" not in run.err:
            problem = f"exit code {code}: {run.last_words()}"
        yield Trial("living run on another host", "", problem)
