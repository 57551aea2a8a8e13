"""The trained network layer by layer, on some images, with all numbers that the page computes with.

Feature maps and kernels go onto the page as float16: small enough, and exact enough to follow how
a value comes about. `budget` chooses which of them, where there is not room for all.
"""

import base64
import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cifar_cnn.experiment import Trained
from cifar_cnn.explain import default_layer
from cifar_cnn.explain.attention import look
from cifar_cnn.explain.layers import arguments, kernel_of, watching
from cifar_cnn.layers import Activation, Pool
from cifar_cnn.page import budget
from cifar_cnn.page.budget import Layer, Plan
from cifar_cnn.page.sprite import png_url
from cifar_cnn.report.arithmetic import arithmetic
from cifar_cnn.report.feature_maps import LayerOutput
from cifar_cnn.report.window import window_of
from cifar_cnn.steps import forward, normalise

# Characters of the whole section, so that a page opens quickly; all else has as much again.
MOST_CHARACTERS = 4_800_000
# At most, beside numbers in base64: of what is said of a layer, and of its values on one image.
_OF_LAYER, _OF_VALUES = 2000, 64
# Of these, the normalised image of each subject may take one part in:
_INPUT_PART = 8
# Pixels of the longer side of a heat map, which is a smooth one.
_MOST_HEAT = 112


@dataclasses.dataclass(frozen=True)
class Subject:
    """An image that is followed through the network: uint8 [H, W, C], what it is called, and its
    true class where that is known."""

    image: np.ndarray
    name: str
    label: int | None = None


def network(
    trained: Trained, subjects: Sequence[Subject], room: int = MOST_CHARACTERS
) -> dict[str, Any]:
    """The layers, their kernels, and what they make of each subject.

    Args:
      room: characters of JSON. Where they are few there are fewer maps, and in the end fewer
        subjects.

    Returns:
      'layers': name, kind, shapes, arithmetic, window and kernel of each; 'subjects': for each the
      image, the probabilities, the values of the layers, and Grad-CAM.
    """
    layers: list[Layer] = []
    program = jax.jit(functools.partial(_run, trained.run.model, layers))
    outputs = [jax.device_get(program(*arguments(trained, subject.image))) for subject in subjects]
    heads = [
        _head(trained, subject, output, layers)
        for subject, output in zip(subjects, outputs, strict=True)
    ]
    fixed = max(len(json.dumps(head)) for head in heads) + _OF_VALUES * len(layers)
    plan = budget.fit(layers, len(subjects), fixed, room - _OF_LAYER * len(layers))
    image_kept = heads[0]["input"] is not None
    return {
        "layers": [
            _describe(trained, layers, number, plan, image_kept) for number in range(len(layers))
        ],
        "subjects": [
            {**head, "layers": _values(output[2], layers, plan, followed=place < plan.followed)}
            for place, (head, output) in enumerate(zip(heads, outputs, strict=True))
            if place < plan.subjects
        ],
    }


def _run(model, layers, variables, pixels, mean, std):
    """Logits, the normalised image, and of every layer what it was given (None where that is what
    another has made) and what it made; `layers` is filled while this is traced."""
    image = normalise(pixels, mean=mean, std=std)
    values, known = [], []

    def visit(name: str, module: nn.Module, given: jax.Array, made: jax.Array) -> jax.Array:
        source = next((k for k in reversed(range(len(known))) if known[k] is given), None)
        if source is None:
            source = -2 if known else -1
        known.append(made)
        shapes = given.shape[1:], made.shape[1:]
        parameters = module.variables.get("params", {})
        window, note = _window(module, *shapes)
        layers.append(
            Layer(
                name, _kind(module), source, *shapes,
                arithmetic(module, *shapes, parameters), window, note,
            )
        )  # fmt: skip
        keep_given = given[0] if window is not None and source == -2 else None
        values.append((keep_given, made[0].astype(jnp.float32)))
        return made

    with watching(visit):
        logits, _ = forward(model, variables, pixels, mean=mean, std=std, train=False)
    return logits[0], image[0], values


def _kind(module: nn.Module) -> str:
    if isinstance(module, Activation):
        return module.function
    if isinstance(module, Pool):
        return f"{module.kind} pool"
    return type(module).__name__


