"""A finished or interrupted run, opened from its directory alone."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from cifar_cnn import checkpoint, hosts, rundir
from cifar_cnn import mesh as mesh_lib
from cifar_cnn.checks import MachineError, UsageError, printable
from cifar_cnn.data import Examples, Facts
from cifar_cnn.experiment.building import Experiment, build
from cifar_cnn.experiment.checking import check_values
from cifar_cnn.experiment.loading import load_evaluation, start_devices
from cifar_cnn.experiment.parts import Config, make_network
from cifar_cnn.steps import Variables


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network with what it was trained on.

    Attributes:
      workdir: the run directory.
      config: of the run, complete.
      facts: of its data: image shape, class names, normalisation.
      run: its objects; `run.model` is the network, `run.mesh` the devices.
      variables: 'params' and 'batch_stats' of the checkpoint (averaged ones where there are any).
      step: of the checkpoint.
    """

    workdir: pathlib.Path
    config: Config
    facts: Facts
    run: Experiment
    variables: Variables
    step: int

    def examples(self, split: str, say: Callable[[str], None] = print) -> Examples:
        """'test', 'validation' or 'train' of the run's own data; see `load_evaluation`."""
        return load_evaluation(self.config, self.facts, split, self.run.mesh, say)


def read_run(workdir: pathlib.Path) -> tuple[dict[str, Any], Facts]:
    """The config of a run and the facts of its data; both may come from another hand.

    Raises:
      UsageError: not a run directory, a run of another version, or files that no run has written.
    """
    config = rundir.read(workdir, "config.json")
    facts = Facts.from_json(rundir.read(workdir, "run.json").get("data"))
    try:
        check_values(config)
        make_network(config, len(facts.class_names))
    except Exception as error:  # Any section may be missing, or be a number or a list.
        reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        raise UsageError(
            f"{workdir / 'config.json'} is no config of this version ({reason}): restore it from "
            "a copy, or use the version that run.json names"
        ) from error
    return config, facts


def open_trained(
    workdir: pathlib.Path,
    which: str = "best",
    *,
    settings: Mapping[str, Any] | None = None,
    tta: bool = False,
    alone: bool = True,
    say: Callable[[str], None] = print,
) -> Trained:
    """Opens a checkpoint of a run; starts the devices.

    Args:
      workdir: of the run; needs config.json, run.json and checkpoints/.
      which: 'best', 'latest' or a step.
      settings: keys of the section `run` that differ on this machine, such as data_dir.
      tta: see `build`.
      alone: whether the caller works in a single process only.
      say: told in one line which devices, run and checkpoint these are.

    Raises:
      UsageError: not a run directory, no such checkpoint, a run of another version; several
        processes where one is wanted.
      MachineError: a damaged checkpoint (the others are named), no device.
    """
    here = hosts.find()
    if alone and here.count > 1:
        raise UsageError(
            f"this command runs in one process, but {here.how} says that there are {here.count}: "
            "start it once, without that"
        )
    config, facts = read_run(workdir)
    config["run"].update(settings or {})
    step = checkpoint.choose(workdir, which)
    mesh = start_devices(config)
    step = hosts.from_first(step)
    say(
        f"{mesh_lib.describe(mesh)}, {printable(workdir)}, checkpoint of step {step}, trained on "
        f"{facts.name}"
    )
    run = build(config, facts, mesh, tta=tta)
    try:
        state = checkpoint.restore(workdir, step, run.abstract_state)
    except MachineError as error:
        others = [str(other) for other in checkpoint.steps(workdir) if other != step]
        raise MachineError(
            f"{error}; other checkpoints: {', '.join(others) or 'none'} (--checkpoint=STEP)"
        ) from error
    return Trained(workdir, config, facts, run, state.eval_variables, step)
