"""Checkpoints of the whole training state: written by Orbax, verified when read.

WORKDIR/checkpoints/STEP holds one checkpoint: the state, and a note with the checksum of every
array, the validation metrics, and the records of steps that no line of metrics.jsonl covers yet.
Orbax writes under a temporary name and renames, so a checkpoint is there whole or not at all; the
checksums find what a disk or a copy spoils later. Where several processes train, all of them save
and restore together, in a folder that they share.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from cifar_cnn import hosts, leftovers
from cifar_cnn.checks import MachineError, UsageError

_METRIC = "validation_accuracy"

# Lists of floats, one a step, by the name of what was recorded.
Records = Mapping[str, Sequence[float]]


@dataclasses.dataclass(frozen=True)
class _LatestDue:
    """Orbax's policy that keeps the `n` newest of those that are due: what a run leaves does not
    depend on where it was interrupted."""

    n: int
    is_due: Callable[[int], bool]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        due = [info.step for info in checkpoints if self.is_due(info.step)]
        return [info.step in due[-self.n :] for info in checkpoints]


@contextlib.contextmanager
def saving(
    workdir: pathlib.Path,
    *,
    keep_latest: int,
    keep_best: int,
    is_due: Callable[[int], bool] = lambda step: True,
) -> Iterator[Callable[..., None]]:
    """Opens the checkpoints of a run for writing.

    Args:
      keep_latest: how many of the newest are kept.
      keep_best: how many of the highest validation accuracy are kept beside them.
      is_due: (step) -> whether an uninterrupted run saves there, too; others are kept only while
        they are the newest.

    Yields:
      save(state, metrics, records): saves `state` under its own step, and returns when it is on
      the disk: what is computed meanwhile could be lost beside what was computed since the last
      save. It replaces a checkpoint of this step, which a signal during the validation has left.
      `metrics` are those of the validation at this step, with 'validation_accuracy', or None.
      `records` come back with the state.

    Raises:
      MachineError: the disk is full or cannot be written.
    """
    best = policies.BestN(get_metric_fn=_score, n=keep_best, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(
            [policies.LatestN(1), _LatestDue(keep_latest, is_due), best]
        ),
        best_fn=_score,  # Without it Orbax keeps no metrics for the policy to see.
        cleanup_tmp_directories=True,
        # A save is waited for anyway, and Orbax's threads wait for each other with limits by the
        # time of day: a clock that is set meanwhile would end the run.
        enable_async_checkpointing=False,
    )
    with leftovers.kept_quiet():
        manager = _told(lambda: ocp.CheckpointManager(_folder(workdir), options=options), workdir)

        def save(state: Any, metrics: dict[str, float] | None, records: Records) -> None:
            sums = {**checksums(state), "records": _checksum(dict(records))}
            note = {"checksums": sums, "metrics": metrics, "records": dict(records)}
            kept = {"state": ocp.args.StandardSave(state), "note": ocp.args.JsonSave(note)}
            items, step = ocp.args.Composite(**kept), int(state.step)

            def write() -> None:
                replaces = step in manager.all_steps()
                if replaces:  # Orbax saves no step twice.
                    with hosts.first_then_others():
                        if hosts.is_first():
                            _replaced(workdir).mkdir(exist_ok=True)
                            (_folder(workdir) / str(step)).rename(_replaced(workdir) / str(step))
                    manager.reload()
                if not manager.save(step, args=items, metrics=metrics):
                    raise ValueError(f"Orbax does not take step {step}")
                manager.wait_until_finished()
                if replaces and hosts.is_first():
                    shutil.rmtree(_replaced(workdir))

            _told(write, workdir)

        try:
            yield save
        finally:
            with contextlib.suppress(Exception):  # What failed has been told.
                manager.close()


def _told(action: Callable[[], Any], workdir: pathlib.Path) -> Any:
    """Runs an action of Orbax's; what fails in it or in the background is told in one line."""
    reason, result = "", None
    try:
        result = action()
    except Exception as error:
        if hosts.is_loss(error):
            raise
        # Failed writes come as ValueError with TensorStore's details, or as OSError.
        full = "RESOURCE_EXHAUSTED" in str(error) or "No space left" in str(error)
        reason = "no space left on the device" if full else _first_line(error)
    if reason:
        intact = steps(workdir)
        last = f"the last intact one is of step {intact[-1]}" if intact else "there is none yet"
        raise MachineError(
            f"cannot save a checkpoint in {_folder(workdir)}: {reason}; {last}: mend it, and the "
            "same command goes on from there"
        )
    return result


