"""Classifies picture files with a trained network."""

import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cifar_cnn import experiment, images, steps
from cifar_cnn import mesh as mesh_lib
from cifar_cnn.checks import (
    MachineError,
    UsageError,
    check_choice,
    check_int,
    check_number,
    check_shape,
    printable,
)
from cifar_cnn.data import Facts

Predictor = Callable[[np.ndarray], np.ndarray]
# A training mean below or above these says that most of each picture is dark or light.
_DARK, _LIGHT = 0.35, 0.65


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What became of one file; either `error` is set, or the other two are.

    Attributes:
      path: as it was named.
      probabilities: float32 [K], of each class.
      border: median brightness of the outermost pixels as the network saw them, from 0 to 1.
      error: one line, for a file that could not be read.
    """

    path: pathlib.Path
    probabilities: np.ndarray | None = None
    border: float | None = None
    error: str | None = None


def make_predictor(trained: experiment.Trained, batch_size: int = 64) -> Predictor:
    """Returns a function from images uint8 [N, H, W, C] to probabilities float32 [N, K].

    N is any number from 0 up: the function cuts it into batches of one shape and fills the last
    one up, so that one program, compiled at the first call, serves all.

    Raises:
      UsageError: (the returned function) images of another shape, or probabilities that are not
        finite because the training diverged.
    """
    facts, mesh = trained.facts, trained.run.mesh
    rows = mesh_lib.padded_size(batch_size, mesh)
    sharding = mesh_lib.batch_sharded(mesh)
    mean, std = jnp.asarray(facts.mean), jnp.asarray(facts.std)

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
    def probabilities_of(variables: steps.Variables, batch: jax.Array) -> jax.Array:
        logits, _ = steps.forward(
            trained.run.model, variables, batch, mean=mean, std=std, train=False
        )
        return jax.nn.softmax(logits)

    def predict(batch: np.ndarray) -> np.ndarray:
        check_shape("images", batch.shape, (None, *facts.image_shape))
        found = np.empty((len(batch), len(facts.class_names)), np.float32)
        for start in range(0, len(batch), rows):
            part = batch[start : start + rows]
            padded = np.zeros((rows, *facts.image_shape), np.uint8)
            padded[: len(part)] = part
            on_devices = jax.device_put(padded, sharding)
            found[start : start + rows] = probabilities_of(trained.variables, on_devices)[
                : len(part)
            ]
        if not np.isfinite(found).all():
            raise UsageError(
                f"the network in {trained.workdir} gives probabilities that are not finite: has "
                "its training diverged? Choose an earlier --checkpoint"
            )
        return found

    return predict


def classify_files(
    paths: Sequence[pathlib.Path],
    predictor: Predictor,
    *,
    image_shape: tuple[int, int, int],
    fit: str,
    invert: bool,
    batch_size: int,
) -> Iterator[Prediction]:
    """Yields a prediction for each path, in order, with at most `batch_size` images in memory.

    Args:
      paths: of pictures; one that cannot be read gives a prediction with its error.
      predictor: of `make_predictor`.
      image_shape, fit: see `images.read_image`.
      invert: whether light and dark change places.
    """
    for start in range(0, len(paths), batch_size):
        chunk = paths[start : start + batch_size]
        batch, errors = [], {}
        for place, path in enumerate(chunk):
            try:
                image = images.read_image(path, image_shape=image_shape, fit=fit)
                batch.append(255 - image if invert else image)
            except UsageError as error:
                errors[place] = str(error)
        found = iter(predictor(np.stack(batch)) if batch else ())
        pictures = iter(batch)
        for place, path in enumerate(chunk):
            if place in errors:
                yield Prediction(path, error=errors[place])
            else:
                border = float(images.border_colour(next(pictures)).mean()) / 255
                yield Prediction(path, next(found), border)


def predict_files(
    workdir: pathlib.Path,
    files: Sequence[pathlib.Path],
    *,
    folder: pathlib.Path | None = None,
    which: str = "best",
    top: int = 3,
    fit: str | None = None,
    invert: bool = False,
    unsure_below: float = 0.5,
    batch_size: int = 64,
    as_json: bool = False,
    settings: dict[str, Any] | None = None,
) -> None:
    """Prints the most probable classes of every picture: one line each, or one JSON document.

    A picture is 'unsure' where no class reaches `unsure_below`. That is the maximum softmax
    probability as a detector of pictures unlike the training data (Hendrycks & Gimpel 2017,
    arXiv:1610.02136): better than chance, and no guarantee, as a network can be sure of nonsense.

    Args:
      workdir: of the run.
      files: pictures.
      folder: all pictures in it and its subfolders come after `files`.
      which: 'best', 'latest' or a step.
      top: how many classes to print, at most all.
      fit: see `images.read_image`; None for that of the run's config (data.fit).
      invert: whether light and dark change places, for dark drawings and a network that was
        trained on light ones.
      unsure_below: 0.5 means that all other classes together are more probable than the one named.
      batch_size: images in memory at a time.
      as_json: print one JSON document on stdout, everything else on stderr.
      settings: keys of the section `run` that differ on this machine, such as platform.

    Raises:
      UsageError: no pictures, no such run or checkpoint, an argument out of range.
      MachineError: after all others have been predicted, if some files could not be read.
    """
    check_int("--top", top, minimum=1)
    check_int("--batch_size", batch_size, minimum=1, maximum=100_000)
    check_number("--unsure_below", unsure_below, minimum=0, maximum=1)
    if fit is not None:
        check_choice("--fit", fit, images.FITS)
    say = functools.partial(print, file=sys.stderr) if as_json else print
    paths = _collect(files, folder, say)
    trained = experiment.open_trained(workdir, which, settings=settings, say=say)
    facts = trained.facts
    predictions, entries = [], []
    for prediction in classify_files(
        paths,
        make_predictor(trained, batch_size),
        image_shape=facts.image_shape,
        fit=fit or trained.config["data"]["fit"],
        invert=invert,
        batch_size=batch_size,
    ):
        entry = _entry(prediction, facts.class_names, top, unsure_below)
        if prediction.error:
            print(f"error: {prediction.error}", file=sys.stderr)
        elif not as_json:
            print(_line(entry))
        predictions.append(dataclasses.replace(prediction, probabilities=None))
        entries.append(entry)
    notes = _notes(predictions, entries, facts, unsure_below, invert)
    if as_json:
        document = {
            "workdir": str(workdir),
            "step": trained.step,
            "data": facts.name,
            "class_names": list(facts.class_names),
            "unsure_below": unsure_below,
            "predictions": entries,
            "notes": notes,
        }
        print(json.dumps(document, indent=2))
    else:
        for note in notes:
            print(note)
    failed = sum(prediction.error is not None for prediction in predictions)
    if failed:
        raise MachineError(f"{failed} of {len(paths)} files could not be read, see above")


def _collect(
    files: Sequence[pathlib.Path], folder: pathlib.Path | None, say: Callable[[str], None]
) -> list[pathlib.Path]:
    """The named files, then those in the folder."""
    paths = list(files)
    if folder is not None:
        found = images.list_images(folder)
        others = len(images.list_files(folder)) - len(found)
        if not found:
            raise UsageError(
                f"{printable(folder)} holds no pictures (files that end in "
                f"{', '.join(images.SUFFIXES)})"
            )
        if others:
            what = "1 file of another kind" if others == 1 else f"{others} files of other kinds"
            verb = "is" if others == 1 else "are"
            say(f"{what} in {printable(folder)} {verb} passed over")
        paths += found
    if not paths:
        raise UsageError("no picture is named: give picture files, or --folder=DIR")
    return paths


def _entry(
    prediction: Prediction, class_names: Sequence[str], top: int, unsure_below: float
) -> dict[str, Any]:
    """A prediction as it stands in the JSON document."""
    if prediction.error:
        return {"file": str(prediction.path), "error": prediction.error}
    # Stable, so that equal probabilities come in label order.
    order = np.argsort(-prediction.probabilities, kind="stable")[:top]
    ranked = [
        {
            "class": class_names[label],
            "label": int(label),
            "probability": float(prediction.probabilities[label]),
        }
        for label in order
    ]
    return {
        "file": str(prediction.path),
        **ranked[0],
        "unsure": ranked[0]["probability"] < unsure_below,
        "top": ranked,
    }


def _line(entry: dict[str, Any]) -> str:
    """'dog.png -> dog 87.1 %, cat 6.0 %, horse 3.2 %'"""
    ranked = ", ".join(
        f"{printable(row['class'])} {row['probability']:.1%}".replace("%", " %")
        for row in entry["top"]
    )
    return f"{printable(entry['file'])} -> {ranked}{' (unsure)' if entry['unsure'] else ''}"


def _notes(
    predictions: Sequence[Prediction],
    entries: Sequence[dict[str, Any]],
    facts: Facts,
    unsure_below: float,
    invert: bool,
) -> list[str]:
    """What a reader of all predictions should know, one line each."""
    notes = []
    borders = [p.border for p in predictions if p.border is not None]
    if unsure := sum(entry.get("unsure", False) for entry in entries):
        notes.append(
            f"note: {unsure} of {len(borders)} unsure (no class reaches {unsure_below:g}): more "
            "often wrong than others, perhaps unlike all training data; a network can be sure of "
            "such a picture, too"
        )
    if facts.image_shape[-1] != 1:
        return notes
    mean = facts.mean[0]
    if mean < _DARK and (count := sum(border > 0.5 for border in borders)):
        pictures, trained_on = "light", "dark"
    elif mean > _LIGHT and (count := sum(border < 0.5 for border in borders)):
        pictures, trained_on = "dark", "light"
    else:
        return notes
    notes.append(
        f"note: {count} of {len(borders)} have a {pictures} border, but {facts.name} is "
        f"{trained_on} (mean {mean:.2f}): try {'without' if invert else 'with'} --invert"
    )
    return notes
