"""Random streams."""

import jax
import numpy as np

from cifar_cnn.rng import stream


def bits(key):
    return jax.random.key_data(key).tolist()


def test_streams_are_pinned_and_apart(key):
    seen = {
        (name, step): bits(stream(key, name, step))
        for name in ("init", "order", "augment", "dropout")
        for step in (0, 1, 1000)
    }
    assert len({tuple(value) for value in seen.values()}) == len(seen)
    # Other numbers here would mean that old checkpoints resume with other draws.
    assert seen["dropout", 1] == [4061365962, 3124102228]


def test_a_traced_step_gives_the_same_key(key):
    traced = jax.jit(lambda step: stream(key, "order", step))(np.int32(7))
    assert bits(traced) == bits(stream(key, "order", 7))