def checksums(tree: Any) -> dict[str, int]:
    """CRC-32 of every array of `tree`, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): zlib.crc32(np.ascontiguousarray(leaf)) for path, leaf in leaves
    }


def _checksum(records: Records) -> int:
    """CRC-32 of records, which JSON gives back to the bit."""
    return zlib.crc32(json.dumps(records, sort_keys=True).encode())


def steps(workdir: pathlib.Path) -> list[int]:
    """The steps of all complete checkpoints of a run, in ascending order."""
    folder = _folder(workdir)
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def restore(workdir: pathlib.Path, step: int, abstract_state: Any) -> Any:
    """Reads the checkpoint of `step` and compares its checksums.

    Args:
      abstract_state: tree of `jax.ShapeDtypeStruct` with the shardings to restore onto, which
        need not be those it was saved from.

    Raises:
      MachineError: damaged; the message names the checkpoint and what is wrong with it.
    """
    return _read(workdir, step, abstract_state)[0]


def _read(workdir: pathlib.Path, step: int, abstract_state: Any) -> tuple[Any, Records]:
    """The state and the records of a checkpoint; see `restore`."""
    path = _folder(workdir) / str(step)
    items = ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract_state), note=ocp.args.JsonRestore()
    )
    options = ocp.CheckpointManagerOptions(read_only=True, lightweight_initialize=True)
    reason = ""
    with leftovers.kept_quiet():
        try:
            with ocp.CheckpointManager(_folder(workdir), options=options) as manager:
                restored = manager.restore(step, args=items)
            # Without them where an earlier version saved, which did so between two epochs only.
            records = restored.note.get("records", {})
            found = checksums(restored.state)
            if "records" in restored.note:
                found["records"] = _checksum(records)
            if restored.note["checksums"] != found:
                reason = "an array does not match its checksum"
            else:
                reason = _unlisted(workdir, step)
        except Exception as error:
            if hosts.is_loss(error):
                raise
            # Orbax raises a dozen types for a damaged checkpoint, some of them plain Exception.
            reason = _first_line(error)
    if reason:
        raise MachineError(f"checkpoint {path} is damaged: {reason}")
    return restored.state, records


def _unlisted(workdir: pathlib.Path, step: int) -> str:
    """Why Orbax cannot list a checkpoint beside others; '' where it can.

    Before it saves, it reads these small files of all that are there, and fails on one.
    """
    path = _folder(workdir) / str(step)
    try:
        about = json.loads((path / "_CHECKPOINT_METADATA").read_text())
        note = json.loads((path / "note" / "metadata").read_text())
        own = path / "metrics" / "metrics"
        metrics = json.loads(own.read_text()) if own.exists() else None
        if isinstance(about, dict) and metrics == note["metrics"]:
            return ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"its description cannot be read ({_first_line(error)})"
    return "its metrics are not those that it was saved with"


def _first_line(error: Exception) -> str:
    """What an error of Orbax or TensorStore says, without pages of details."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.split(". See full TensorStore")[0][:200]


