"""The plain network: the lessons' parameter counts, per-stage options, dropout and batch norm."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn.layers import ACTIVATIONS
from cifar_cnn.models import MODELS, make_model
from configs import default


def make(**changes):
    section = {**default.get_config().model.plain.to_dict(), **changes}
    return make_model("plain", section, num_classes=10, dtype=jnp.float32)


def count(model, shape):
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)
    )
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("changes", "shape", "expected"),
    [
        # Fashion-MNIST: conv 64, pool, conv 64, pool, flatten 5 * 5 * 64 = 1600, 128, 10.
        ({"filters": ((64,), (64,)), "padding": "VALID", "dense": (128,)}, (28, 28, 1), 243_786),
        # MNIST: conv 32 of 4 x 4, pool, flatten 12 * 12 * 32 = 4608, 16, 8, 10.
        (
            {"filters": ((32,),), "kernel_size": 4, "padding": "VALID", "dense": (16, 8)},
            (28, 28, 1),
            74_514,
        ),
        # Dense nets and logistic regression.
        ({"filters": (), "dense": (128,)}, (28, 28, 1), 784 * 128 + 128 + 128 * 10 + 10),
        ({"filters": (), "dense": ()}, (32, 32, 3), 3072 * 10 + 10),
        # One value a stage.
        (
            {"filters": ((4,), (6, 8)), "kernel_size": (3, 5), "pool": ("max", "none"),
             "padding": ("SAME", "VALID"), "stride": (2, 1), "dense": ()},
            (40, 40, 3),  # conv 20, pool 10, conv 6, conv 2.
            3 * 9 * 4 + 4 + 4 * 25 * 6 + 6 + 6 * 25 * 8 + 8 + 2 * 2 * 8 * 10 + 10,
        ),
        # Batch norm: scale and bias of each filter take the place of the convolution's bias.
        (
            {"filters": ((4,),), "batch_norm": True, "dense": ()},
            (8, 8, 1),
            9 * 4 + 8 + 4 * 4 * 4 * 10 + 10,
        ),
    ],
)  # fmt: skip
def test_parameter_counts(changes, shape, expected):
    assert count(make(**changes), shape) == expected


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_and_average_pooling_run(activation, key):
    model = make(filters=((4,),), activation=activation, pool="avg", dense=(5,))
    logits, _ = model.init_with_output(key, jnp.ones((2, 8, 8, 3)), train=False)
    assert logits.shape == (2, 10)
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()


def test_dropout_acts_in_training_only_and_follows_its_key(key):
    model = make(filters=((4,),), dense=(32,), conv_dropout=0.5, dense_dropout=0.5)
    images = jax.random.normal(key, (2, 8, 8, 3))
    variables = model.init(key, images, train=False)

    def run(train, seed=0):
        return model.apply(variables, images, train=train, rngs={"dropout": jax.random.key(seed)})

    np.testing.assert_array_equal(run(False, 0), run(False, 1))
    np.testing.assert_array_equal(run(True, 0), run(True, 0))
    assert np.abs(run(True, 0) - run(True, 1)).max() > 0


def test_masked_rows_do_not_enter_batch_statistics(key):
    model = make(filters=((4,),), batch_norm=True, dense=())
    images = jax.random.normal(key, (6, 8, 8, 3))
    variables = model.init(key, images, train=False)
    garbage = images.at[4:].set(1e6)

    def run(images, mask):
        return model.apply(variables, images, train=True, mask=mask, mutable=["batch_stats"])

    logits, stats = run(images[:4], None)
    masked, masked_stats = run(garbage, jnp.arange(6) < 4)
    np.testing.assert_allclose(masked[:4], logits, rtol=1e-5, atol=1e-5)
    for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(masked_stats), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def test_every_family_has_its_config_section():
    assert set(MODELS) == set(default.get_config().model.to_dict()) - {"name", "dtype"}
