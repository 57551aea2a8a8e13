"""What a run is: the head of the page, its commands and its curves."""

import math
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cifar_cnn import checkpoint, rundir
from cifar_cnn.checks import printable, shown
from cifar_cnn.experiment import Trained
from cifar_cnn.report.results import damaged, read_lines, read_parameters, read_seconds

_POINTS = 600  # Of one curve; more are thinned out.


def head(
    trained: Trained, metrics: Mapping[str, Any], which: str, *, no_test: bool = False
) -> list[tuple[str, str]]:
    """(name, value) pairs.

    Args:
      metrics: metrics.json of the evaluation that the page shows.
      which: how the checkpoint was asked for.
      no_test: whether the split is 'validation' because the data has no test split.
    """
    config, about = trained.config, rundir.read(trained.workdir, "run.json")
    low, high = metrics["accuracy_interval_95"]
    seconds, compiling = read_seconds(trained.workdir)
    parameters = read_parameters(trained.workdir)
    chosen = {"best": "the best of the validated ones", "latest": "the last one"}.get(
        which, "asked for by its number"
    )
    score = checkpoint.validation_accuracy(trained.workdir, trained.step)
    if score is not None:
        chosen += f" ({score:.2%} on validation)"
    views = ", mean over mirrored and shifted views" if metrics["tta"] else ""
    found = [
        ("Data", f"{trained.facts.name}, {metrics['split']} split"
            f"{', as there is no test split' * no_test}, {metrics['examples']:,} images"),
        (
            "Accuracy",
            f"{metrics['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}){views}",
        ),
        ("Network", f"{config['model']['name']}, {parameters or 0:,} parameters"),
        ("Checkpoint", f"step {trained.step}, {chosen}"),
        ("Training", f"{_epochs(config['train']['epochs'])}, {_duration(seconds)} of training"
            f" ({_duration(compiling)} of it in calls that compiled too)"),
        ("Seed", str(config["seed"])),
        ("Device", about.get("devices") or "not recorded"),
        ("Commit", about.get("commit") or "not recorded"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in (about.get("versions") or {}).items())),
    ]  # fmt: skip
    return [(name, printable(value)) for name, value in found]


def _epochs(count: int) -> str:
    return "1 epoch planned" if count == 1 else f"{count} epochs planned"


def commands(
    workdir: pathlib.Path,
    *,
    split: str,
    checkpoint: str,
    tta: bool,
    fit: str,
    settings: Mapping[str, Any],
    compare: Sequence[pathlib.Path],
    image: Sequence[pathlib.Path],
    index: Sequence[int],
) -> list[tuple[str, str]]:
    """(purpose, command) pairs: to reproduce the run, to go on with it, to evaluate it, and to make
    this page, of which the other arguments are the flags."""
    found = rundir.read(workdir, "run.json").get("command")
    place = f"--workdir={workdir}"
    given = {"split": (split, "test"), "checkpoint": (checkpoint, "best")}
    flags = [f"--{name}={value}" for name, (value, usual) in given.items() if value != usual]
    flags += ["--tta"] * tta + [f"--{name}={value}" for name, value in settings.items()]
    of_page = [f"--fit={fit}"] * (fit != "crop")
    for name, values in (("compare", compare), ("image", image), ("index", index)):
        of_page += [f"--{name}={value}" for value in values]
    pairs = [
        ("Evaluate it", ["python", "scripts/evaluate.py", place, *flags]),
        ("Make this page", ["python", "scripts/report.py", place, *flags, *of_page]),
    ]
    if isinstance(found, list) and found:
        again = _without_workdir([str(word) for word in found])
        pairs = [
            ("Train the same again", [*again, "--workdir=NEW"]),
            ("Go on where it stopped", [*again, place]),
            *pairs,
        ]
    return [(purpose, printable(shlex.join(words))) for purpose, words in pairs]


def _without_workdir(words: Sequence[str]) -> list[str]:
    """A command without --workdir=X or --workdir X, with one or two dashes."""
    kept = []
    for place, word in enumerate(words):
        follows = place > 0 and words[place - 1] in ("--workdir", "-workdir")
        if not follows and word.lstrip("-").partition("=")[0] != "workdir":
            kept.append(word)
    return kept


def curves(workdir: pathlib.Path, name: str) -> dict[str, Any]:
    """Loss (nats), accuracy and learning rate over the epochs, in training and validation; None
    for what is not finite.

    Raises:
      UsageError: a missing file or a damaged line.
    """
    lines = read_lines(workdir / "metrics.jsonl")

    def points(*keys: str) -> list[list[float | None]]:
        found = []
        for line in lines:
            try:
                if keys[0] in line:
                    values = [float(line[key]) for key in ("epoch", *keys)]
                    found.append([one if math.isfinite(one) else None for one in values])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                reason = f"{shown(line)} is no line of it"
                raise damaged(workdir / "metrics.jsonl", reason) from error
        return _thin([point for point in found if point[0] is not None])

    return {
        "name": name,
        "train": points("train_loss", "train_accuracy", "learning_rate"),
        "validation": points("validation_loss", "validation_accuracy"),
    }


def _thin(points: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """At most `_POINTS` of the points, the last one among them."""
    step = -(-len(points) // _POINTS) or 1
    return [*points[:-1:step], points[-1]] if points else []


def _duration(seconds: float) -> str:
    """'42 s', '3 min 5 s' or '2 h 7 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