def _window(
    module: nn.Module, given: tuple[int, ...], made: tuple[int, ...]
) -> tuple[dict[str, Any] | None, str]:
    """What the page needs to compute one value of a convolution, pooling or activation again (None
    where it does not know how), and a word on why it does not."""
    if len(given) != 3 or len(made) != 3:
        return None, ""
    if isinstance(module, Activation):
        return {"what": "function", "groups": made[-1]}, ""
    window = window_of(module, given[:2])
    if window is None:
        return None, ""
    if window.transposed:
        return None, "The sums of a transposed convolution are not shown."
    pools = isinstance(module, Pool)
    if pools and any(map(any, window.pads)):
        return None, ""
    return {
        "what": module.kind if pools else "conv",
        "groups": made[-1] if pools else module.feature_group_count,
        "size": list(window.kernel),
        "stride": list(window.stride),
        "dilation": list(window.dilation),
        "pads": [side[0] for side in window.pads],
    }, ""


def _describe(
    trained: Trained, layers: Sequence[Layer], number: int, plan: Plan, image_kept: bool
) -> dict[str, Any]:
    layer = layers[number]
    summed = budget.is_summed(layers, plan, number, image_kept=image_kept)
    hidden = len(layer.made) != 3 or number in plan.hidden
    note = layer.note
    if layer.window is not None and not summed:
        note = "There is no room on this page for what its sums read."
    about = {
        "name": layer.name,
        "kind": layer.kind,
        "source": layer.source,
        "input": list(layer.given),
        "shape": list(layer.made),
        "arithmetic": layer.arithmetic,
        "shown": 0 if hidden else min(plan.shown, layer.made[-1]),
        "window": layer.window if summed else None,
        "reads": budget.reads(layer, plan.shown) if summed else 0,
        "note": note,
    }
    if summed and layer.window["what"] == "conv":
        kernel = kernel_of(trained.variables, layer.name, ndim=4)
        found = trained.variables["params"]
        for part in layer.name.split("#")[0].split("/"):
            found = found[part]
        bias = np.asarray(found["bias"], np.float32) if "bias" in found else None
        about["kernel"] = packed(kernel[..., : about["shown"]])
        about["bias"] = None if bias is None else bias[: about["shown"]].tolist()
    return about


def _head(
    trained: Trained, subject: Subject, output: Any, layers: Sequence[Layer]
) -> dict[str, Any]:
    """All that the page knows of a subject but what the layers make of it."""
    logits, image, values = output
    shares = np.exp(logits - logits.max())
    shares = (shares / shares.sum()).tolist()
    predicted = int(np.argmax(logits))
    classes = [predicted]
    if subject.label not in (None, predicted):
        classes.append(subject.label)
    outputs = [
        LayerOutput(made, layer.name, "Pool" if "pool" in layer.kind else layer.kind,
            layer.given, layer.arithmetic)
        for layer, (_, made) in zip(layers, values, strict=True)
    ]  # fmt: skip
    where = default_layer(trained, outputs)
    heats = look(trained, subject.image, classes, where)[0]
    if heats is not None:
        step = -(-max(heats.shape[1:]) // _MOST_HEAT)
        heats = heats[:, ::step, ::step]
    pixels = packed(image)
    return {
        "name": subject.name,
        "true": subject.label,
        "predicted": predicted,
        "probabilities": shares,
        "picture": png_url(subject.image),
        "input": pixels if len(pixels) <= MOST_CHARACTERS // _INPUT_PART else None,
        "grad_cam": {
            "layer": where,
            "classes": classes,
            "size": None if heats is None else list(heats.shape[1:]),
            "heats": None if heats is None else [packed(_to_one(heat)) for heat in heats],
        },
    }


def _values(
    values: Sequence[Any], layers: Sequence[Layer], plan: Plan, *, followed: bool
) -> list[dict[str, Any]]:
    """What the page keeps of the layers' values on one image."""
    found = []
    for number, (given, made) in enumerate(values):
        made = made[..., : budget.kept(layers, plan, number, followed=followed)]
        given_kept = None
        if followed and budget.keeps_given(layers, plan, number):
            given_kept = packed(given[..., : budget.reads(layers[number], plan.shown)])
        found.append({"values": packed(made), "channels": made.shape[-1], "given": given_kept})
    return found


def _to_one(heat: np.ndarray) -> np.ndarray:
    return heat / max(float(heat.max()), 1e-12)


def packed(values: np.ndarray) -> str:
    """Values as base64 of little-endian float16, row-major; what is beyond its range is cut."""
    limit = float(np.finfo(np.float16).max)
    return base64.b64encode(np.clip(values, -limit, limit).astype("<f2").tobytes()).decode()
