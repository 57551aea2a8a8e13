"""The trained network layer by layer, on some images, with all numbers that the page computes with.

Feature maps and kernels go onto the page as float16: small enough, and exact enough to follow how
a value comes about. Where a network has more values than there is room for, layers keep only some
of their maps.
"""

import base64
import dataclasses
import functools
from collections.abc import Mapping, Sequence
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
from cifar_cnn.page.sprite import png_url
from cifar_cnn.report.arithmetic import arithmetic
from cifar_cnn.report.feature_maps import LayerOutput
from cifar_cnn.report.window import window_of
from cifar_cnn.steps import forward, normalise

# Bytes of all feature maps and kernels of a page, before they are written as text.
_MOST_BYTES = 3_600_000
# Maps of a layer that are shown, from the most to the fewest that a small page may have.
_SHOWN = (64, 32, 16, 8)


@dataclasses.dataclass(frozen=True)
class Subject:
    """An image that is followed through the network: uint8 [H, W, C], what it is called, and its
    true class where that is known."""

    image: np.ndarray
    name: str
    label: int | None = None


@dataclasses.dataclass(frozen=True)
class _Layer:
    """What is known of one call of a layer before any value is.

    Attributes:
      source: number of the layer whose output it was given; -1 for the normalised image, -2 for
        something that is computed between layers, such as the sum of two branches.
    """

    name: str
    kind: str
    source: int
    given: tuple[int, ...]
    made: tuple[int, ...]
    arithmetic: str
    window: Mapping[str, Any] | None


def network(trained: Trained, subjects: Sequence[Subject]) -> dict[str, Any]:
    """The layers, their kernels, and what they make of each subject.

    Returns:
      'layers': name, kind, shapes, arithmetic, window and kernel of each; 'subjects': for each the
      image, the probabilities, the values of the layers, and Grad-CAM.
    """
    layers: list[_Layer] = []
    program = jax.jit(functools.partial(_run, trained.run.model, layers))
    outputs = [jax.device_get(program(*arguments(trained, subject.image))) for subject in subjects]
    shown, kept = _fit(layers, len(subjects))
    given_on = _read_by_windows(layers)
    described = [
        _describe(trained, number, layer, shown, complete=_is_complete(layers, number, kept))
        for number, layer in enumerate(layers)
    ]
    return {
        "layers": described,
        "subjects": [
            _subject(trained, subject, output, layers, given_on, shown, kept)
            for subject, output in zip(subjects, outputs, strict=True)
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
        window = _window(module, shapes[0])
        layers.append(
            _Layer(
                name, _kind(module), source, *shapes,
                arithmetic(module, *shapes, parameters), window,
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


def _window(module: nn.Module, given: tuple[int, ...]) -> dict[str, Any] | None:
    """What the page needs to compute one value of a convolution or pooling again; None where it
    does not know how."""
    window = window_of(module, given[:2]) if len(given) == 3 else None
    if window is None or window.transposed or getattr(module, "feature_group_count", 1) > 1:
        return None
    if isinstance(module, Pool) and any(map(any, window.pads)):
        return None
    return {
        "what": module.kind if isinstance(module, Pool) else "conv",
        "size": list(window.kernel),
        "stride": list(window.stride),
        "dilation": list(window.dilation),
        "pads": [side[0] for side in window.pads],
    }


def _read_by_windows(layers: Sequence[_Layer]) -> set[int]:
    """Numbers of the layers whose maps a convolution reads, all of which its sums need."""
    return {
        layer.source
        for layer in layers
        if layer.window is not None and layer.window["what"] == "conv"
    }


def _fit(layers: Sequence[_Layer], subjects: int) -> tuple[int, bool]:
    """How many maps are shown of a layer, and whether there is room for all that are summed."""
    for kept in (True, False):
        for shown in _SHOWN:
            if _bytes(layers, subjects, shown, kept) <= _MOST_BYTES:
                return shown, kept
    return _SHOWN[-1], False


def _bytes(layers: Sequence[_Layer], subjects: int, shown: int, kept: bool) -> int:
    read = _read_by_windows(layers) if kept else set()
    values = kernels = 0
    for number, layer in enumerate(layers):
        channels = layer.made[-1]
        used = channels if number in read or len(layer.made) == 1 else min(channels, shown)
        values += int(np.prod(layer.made[:-1])) * used
        if layer.window is not None and layer.window["what"] == "conv" and kept:
            kernels += int(np.prod(layer.window["size"])) * layer.given[-1] * min(channels, shown)
            if layer.source == -2:
                values += int(np.prod(layer.given))
    return 2 * (subjects * values + kernels)


def _is_complete(layers: Sequence[_Layer], number: int, kept: bool) -> bool:
    """Whether the page can compute the layer's values again."""
    layer = layers[number]
    return layer.window is not None and (
        kept or layer.window["what"] != "conv" or layer.source == -1
    )


def _describe(
    trained: Trained, number: int, layer: _Layer, shown: int, *, complete: bool
) -> dict[str, Any]:
    about = {
        "name": layer.name,
        "kind": layer.kind,
        "source": layer.source,
        "input": list(layer.given),
        "shape": list(layer.made),
        "arithmetic": layer.arithmetic,
        "shown": min(shown, layer.made[-1]) if len(layer.made) == 3 else 0,
        "window": layer.window if complete else None,
    }
    if complete and layer.window["what"] == "conv":
        kernel = kernel_of(trained.variables, layer.name, ndim=4)
        found = trained.variables["params"]
        for part in layer.name.split("#")[0].split("/"):
            found = found[part]
        bias = np.asarray(found["bias"], np.float32) if "bias" in found else None
        about["kernel"] = packed(kernel[..., : about["shown"]])
        about["bias"] = None if bias is None else bias[: about["shown"]].tolist()
    return about


def _subject(
    trained: Trained,
    subject: Subject,
    output: Any,
    layers: Sequence[_Layer],
    read: set[int],
    shown: int,
    kept: bool,
) -> dict[str, Any]:
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
    packed_layers = []
    for number, (given, made) in enumerate(values):
        if made.ndim == 3 and not (kept and number in read):
            made = made[..., :shown]
        packed_layers.append(
            {
                "values": packed(made),
                "channels": made.shape[-1],
                "given": packed(given) if given is not None and kept else None,
            }
        )
    return {
        "name": subject.name,
        "true": subject.label,
        "predicted": predicted,
        "probabilities": shares,
        "picture": png_url(subject.image),
        "input": packed(image),
        "layers": packed_layers,
        "grad_cam": {
            "layer": where,
            "classes": classes,
            "heats": None if heats is None else [packed(_to_one(heat)) for heat in heats],
        },
    }


def _to_one(heat: np.ndarray) -> np.ndarray:
    return heat / max(float(heat.max()), 1e-12)


def packed(values: np.ndarray) -> str:
    """Values as base64 of little-endian float16, row-major; what is beyond its range is cut."""
    limit = float(np.finfo(np.float16).max)
    return base64.b64encode(np.clip(values, -limit, limit).astype("<f2").tobytes()).decode()
