"""The page itself: everything is gathered, checked and put into one file."""

import importlib.resources
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from cifar_cnn import experiment, files
from cifar_cnn.checks import UsageError, check_choice, printable
from cifar_cnn.images import FITS, read_image
from cifar_cnn.page import facts as facts_lib
from cifar_cnn.page.answers import answers, rows
from cifar_cnn.page.network import Subject, network
from cifar_cnn.page.others import difference
from cifar_cnn.page.sprite import Sprite
from cifar_cnn.report.predictions import Predictions, read_predictions_csv
from cifar_cnn.report.results import evaluation_folder, read_evaluation

# As `evaluate.evaluate_run`.
Evaluate = Callable[..., dict[str, Any]]
_SCRIPTS = ("shared.js", "curves.js", "confusion.js", "answers.js", "network.js", "others.js")
_MOST_RUNS = 8  # Colours of curves that can be told apart.


def write_page(
    workdir: pathlib.Path,
    *,
    evaluate: Evaluate,
    compare: Sequence[pathlib.Path] = (),
    pictures: Sequence[pathlib.Path] = (),
    split: str = "test",
    which: str = "best",
    tta: bool = False,
    fit: str = "crop",
    settings: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Writes WORKDIR/report/index.html.

    A run that was not evaluated on the split yet is evaluated now.

    Args:
      workdir: of the run.
      evaluate: `evaluate.evaluate_run`.
      compare: directories of other runs on the same data.
      pictures: files that are followed through the network, beside examples of the split.
      split: 'test' or 'validation'.
      which: checkpoint of each run, 'best', 'latest' or a step.
      tta: whether answers are means over mirrored and shifted views.
      fit: how pictures of another aspect ratio are fitted, see `images.read_image`.
      settings: keys of the section `run` that differ on this machine, such as data_dir.

    Returns:
      The path of the page.

    Raises:
      UsageError: not a run directory, an unknown checkpoint or split, a file that is no picture,
        runs on other data.
      MachineError: a damaged checkpoint, no device, a disk that fails.
    """
    check_choice("--split", split, ("test", "validation"))
    check_choice("--fit", fit, FITS)
    if len(compare) >= _MOST_RUNS:
        raise UsageError(f"got {len(compare)} runs to compare with, expected at most 7")
    trained = experiment.open_trained(workdir, which, settings=settings)
    shape = trained.facts.image_shape
    own = [
        Subject(read_image(path, image_shape=shape, fit=fit), printable(path.name))
        for path in pictures
    ]
    metrics, predictions = _evaluated(workdir, trained.step, evaluate, split, which, tta, settings)
    examples = trained.examples(split)
    images, labels = np.asarray(examples.images), np.asarray(examples.labels)
    if (
        predictions.indices.max() >= len(labels)
        or (labels[predictions.indices] != predictions.labels).any()
    ):
        raise UsageError(
            f"the {split} split is not the one that {printable(workdir)} was evaluated on: give "
            "that data with --data_dir"
        )
    sprite = Sprite(images)
    given = answers(predictions, metrics, sprite)
    differences, runs = [], [facts_lib.curves(workdir, _name(workdir))]
    # One process has its devices once: the other runs compute on those of the first.
    devices = {key: trained.config["run"][key] for key in ("platform", "cpu_devices")}
    theirs_settings = {**devices, **(settings or {})}
    for other in compare:
        opened = experiment.open_trained(other, which, settings=theirs_settings)
        _, theirs = _evaluated(other, opened.step, evaluate, split, which, tta, theirs_settings)
        try:
            differences.append(difference(_name(other), predictions, theirs, sprite))
        except UsageError as error:
            raise UsageError(f"{printable(other)} cannot be compared: {error}") from error
        runs.append(facts_lib.curves(other, _name(other)))
    used = [
        row for part in (given["cells"], given["gallery"]) for some in part.values() for row in some
    ]
    page = {
        "classes": list(trained.facts.class_names),
        "data": trained.facts.name,
        "split": split,
        "metrics": {
            key: metrics[key] for key in ("accuracy", "examples", "correct", "cross_entropy")
        },
        "answers": given,
        "rows": rows(predictions, sprite, used),
        "curves": runs,
        "network": network(trained, [*own, *_examples(predictions, images, split)]),
        "others": differences,
        "sprite": sprite.as_json(),
    }
    best = None
    if which == "best":
        best = f"{100 * _validation_accuracy(workdir, trained.step):.2f} % on validation"
    text = _render(
        page,
        title=_name(workdir),
        head=facts_lib.head(trained, metrics, which, best),
        commands=facts_lib.commands(workdir),
    )
    path = workdir / "report" / "index.html"
    files.write_text(path, text)
    print(f"written to {printable(path)} ({len(text.encode()) / 1e6:.1f} MB): open it in a browser")
    return path


def _evaluated(
    workdir: pathlib.Path,
    step: int,
    evaluate: Evaluate,
    split: str,
    which: str,
    tta: bool,
    settings: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], Predictions]:
    """metrics.json and the predictions of a checkpoint, made now if there are none."""
    metrics = read_evaluation(workdir, split, step, tta=tta)
    if metrics is None:
        print(f"{printable(workdir)}: step {step} is evaluated on {split} now")
        metrics = evaluate(
            workdir, split=split, which=which, tta=tta, rows="true", settings=dict(settings or {})
        )
    folder = evaluation_folder(workdir, split, step, tta=tta)
    return metrics, read_predictions_csv(folder / "predictions.csv")


def _examples(predictions: Predictions, images: np.ndarray, split: str) -> list[Subject]:
    """The surest hit, the surest mistake and the least sure answer of the split."""
    sure = predictions.probabilities.max(axis=1)
    hits = predictions.predicted == predictions.labels
    found: dict[int, str] = {}
    for what, members, score in (
        ("surest hit", hits, sure),
        ("surest mistake", ~hits, sure),
        ("least sure", np.ones_like(hits), -sure),
    ):
        if members.any():
            row = int(np.flatnonzero(members)[np.argmax(score[members])])
            found.setdefault(row, what)
    return [
        Subject(
            images[predictions.indices[row]],
            f"{what}: {split} example {predictions.indices[row]}",
            int(predictions.labels[row]),
        )
        for row, what in found.items()
    ]


def _validation_accuracy(workdir: pathlib.Path, step: int) -> float:
    """That the checkpoint was chosen by; NaN where it is not recorded any more."""
    path = workdir / "checkpoints" / str(step) / "metrics" / "metrics"
    try:
        return float(json.loads(path.read_text())["validation_accuracy"])
    except (OSError, ValueError, KeyError, TypeError):
        return float("nan")


def _render(page: Mapping[str, Any], **parts: Any) -> str:
    """The template with its style, its program and the data."""
    folder = importlib.resources.files("cifar_cnn.page") / "template"

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # "<" as an escape of JSON: no name of a class or a file can end the script that it stands in.
    data = json.dumps(page, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return environment.from_string(read("index.html")).render(
        style=read("page.css"),
        program="\n".join(read(name) for name in _SCRIPTS),
        data=data,
        page=page,
        **parts,
    )


def _name(workdir: pathlib.Path) -> str:
    return printable(pathlib.Path(workdir).absolute().name)
