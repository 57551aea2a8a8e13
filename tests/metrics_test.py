"""Metrics against float64 numpy: exact sums, masks, merges, sharded batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cifar_cnn.metrics import Metrics

# Compiled, as it is used.
from_batch = jax.jit(Metrics.from_batch)


def random_batch(batch, classes, seed=0):
    rng = np.random.default_rng(seed)
    losses = rng.exponential(size=batch).astype(np.float32)
    logits = rng.normal(size=(batch, classes)).astype(np.float32)
    return losses, logits, rng.integers(0, classes, batch), rng.random(batch) < 0.8


def numpy_confusion(logits, labels, mask):
    matrix = np.zeros((logits.shape[1],) * 2, int)
    for label, predicted, counted in zip(labels, logits.argmax(axis=1), mask, strict=True):
        matrix[label, predicted] += counted
    return matrix


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_from_batch_matches_numpy(classes):
    losses, logits, labels, mask = random_batch(1000, classes)
    metrics = from_batch(losses, logits, labels, mask)
    expected = numpy_confusion(logits, labels, mask)
    np.testing.assert_array_equal(metrics.confusion, expected)
    got = metrics.compute()
    assert got["count"] == mask.sum()
    np.testing.assert_allclose(got["loss"], losses[mask].astype(np.float64).mean(), rtol=2e-7)
    np.testing.assert_allclose(got["accuracy"], np.trace(expected) / mask.sum(), rtol=1e-6)
    assert {name: value.dtype for name, value in got.items()} == {
        "loss": jnp.float32,
        "accuracy": jnp.float32,
        "count": jnp.int32,
    }
    assert metrics.confusion.dtype == jnp.int32


def test_padding_never_counts_whatever_it_holds():
    losses, logits, labels, _ = random_batch(6, 3)
    mask = np.array([True, True, True, True, False, False])
    expected = from_batch(losses, logits, labels, mask)
    losses[4:], logits[4:], labels[4:] = [np.nan, np.inf], np.nan, [-1, 7]
    got = from_batch(losses, logits, labels, mask)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, got, expected))


def test_merge_of_two_halves_is_the_whole():
    losses, logits, labels, mask = random_batch(300, 10)
    whole = from_batch(losses, logits, labels, mask)
    halves = [
        from_batch(losses[part], logits[part], labels[part], mask[part])
        for part in (slice(0, 120), slice(120, 300))
    ]
    got = halves[0].merge(halves[1])
    np.testing.assert_array_equal(got.confusion, whole.confusion)
    assert got.count == whole.count
    np.testing.assert_allclose(got.compute()["loss"], whole.compute()["loss"], rtol=2e-7)


def test_merge_with_empty_changes_nothing():
    metrics = from_batch(*random_batch(50, 4))
    for merged in (metrics.merge(Metrics.empty(4)), Metrics.empty(4).merge(metrics)):
        assert jax.tree.all(jax.tree.map(jnp.array_equal, merged, metrics))


def test_no_examples_have_no_mean():
    got = Metrics.empty(3).compute()
    assert np.isnan(got["loss"])
    assert np.isnan(got["accuracy"])
    assert got["count"] == 0


@jax.jit
def metrics_of_batches(losses):
    batch = losses.shape[1]

    def body(metrics, losses):
        mask = jnp.ones(batch, bool)
        new = Metrics.from_batch(losses, jnp.zeros((batch, 2)), jnp.zeros(batch, int), mask)
        return metrics.merge(new), None

    return lax.scan(body, Metrics.empty(2), losses)[0]


@pytest.mark.parametrize("batch", [100, 1000, 10_000])
@pytest.mark.parametrize("kind", ["random", "equal", "one large", "tiny and large"])
def test_loss_of_60000_examples_keeps_its_digits(kind, batch):
    # Equal terms are the worst case of a plain sum: its rounding errors all have one sign.
    losses = {
        "random": np.random.default_rng(0).exponential(size=60_000),
        "equal": np.full(60_000, 0.1),
        "one large": np.r_[1e6, np.full(59_999, 0.01)],
        "tiny and large": np.tile([1e-4, 50.0, 3e-3], 20_000),
    }[kind].astype(np.float32)

    metrics = metrics_of_batches(losses.reshape(-1, batch))
    exact = losses.astype(np.float64).sum()
    pair = float(metrics.loss_sum) + float(metrics.loss_residual)
    bound = (batch + 60_000 / batch) ** 2 * 2.0**-48
    assert abs(pair - exact) <= bound * exact
    np.testing.assert_allclose(metrics.compute()["loss"], exact / 60_000, rtol=bound + 2.0**-23)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_loss_that_is_not_finite_shows(bad):
    losses, logits, labels, mask = random_batch(20, 3)
    losses[3], mask[3] = bad, True
    metrics = from_batch(losses, logits, labels, mask)
    np.testing.assert_equal(float(metrics.compute()["loss"]), bad)
    merged = metrics.merge(from_batch(*random_batch(20, 3))).merge(Metrics.empty(3))
    np.testing.assert_equal(float(merged.compute()["loss"]), bad)


def test_label_out_of_range_is_wrong_and_not_in_the_matrix():
    logits, labels = jnp.array([[0.0, 1.0]] * 4), jnp.array([-1, 1, 2, 0])
    metrics = from_batch(jnp.ones(4), logits, labels, jnp.ones(4, bool))
    assert metrics.confusion.tolist() == [[0, 1], [0, 1]]
    assert metrics.compute()["accuracy"] == 0.25


def test_sharded_batch_gives_the_same_sums():
    batch = random_batch(1000, 10)
    expected = numpy_confusion(*batch[1:])
    for count in (2, 4):
        mesh = Mesh(np.array(jax.devices()[:count]), ("data",))
        on_mesh = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
        metrics = from_batch(*on_mesh)
        np.testing.assert_array_equal(metrics.confusion, expected)
        exact = batch[0][batch[3]].astype(np.float64).mean()
        np.testing.assert_allclose(metrics.compute()["loss"], exact, rtol=2e-7)
