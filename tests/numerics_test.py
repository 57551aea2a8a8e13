"""Compiled programs give the right numbers: networks and their gradients against eager JAX, sums
against numpy.

Compilers have faults that show at some widths, types and surroundings alone. What is compared here
is the relative error of all numbers together.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cifar_cnn.losses import cross_entropy
from tests.families import ENTRIES, drawn, make, noise

pytestmark = pytest.mark.every_python
LABELS = jnp.arange(8) % 10
# Of 24 bits of a mantissa, minimal filtering and some ten layers cost ten; of 8 bits, three.
LOGITS = {jnp.float32: 2.0**-14, jnp.bfloat16: 2.0**-5}


def error(got, wanted):
    """Norm of the difference in units of the norm; NaN where a number is not finite."""
    a, b = (np.concatenate([np.float64(leaf).ravel() for leaf in jax.tree.leaves(tree)])
            for tree in (got, wanted))  # fmt: skip
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def images():
    return noise(8, 16, 16, 3)


def loss(model, stats, params, images, labels):
    """Mean loss in training, with batch statistics."""
    variables = {"params": params, "batch_stats": stats}
    logits, _ = model.apply(
        variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
    )
    return cross_entropy(logits, labels).mean()


def in_scan(function, *arrays):
    """The mean of `function` over two halves of the rows, one after the other."""
    halves = [array.reshape(2, -1, *array.shape[1:]) for array in arrays]

    def add(total, half):
        return jax.tree.map(jnp.add, total, function(*half)), None

    shapes = jax.eval_shape(function, *(half[0] for half in halves))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.tree.map(lambda leaf: leaf / 2, lax.scan(add, zeros, halves)[0])


def both(name, dtype, changes):
    """The network, and one without dropout, whose masks would hide what is compared."""
    off = {key: 0.0 for key in make(name, **changes).__dict__ if key.endswith("dropout")}
    return make(name, dtype, **{**changes, **off})


@pytest.mark.parametrize("width", ["small", "wide"])
@pytest.mark.parametrize("name", ENTRIES)
def test_compiled_networks_agree_with_eager_ones(name, width):
    changes = getattr(ENTRIES[name], width)
    network = functools.partial(both, name, changes=changes)
    exact = network(jnp.float32)
    variables = drawn(exact, images())
    wanted = exact.apply(variables, images(), train=False)
    for dtype, bound in LOGITS.items():
        predict = functools.partial(network(dtype).apply, variables, train=False)
        alone = jax.jit(predict)(images())
        assert error(alone, wanted) < bound
        one_by_one = jax.jit(functools.partial(lax.map, predict, batch_size=4))(images()[:, None])
        assert error(one_by_one, wanted) < bound
