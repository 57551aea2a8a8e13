"""The explanation of one picture, from the run directory to the files."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cifar_cnn import experiment, files
from cifar_cnn.checks import UsageError, check_choice, check_int, printable
from cifar_cnn.explain import subject as subject_lib
from cifar_cnn.explain.attention import default_layer
from cifar_cnn.explain.layers import logits_and_activations, spatial_layers
from cifar_cnn.explain.pictures import write_pictures
from cifar_cnn.images import FITS
from cifar_cnn.report import feature_maps
from cifar_cnn.report.predictions import check_logits, log_softmax
from cifar_cnn.report.probabilities import percent


def explain_run(
    workdir: pathlib.Path,
    *,
    image: pathlib.Path | None = None,
    index: int | None = None,
    split: str | None = None,
    out: pathlib.Path | None = None,
    class_name: str | None = None,
    layer: str | None = None,
    fit: str = "crop",
    maps: int = 16,
    which: str = "best",
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Explains what a network makes of one picture, in pictures and in explanation.json.

    Args:
      workdir: of the run.
      image: a picture file; or else
      index: of an example of the split.
      split: 'test', 'validation' or 'train' of `index`; None for `experiment.choose_split`.
      out: folder of the pictures; None for WORKDIR/explain/SPLIT-INDEX or the picture's name.
      class_name: a class besides the predicted one to explain.
      layer: of Grad-CAM; None for the last convolutional activation.
      fit: how a picture of another aspect ratio is fitted, see `images.read_image`.
      maps: feature maps a page, 1 to 64.
      which: checkpoint, 'best', 'latest' or a step.
      settings: keys of the section `run` that differ on this machine, such as data_dir.

    Returns:
      What explanation.json holds.

    Raises:
      UsageError: neither or both of image and index, an unknown class or layer, an index out of
        range, a file that is no picture, not a run directory.
      MachineError: a damaged checkpoint, a disk that fails.
    """
    if (image is None) == (index is None):
        got = "neither" if image is None else "both"
        raise UsageError(f"{got} of --image and --index given, expected one of them")
    if split is not None:
        check_choice("--split", split, ("test", "train", "validation"))
    check_int("--maps", maps, minimum=1, maximum=64)
    check_choice("--fit", fit, FITS)
    trained = experiment.open_trained(workdir, which, settings=settings)
    names = trained.facts.class_names
    if class_name is not None:
        check_choice("--class_name", class_name, names)
    if image is None:
        split = experiment.choose_split(split, [trained.config])
        subject = subject_lib.open_example(trained, split, index)
    else:
        subject = subject_lib.open_file(trained, image, fit)
    logits, layers = logits_and_activations(trained, subject.image)
    spatial = spatial_layers(layers)
    if layer is not None and not spatial:
        raise UsageError(
            f"--layer is {layer!r}, but this network has no feature maps: leave it out"
        )
    if layer is not None:
        check_choice("--layer", layer, spatial)
    layer = layer or default_layer(trained, layers)

    check_logits(logits[None], np.zeros(1, int), names)
    shares = np.exp(log_softmax(logits[None]))[0]
    predicted = int(logits.argmax())
    classes = [predicted]
    if class_name is not None and names.index(class_name) != predicted:
        classes.append(names.index(class_name))
    folder = out or workdir / "explain" / subject.stem
    explanation = {
        "workdir": printable(workdir),
        "data": trained.facts.name,
        "step": trained.step,
        **subject.told,
        "true": None if subject.label is None else names[subject.label],
        "predicted": names[predicted],
        "probability": float(shares[predicted]),
        "probabilities": dict(zip(names, shares.tolist(), strict=True)),
        "grad_cam": {"layer": layer, "classes": [names[k] for k in classes]} if layer else None,
        "layers": [feature_maps.statistics(one) for one in layers],
    }
    write_pictures(trained, subject, layers, shares, classes, layer, maps, folder)
    text = json.dumps(explanation, indent=2, ensure_ascii=False, allow_nan=False)
    files.write_text(folder / "explanation.json", text + "\n")
    print(feature_maps.format_table(layers))
    true = "" if subject.label is None else f", true class {names[subject.label]}"
    share = percent(shares[predicted])
    print(f"{subject.name}: {names[predicted]} with {share}{true}")
    if layer is None:
        print("no Grad-CAM: this network has no feature maps; saliency.png stands in for it")
    print(f"written to {printable(folder)}")
    return explanation
