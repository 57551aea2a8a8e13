"""Augmentations against numpy, and their promises: draws per row, no communication."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cifar_cnn.augment import AUGMENTS, Visit, crop, cutout, make_augment, make_views
from cifar_cnn.checks import UsageError
from configs import default
from tests.conftest import misspelt

# What stands in the table is tested as the default config has it, or it is told below.
SECTIONS = {
    name: section
    for name, section in default.get_config().augment.to_dict().items()
    if name in AUGMENTS
}
ALL = tuple(AUGMENTS)
NUMPY_MODES = {"reflect": "reflect", "zero": "constant", "edge": "edge"}


def random_images(batch, height=32, width=32, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3))
    return values.astype(dtype)


def run(augment, images, seed=0):
    visit = Visit(np.arange(len(images)), np.int32(0), jax.random.key(1))
    return np.asarray(jax.jit(augment)(jax.random.key(seed), images, visit))


# One object, so that the tests share what is compiled for it.
CHAIN = make_augment(tuple(SECTIONS), **SECTIONS)


def test_every_augmentation_has_its_section_in_the_default_config():
    missing = AUGMENTS.keys() - SECTIONS.keys()
    assert not missing, f"configs/default.py has no section augment.{missing} of augment.AUGMENTS"


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [("reflect", np.uint8), ("reflect", np.float32), ("zero", np.uint8), ("edge", np.float32)],
)
def test_crop_cuts_every_window_of_the_padded_image_equally_often(mode, dtype):
    images = random_images(2000, 7, 9, dtype)
    got = run(crop(padding=2, mode=mode), images)
    assert got.shape == images.shape
    assert got.dtype == dtype
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=NUMPY_MODES[mode])
    windows = np.stack(
        [padded[:, i : i + 7, j : j + 9] for i in range(5) for j in range(5)], axis=1
    )
    matches = (got[:, None] == windows).all(axis=(2, 3, 4))
    assert np.all(matches.sum(axis=1) == 1)
    # Chi-squared of 24 degrees of freedom: mean 24, standard deviation 7.
    shares = matches.sum(axis=0)
    assert np.sum((shares - 80) ** 2 / 80) < 24 + 4 * 7


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_cutout_fills_a_square_about_a_pixel_of_the_image(size):
    images = random_images(1500, 6, 8, np.float32) + 1
    got = run(cutout(size=size, fill=(-1.0, -2.0, -3.5)), images)
    assert got.dtype == np.float32
    filled = (got == np.float32([-1, -2, -3.5])).all(axis=-1)
    np.testing.assert_array_equal(got[~filled], images[~filled])
    expected = np.zeros((48, 6, 8), bool)
    for centre in range(48):
        top, left = centre // 8 - size // 2, centre % 8 - size // 2
        expected[centre, max(top, 0) : top + size, max(left, 0) : left + size] = True
    matches = (filled[:, None] == expected).all(axis=(2, 3))
    assert np.all(matches.any(axis=1))
    # Every square occurs; of a size up to 3 all 48 differ.
    assert np.all(matches.any(axis=0))


def test_cutout_fill_of_one_number_is_rounded_for_uint8():
    got = run(cutout(size=6, fill=99.6), np.zeros((20, 6, 6, 3), np.uint8))
    assert got.dtype == np.uint8
    assert set(np.unique(got)) == {0, 100}


def test_chain_applies_in_order_with_a_key_for_each_name():
    images = random_images(16, 12, 12)
    both = run(make_augment(("flip", "crop"), **SECTIONS), images)
    first = run(make_augment(("flip",), **SECTIONS), images)
    np.testing.assert_array_equal(both, run(make_augment(("crop",), **SECTIONS), first))
    # A mirrored reflection-padded window is a window of the mirrored image, so only the draws could
    # make the two orders agree.
    assert np.any(both != run(make_augment(("crop", "flip"), **SECTIONS), images))


def test_repeated_name_draws_anew():
    once = make_augment(("cutout",), **SECTIONS)
    twice = make_augment(("cutout", "cutout"), **SECTIONS)
    images = np.full((200, 32, 32, 3), 255, np.uint8)
    assert np.sum(run(twice, images) != 255) > 1.5 * np.sum(run(once, images) != 255)


def test_draws_are_pinned():
    # If this fails, ours or JAX's draws have changed, and runs of older versions no longer repeat.
    images = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8, 1)
    names = ("flip", "crop", "cutout")
    got = run(make_augment(names, **SECTIONS | {"cutout": {"size": 2, "fill": 0}}), images)
    assert got[:, 3, 3, 0].tolist() == [14, 118, 135, 249]


def test_no_names_is_the_identity():
    images = random_images(3)
    np.testing.assert_array_equal(run(make_augment(()), images), images)


def test_same_key_same_images_other_key_others():
    images = random_images(128)
    np.testing.assert_array_equal(run(CHAIN, images, 1), run(CHAIN, images, 1))
    assert np.any(run(CHAIN, images, 1) != run(CHAIN, images, 2))


@pytest.mark.parametrize("batch", [1, 100, 102])
def test_rows_do_not_depend_on_the_rows_after_them(batch):
    images = random_images(128)
    expected = run(CHAIN, images)[:batch]
    padded = images.copy()
    padded[batch:] = 0
    np.testing.assert_array_equal(run(CHAIN, images[:batch]), expected)
    np.testing.assert_array_equal(run(CHAIN, padded)[:batch], expected)


def test_sharded_batch_gives_the_same_bytes_without_communication():
    images = random_images(128)
    expected = run(CHAIN, images)
    for count in (2, 4):
        mesh = Mesh(np.array(jax.devices()[:count]), ("data",))
        batch = NamedSharding(mesh, PartitionSpec("data"))
        replicated = NamedSharding(mesh, PartitionSpec())
        key = jax.device_put(jax.random.key(0), replicated)
        on_mesh = jax.device_put(images, batch)
        visit = jax.device_put(
            Visit(np.arange(128), np.int32(0), jax.random.key(1)),
            Visit(batch, replicated, replicated),
        )
        arguments = (key, on_mesh, visit)
        shardings = (replicated, batch, Visit(batch, replicated, replicated))
        compiled = jax.jit(CHAIN, in_shardings=shardings).lower(*arguments).compile()
        got = compiled(*arguments)
        assert got.sharding.is_equivalent_to(batch, 4)
        np.testing.assert_array_equal(np.asarray(got), expected)
        assert not re.findall(r"all-\w+|reduce-scatter|collective-\w+", compiled.as_text())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "flip",
            {"probability": 1.5, "alternate": False},
            "augment.flip.probability is 1.5, expected a finite",
        ),
        ("crop", {"padding": 0, "mode": "edge"}, "augment.crop.padding is 0, expected an integer"),
        (
            "crop",
            {"padding": 4, "mode": "no_such_mode"},
            "augment.crop.mode is 'no_such_mode', expec",
        ),
        ("cutout", {"size": 2.5, "fill": 0}, "augment.cutout.size is 2.5, expected an integer"),
        ("cutout", {"size": 2, "fill": float("nan")}, "augment.cutout.fill is nan, expected a fin"),
        ("cutout", {"size": 2, "fill": "mean"}, "augment.cutout.fill is 'mean', expected a finite"),
        ("crop", {"padding": 4}, "augment.crop has padding, expected: mode, padding"),
        ("flip", {"probability": 0.5}, "augment.flip has probability, expected: alternate, prob"),
        ("flip", {}, "augment.flip has no keys, expected: alternate, probability"),
    ],
)
def test_bad_options_name_their_key(name, options, message):
    with pytest.raises(UsageError, match=message):
        make_augment((name,), **{name: options})


def test_unknown_name_and_missing_section():
    known = ", ".join(sorted(AUGMENTS))
    with pytest.raises(
        UsageError, match=rf"augment\.names is 'no_such_one', expected one of: {known}"
    ):
        make_augment(("flip", "no_such_one"), **SECTIONS)
    wrong, meant = misspelt(AUGMENTS)
    with pytest.raises(UsageError, match=rf"augment is '{wrong}', .* \(did you mean '{meant}'"):
        make_augment((), **{wrong: {}})
    with pytest.raises(UsageError, match=r"augment\.crop has no keys, expected: mode, padding"):
        make_augment(("crop",))


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (
            crop(padding=6, mode="reflect"),
            "augment.crop.padding is 6, expected below the images' 6",
        ),
        (cutout(size=7, fill=0), "augment.cutout.size is 7, expected an integer from 1 to 6"),
        (cutout(size=2, fill=(1, 2)), "augment.cutout.fill has 2 numbers, expected 1 or 3"),
        (cutout(size=2, fill=256), "augment.cutout.fill is 256, expected .* at most 255"),
    ],
)
def test_options_that_do_not_suit_the_images(augment, message):
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(augment, jax.random.key(0), jax.ShapeDtypeStruct((2, 6, 8, 3), jnp.uint8))


def test_images_without_a_batch_axis_are_refused():
    with pytest.raises(UsageError, match=r"images has shape \(32, 32, 3\)"):
        CHAIN(jax.random.key(0), jnp.zeros((32, 32, 3), jnp.uint8))


@pytest.mark.parametrize("name", AUGMENTS)
def test_every_augmentation_keeps_shape_and_dtype_and_draws_for_each_row(name):
    images = np.tile(random_images(1, 12, 10), (64, 1, 1, 1))
    augment = make_augment((name,), **SECTIONS)
    got = run(augment, images)
    assert (got.shape, got.dtype) == (images.shape, images.dtype)
    assert len({row.tobytes() for row in got}) > 1
    # Floats in the same units: the same but for the rounding.
    exact = run(augment, images.astype(np.float32))
    assert exact.dtype == np.float32
    np.testing.assert_allclose(exact, got, atol=1)


@pytest.mark.parametrize("name", AUGMENTS)
def test_no_key_of_an_augmentation_takes_a_value_of_another_kind(name):
    for key in SECTIONS[name]:
        for value in (None, object(), "no_such_value", float("nan"), {}):
            options = {**SECTIONS[name], key: value}
            with pytest.raises(UsageError, match=rf"augment\.{name}\.{key} ") as caught:
                make_augment((name,), **{name: options})
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (("flip",), [1 / 2, 1 / 2]),
        (("crop",), [1 / 2, 1 / 4, 1 / 4]),
        (("crop", "cutout", "flip"), [1 / 4, 1 / 4, 1 / 8, 1 / 8, 1 / 8, 1 / 8]),
    ],
)
def test_views_are_those_trained_with(names, weights):
    images = random_images(2, 6, 8)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    # Content moved up and left shows the padded image from its pixel (2, 2) on.
    expected = [images]
    if "crop" in names:
        expected += [padded[:, 2:, 2:], padded[:, :-2, :-2]]
    if "flip" in names:
        expected = [mirrored for view in expected for mirrored in (view, view[:, :, ::-1])]
    views = make_views(names, shift=1)
    assert [weight for weight, _ in views] == weights
    assert sum(weights) == 1
    for (_, view), want in zip(views, expected, strict=True):
        got = jax.jit(view)(images)
        assert got.dtype == jnp.uint8
        np.testing.assert_array_equal(np.asarray(got), want)


def test_views_refuse_what_they_cannot_do():
    with pytest.raises(UsageError, match="--tta needs a network trained with flip or crop"):
        make_views(("cutout",), shift=1)
    with pytest.raises(UsageError, match=r"eval\.tta_shift is 0, expected an integer from 1 up"):
        make_views(("crop",), shift=0)
    with pytest.raises(UsageError, match=r"augment\.names is 'no_such_one', expected one of"):
        make_views(("no_such_one",), shift=1)
    with pytest.raises(UsageError, match=r"eval\.tta_shift is 6, expected below the images' 6 pix"):
        make_views(("crop",), shift=6)[1][1](jnp.zeros((1, 6, 8, 3)))
