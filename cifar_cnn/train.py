"""The training loop: restore, run chunks of steps, validate, record, save."""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cifar_cnn import checkpoint, experiment, files, hosts, lock, mesh, peers, rundir
from cifar_cnn.checks import MachineError, UsageError, printable
from cifar_cnn.data import Examples, Facts
from cifar_cnn.events import Events
from cifar_cnn.progress import Progress, print_box
from cifar_cnn.record import Scalars, has_scalar
from cifar_cnn.report import confusion, small
from cifar_cnn.report.results import best_validation, read_seconds
from cifar_cnn.report.summary import format_summary, summarize
from cifar_cnn.signals import Interrupted, Watch
from cifar_cnn.state import TrainState
from cifar_cnn.window import Pace, Window

_SHOWN = 32  # Examples of the validation part whose predictions TensorBoard shows.


def train_and_evaluate(
    config: Mapping[str, Any],
    workdir: pathlib.Path,
    watch: Watch | None = None,
    command: Sequence[str] = (),
    name: str | None = None,
) -> TrainState:
    """Trains the network of `config`, or resumes the run that `workdir` holds.

    Writes config.json, run.json, model.txt, metrics.jsonl (the same bytes however often the run
    was interrupted), timing.jsonl, tensorboard/ and checkpoints/. Of several processes the first
    writes them, but all of them save.

    Args:
      config: complete nested config that `experiment.check` accepts.
      workdir: run directory; made if needed.
      watch: the signals that end the run between two calls, see `signals.watched`.
      command: what started the run, for run.json.
      name: of the config, for run.json.

    Returns:
      The state after the last epoch.

    Raises:
      UsageError: the workdir holds another run, the data is not there or does not suit; another
        process trains there.
      MachineError: the disk fails, the loss is not finite, no checkpoint is intact.
      Interrupted: a signal came; the state is saved.
    """
    watch = watch or Watch()
    config = experiment.with_absolute_folder(config)
    rundir.check_same(workdir, config)
    rundir.check_writable(workdir)
    # What waits for other processes cannot be interrupted; it ends at once.
    watch.deferred = hosts.find().count > 1
    with peers.needed(), contextlib.ExitStack() as stack:
        devices = experiment.start_devices(config)
        watch.deferred = hosts.find().count > 1  # Now of a TPU, too.
        hosts.check_agree("this process has another config", {**config, rundir.FREE_SECTION: {}})
        rundir.check_shared(workdir)
        with hosts.first_then_others():
            writing = lock.held(workdir) if hosts.is_first() else contextlib.nullcontext(_trust)
            check_held = stack.enter_context(writing)
        return _train(config, workdir, devices, watch, check_held, command, name)


def _trust() -> None:
    """Of the processes that write nothing: the first one checks that the directory is the run's."""