def restore_newest(
    workdir: pathlib.Path, abstract_state: Any, say: Callable[[str], None] = print
) -> tuple[Any, Records] | None:
    """Reads the newest intact checkpoint, and moves damaged ones out of the way.

    Damaged checkpoints are kept in WORKDIR/damaged-checkpoints; nothing is deleted.

    Args:
      say: told of every damaged checkpoint.

    Returns:
      The state and the records that were saved with it; None where there is no checkpoint yet.

    Raises:
      MachineError: there are checkpoints, but none is intact; nothing was moved.
    """
    with hosts.first_then_others():
        if hosts.is_first():
            _put_back(workdir)
    damaged = []
    # As process 0 sees them: a network file system may show them later to others.
    for step in reversed(hosts.from_first(steps(workdir))):
        reason = f"checkpoint {_folder(workdir) / str(step)} is damaged for another process"
        try:
            found = _read(workdir, step, abstract_state)
        except MachineError as error:
            found, reason = None, str(error)
        if hosts.highest(int(found is None)):
            damaged.append(step)
            say(f"{reason}; falling back to the one before it")
            continue
        with hosts.first_then_others():
            if hosts.is_first():
                for older in steps(workdir):
                    reason = _unlisted(workdir, older) if older < step else ""
                    if reason:
                        damaged.append(older)
                        say(f"checkpoint {_folder(workdir) / str(older)} is damaged: {reason}")
                for broken in damaged:
                    _move_aside(workdir, broken)
        return found
    if damaged:
        raise MachineError(
            f"none of the {len(damaged)} checkpoints in {_folder(workdir)} is intact; nothing was "
            "deleted: restore them from a copy, or start anew with another --workdir"
        )
    return None


def choose(workdir: pathlib.Path, which: str) -> int:
    """Returns the step that `which` stands for.

    Args:
      which: 'best' (the highest validation accuracy, the latest of equals), 'latest' or a step.

    Raises:
      UsageError: there is no such checkpoint; names those there are.
    """
    known = steps(workdir)
    names = ", ".join(map(str, known))
    if not known:
        raise UsageError(
            f"no checkpoint in {_folder(workdir)}: train first, with "
            f"python -m cifar_cnn.main --config=CONFIG --workdir={workdir}"
        )
    if which == "latest":
        return known[-1]
    if which == "best":
        scored = [
            (score, step)
            for step in known
            if (score := validation_accuracy(workdir, step)) is not None
        ]
        if not scored:
            raise UsageError(
                f"no checkpoint in {_folder(workdir)} was validated, so none is the best: use "
                f"--checkpoint=latest, or one of {names}"
            )
        return max(scored)[1]
    if which.isdecimal() and len(which) < 20 and int(which) in known:
        return int(which)
    raise UsageError(f"--checkpoint is {which!r}, expected best, latest or one of {names}")


def validation_accuracy(workdir: pathlib.Path, step: int) -> float | None:
    """Validation accuracy noted in a checkpoint; None without one, where it cannot be read, or
    where its loss is not finite, with which no accuracy makes a checkpoint the best."""
    try:
        metrics = json.loads((_folder(workdir) / str(step) / "metrics" / "metrics").read_text())
        return score if (score := _score(metrics)) >= 0 else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _score(metrics: Mapping[str, float]) -> float:
    """The validation accuracy in a validation's metrics; -1 where one of them is not finite."""
    return float(metrics[_METRIC]) if all(map(math.isfinite, metrics.values())) else -1.0


def _move_aside(workdir: pathlib.Path, step: int) -> None:
    """Moves a damaged checkpoint to WORKDIR/damaged-checkpoints, under a name not yet taken."""
    folder = _folder(workdir).parent / "damaged-checkpoints"
    folder.mkdir(exist_ok=True)
    number = 0
    while (folder / f"{step}.{number}").exists():
        number += 1
    (_folder(workdir) / str(step)).rename(folder / f"{step}.{number}")


def _put_back(workdir: pathlib.Path) -> None:
    """Moves back a checkpoint that was to be replaced, if a kill came before the new one."""
    for path in _replaced(workdir).glob("*"):
        if not (_folder(workdir) / path.name).exists():
            path.rename(_folder(workdir) / path.name)
    shutil.rmtree(_replaced(workdir), ignore_errors=True)


def _replaced(workdir: pathlib.Path) -> pathlib.Path:
    return _folder(workdir).parent / "replaced-checkpoint"


def _folder(workdir: pathlib.Path) -> pathlib.Path:
    """Orbax wants absolute paths."""
    return pathlib.Path(workdir).absolute() / "checkpoints"
