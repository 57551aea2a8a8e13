"""The run that is broken: its data, its command, its processes and what has to come out."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorstore
from PIL import Image

from cifar_cnn import checkpoint
from cifar_cnn.checks import MachineError, UsageError
from cifar_cnn.datasets import make_builder

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Seconds. Nothing here is silent for so long, unless it hangs.
PATIENCE = 120.0
PICTURES = 600
HELD_OUT = 100
BATCH_SIZE = 20
INTERVAL = (PICTURES - HELD_OUT) // BATCH_SIZE  # Steps between two saves: an epoch.


@dataclasses.dataclass(frozen=True)
class Trial:
    """One fault and what came of it.

    Attributes:
      fault: its kind, a row of the table.
      detail: when or where.
      problem: what should not have been; '' if nothing.
      repeated: steps that were computed twice.
      seconds: from the fault to the end of the process, where that is asked for.
      skipped: why it could not be tried here; '' if it was.
    """

    fault: str
    detail: str = ""
    problem: str = ""
    repeated: int = 0
    seconds: float | None = None
    skipped: str = ""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where runs are broken.

    Attributes:
      folder: of everything below.
      epochs: of a run.
      phases: seconds that the unbroken run took for preparing its 'data', to 'compile' and for its
        'steps', all without caches.
    """

    folder: pathlib.Path
    epochs: int
    phases: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def reference(self) -> pathlib.Path:
        """Run directory of the unbroken run."""
        return self.folder / "unbroken"

    @property
    def cache(self) -> pathlib.Path:
        """Decoded data and compiled programs, which the unbroken run filled."""
        return self.folder / "cache"

    def command(self, workdir: pathlib.Path, *flags: str, fault: str = "") -> list[str]:
        """The arguments of a run; `fault` is one of `faulty`'s."""
        module = ["cifar_cnn.torture.faulty", fault] if fault else ["cifar_cnn.main"]
        return [
            sys.executable, "-m", *module,
            f"--config={ROOT}/configs/quickstart.py",
            f"--workdir={workdir}",
            f"--config.data.folder={self.folder}/pictures",
            f"--config.data.validation_size={HELD_OUT}",
            "--config.model.plain.filters=((8,),(16,))",
            "--config.model.plain.dense=(32,)",
            "--config.optim.ema_decay=0.99",
            f"--config.train.batch_size={BATCH_SIZE}",
            f"--config.train.epochs={self.epochs}",
            "--config.train.log_every_steps=10",
            "--config.run.platform=cpu",
            "--config.run.cpu_devices=1",
            f"--config.run.cache_dir={self.cache}",
            *flags,
        ]  # fmt: skip

    def start(
        self,
        workdir: pathlib.Path,
        *flags: str,
        fault: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> "Start":
        """Starts or resumes a run."""
        return Start(self.command(workdir, *flags, fault=fault), workdir, environment)

    def finish(
        self, workdir: pathlib.Path, *flags: str, but: Sequence[str] = (), **options: Any
    ) -> tuple[str, "Start"]:
        """Runs to the end and compares with the unbroken run; returns what differs, or ''."""
        with self.start(workdir, *flags, **options) as run:
            code = run.wait()
        if code:
            return f"does not go on: exit code {code}, {run.last_words()}", run
        return self.differs(workdir, but=but), run

    def differs(
        self, workdir: pathlib.Path, unbroken: pathlib.Path | None = None, but: Sequence[str] = ()
    ) -> str:
        """In what a finished run differs from the unbroken one; '' for in nothing `but` this."""
        ours, theirs = (_result(folder) for folder in (workdir, unbroken or self.reference))
        return "; ".join(
            f"{name} differs" for name in ours if name not in but and ours[name] != theirs[name]
        )


class Start:
    """One process of a run; its output is kept in files beside the run directory."""

    def __init__(
        self,
        command: Sequence[str],
        workdir: pathlib.Path,
        environment: Mapping[str, str] | None = None,
        log: pathlib.Path | None = None,
    ):
        """Starts the command.

        Args:
          environment: beside this process's own.
          log: of the output, without a suffix; that of the run directory by default.
        """
        self.workdir = workdir
        workdir.parent.mkdir(parents=True, exist_ok=True)
        log = log or workdir
        # One after the other on one run directory keep theirs, for who looks into a problem.
        number = 0
        while log.with_name(f"{log.name}.{number}.out").exists():
            number += 1
        self._logs = [log.with_name(f"{log.name}.{number}.{name}") for name in ("out", "err")]
        own = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(environment or {})}
        with open(self._logs[0], "w") as out, open(self._logs[1], "w") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **own},
            )
        self._timing = _stamp(workdir / "timing.jsonl")

    def __enter__(self) -> "Start":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    @property
    def out(self) -> str:
        """What it has printed."""
        return self._logs[0].read_text(errors="replace")

    @property
    def err(self) -> str:
        """Its messages."""
        return self._logs[1].read_text(errors="replace")

    def last_words(self) -> str:
        """The last line of its messages."""
        return (self.err.strip().splitlines() or ["it said nothing"])[-1][:300]

    def end(self, number: int) -> tuple[float, int]:
        """Sends a signal; returns the seconds until the process has ended, and its exit code."""
        begun = time.monotonic()
        self.process.send_signal(number)
        code = self.wait()
        return time.monotonic() - begun, code

    def wait(self) -> int:
        """Waits for its end; returns the exit code, 128 and the signal for one that was killed.

        Raises:
          MachineError: it hangs; it is killed.
        """
        heard, since = None, time.monotonic()
        while True:
            try:
                code = self.process.wait(1)
                return code if code >= 0 else 128 - code
            except subprocess.TimeoutExpired:
                said, now = [_stamp(log) for log in self._logs], time.monotonic()
            if said != heard:
                heard, since = said, now
            elif now - since > PATIENCE:
                self.process.kill()
                raise MachineError(f"a run hangs, see {self._logs[1]}")

    def until(self, condition: Callable[[], bool]) -> bool:
        """Waits until `condition` holds; False if the process ends before."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise MachineError(f"waited in vain, see {self._logs[0]}")
            time.sleep(0.001)
        return True

    def steps(self) -> bool:
        """Whether it has made a step."""
        return _stamp(self.workdir / "timing.jsonl") not in (None, self._timing) and (
            last_step(self.workdir) > self.resumed
        )

    @property
    def resumed(self) -> int:
        """The step that it goes on after; 0 for a new run."""
        found = re.search(r"^(?:\[0\] )?resuming after step (\d+)", self.out, re.MULTILINE)
        return int(found[1]) if found else 0


def last_step(workdir: pathlib.Path) -> int:
    """The last step that a run has recorded."""
    try:
        lines = (workdir / "timing.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    whole = [line for line in lines if line.endswith("\n")]
    return json.loads(whole[-1])["step"] if whole else 0


def is_saving(workdir: pathlib.Path) -> bool:
    """Whether a checkpoint is being written."""
    folder = workdir / "checkpoints"
    with contextlib.suppress(FileNotFoundError):
        return any("tmp" in name for name in os.listdir(folder))
    return False


def has_data(cache: pathlib.Path) -> bool:
    """Whether a cache holds the decoded pictures, which appear there whole."""
    return any(cache.glob("arrays/*/train/checksums.json"))


def prepare(folder: pathlib.Path, epochs: int, say: Callable[[str], None] = print) -> Bench:
    """Makes a bench: its pictures, of CIFAR-10 where that is prepared, and the unbroken run.

    Args:
      folder: emptied first.
      epochs: of a run.
      say: told which pictures they are.

    Raises:
      MachineError: the unbroken run fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    bench = Bench(folder, epochs)
    options = {"data_dir": None, "cache_dir": str(bench.cache), "say": lambda line: None}
    try:
        builder = make_builder("cifar10", **options)
    except UsageError:
        builder = make_builder("shapes10", **options)
    say(f"{PICTURES} pictures of {builder.info.full_name} in {folder}")
    source = builder.as_data_source(split="train")
    for number in range(PICTURES):
        example = source[number]
        place = folder / "pictures" / str(int(example["label"]))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(example["image"])).save(place / f"{number}.png")
    with bench.start(bench.reference) as run:
        moments = []
        for has_come in (
            lambda: "decoding" in run.out,
            lambda: has_data(bench.cache),
            lambda: "compiling the" in run.out,
            run.steps,
        ):
            run.until(has_come)
            moments.append(time.monotonic())
        if run.wait():
            raise MachineError(f"the unbroken run fails: {run.last_words()}")
    data, prepared, compiling, steps = moments
    phases = {"data": prepared - data, "compile": steps - compiling}
    return dataclasses.replace(bench, phases={**phases, "steps": time.monotonic() - steps})


