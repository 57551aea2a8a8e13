"""Moved and turned images against SciPy, and the measured accuracies against a plain evaluation."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cifar_cnn import experiment, shift, steps
from cifar_cnn.checks import UsageError
from tests import commands

# SciPy's names of the fills; its 'reflect' repeats the edge pixel.
SHIFT_MODES = {"zero": "constant", "edge": "nearest", "reflect": "mirror"}
ROTATION_MODES = {"zero": "grid-constant", "edge": "nearest", "reflect": "mirror"}


@pytest.fixture(scope="module")
def images():
    """Two images [11, 8, 3] of noise, the second with a single bright pixel."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 11, 8, 3), np.uint8)
    noise[1] = 0
    noise[1, 2, 3] = 255
    return noise


@pytest.mark.parametrize("fill", shift.FILLS)
def test_shifts_equal_scipys(images, fill):
    for right, down in ((0, 0), (3, 0), (0, -2), (-5, 4)):
        got = shift.shift_images(images, np.array([right, down]), reach=5, fill=fill)
        want = ndimage.shift(images, (0, down, right, 0), order=0, mode=SHIFT_MODES[fill])
        np.testing.assert_array_equal(got, want)
    moved = shift.shift_images(images, np.array([2, 1]), reach=5, fill="zero")
    assert (moved[1, 3, 5] == 255).all()


@pytest.mark.parametrize("fill", shift.FILLS)
def test_rotations_equal_scipys(images, fill):
    for degrees in (-30, 10, 45, 90):
        got = shift.rotate_images(images, np.float32(degrees), fill=fill)
        assert got.dtype == np.uint8
        want = ndimage.rotate(
            images.astype(float), degrees, axes=(2, 1), reshape=False, order=1,
            mode=ROTATION_MODES[fill],
        )  # fmt: skip
        # Rounded to whole grey levels from a float32 sum.
        assert np.abs(np.asarray(got) - want).max() < 0.502
    still = shift.rotate_images(images, np.float32(0), fill=fill)
    np.testing.assert_array_equal(still, images)


def test_the_shifts_lie_on_a_grid_and_on_both_axes():
    offsets = shift.offsets_to_measure(5, 2)
    assert offsets[0] == (0, 0)
    assert len(offsets) == len(set(offsets))
    grid = {(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)}
    axes = {(x, 0) for x in range(-5, 6)} | {(0, y) for y in range(-5, 6)}
    assert set(offsets) == grid | axes
    assert len(shift.offsets_to_measure(8, 1)) == 17**2


def test_tolerance_ends_where_the_accuracy_first_falls_too_low():
    # 0.72 lies halfway between 0.76 and 0.68; the rise after it counts no more.
    assert shift.farthest_kept([0, 1, 2, 3], [0.8, 0.76, 0.68, 0.8], 0.9) == pytest.approx(1.5)
    assert shift.farthest_kept([0, 5, 10], [0.8, 0.73, 0.9], 0.9) == 10
    assert shift.farthest_kept([0, 5], [0.8, 0.0], 0.9) == pytest.approx(0.5)
    assert shift.farthest_kept([0, 1], [0.0, 0.1], 0.9) == 1


def run(workdirs, out, **changes):
    settings = {
        "split": "test", "which": "best", "reach": 3, "step": 3, "max_angle": 10, "fill": "auto",
        "settings": {},
    }  # fmt: skip
    return shift.shift_test(workdirs, out=out, **{**settings, **changes})


def test_accuracies_are_those_of_an_evaluation_of_moved_images(trained, tmp_path):
    (entry,) = run([trained], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "tolerance.json").read_text()) == [entry]
    opened = experiment.open_trained(trained)
    examples = opened.examples("test")
    pixels, labels = np.asarray(examples.images), np.asarray(examples.labels)
    metrics, _ = opened.run.evaluate(opened.variables, examples)  # As scripts/evaluate.py does.
    assert entry["accuracy"] == int(np.trace(metrics.confusion)) / 1000
    assert entry["examples"] == 1000

    border = np.concatenate([pixels[:, 0], pixels[:, -1]])
    mode = "constant" if np.median(border) == 0 else "edge"
    assert entry["fill"] == ("zero" if mode == "constant" else "edge")
    forward = jax.jit(
        lambda variables, images: steps.forward(
            opened.run.model, variables, images, train=False,
            mean=jnp.asarray(opened.facts.mean), std=jnp.asarray(opened.facts.std),
        )[0]
    )  # fmt: skip
    measured = {(x["right"], x["down"]): x["accuracy"] for x in entry["shifts"]}
    for right, down in ((2, 0), (-3, 3)):
        padded = np.pad(pixels, ((0, 0), (3, 3), (3, 3), (0, 0)), mode=mode)
        height, width = pixels.shape[1:3]
        moved = padded[:, 3 - down :, 3 - right :][:, :height, :width]
        predicted = forward(opened.variables, moved).argmax(-1)
        accuracy = np.mean(np.asarray(predicted) == labels)
        # One image whose two best classes are equal but for the last bit.
        assert measured[right, down] == pytest.approx(accuracy, abs=0.0011)
    ring = [measured[2 * x, 2 * y] for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    assert entry["by_distance"][2] == pytest.approx(np.mean(ring))
    still = {x["degrees"]: x["accuracy"] for x in entry["rotations"]}
    assert sorted(still) == [-10, -5, 0, 5, 10]
    assert still[0] == entry["accuracy"]


def test_the_script_draws_several_runs_and_prints_a_table(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "other" / "run")
    out = commands.run(
        "scripts/shift_test.py", f"--workdir={trained}", f"--workdir={tmp_path / 'other' / 'run'}",
        "--reach=1", "--step=1", "--max_angle=5", "--fill=reflect", f"--out={tmp_path / 'out'}",
    )  # fmt: skip
    names = [f"{trained.parent.name}/run", "other/run"]
    assert [line.split()[0] for line in out.splitlines() if line.startswith(tuple(names))][
        -2:
    ] == names
    first, second = json.loads((tmp_path / "out" / "tolerance.json").read_text())
    assert first["shifts"] == second["shifts"]
    assert len(first["shifts"]) == 9
    assert f"{100 * first['by_distance'][1]:.1f}" in out.splitlines()[-4]
    pictures = {path.name: path for path in (tmp_path / "out").glob("*.png")}
    assert set(pictures) == {
        "tolerance.png", *(f"shifts-{name.replace('/', '-')}.png" for name in names)
    }  # fmt: skip
    for path in pictures.values():
        with Image.open(path) as page:
            assert min(page.size) > 500


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reach": 0}, "--reach is 0"),
        ({"reach": 32}, "--reach is 32, expected below the 32 pixels"),
        ({"step": 4}, "--step is 4, expected an integer from 1 to 3"),
        ({"max_angle": 4}, "--max_angle is 4"),
        ({"fill": "black"}, "--fill is 'black'"),
        ({"split": "dev"}, "--split is 'dev'"),
    ],
)
def test_nonsense_is_refused(trained, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        run([trained], tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_a_run_is_measured_once(trained, tmp_path):
    with pytest.raises(UsageError, match="is given twice"):
        run([trained, trained], tmp_path / "out")
    with pytest.raises(UsageError, match="is not a run directory"):
        run([trained, tmp_path], tmp_path / "out")
