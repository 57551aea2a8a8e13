"""Mirror images: shares of the coin, and the two ways in turn whatever the batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cifar_cnn.augment import Visit, flip, make_augment
from cifar_cnn.checks import UsageError
from cifar_cnn.data import take_batch

ALTERNATING = {"probability": 0.5, "alternate": True}
# One object, so that the tests share what is compiled for it.
AUGMENT = jax.jit(make_augment(("flip",), flip=ALTERNATING))
COUNT = 1000


def random_images(batch, dtype):
    values = np.random.default_rng(0).integers(0, 256, (batch, 4, 6, 3))
    return values.astype(dtype)


def ways(rows, epoch, seed=0, step=0, augment=AUGMENT):
    """bool [B]: whether images that can be told from their mirror images were mirrored."""
    images = np.tile(np.uint8([[[0], [1]]]), (len(rows), 1, 1, 1))
    visit = Visit(np.int32(rows), np.int32(epoch), jax.random.key(seed))
    got = np.asarray(augment(jax.random.key(100 + step), images, visit))
    assert np.all(got.sum(axis=(1, 2, 3)) == 1)
    return got[:, 0, 0, 0] == 1


@pytest.fixture(scope="module")
def first():
    """How an epoch 0 of one batch shows each of COUNT rows."""
    return ways(range(COUNT), epoch=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_flip_mirrors_about_the_given_share_of_images(dtype):
    images = random_images(2000, dtype)
    got = np.asarray(jax.jit(flip(probability=0.3, alternate=False))(jax.random.key(0), images))
    assert got.dtype == dtype
    mirrored = (got == images[:, :, ::-1]).all(axis=(1, 2, 3))
    unchanged = (got == images).all(axis=(1, 2, 3))
    assert np.all(mirrored ^ unchanged)
    # Four standard deviations of a binomial share.
    assert abs(mirrored.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)


@pytest.mark.parametrize(("probability", "step"), [(0, 1), (1, -1)])
def test_flip_at_the_ends_of_its_range(probability, step):
    images = random_images(50, np.uint8)
    got = jax.jit(flip(probability=probability, alternate=False))(jax.random.key(0), images)
    np.testing.assert_array_equal(np.asarray(got), images[:, :, ::step])


def test_two_consecutive_epochs_show_every_image_both_ways_once(first):
    # Orders of their own, batches that do not divide the data: the last one is padded.
    shown = np.zeros((COUNT, 2), int)
    for epoch in (6, 7):
        order = jnp.asarray(np.random.default_rng(epoch).permutation(COUNT).astype(np.int32))
        for batch in range(-(-COUNT // 96)):
            rows, mask = (np.asarray(part) for part in take_batch(order, batch, 96, 100))
            mirrored = ways(rows, epoch, step=batch)
            np.add.at(shown, (rows[mask], mirrored[mask].astype(int)), 1)
    assert np.all(shown == 1)


# Batches of 8, for which one program is compiled; the reference ran in one of 1000.
@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.integers(0, COUNT - 1), min_size=8, max_size=8),
    epoch=st.integers(0, 2**31 - 1),
    step=st.integers(0, 2**31 - 1),
)
def test_way_round_depends_on_row_and_epoch_alone(first, rows, epoch, step):
    np.testing.assert_array_equal(ways(rows, epoch, step=step), first[rows] ^ bool(epoch % 2))


def test_coins_of_epoch_0_are_fair_and_differ_from_run_to_run(first):
    # Four standard deviations of a binomial share; two runs agree on half of the rows, and
    # neighbouring rows with each other.
    bound = 4 * np.sqrt(0.25 / COUNT)
    other = ways(range(COUNT), epoch=0, seed=1)
    for shares in (first, other, first == other, first[1:] == first[:-1]):
        assert abs(shares.mean() - 0.5) < bound


def test_alternating_coins_are_pinned(first):
    # If this fails, ours or JAX's draws have changed, and runs of older versions no longer repeat.
    assert np.packbits(first[:32]).tolist() == [130, 214, 114, 30]


def test_sharded_batch_is_mirrored_the_same_way_without_communication(first):
    rows = np.random.default_rng(0).permutation(COUNT)[:64]
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    batch = NamedSharding(mesh, PartitionSpec("data"))
    replicated = NamedSharding(mesh, PartitionSpec())
    shardings = (replicated, batch, Visit(batch, replicated, replicated))
    augment = jax.jit(make_augment(("flip",), flip=ALTERNATING), in_shardings=shardings)
    np.testing.assert_array_equal(ways(rows, epoch=3, augment=augment), ~first[rows])
    images = jax.ShapeDtypeStruct((64, 1, 2, 1), np.uint8)
    key = jax.random.key(0)
    visit = Visit(np.int32(rows), np.int32(3), key)
    text = augment.lower(key, images, visit).compile().as_text()
    for word in ("all-", "collective-", "reduce-scatter"):
        assert word not in text


def test_alternate_takes_even_chances_and_needs_a_visit():
    with pytest.raises(UsageError, match=r"flip\.probability is 0\.3, expected 0\.5 where"):
        make_augment(("flip",), flip={"probability": 0.3, "alternate": True})
    with pytest.raises(UsageError, match=r"augment\.flip\.alternate is 1, expected True or Fal"):
        make_augment(("flip",), flip={"probability": 0.5, "alternate": 1})
    images = jnp.zeros((2, 4, 6, 3), jnp.uint8)
    with pytest.raises(ValueError, match=r"alternate is True, expected a visit"):
        make_augment(("flip",), flip=ALTERNATING)(jax.random.key(0), images)
    visit = Visit(np.zeros(3, np.int32), np.int32(0), jax.random.key(0))
    with pytest.raises(UsageError, match=r"visit\.rows has shape \(3,\), expected \(2\)"):
        make_augment(("flip",), flip=ALTERNATING)(jax.random.key(0), images, visit)