def _result(workdir: pathlib.Path) -> dict[str, Any]:
    """All that must not depend on how often a run was broken."""
    known = checkpoint.steps(workdir)
    notes = [workdir / "checkpoints" / str(step) / "note" / "metadata" for step in known]
    return {
        "the list of checkpoints": known,
        "the checksum of a parameter": [json.loads(x.read_text())["checksums"] for x in notes],
        "an array of a checkpoint": [_arrays(workdir, step) for step in known],
        "metrics.jsonl": (workdir / "metrics.jsonl").read_bytes(),
        "model.txt": (workdir / "model.txt").read_bytes(),
    }


def _arrays(workdir: pathlib.Path, step: int) -> dict[str, str]:
    """A hash of every array of a checkpoint, by its name.

    They are read without the code that is broken here: what the run says of them, and whether it
    compares it, plays no part.
    """
    base = f"file://{(workdir / 'checkpoints' / str(step) / 'state').absolute()}/"
    store = {"driver": "ocdbt", "base": base}
    hashes = {}
    try:
        keys = [key.decode() for key in tensorstore.KvStore.open(store).result().list().result()]
        for name in (key.removesuffix(".zarray") for key in keys if key.endswith("/.zarray")):
            spec = {"driver": "zarr", "kvstore": {**store, "path": name}}
            array = tensorstore.open(spec).result().read().result()
            about = f"{array.dtype} {array.shape}".encode()
            hashes[name] = hashlib.sha256(about + array.tobytes()).hexdigest()
    except (OSError, ValueError) as error:  # TensorStore's, for files that are spoilt.
        hashes[base] = str(error)
    return hashes or {base: "no arrays"}


def _stamp(path: pathlib.Path) -> tuple[int, int, int] | None:
    """What changes with every change of a file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """All files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]
