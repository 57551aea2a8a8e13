"""Mixup against numpy: partners, padding, dtype, devices, the distribution of the weight."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cifar_cnn.augment import check_mixup_alpha, mixup
from cifar_cnn.checks import UsageError

# One object, so that the tests share what is compiled for it.
MIXUP = jax.jit(functools.partial(mixup, alpha=0.4))


def random_images(dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, (8, 5, 6, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("count", [8, 5, 1])
def test_rows_that_count_are_blended_in_pairs(count, dtype):
    images = random_images(dtype)
    mixed, partner, weight = map(np.asarray, MIXUP(jax.random.key(3), images, np.int32(count)))
    assert (mixed.dtype, partner.dtype, weight.dtype) == (np.float32, np.int32, np.float32)
    assert weight.shape == ()
    assert 0 < weight < 1
    np.testing.assert_array_equal(partner, [*reversed(range(count)), *range(count, 8)])
    exact = images.astype(np.float64)
    expected = weight * exact + (1 - weight) * exact[partner]
    # Three float32 roundings of numbers up to 255, each by at most 2^-24 of them.
    np.testing.assert_allclose(mixed, expected, rtol=0, atol=3 * 255 * 2**-24)
    alone = partner == np.arange(8)
    np.testing.assert_array_equal(mixed[alone], images[alone])


def test_pixels_of_padding_change_nothing_for_the_others():
    images = random_images()
    other = images.copy()
    other[5:] = 7
    first, second = (MIXUP(jax.random.key(0), each, np.int32(5))[0] for each in (images, other))
    np.testing.assert_array_equal(np.asarray(first)[:5], np.asarray(second)[:5])


def test_sharded_batch_gives_the_same_blends():
    images = random_images()
    expected = MIXUP(jax.random.key(0), images, np.int32(7))
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    on_mesh = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    got = MIXUP(jax.random.key(0), on_mesh, np.int32(7))
    for one, many in zip(expected, got, strict=True):
        np.testing.assert_array_equal(np.asarray(many), np.asarray(one))


def test_weight_has_the_moments_of_a_beta_distribution():
    images = np.zeros((2, 1, 1, 1), np.uint8)
    keys = jax.random.split(jax.random.key(0), 4000)
    weights = np.asarray(jax.vmap(lambda key: MIXUP(key, images, 2)[2])(keys))
    # Variance of Beta(a, a): 1 / (4 (2 a + 1)). Four standard errors of the mean; the variance of
    # a quantity in [0, 1] has a standard error below 1 / (4 sqrt(n)).
    variance = 1 / (4 * (2 * 0.4 + 1))
    assert abs(weights.mean() - 0.5) < 4 * np.sqrt(variance / 4000)
    assert abs(weights.var() - variance) < 4 / (4 * np.sqrt(4000))


def test_weight_is_pinned():
    # If this fails, ours or JAX's draws have changed, and runs of older versions no longer repeat.
    weight = MIXUP(jax.random.key(0), random_images(), np.int32(8))[2]
    # The logarithms and powers behind it may differ in their last bits between backends.
    np.testing.assert_allclose(float(weight), 0.8547554, rtol=1e-5)


def test_mistakes_name_their_key():
    check_mixup_alpha(0.0)
    for alpha in (-0.1, float("nan"), "0.2", True):
        with pytest.raises(UsageError, match=r"train\.mixup_alpha is .* number at least 0"):
            check_mixup_alpha(alpha)
    with pytest.raises(UsageError, match=r"train\.mixup_alpha is 0\.0, expected .* above 0"):
        mixup(jax.random.key(0), random_images(), 8, alpha=0.0)
    with pytest.raises(UsageError, match=r"images has shape \(5, 6, 3\)"):
        mixup(jax.random.key(0), random_images()[0], 8, alpha=1.0)
