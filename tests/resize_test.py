"""Smaller images against their definition in numpy."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cifar_cnn.augment import shrink
from cifar_cnn.checks import UsageError


def random_images(height, width, channels, dtype=np.uint8):
    values = np.random.default_rng(0).integers(0, 256, (8, height, width, channels))
    return values.astype(dtype)


def triangle(extent, size):
    """float64 [size, extent]: weights of a triangle as wide as two of the new pixels."""
    ratio = extent / size
    centres = (np.arange(size) + 0.5) * ratio - 0.5
    distance = np.abs(np.arange(extent)[None, :] - centres[:, None]) / ratio
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("height", "width", "channels", "size"), [(32, 32, 3, 24), (28, 20, 1, 12), (9, 12, 3, 9)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shrink_is_the_antialiased_bilinear_resize(height, width, channels, size, dtype):
    images = random_images(height, width, channels, dtype)
    got = np.asarray(jax.jit(shrink, static_argnums=1)(images, size))
    assert got.shape == (8, size, size, channels)
    assert got.dtype == dtype
    expected = np.einsum(
        "ij,kl,bjlc->bikc", triangle(height, size), triangle(width, size), images.astype(float)
    )
    # float32: sums of up to 8 x 8 numbers up to 255; uint8: half a grey level more.
    atol = 1e-3 if dtype == np.float32 else 0.5 + 1e-3
    np.testing.assert_allclose(got.astype(float), expected, rtol=0, atol=atol)


def test_half_the_size_weighs_four_pixels_of_an_axis():
    images = np.zeros((1, 8, 8, 1), np.float32)
    images[0, :, 3] = 80
    # 1/8, 3/8, 3/8, 1/8 about each new pixel; where one lies outside, the others share its part.
    expected = np.float32([0, 30, 10, 0])
    got = np.asarray(shrink(images, 4))[0, :, :, 0]
    np.testing.assert_allclose(got, np.tile(expected, (4, 1)), rtol=1e-6)


@pytest.mark.parametrize("value", [0, 255])
def test_one_colour_stays(value):
    images = np.full((2, 32, 32, 3), value, np.uint8)
    np.testing.assert_array_equal(np.asarray(shrink(images, 23)), images[:, :23, :23])


def test_sharded_batch_gives_the_same_bytes_without_communication():
    images = random_images(12, 12, 3)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    on_mesh = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    resize = jax.jit(shrink, static_argnums=1)
    compiled = resize.lower(on_mesh, 8).compile()
    np.testing.assert_array_equal(np.asarray(compiled(on_mesh)), np.asarray(resize(images, 8)))
    for word in ("all-", "collective-", "reduce-scatter"):
        assert word not in compiled.as_text()


def test_full_size_is_the_identity_and_more_is_refused():
    images = random_images(8, 8, 3)
    assert shrink(images, 8) is images
    for size in (9, 0, 4.0):
        with pytest.raises(
            UsageError, match=r"train\.image_sizes is .*, expected an integer from 1 to 8"
        ):
            shrink(images, size)
    with pytest.raises(UsageError, match=r"images has shape \(8, 8, 3\)"):
        shrink(images[0], 4)
