"""The training loop: restore, run chunks of steps, validate, record, save."""

import dataclasses
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cifar_cnn import checkpoint, experiment, files, hosts, mesh, rundir
from cifar_cnn.checks import MachineError
from cifar_cnn.progress import Progress
from cifar_cnn.record import Scalars
from cifar_cnn.report.summary import format_summary, summarize
from cifar_cnn.state import TrainState


def train_and_evaluate(config: Mapping[str, Any], workdir: pathlib.Path) -> TrainState:
    """Trains the network of `config`, or resumes the run that `workdir` holds.

    Writes config.json, run.json, model.txt, metrics.jsonl (the same bytes however often the run
    was interrupted), timing.jsonl and checkpoints/. Of several processes the first writes them,
    but all of them save.

    Args:
      config: complete nested config that `experiment.check` accepts.
      workdir: run directory; made if needed.

    Returns:
      The state after the last epoch.

    Raises:
      UsageError: the workdir holds another run, the data is not there or does not suit.
      MachineError: the disk fails, the loss is not finite, no checkpoint is intact.
    """
    config = experiment.with_absolute_folder(config)
    rundir.check_same(workdir, config)
    rundir.check_writable(workdir)
    devices = experiment.start_devices(config)
    hosts.check_agree("this process has another config", {**config, rundir.FREE_SECTION: {}})
    rundir.check_shared(workdir)
    print(f"{mesh.describe(devices)}, run directory {workdir}")
    facts, train_part, validation_part = experiment.load_training(config, devices, print)
    run = experiment.build(config, facts, devices)
    if run.busy_devices < devices.size:
        print(
            f"note: train.batch_size {run.batch_size} in micro-batches of "
            f"{config['train']['micro_batch_size']} keeps {run.busy_devices} of {devices.size} "
            "devices busy; a smaller train.micro_batch_size would keep more"
        )
    summary = format_summary(summarize(run.model, facts.image_shape), facts.name)
    with hosts.first_then_others():
        if hosts.is_first():
            rundir.open_run(workdir, config, dataclasses.asdict(facts), mesh.describe(devices))
            files.write_text(workdir / "model.txt", summary + "\n")
    print(summary)

    state = checkpoint.restore_newest(workdir, run.abstract_state)
    step = 0 if state is None else int(state.step)
    if state is None:
        state = run.init(train_part)
    if step == run.total_steps:
        print(f"this run is finished: {run.epochs} epochs, {step} steps; {_next_command(workdir)}")
        return state
    if step:
        print(f"resuming after step {step} of {run.total_steps}")
    progress = Progress(total_steps=run.total_steps, done_steps=step, batch_size=run.batch_size)
    with (
        checkpoint.saving(workdir, keep_latest=run.keep_latest, keep_best=run.keep_best) as save,
        progress,
        Scalars(workdir / "metrics.jsonl", keep_to_step=step) as metrics,
        Scalars(workdir / "timing.jsonl", keep_to_step=step) as timing,
    ):
        order = None
        compiled = set()  # Sizes of images, each of which has a program of its own.
        while step < run.total_steps:
            first = step
            start = time.monotonic()
            if step % run.steps_per_epoch == 0 or order is None:
                order = run.epoch_order(train_part, step // run.steps_per_epoch)
            stop = jnp.int32(_next_stop(run, step))
            state, records = run.train_chunk(state, train_part, order, stop)
            step = int(state.step)
            seconds = time.monotonic() - start
            size = run.image_size(first)
            compiling = size not in compiled
            compiled.add(size)
            window = _mean_over(records, step - first, first)
            epoch = step / run.steps_per_epoch
            metrics.write(
                step,
                epoch=epoch,
                train_loss=window["loss"],
                train_accuracy=window["accuracy"],
                learning_rate=float(run.schedule(step - 1)),
            )
            timing.write(step, steps=step - first, seconds=seconds, compiling=compiling)
            progress.update(
                step,
                step - first,
                0.0 if compiling else seconds,
                epoch=epoch,
                **window,
            )
            if step % run.steps_per_epoch:
                continue
            epoch = step // run.steps_per_epoch
            _check_finite(state)
            scores = None
            if validation_part is not None and _is_due(epoch, run.eval_every_epochs, run.epochs):
                result = run.evaluate(state.eval_variables, validation_part)[0].compute()
                scores = {
                    "validation_loss": float(result["loss"]),
                    "validation_accuracy": float(result["accuracy"]),
                }
                metrics.write(step, epoch=float(epoch), **scores)
                progress.say(
                    f"epoch {epoch}/{run.epochs}  validation loss {result['loss']:.4f}  "
                    f"validation accuracy {result['accuracy']:.2%}"
                )
            if _is_due(epoch, run.checkpoint_every_epochs, run.epochs):
                save(state, scores)
    print(f"trained; {_next_command(workdir)}")
    return state


def _next_command(workdir: pathlib.Path) -> str:
    return f"evaluate with: python scripts/evaluate.py --workdir={workdir}"


def _next_stop(run: experiment.Experiment, step: int) -> int:
    """End of the log window or of the epoch that `step` lies in, whichever comes first."""
    within = step % run.steps_per_epoch
    window_end = (within // run.log_every_steps + 1) * run.log_every_steps
    return step - within + min(window_end, run.steps_per_epoch)


def _is_due(epoch: int, every: int, last: int) -> bool:
    return epoch % every == 0 or epoch == last


def _check_finite(state: TrainState) -> None:
    """Raises MachineError if the last update, which no loss has seen yet, broke the parameters."""
    leaves = jax.tree.leaves((state.params, state.batch_stats))
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        raise _not_finite(f"the parameters after step {int(state.step) - 1} are not finite")


def _not_finite(what: str) -> MachineError:
    return MachineError(
        f"{what}: training stopped, the last checkpoint is from before it; try a lower "
        "optim.learning_rate or optim.clip_norm=1 in another --workdir"
    )


def _mean_over(records: Mapping[str, Any], count: int, first: int) -> dict[str, float]:
    """Loss and accuracy over the examples of a window of steps.

    Raises:
      MachineError: a loss is not finite; names the step.
    """
    arrays = {name: np.asarray(values, np.float64)[:count] for name, values in records.items()}
    bad = np.flatnonzero(~np.isfinite(arrays["loss"]))
    if bad.size:
        raise _not_finite(f"the loss of step {first + bad[0]} is {arrays['loss'][bad[0]]}")
    total = arrays["count"].sum()
    return {
        "loss": float((arrays["loss"] * arrays["count"]).sum() / total),
        "accuracy": float(arrays["correct"].sum() / total),
    }
