"""Files that a disk or a copy spoils: the newest intact checkpoint is used, the loss is said."""

import json
import pathlib
import random
import shutil
from collections.abc import Callable, Iterator

from cifar_cnn import checkpoint
from cifar_cnn.torture.running import Bench, Trial, files_of


def _truncate(path: pathlib.Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(max(len(content), 1))])


def _flip(path: pathlib.Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _remove(path: pathlib.Path, rng: random.Random) -> None:
    del rng
    path.unlink()


def _garble(path: pathlib.Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    first = rng.randrange(max(len(content), 1))
    content[first : first + 512] = rng.randbytes(len(content[first : first + 512]))
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[pathlib.Path, random.Random], None]] = {
    "a file cut short": _truncate,
    "a bit flipped": _flip,
    "a file missing": _remove,
    "a block of noise": _garble,
}
# Beside the checkpoints: what a run writes of itself.
_RECORDS = ("metrics.jsonl", "timing.jsonl", "lock")


def damage(bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int) -> Iterator[Trial]:
    """Damages one file of the newest checkpoint of a finished run, and goes on."""
    for number in range(tries):
        name = list(DAMAGES)[number % len(DAMAGES)]
        workdir = _copy(bench, folder / f"run{number}")
        *_, before, newest = checkpoint.steps(workdir)
        victims = sorted(files_of(workdir / "checkpoints" / str(newest)))
        # Most of the bytes lie in few of the files; every second time one of them is hit.
        large = sorted(victims, key=lambda path: path.stat().st_size)[-3:]
        victim = rng.choice(victims if number // len(DAMAGES) % 2 else large)
        # The arrays. Beside it lie lists of them, some outdated from the start.
        holds_arrays = victim == large[-1]
        DAMAGES[name](victim, rng)
        detail = str(victim.relative_to(workdir))
        problem, run = bench.finish(workdir)
        said = f"checkpoints/{newest} is damaged" in run.out
        moved = (workdir / "damaged-checkpoints" / f"{newest}.0").is_dir()
        # What nothing reads does no harm: then the run is found finished, its arrays right.
        harmless = "is finished" in run.out and not holds_arrays
        if not problem and not harmless and not (said and moved and run.resumed == before):
            problem = f"said {said}, moved {moved}, resumed after step {run.resumed}"
        yield Trial(f"checkpoint: {name}", detail, problem, 0 if harmless else newest - before)


def leftovers(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """What a kill or a copy leaves: an empty folder of a step, a half-written temporary one."""
    for number in range(tries):
        workdir = _copy(bench, folder / f"run{number}")
        checkpoints = workdir / "checkpoints"
        *_, before, newest = checkpoint.steps(workdir)
        fault = "an empty step directory" if number % 2 else "a half-written temporary directory"
        shutil.move(checkpoints / str(newest), folder / "taken")
        if number % 2:
            (checkpoints / str(newest)).mkdir()
        else:
            half = checkpoints / f"{newest}.orbax-checkpoint-tmp"
            shutil.copytree(folder / "taken", half)
            for path in files_of(half):
                rng.choice([_truncate, _remove, lambda path, rng: None])(path, rng)
        shutil.rmtree(folder / "taken")
        problem, run = bench.finish(workdir)
        if not problem and run.resumed != before:
            problem = f"resumed after step {run.resumed}, expected {before}"
        if not problem and number % 2 and f"checkpoints/{newest} is damaged" not in run.out:
            problem = "it is not said that a checkpoint is lost"
        if not problem and not number % 2 and half.exists():
            problem = f"{half.name} is still there"
        yield Trial(f"checkpoint: {fault}", "", problem, newest - before)


def none_intact(
    bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int
) -> Iterator[Trial]:
    """Damages every checkpoint: an error, and nothing is deleted or written."""
    for number in range(tries):
        workdir = _copy(bench, folder / f"run{number}")
        for step in checkpoint.steps(workdir):
            arrays = (workdir / "checkpoints" / str(step) / "state").rglob("d/*")
            rng.choice([_truncate, _flip, _remove])(max(arrays, key=_size), rng)
        old = {path: path.read_bytes() for path in files_of(workdir)}
        with bench.start(workdir) as run:
            code = run.wait()
        new = {path: path.read_bytes() for path in files_of(workdir)}
        problem = ""
        if code != 1 or "nothing was deleted" not in run.err or run.err.count("\n") != 1:
            problem = f"exit code {code}: {run.last_words()}"
        elif old != new:
            problem = "files changed"
        yield Trial("checkpoint: none intact", "", problem)


def records(bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int) -> Iterator[Trial]:
    """Damages what a killed run has recorded: it goes on, or ends with a line; checkpoints stay."""
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id")
    holder = {
        "host": "here",
        "pid": 4711,
        "since": "before",
        "boot": boot.read_text().strip() if boot.exists() else None,
        "token": "theirs",
        "beat": 3,
    }
    for number in range(tries):
        workdir = _copy(bench, folder / f"run{number}")
        *_, before, newest = checkpoint.steps(workdir)
        # So that it is not finished: a run that is reads none of these.
        shutil.rmtree(workdir / "checkpoints" / str(newest))
        (workdir / "lock").write_text(json.dumps(holder).ljust(1024) + "\n")
        # Of three and of four: all pairs in turn.
        victim = _RECORDS[number % len(_RECORDS)]
        name = list(DAMAGES)[number % len(DAMAGES)]
        DAMAGES[name](workdir / victim, rng)
        with bench.start(workdir) as run:
            code = run.wait()
        if code:
            one_line = run.err.startswith("error: ") and run.err.count("\n") == 1
            problem = "" if one_line else f"exit code {code}: {run.last_words()}"
            if not problem and checkpoint.steps(workdir)[-1:] != [before]:
                problem = f"checkpoints {checkpoint.steps(workdir)}, {before} was there"
            # Without the file that was complained of it has to go on.
            (workdir / victim).unlink(missing_ok=True)
            problem = problem or bench.finish(workdir, but=["metrics.jsonl"])[0]
        elif run.resumed != before:
            problem = f"resumed after step {run.resumed}, expected {before}"
        else:
            # Lines of metrics that a disk has lost do not come back; those of losses alone do.
            lost = ["metrics.jsonl"] if victim == "metrics.jsonl" else []
            problem = bench.differs(workdir, but=lost)
        yield Trial(f"{victim}: {name}", "", problem)


def programs(bench: Bench, rng: random.Random, folder: pathlib.Path, tries: int) -> Iterator[Trial]:
    """Damages the compiled programs that are kept between starts: they are compiled anew."""
    for number in range(tries):
        cache = folder / f"cache{number}"
        shutil.copytree(bench.cache, cache)
        for path in files_of(cache / "programs"):
            rng.choice([_truncate, _flip])(path, rng)
        problem, _ = bench.finish(folder / f"run{number}", f"--config.run.cache_dir={cache}")
        yield Trial("compiled programs damaged", "", problem)


def _copy(bench: Bench, workdir: pathlib.Path) -> pathlib.Path:
    shutil.copytree(bench.reference, workdir)
    return workdir


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size
