"""How well trained networks recognise images that are moved or turned by a little.

A convolution gives the same response wherever a pattern stands, and pooling forgets small
displacements; a dense layer has separate weights for every pixel.
"""

import functools
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import ndimage

from cifar_cnn import data, experiment, files
from cifar_cnn import mesh as mesh_lib
from cifar_cnn.checks import MachineError, UsageError, check_choice, check_int, printable
from cifar_cnn.report import tolerance

# What lies beyond the border, and what `jnp.pad` and `map_coordinates` call it.
FILLS = {
    "zero": ("constant", "constant"),
    "edge": ("edge", "nearest"),
    "reflect": ("reflect", "mirror"),
}
ANGLE_STEP = 5  # Degrees.
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
_PLAIN_SECONDS = 10.0  # Between lines that tell how far it is.

Offset = tuple[int, int]  # Pixels to the right and down.


def shift_images(images: jax.Array, offset: jax.Array, *, reach: int, fill: str) -> jax.Array:
    """Moves the content of all images by the same whole number of pixels.

    Args:
      images: [B, H, W, C].
      offset: int32 [2], pixels to the right and down, each from -reach to reach; may be traced.
      reach: the farthest shift of the compiled program.
      fill: what appears at the border: 'zero', 'edge' (the edge pixels repeated) or 'reflect'
        (the image mirrored about its edge pixels).

    Returns:
      [B, H, W, C] of the same dtype.
    """
    widths = ((0, 0), (reach, reach), (reach, reach), (0, 0))
    padded = jnp.pad(images, widths, mode=FILLS[fill][0])
    return lax.dynamic_slice(padded, (0, reach - offset[1], reach - offset[0], 0), images.shape)


def rotate_images(images: jax.Array, degrees: jax.Array, *, fill: str) -> jax.Array:
    """Turns all images counter-clockwise about their centre, interpolating bilinearly.

    Args:
      images: uint8 [B, H, W, C].
      degrees: float32 []; may be traced.
      fill: as in `shift_images`.

    Returns:
      uint8 [B, H, W, C], rounded.
    """
    height, width = images.shape[1:3]
    middle = ((height - 1) / 2, (width - 1) / 2)
    y, x = jnp.meshgrid(
        jnp.arange(height) - middle[0], jnp.arange(width) - middle[1], indexing="ij"
    )
    cosine, sine = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    # Where each pixel of the turned image comes from.
    rows, columns = middle[0] + cosine * y + sine * x, middle[1] - sine * y + cosine * x

    def rotate(plane: jax.Array) -> jax.Array:
        return ndimage.map_coordinates(plane, [rows, columns], order=1, mode=FILLS[fill][1])

    turned = jax.vmap(jax.vmap(rotate, -1, -1))(images.astype(jnp.float32))
    return jnp.rint(turned).astype(images.dtype)


def offsets_to_measure(reach: int, step: int) -> list[Offset]:
    """Shifts along both axes at every pixel, and in the plane at every `step`-th, nearest first."""
    ticks = grid_ticks(reach, step)
    offsets = {(x, y) for x in ticks for y in ticks}
    offsets |= {(d * x, d * y) for d in range(reach + 1) for x, y in _DIRECTIONS}
    return sorted(offsets, key=lambda offset: (max(map(abs, offset)), offset))


def grid_ticks(reach: int, step: int) -> list[int]:
    """The positions of the heat map on one axis: multiples of `step` from -reach to reach."""
    far = reach // step * step
    return list(range(-far, far + 1, step))


def mean_by_distance(accuracies: dict[Offset, float], reach: int) -> list[float]:
    """Mean accuracy over the shifts to the right, left, down and up, for 0 to `reach` pixels."""
    return [
        float(np.mean([accuracies[d * x, d * y] for x, y in _DIRECTIONS])) for d in range(reach + 1)
    ]


def farthest_kept(distances: Sequence[float], accuracies: Sequence[float], share: float) -> float:
    """The distance at which the accuracy first falls to `share` of the first one; the last one if
    it does not. Between two measurements it is taken as falling linearly.

    Args:
      distances: ascending, from 0.
      accuracies: as many.
    """
    enough = share * accuracies[0]
    for place in range(1, len(distances)):
        before, after = accuracies[place - 1], accuracies[place]
        if after < enough:
            part = (before - enough) / (before - after)
            return distances[place - 1] + part * (distances[place] - distances[place - 1])
    return distances[-1]


