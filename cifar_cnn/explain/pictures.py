"""All pictures of an explanation, written into one folder."""

import pathlib
import re

import numpy as np

from cifar_cnn.experiment import Trained
from cifar_cnn.explain.attention import look
from cifar_cnn.explain.layers import first_kernels
from cifar_cnn.explain.subject import Subject
from cifar_cnn.report import (
    attention,
    feature_maps,
    input_picture,
    kernels,
    overview,
    probabilities,
)
from cifar_cnn.report.canvas import shape_text
from cifar_cnn.report.feature_maps import LayerOutput
from cifar_cnn.report.figure import plottable


def write_pictures(
    trained: Trained,
    subject: Subject,
    layers: list[LayerOutput],
    shares: np.ndarray,
    classes: list[int],
    layer: str | None,
    maps: int,
    folder: pathlib.Path,
) -> None:
    """Writes all pictures into the folder."""
    facts, image = trained.facts, subject.image
    names = [plottable(str(name), k) for k, name in enumerate(facts.class_names)]
    network = f"network trained on {facts.name}"
    predicted = names[classes[0]]
    answer = f"{subject.name}: {predicted} ({probabilities.percent(shares[classes[0]])})"
    if subject.label is not None:
        answer += f", true class {names[subject.label]}"
    fitted = f", {subject.told['fit']}" if "fit" in subject.told else ""
    input_picture.plot(
        image,
        folder / "input.png",
        title=answer,
        captions=(
            f"as given: {shape_text(subject.given_size)} pixels (height by width)",
            f"as the network gets it: {shape_text(image.shape)}{fitted}",
        ),
        given=subject.given,
    )
    if found := first_kernels(trained, layers):
        first, weights = found
        noun = "unit" if first.value.ndim == 1 else "filter"
        title = f"Weights of {first.name}, the first layer with any; {network}"
        kernels.plot(weights, folder / "kernels.png", title=title, noun=noun)
    for number, one in enumerate(layers, start=1):
        feature_maps.plot(
            one,
            folder / f"{number:02d}_{_snake(one.kind)}.png",
            title=f"{number}. {one.name} ({one.kind}); {subject.name}",
            maps=maps,
            class_names=names if number == len(layers) else (),
        )
    overview.plot(
        image, layers, shares, names, folder / "overview.png",
        title=f"{answer}; {network}", label=subject.label,
    )  # fmt: skip
    probabilities.plot(
        shares, names, folder / "probabilities.png", title=f"{answer}; {network}",
        label=subject.label,
    )  # fmt: skip
    captions = [f"{names[k]}, probability {probabilities.percent(shares[k])}" for k in classes]
    heats, sensitivities = look(trained, image, classes, layer)
    if heats is not None:
        none = ": zero everywhere, nothing in this layer speaks for it"
        told = [c if h.any() else c + none for c, h in zip(captions, heats, strict=True)]
        attention.plot(
            image, list(zip(told, heats, strict=True)), folder / "grad_cam.png",
            title=f"Grad-CAM at {layer}; {subject.name}", scale="evidence for the class",
        )  # fmt: skip
    attention.plot(
        image,
        list(zip(captions, sensitivities, strict=True)),
        folder / "saliency.png",
        title=f"Saliency: how much each pixel moves the logit; {subject.name}",
        scale="|d logit / d grey level|",
    )


def _snake(kind: str) -> str:
    """'BatchNorm' as 'batch_norm'."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()
