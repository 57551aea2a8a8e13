"""Losses against float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn.checks import UsageError
from cifar_cnn.losses import cross_entropy, masked_mean


def numpy_cross_entropy(logits, labels, smoothing):
    logits = np.asarray(logits, np.float64)
    top = logits.max(axis=1, keepdims=True)
    log_probs = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    classes = logits.shape[1]
    target = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    return -(target * log_probs).sum(axis=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_cross_entropy_matches_numpy(smoothing, scale):
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(64, 10)) * scale).astype(np.float32)
    labels = rng.integers(0, 10, 64)
    got = jax.jit(lambda x, y: cross_entropy(x, y, label_smoothing=smoothing))(logits, labels)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(
        got, numpy_cross_entropy(logits, labels, smoothing), rtol=2e-6, atol=1e-6
    )


def test_cross_entropy_of_bfloat16_is_computed_in_float32():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(8, 10)), jnp.bfloat16)
    labels = jnp.arange(8)
    got = cross_entropy(logits, labels)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, numpy_cross_entropy(logits, np.arange(8), 0.0), rtol=1e-6)


def test_cross_entropy_of_equal_logits_is_log_k():
    got = cross_entropy(jnp.zeros((3, 10)), jnp.array([0, 4, 9]), label_smoothing=0.2)
    np.testing.assert_allclose(got, np.log(10), rtol=1e-6)


def test_cross_entropy_gradient_is_softmax_minus_target():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(5, 4)).astype(np.float32), np.array([0, 1, 2, 3, 0])
    got = jax.grad(lambda x: cross_entropy(x, labels, label_smoothing=0.1).sum())(logits)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got, probs - 0.9 * np.eye(4)[labels] - 0.1 / 4, atol=1e-6)


def test_cross_entropy_with_an_excluded_class_is_finite():
    got = cross_entropy(jnp.array([[0.0, -jnp.inf, 0.0]]), jnp.array([2]))
    np.testing.assert_allclose(got, np.log(2), rtol=1e-6)


def test_label_out_of_range_gives_nan():
    got = cross_entropy(jnp.zeros((4, 3)), jnp.array([-1, 0, 2, 3]))
    assert np.isnan(got).tolist() == [True, False, False, True]


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_bad_smoothing_names_its_key(smoothing):
    with pytest.raises(UsageError, match=r"train\.label_smoothing is .*, expected a finite number"):
        cross_entropy(jnp.zeros((2, 3)), jnp.zeros(2, int), label_smoothing=smoothing)


def test_labels_of_another_batch_size_are_refused():
    with pytest.raises(UsageError, match=r"labels has shape \(3,\), expected \(2\)"):
        cross_entropy(jnp.zeros((2, 3)), jnp.zeros(3, int))


def test_masked_mean_is_over_the_rows_that_count():
    values = jnp.array([1.0, 2.0, 4.0, 8.0])
    assert masked_mean(values, jnp.array([True, False, True, False])) == 2.5
    assert masked_mean(values, None) == 3.75
    assert masked_mean(values, jnp.zeros(4, bool)) == 0


def test_masked_rows_never_contribute_to_value_or_gradient():
    mask = jnp.array([True, True, False, False])
    values = jnp.array([1.0, 2.0, jnp.nan, jnp.inf])
    value, gradient = jax.value_and_grad(masked_mean)(values, mask)
    assert value == 1.5
    assert gradient.tolist() == [0.5, 0.5, 0, 0]


def test_rows_that_count_keep_their_nan():
    assert np.isnan(masked_mean(jnp.array([1.0, jnp.nan]), jnp.array([True, True])))
