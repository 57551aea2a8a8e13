"""The page itself: everything is gathered, checked and put into one file."""

import importlib.resources
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from cifar_cnn import checkpoint, compare, experiment, files
from cifar_cnn.checks import UsageError, check_choice, check_int, printable
from cifar_cnn.images import FITS, read_image
from cifar_cnn.page import facts as facts_lib
from cifar_cnn.page.answers import answers, rows
from cifar_cnn.page.network import MOST_CHARACTERS, Subject, network
from cifar_cnn.page.others import difference
from cifar_cnn.page.sprite import Sprite
from cifar_cnn.report.predictions import Predictions

# As `evaluate.evaluate_run`.
Evaluate = Callable[..., dict[str, Any]]
_SCRIPTS = (
    "shared.js", "curves.js", "confusion.js", "answers.js", "maps.js", "network.js", "others.js",
)  # fmt: skip
_MOST_RUNS = 8  # Colours of curves that can be told apart.
_MOST_SUBJECTS = 6  # Of pictures and examples that are asked for.
# Bytes of a page, and what is left of them for the template and the facts.
_MOST_BYTES, _SPARE = 10_000_000, 200_000


def write_page(
    workdir: pathlib.Path,
    *,
    evaluate: Evaluate,
    others: Sequence[pathlib.Path] = (),
    pictures: Sequence[pathlib.Path] = (),
    indices: Sequence[int] = (),
    split: str | None = None,
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
      others: directories of runs on the same data that it is compared with.
      pictures: files that are followed through the network, beside examples of the split.
      indices: of examples of the split that are followed, beside those that stand out.
      split: 'test' or 'validation' of all runs; None for `compare.split_of`.
      which: checkpoint of each run, 'best', 'latest' or a step.
      tta: whether answers are means over mirrored and shifted views.
      fit: how pictures of another aspect ratio are fitted, see `images.read_image`.
      settings: keys of the section `run` that differ on this machine, such as data_dir.

    Returns:
      The path of the page.

    Raises:
      UsageError: not a run directory, one of them twice, an unknown checkpoint or split, a file
        that is no picture, too many of them, runs on other data.
      MachineError: a damaged checkpoint, no device, a disk that fails.
    """
    if split is not None:
        check_choice("--split", split, ("test", "validation"))
    check_choice("--fit", fit, FITS)
    if len(others) >= _MOST_RUNS:
        raise UsageError(f"got {len(others)} runs to compare with, expected at most 7")
    if len(pictures) + len(indices) > _MOST_SUBJECTS:
        raise UsageError(
            f"got {len(pictures) + len(indices)} images with --image and --index, expected at "
            f"most {_MOST_SUBJECTS}: make another page for the others"
        )
    names = compare.run_names([workdir, *others])
    # All runs are checked before one is evaluated, which takes time.
    steps = _steps([workdir, *others], which)
    asked = split
    split = compare.split_of(
        asked, dict(zip([workdir, *others], steps, strict=True)), settings or {}, tta=tta
    )
    histories = [
        facts_lib.curves(run, name) for run, name in zip([workdir, *others], names, strict=True)
    ]
    trained = experiment.open_trained(workdir, which, settings=settings)
    shape = trained.facts.image_shape
    own = [
        Subject(read_image(path, image_shape=shape, fit=fit), printable(path.name))
        for path in pictures
    ]
    # One process has its devices once: the other runs compute on those of the first.
    here = {key: trained.config["run"][key] for key in ("platform", "cpu_devices")}
    here.update(settings or {})

    def evaluated(run: pathlib.Path, step: int) -> tuple[dict[str, Any], Predictions]:
        metrics = compare.evaluated(run, split, which, step, evaluate, here, tta=tta)
        return metrics, compare.predictions_of(run, split, step, tta=tta)

    metrics, predictions = evaluated(workdir, trained.step)
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
    for index in indices:
        if index not in predictions.indices:
            check_int("--index", index, minimum=0, maximum=int(predictions.indices.max()))
            raise UsageError(f"--index is {index}, which is no example of the {split} split")
    sprite = Sprite(images)
    given = answers(predictions, metrics, sprite)
    differences = []
    for other, name, step in zip(others, names[1:], steps[1:], strict=True):
        _, theirs = evaluated(other, step)
        try:
            differences.append(difference(name, predictions, theirs, sprite))
        except UsageError as error:
            raise UsageError(f"{printable(other)} cannot be compared: {error}") from error
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
        "curves": histories,
        "others": differences,
        "sprite": sprite.as_json(),
    }
    subjects = [*own, *_examples(predictions, images, split, indices)]
    room = min(MOST_CHARACTERS, _MOST_BYTES - _SPARE - len(_as_json(page)))
    page["network"] = network(trained, subjects, room)
    for left_out in subjects[len(page["network"]["subjects"]) :]:
        print(f"there is no room on the page to follow {left_out.name}")
    text = render(
        page,
        title=names[0],
        head=facts_lib.head(trained, metrics, which, no_test=asked != split == "validation"),
        commands=facts_lib.commands(
            workdir, split=split, checkpoint=which, tta=tta, fit=fit, settings=settings or {},
            compare=others, image=pictures, index=indices,
        ),
    )  # fmt: skip
    path = workdir / "report" / "index.html"
    files.write_text(path, text)
    size = len(text.encode())
    much = ", more than a browser opens quickly" if size > _MOST_BYTES else ""
    print(f"written to {printable(path)} ({size / 1e6:.1f} MB{much}): open it in a browser")
    return path


def _steps(workdirs: Sequence[pathlib.Path], which: str) -> list[int]:
    """The step of each run's checkpoint.

    Raises:
      UsageError: no run directory, no such checkpoint, or other data than the first run's.
    """
    steps, data = [], []
    for workdir in workdirs:
        _, facts = experiment.read_run(workdir)
        data.append(facts.name)
        if data[-1] != data[0]:
            raise UsageError(
                f"{printable(workdir)} cannot be compared: its data is {data[-1]}, that of "
                f"{printable(workdirs[0])} is {data[0]}"
            )
        steps.append(checkpoint.choose(workdir, which))
    return steps


def _examples(
    predictions: Predictions, images: np.ndarray, split: str, indices: Sequence[int]
) -> list[Subject]:
    """The examples of these indices; then the surest hit, the surest mistake and the least sure
    answer of the split."""
    sure = predictions.probabilities.max(axis=1)
    hits = predictions.predicted == predictions.labels
    found = {int(np.flatnonzero(predictions.indices == index)[0]): "" for index in indices}
    for what, members, score in (
        ("surest hit", hits, sure),
        ("surest mistake", ~hits, sure),
        ("least sure", np.ones_like(hits), -sure),
    ):
        if members.any():
            row = int(np.flatnonzero(members)[np.argmax(score[members])])
            found.setdefault(row, f"{what}: ")
    return [
        Subject(
            images[predictions.indices[row]],
            f"{what}{split} example {predictions.indices[row]}",
            int(predictions.labels[row]),
        )
        for row, what in found.items()
    ]


def render(page: Mapping[str, Any], **parts: Any) -> str:
    """The template with its style, its program and the data."""
    folder = importlib.resources.files("cifar_cnn.page") / "template"

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(read("index.html")).render(
        style=read("page.css"),
        program="\n".join(read(name) for name in _SCRIPTS),
        data=_as_json(page),
        page=page,
        **parts,
    )


def _as_json(page: Mapping[str, Any]) -> str:
    """The data as it stands in the page."""
    # "<" as an escape of JSON: no name of a class or a file can end the script that it stands in.
    return json.dumps(page, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