def _train(
    config: Mapping[str, Any],
    workdir: pathlib.Path,
    devices: Mesh,
    watch: Watch,
    check_held: Callable[[], None],
    command: Sequence[str],
    name: str | None,
) -> TrainState:
    print(f"{mesh.describe(devices)}, run directory {printable(workdir)}")
    facts, train_part, validation_part = experiment.load_training(config, devices, print)
    run = experiment.build(config, facts, devices)
    _tell_idle(run, config["train"]["micro_batch_size"])
    summary = format_summary(summarize(run.model, facts.image_shape), facts.name)
    with hosts.first_then_others():
        if hosts.is_first():
            place = mesh.describe(devices)
            rundir.open_run(workdir, config, dataclasses.asdict(facts), place, command, name)
            files.write_text(workdir / "model.txt", summary + "\n")
    print(summary)

    # From here on there is nothing to tidy up, and until the first step nothing to save.
    watch.deferred = True
    known = checkpoint.steps(workdir)
    print(f"reading checkpoint {known[-1]}" if known else "initialising the parameters")
    found = checkpoint.restore_newest(workdir, run.abstract_state)
    state, kept = found or (run.init(train_part), {})
    step = saved = int(state.step)
    owed = validation_part is not None and _is_owed(workdir, run, step)
    if step == run.total_steps and not owed:
        print(f"this run is finished: {run.epochs} epochs, {step} steps; {_next_command(workdir)}")
        return state
    if step:
        print(f"resuming after step {step} of {run.total_steps}{', with its validation' * owed}")

    is_due = functools.partial(_is_due, run, run.checkpoint_every_epochs)
    progress = Progress(
        total_steps=run.total_steps, done_steps=step, batch_size=run.batch_size, epochs=run.epochs
    )
    hyperparameters = {key: part for key, part in config.items() if key != rundir.FREE_SECTION}
    with (
        checkpoint.saving(
            workdir, keep_latest=run.keep_latest, keep_best=run.keep_best, is_due=is_due
        ) as save,
        progress,
        Scalars(workdir / "metrics.jsonl", keep_to_step=step) as metrics,
        Scalars(workdir / "timing.jsonl", keep_to_step=step) as timing,
        Events(workdir, hyperparameters, keep_to_step=step, say=progress.say) as events,
        peers.needed(),  # Innermost: Orbax would wait for a process that is gone.
    ):
        if hosts.is_first() and (best := best_validation(workdir)) is not None:
            progress.validated(best[0])
        order = None
        compiled = set()  # Sizes of images, each of which is a program of its own.
        window, pace = Window(step, kept), Pace()
        if metrics.last_step < window.first:
            progress.say(f"note: metrics.jsonl has lost lines up to step {window.first}")
        _compile_validation(run, state, validation_part, progress)

        def train_call(state: TrainState, step: int) -> tuple[TrainState, int]:
            """Steps of about a second, and the line of metrics that they complete."""
            nonlocal order
            first = step
            size = run.image_size(first)
            compiling = size not in compiled
            compiled.add(size)
            if compiling:
                pace.restart()
                progress.compiling(f"for images of {size} pixels" if size else "the training step")
            stop = min(_window_end(run, step), step + hosts.from_first(pace.steps))
            start = time.monotonic()
            if step % run.steps_per_epoch == 0 or order is None:
                order = run.epoch_order(train_part, step // run.steps_per_epoch)
            state, records = run.train_chunk(state, train_part, order, jnp.int32(stop))
            step = int(state.step)
            seconds = time.monotonic() - start
            if compiling:
                progress.compiled(seconds, "the first steps made")
            watch.unsaved = True
            check_held()
            window.add(records, step - first)
            _check_losses(window, workdir)
            timing.write(step, steps=step - first, seconds=seconds, compiling=compiling)
            if not compiling:
                pace.update(step - first, seconds)
            moved = (step, step - first, 0.0 if compiling else seconds)
            if step < _window_end(run, first):
                progress.advance(*moved)
                return state, step
            epoch = step / run.steps_per_epoch
            means = window.close()
            scalars = {
                "train_loss": means["loss"],
                "train_accuracy": means["accuracy"],
                "learning_rate": float(run.schedule(step - 1)),
            }
            metrics.write(step, epoch=epoch, **scalars)
            events.write(step, **scalars)
            progress.advance(*moved, **means)
            return state, step

        def signalled() -> int:
            """One number for all processes, which hear of a signal at different moments."""
            return hosts.highest(watch.received or 0)

        interrupted = 0
        while step < run.total_steps or owed:
            interrupted = signalled()
            if interrupted:
                break
            if not owed:
                state, step = train_call(state, step)
                if step % run.steps_per_epoch:
                    continue
                _check_parameters(state, workdir)
            scores = logits = None
            owed = validation_part is not None and _is_due(run, run.eval_every_epochs, step)
            if owed:
                found = run.evaluate.in_calls(state.eval_variables, validation_part, signalled)
                if found is None:
                    continue  # To the signal that has ended it.
                watch.unsaved, owed = True, False
                sums, logits = found
                result = sums.compute()
                scores = {
                    "validation_loss": float(result["loss"]),
                    "validation_accuracy": float(result["accuracy"]),
                }
                _check_validation(scores["validation_loss"], step, workdir)
                epoch = step // run.steps_per_epoch
                metrics.write(step, epoch=float(epoch), **scores)
                events.write(step, **scores)
                progress.validated(scores["validation_accuracy"])
                progress.say(
                    f"epoch {epoch}/{run.epochs}  validation loss {result['loss']:.4f}  "
                    f"validation accuracy {result['accuracy']:.2%}"
                )
            if is_due(step):
                check_held()
                metrics.sync()
                save(state, scores, {})
                saved = step
            if logits is not None:  # After the save: no picture is worth a checkpoint.
                _show_answers(events, step, validation_part, np.asarray(logits), facts)
        if step != saved:
            _check_parameters(state, workdir)
            metrics.sync()
            save(state, None, window.records)
    if interrupted:
        raise Interrupted(interrupted, f"saved at step {step}; the same command goes on")
    _tell_end(workdir, run)
    return state


def _tell_idle(run: experiment.Experiment, micro_batch_size: int) -> None:
    """Says how many devices a step leaves without work."""
    if run.busy_devices < run.mesh.size:
        print(
            f"note: train.batch_size {run.batch_size} in micro-batches of {micro_batch_size} keeps "
            f"{run.busy_devices} of {run.mesh.size} devices busy; a smaller "
            "train.micro_batch_size would keep more"
        )


def _is_owed(workdir: pathlib.Path, run: experiment.Experiment, step: int) -> bool:
    """Whether the state of `step` was saved before the validation there had ended."""
    if not step or not _is_due(run, run.eval_every_epochs, step):
        return False
    noted = checkpoint.validation_accuracy(workdir, step) is not None
    path = workdir / "metrics.jsonl"
    return not hosts.from_first(noted or has_scalar(path, step, "validation_accuracy"))


def _compile_validation(
    run: experiment.Experiment, state: TrainState, part: Examples | None, progress: Progress
) -> None:
    """Compiles the validation while a signal may end the process: there is nothing to save yet."""
    if part is None:
        return
    progress.compiling("the validation")
    start = time.monotonic()
    run.evaluate.compile(state.eval_variables, part)
    progress.compiled(time.monotonic() - start)


def _show_answers(
    events: Events, step: int, part: Examples, logits: np.ndarray, facts: Facts
) -> None:
    """Writes the confusion matrix and the first examples of the validation part."""
    indices = np.asarray(part.indices)
    labels, predicted = np.asarray(part.labels)[indices], logits.argmax(axis=-1)
    names = facts.class_names
    matrix = confusion.confusion_matrix(labels, predicted, len(names))
    events.picture(step, "confusion_matrix", small.confusion_picture(matrix, names))
    first = np.asarray(part.images[indices[:_SHOWN]])
    events.picture(
        step,
        "predictions",
        small.predictions_picture(first, labels[:_SHOWN], predicted[:_SHOWN], names),
    )


def _tell_end(workdir: pathlib.Path, run: experiment.Experiment) -> None:
    """Says that the run is done, how it went and where everything lies."""
    lines = []
    if hosts.is_first():
        with contextlib.suppress(UsageError):  # A damaged line: the run is finished all the same.
            seconds, compiling = read_seconds(workdir)
            lines.append(f"{run.epochs} epochs in {seconds:,.0f} s of training")
            lines[0] += f" ({compiling:,.0f} s of it in calls that compiled too)"
        best = best_validation(workdir)
        if best is not None:
            lines.append(f"best validation accuracy {best[0]:.2%}, after epoch {best[1]:.0f}")
    place = printable(workdir)
    lines += [
        f"run directory {place}: checkpoints, metrics.jsonl, timing.jsonl, tensorboard",
        _next_command(workdir),
        f"a page about it: python scripts/report.py --workdir={place}",
    ]
    print_box("trained", lines)


def _next_command(workdir: pathlib.Path) -> str:
    return f"evaluate with: python scripts/evaluate.py --workdir={printable(workdir)}"


def _window_end(run: experiment.Experiment, step: int) -> int:
    """End of the log window or of the epoch that `step` lies in, whichever comes first."""
    within = step % run.steps_per_epoch
    window_end = (within // run.log_every_steps + 1) * run.log_every_steps
    return step - within + min(window_end, run.steps_per_epoch)


def _is_due(run: experiment.Experiment, every_epochs: int, step: int) -> bool:
    """Whether what is done every so many epochs, and after the last one, is done after `step`."""
    epoch, within = divmod(step, run.steps_per_epoch)
    return not within and (epoch % every_epochs == 0 or epoch == run.epochs)


def _check_losses(window: Window, workdir: pathlib.Path) -> None:
    """Raises MachineError if a loss is not finite; names the step."""
    bad = window.bad_step()
    if bad is not None:
        raise _not_finite(f"the loss of step {bad[0]} is {bad[1]}", workdir)


def _check_parameters(state: TrainState, workdir: pathlib.Path) -> None:
    """Raises MachineError if the last update, which no loss has seen yet, broke the parameters."""
    leaves = jax.tree.leaves((state.params, state.batch_stats))
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        last = int(state.step) - 1
        raise _not_finite(f"the parameters after step {last} are not finite", workdir)


def _check_validation(loss: float, step: int, workdir: pathlib.Path) -> None:
    """Raises MachineError if the validation loss is not finite: nothing of it is written."""
    if not np.isfinite(loss):
        raise _not_finite(f"the validation loss after step {step} is {loss}", workdir)


def _not_finite(what: str, workdir: pathlib.Path) -> MachineError:
    good = checkpoint.steps(workdir)
    kept = f"the last good checkpoint is of step {good[-1]}" if good else "there is no checkpoint"
    return MachineError(
        f"{what}: training stopped, {kept}; the same command computes the same again from there, "
        "so try a lower optim.learning_rate, optim.clip_norm=1 or model.dtype=float32 in another "
        "--workdir"
    )
