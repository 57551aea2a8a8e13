"""The airbench network: whitening of patches, Dirac kernels, its head."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn import data, experiment
from cifar_cnn.models.initializers import dirac, whitening_kernel
from tests.conftest import make_config, real_data
from tests.families import initial, noise, small


def test_airbench_begins_with_logits_of_one_size_whatever_their_scale():
    model = small("airbench", widths=(4, 500), logit_scale=1 / 72)
    kernel = initial(model, jnp.zeros((1, 16, 16, 3)), "head", "kernel")
    # The standard deviation of 5,000 draws varies by 1 / sqrt(2 * 5000).
    np.testing.assert_allclose(kernel.std() / 72, 1 / 500, rtol=0.05)


def patches_of(images, size):
    """All size x size patches as rows, in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    return np.moveaxis(windows, 3, -1).reshape(-1, size * size * images.shape[-1]).astype(float)


def check_whitens(images):
    """That the first layer of a network initialised with `images` whitens their patches."""
    model = small("airbench")
    kernel = initial(model, images, "whitening", "kernel")
    half = kernel.shape[-1] // 2
    assert kernel.shape == (2, 2, images.shape[-1], 2 * 4 * images.shape[-1])
    np.testing.assert_array_equal(kernel[..., half:], -kernel[..., :half])
    assert not initial(model, images, "whitening", "bias").any()
    responses = jax.lax.conv_general_dilated(
        images, kernel[..., :half], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    got = np.cov(np.asarray(responses, float).reshape(-1, half).T)
    # Variance l becomes l / (l + epsilon), with the eigenvalues l of the patches' covariance.
    variances = np.linalg.eigvalsh(np.cov(patches_of(np.asarray(images), 2).T))[::-1]
    np.testing.assert_allclose(np.diag(got), variances / (variances + 5e-4), rtol=2e-3)
    # Errors of float32 are 1e-7 of the largest variance, some 1e4 times the smallest.
    np.testing.assert_allclose(got, np.diag(np.diag(got)), atol=2e-3)
    flat = np.asarray(kernel[..., :half]).reshape(-1, half)
    assert (np.take_along_axis(flat, np.abs(flat).argmax(0, keepdims=True), 0) > 0).all()
    return np.diag(got)


def test_whitening_of_correlated_noise():
    images = noise(64, 16, 16, 3)
    check_whitens(images + jnp.roll(images, 1, axis=1) + images.mean(axis=-1, keepdims=True))


@real_data("cifar10")
def test_whitening_of_real_images():
    config = make_config()
    builder = experiment.make_builder({**config, "data": {**config["data"], "name": "cifar10"}})
    images = data.load_arrays(builder, "test", experiment.cache_dir(config)).images[:500]
    mean, std = data.channel_statistics(images, np.arange(500))
    variances = check_whitens(
        (jnp.asarray(images) / 255 - jnp.asarray(mean)[None, None, None])
        / jnp.asarray(std)[None, None, None]
    )
    # Near the identity but for the faintest directions, which epsilon counts as noise.
    assert variances[:6].min() > 0.98
    assert variances[:10].min() > 0.7


@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_of_images_without_contrast_is_finite(channels):
    kernel = jax.jit(whitening_kernel, static_argnums=1)(jnp.zeros((1, 8, 8, channels)), 2)
    assert kernel.shape == (2, 2, channels, 8 * channels)
    assert np.isfinite(kernel).all()
    # Orthogonal all the same, at the length that epsilon allows.
    flat = np.asarray(kernel[..., : 4 * channels]).reshape(4 * channels, -1)
    np.testing.assert_allclose(flat.T @ flat, np.eye(4 * channels) / 5e-4, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize(
    ("channels", "features", "size"), [(3, 5, (3, 3)), (5, 3, (3, 3)), (4, 4, (4, 2))]
)
def test_dirac_kernels_pass_the_input_on(channels, features, size, key):
    init = dirac(nn.initializers.constant(0.5))
    x = noise(2, 6, 7, channels)

    @jax.jit
    def run(x):
        kernel = init(key, (*size, channels, features), jnp.float32)
        return kernel, nn.Conv(features, size, use_bias=False).apply(
            {"params": {"kernel": kernel}}, x
        )

    kernel, y = run(x)
    both = min(channels, features)
    np.testing.assert_allclose(y[..., :both], x[..., :both], rtol=1e-6)
    np.testing.assert_array_equal(kernel[..., both:], 0.5)


@pytest.mark.parametrize("identity", [True, False])
def test_airbench_begins_with_dirac_kernels_if_told(identity):
    model = small("airbench", widths=(3,), dirac=identity)
    kernel = initial(model, jnp.zeros((1, 8, 8, 3)), "Block_0", "Conv_1", "kernel")
    assert np.array_equal(kernel[1, 1], np.eye(3)) == identity
    assert (kernel != 0).sum() == (3 if identity else 81)
    # The others are uniform in +-1 / sqrt(inputs of a filter), as in PyTorch.
    bound = 27**-0.5
    assert identity or 0.9 * bound < np.abs(kernel).max() <= bound


def test_whitening_of_channels_that_are_alike_is_finite():
    # Rounding then makes some variances negative, by more than epsilon where pixels are large.
    images = 1e3 * jnp.repeat(noise(16, 8, 8, 1), 3, axis=3)
    kernel = jax.jit(whitening_kernel, static_argnums=1)(images, 2)
    assert np.isfinite(kernel).all()