def natural_fill(trained: experiment.Trained, say: Callable[[str], None] = print) -> str:
    """'zero' where the training images' border pixels are black in the median, else 'edge'."""
    config = trained.config
    builder = experiment.make_builder(config, say)
    images = data.load_arrays(builder, "train", experiment.cache_dir(config), say).images
    images = images[:: max(1, len(images) // 5000)]
    border = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    return "edge" if np.median(np.concatenate([side.ravel() for side in border])) > 0 else "zero"


def measure(
    trained: experiment.Trained,
    examples: data.Examples,
    *,
    reach: int,
    step: int,
    max_angle: int,
    fill: str,
    say: Callable[[str], None] = print,
) -> tuple[dict[Offset, float], dict[int, float]]:
    """Accuracy of a network on all examples under every shift and rotation, each example once.

    Args:
      trained: the network.
      examples: n examples, on its devices.
      reach, step: see `offsets_to_measure`.
      max_angle: degrees; turned by every ANGLE_STEP up to it, both ways.
      fill: see `shift_images`.
      say: told how far it is.

    Raises:
      MachineError: a loss is not finite.

    Returns:
      Accuracies by offset (x, y), and by angle in degrees.
    """
    programs = {
        "shift": _program(trained, functools.partial(shift_images, reach=reach, fill=fill)),
        "rotation": _program(trained, functools.partial(rotate_images, fill=fill)),
    }
    offsets = offsets_to_measure(reach, step)
    far = max_angle // ANGLE_STEP * ANGLE_STEP
    angles = range(-far, far + 1, ANGLE_STEP)
    jobs = [("shift", offset, np.asarray(offset, np.int32)) for offset in offsets]
    jobs += [("rotation", angle, np.float32(angle)) for angle in angles]
    results: dict[str, dict[Any, float]] = {"shift": {}, "rotation": {}}
    start = last = time.monotonic()
    for done, (kind, key, argument) in enumerate(jobs, start=1):
        metrics = programs[kind](trained.variables, examples, argument)
        loss = float(metrics.compute()["loss"])
        if not np.isfinite(loss):
            raise MachineError(
                f"the network in {trained.workdir} has a loss of {loss} ({kind} {key}): has its "
                "training diverged? Choose an earlier --checkpoint"
            )
        results[kind][key] = int(np.trace(metrics.confusion)) / int(metrics.count)
        now = time.monotonic()
        if now - last >= _PLAIN_SECONDS and done < len(jobs):
            left = (now - start) / done * (len(jobs) - done)
            say(f"  {done} of {len(jobs)} passes, about {left:.0f} s left")
            last = now
    last = time.monotonic()
    say(f"  {len(jobs)} passes over {len(examples.indices):,} images in {last - start:.0f} s")
    return results["shift"], results["rotation"]


def _program(trained: experiment.Trained, move: Callable[[jax.Array, jax.Array], jax.Array]):
    """One compiled pass over a split, with what `move` makes of the images; see
    `steps.eval_batches`."""

    def evaluate(variables, examples, argument):
        views = [(1.0, lambda images: move(images, argument))]
        metrics, _ = trained.run.evaluate.over(views, variables, examples)
        return metrics

    return jax.jit(evaluate, out_shardings=mesh_lib.replicated(trained.run.mesh))


def shift_test(
    workdirs: Sequence[pathlib.Path],
    *,
    split: str | None,
    which: str,
    reach: int,
    step: int,
    max_angle: int,
    fill: str,
    out: pathlib.Path | None,
    settings: dict[str, Any],
) -> list[dict[str, Any]]:
    """Measures each network on moved and turned images of its own data and draws all of them.

    Prints a table and writes tolerance.json, tolerance.png and, for each network,
    shifts-NAME.png to `out`.

    Args:
      workdirs: of the runs.
      split: 'test', 'validation' or 'train'; None for `experiment.choose_split`.
      which: 'best', 'latest' or a step.
      reach, step, max_angle: see `measure`.
      fill: a key of FILLS, or 'auto' for `natural_fill` of each network's data.
      out: a folder; None for WORKDIR/shift, or shift beside the first of several runs.
      settings: keys of the section `run` that differ on this machine, such as data_dir.

    Returns:
      What tolerance.json holds: an entry a network.

    Raises:
      UsageError: not a run directory, one named twice, a reach beyond the images.
      MachineError: a damaged checkpoint, no device, a disk that fails.
    """
    if split is not None:
        check_choice("--split", split, ("test", "train", "validation"))
    check_choice("--fill", fill, ("auto", *FILLS))
    check_int("--reach", reach, minimum=1)
    check_int("--step", step, minimum=1, maximum=reach)
    check_int("--max_angle", max_angle, minimum=ANGLE_STEP, maximum=180)
    labels = _labels(workdirs)
    networks = [experiment.open_trained(path, which, settings=settings) for path in workdirs]
    for trained in networks:
        smaller = min(trained.facts.image_shape[:2])
        if reach >= smaller:
            raise UsageError(
                f"--reach is {reach}, expected below the {smaller} pixels of the images of "
                f"{trained.facts.name} ({trained.workdir})"
            )
    split = experiment.choose_split(split, [trained.config for trained in networks])
    if out is None:
        beside = workdirs[0].absolute().parent / "shift"
        out = workdirs[0] / "shift" if len(workdirs) == 1 else beside
    out.mkdir(parents=True, exist_ok=True)  # Before minutes of computing, not after.
    results = []
    for label, trained in zip(labels, networks, strict=True):
        used = natural_fill(trained) if fill == "auto" else fill
        examples = trained.examples(split)
        print(f"{label}: {trained.facts.name} {split}, border filled with {used!r}")
        shifts, angles = measure(
            trained, examples, reach=reach, step=step, max_angle=max_angle, fill=used
        )
        distances = list(range(reach + 1))
        by_distance = mean_by_distance(shifts, reach)
        turns = [angle for angle in angles if angle >= 0]
        by_turn = [(angles[angle] + angles[-angle]) / 2 for angle in turns]
        result = tolerance.Tolerance(
            label=label,
            data=f"{trained.facts.name} {split}",
            num_classes=len(trained.facts.class_names),
            examples=len(examples.indices),
            step=trained.step,
            fill=used,
            shifts=shifts,
            by_distance=by_distance,
            by_angle=angles,
            ticks=grid_ticks(reach, step),
            kept_shift=farthest_kept(distances, by_distance, tolerance.KEPT),
            kept_angle=farthest_kept(turns, by_turn, tolerance.KEPT),
        )
        results.append(result)
        name = label.replace("/", "-")
        tolerance.plot_shifts(result, _samples(examples, reach, used), out / f"shifts-{name}.png")
    report = [
        {"workdir": str(path), **result.to_json()}
        for path, result in zip(workdirs, results, strict=True)
    ]
    files.write_text(out / "tolerance.json", json.dumps(report, indent=2) + "\n")
    tolerance.plot_curves(results, out / "tolerance.png")
    print(tolerance.format_tolerances(results))
    print(f"written to {out}")
    return report


def _labels(workdirs: Sequence[pathlib.Path]) -> list[str]:
    """The runs' names, with the folder in front where two names are equal."""
    paths = [path.absolute() for path in workdirs]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"--workdir={path} is given twice, expected each run once")
    names = [printable(path.name) for path in paths]
    if len(set(names)) == len(names):
        return names
    return [printable(f"{path.parent.name}/{path.name}") for path in paths]


def _samples(examples: data.Examples, reach: int, fill: str) -> list[tuple[str, np.ndarray]]:
    """The first image as it is, moved and turned, with captions."""
    image = examples.images[examples.indices[:1]]
    half = max(1, reach // 2)
    moved = shift_images(image, jnp.array([half, half]), reach=reach, fill=fill)
    turned = rotate_images(image, jnp.float32(3 * ANGLE_STEP), fill=fill)
    captions = ("as it is", f"{half} right, {half} down", f"turned by {3 * ANGLE_STEP}°")
    pictures = (image, moved, turned)
    return [(text, np.asarray(x)[0]) for text, x in zip(captions, pictures, strict=True)]
