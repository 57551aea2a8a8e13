"""What a run is: the head of the page, its commands and its curves."""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from cifar_cnn import rundir
from cifar_cnn.experiment import Trained
from cifar_cnn.record import read_scalars
from cifar_cnn.report.results import read_parameters, read_seconds

_POINTS = 600  # Of one curve; more are thinned out.


def head(
    trained: Trained, metrics: Mapping[str, Any], which: str, best: str | None
) -> list[tuple[str, str]]:
    """(name, value) pairs.

    Args:
      metrics: metrics.json of the evaluation that the page shows.
      which: how the checkpoint was asked for.
      best: the best validation accuracy in words, where there was a validation.
    """
    config, about = trained.config, rundir.read(trained.workdir, "run.json")
    low, high = metrics["accuracy_interval_95"]
    seconds, compiling = read_seconds(trained.workdir)
    parameters = read_parameters(trained.workdir)
    chosen = {
        "best": f"the best of the validated ones ({best})",
        "latest": "the last one",
    }.get(which, "asked for by its number")
    views = ", mean over mirrored and shifted views" if metrics["tta"] else ""
    return [
        ("Data", f"{trained.facts.name}, {metrics['split']} split, {metrics['examples']:,} images"),
        (
            "Accuracy",
            f"{metrics['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}){views}",
        ),
        ("Network", f"{config['model']['name']}, {parameters or 0:,} parameters"),
        ("Checkpoint", f"step {trained.step}, {chosen}"),
        ("Training", f"{_epochs(config['train']['epochs'])}, {duration(seconds)} of training"
            f" ({duration(compiling)} of it in calls that compiled too)"),
        ("Seed", str(config["seed"])),
        ("Device", about.get("devices") or "not recorded"),
        ("Commit", about.get("commit") or "not recorded"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in (about.get("versions") or {}).items())),
    ]  # fmt: skip


def _epochs(count: int) -> str:
    return "1 epoch planned" if count == 1 else f"{count} epochs planned"


def commands(workdir: pathlib.Path) -> list[tuple[str, str]]:
    """(purpose, command) pairs: to reproduce the run, to go on with it, to evaluate it."""
    about = rundir.read(workdir, "run.json")
    found = about.get("command")
    place = shlex.quote(str(workdir))
    pairs = []
    if found:
        again = [word for word in found if not word.startswith("--workdir")]
        pairs = [
            ("Train the same again", shlex.join([*again, "--workdir=NEW"])),
            ("Go on where it stopped", shlex.join([*again, f"--workdir={workdir}"])),
        ]
    return [
        *pairs,
        ("Evaluate it", f"python scripts/evaluate.py --workdir={place}"),
        ("Make this page", f"python scripts/report.py --workdir={place}"),
    ]


def curves(workdir: pathlib.Path, name: str) -> dict[str, Any]:
    """Loss (nats), accuracy and learning rate over the epochs, in training and validation."""
    lines = read_scalars(workdir / "metrics.jsonl")
    train = [
        (line["epoch"], line["train_loss"], line["train_accuracy"], line["learning_rate"])
        for line in lines
        if "train_loss" in line
    ]
    validation = [
        (line["epoch"], line["validation_loss"], line["validation_accuracy"])
        for line in lines
        if "validation_loss" in line
    ]
    return {"name": name, "train": _thin(train), "validation": _thin(validation)}


def _thin(points: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """At most `_POINTS` of the points, the last one among them."""
    step = -(-len(points) // _POINTS) or 1
    return [*points[:-1:step], points[-1]] if points else []


def duration(seconds: float) -> str:
    """'42 s', '3 min 5 s' or '2 h 7 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
