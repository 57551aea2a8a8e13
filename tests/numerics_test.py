"""Compiled programs give the right numbers: networks and gradients against eager JAX, sums against
numpy.

Compilers have faults that show at some widths, number types and surroundings alone.
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
ROWS = 32
IMAGES = functools.partial(noise, ROWS, 16, 16, 3)
# Errors in units of what is right. Of the 24 bits of a number, minimal filtering and the sums of
# some ten layers cost ten; of 8 bits, three.
BOUNDS = {jnp.float32: 2.0**-14, jnp.bfloat16: 2.0**-5}
# A gradient is less smooth: a maximum or a ReLU that goes the other way by the last bit moves it.
GRADIENT_BOUNDS = {jnp.float32: 2.0**-8, jnp.bfloat16: 2.0**-1.5}


def error(got, wanted):
    """Norm of the difference in units of the norm; NaN where a number is not finite."""
    a, b = (
        np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])
        for tree in (got, wanted)
    )
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def network(name, width, dtype):
    """The network without dropout, whose masks would hide what is compared."""
    changes = getattr(ENTRIES[name], width)
    rates = {key: 0.0 for key in vars(make(name, **changes)) if "dropout" in key}
    return make(name, dtype, **changes, **rates)


def loss(model, params, stats, images, labels):
    """Mean loss in training, with batch statistics."""
    variables = {"params": params, "batch_stats": stats}
    logits, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
    return cross_entropy(logits, labels).mean()


def in_scan(function, *arrays):
    """The mean of `function` over two parts of the rows, one after the other."""
    parts = tuple(array.reshape(2, -1, *array.shape[1:]) for array in arrays)

    def add(total, part):
        return jax.tree.map(jnp.add, total, function(*part)), None

    zeros = jax.tree.map(jnp.zeros_like, function(*(part[0] for part in parts)))
    return jax.tree.map(lambda leaf: leaf / 2, lax.scan(add, zeros, parts)[0])


def scanned(gradient):
    """A compiled loop of `gradient` over two parts of the rows."""

    @jax.jit
    def run(params, stats, images, labels):
        return in_scan(functools.partial(gradient, params, stats), images, labels)

    return run


def drawn_parts(name, width, images):
    """Parameters, running statistics, and the network in float32."""
    exact = network(name, width, jnp.float32)
    variables = drawn(exact, images)
    return variables["params"], variables.get("batch_stats", {}), exact


@pytest.mark.parametrize("width", ["small", "wide"])
@pytest.mark.parametrize("name", ENTRIES)
def test_logits_are_those_of_eager_jax(name, width):
    images, exact = IMAGES(), network(name, width, jnp.float32)
    variables = drawn(exact, images)
    wanted = exact.apply(variables, images, train=False)
    for dtype, bound in BOUNDS.items():
        predict = functools.partial(network(name, width, dtype).apply, train=False)
        assert error(jax.jit(predict)(variables, images), wanted) < bound

        def in_turn(variables, images, predict=predict):
            return lax.map(functools.partial(predict, variables), images)

        got = jax.jit(in_turn)(variables, images.reshape(2, -1, *images.shape[1:]))
        assert error(got.reshape(wanted.shape), wanted) < bound


@pytest.mark.parametrize("name", ENTRIES)
def test_gradients_are_those_of_eager_jax(name):
    images, labels = IMAGES(), jnp.arange(ROWS) % 10
    params, stats, exact = drawn_parts(name, "small", images)
    eager = jax.grad(functools.partial(loss, exact))(params, stats, images, labels)
    single, half = (
        jax.grad(functools.partial(loss, network(name, "small", dtype))) for dtype in BOUNDS
    )
    twice = jnp.tile(images, (2, 1, 1, 1)), jnp.tile(labels, 2)
    in_scan = scanned(single)(params, stats, *twice)
    assert error(in_scan, eager) < GRADIENT_BOUNDS[jnp.float32]
    alone = jax.jit(half)(params, stats, images, labels)
    assert error(alone, eager) < GRADIENT_BOUNDS[jnp.bfloat16]


@pytest.mark.parametrize("name", ENTRIES)
def test_wide_gradients_do_not_depend_on_the_program(name):
    images, labels = IMAGES(), jnp.arange(ROWS) % 10
    params, stats, _ = drawn_parts(name, "wide", images)
    single, half = (
        jax.grad(functools.partial(loss, network(name, "wide", dtype))) for dtype in GRADIENT_BOUNDS
    )
    twice = jnp.tile(images, (2, 1, 1, 1)), jnp.tile(labels, 2)
    wanted = jax.jit(single)(params, stats, images, labels)
    assert error(scanned(half)(params, stats, *twice), wanted) < GRADIENT_BOUNDS[jnp.bfloat16]


# Name -> (x, axis, numpy or jax.numpy) -> what is compared, and what its terms are as large as.
REDUCTIONS = {
    "sum": (lambda x, axis, np: x.sum(axis), lambda x, axis: abs(x).sum(axis)),
    "mean": (lambda x, axis, np: x.mean(axis), lambda x, axis: abs(x).mean(axis)),
    "maximum": (lambda x, axis, np: x.max(axis), lambda x, axis: abs(x).max(axis)),
    "variance": (lambda x, axis, np: x.var(axis), lambda x, axis: (x**2).mean(axis)),
    "sum of positive numbers": (
        lambda x, axis, np: np.maximum(x, 0).sum(axis),
        lambda x, axis: abs(x).sum(axis),
    ),
    "sum of squares": (lambda x, axis, np: (x * x).sum(axis), lambda x, axis: (x**2).sum(axis)),
}


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("rows", [7, 1000, 32_769, 100_000])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_are_those_of_numpy(name, rows, dtype):
    reduce, size = REDUCTIONS[name]
    for columns, axis in ((3, 0), (3, 1), (64, 0), (64, 1)):
        x = jnp.asarray(noise(rows, columns), dtype)
        exact = np.asarray(x, np.float64)
        got = jax.jit(functools.partial(reduce, axis=axis, np=jnp))(x)
        # A term and the result are rounded to the type, a sum of float32 at each of its steps, of
        # which some are up and some are down.
        eps = 2 * float(jnp.finfo(dtype).eps) + 2.0**-23 * x.shape[axis] ** 0.5
        wrong = ~(np.abs(np.float64(got) - reduce(exact, axis, np)) <= eps * size(exact, axis))
        assert not wrong.any(), f"axis {axis} of {x.shape}: {wrong.sum()} of {wrong.size}"


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("rows", [7, 1000, 16_385, 32_769, 100_000])
def test_a_product_under_vmap_and_then_a_sum_is_that_of_numpy(rows, dtype):
    for columns in (3, 16):
        x = jnp.asarray(noise(rows, columns), dtype)
        got = jax.jit(jax.vmap(lambda row: ((jnp.eye(row.size, dtype=dtype) @ row) ** 2).sum()))(x)
        wanted = (np.asarray(x, np.float64) ** 2).sum(axis=1)
        # Each term is rounded once, and each sum.
        np.testing.assert_allclose(
            np.float64(got), wanted, rtol=columns * float(jnp.finfo(dtype).eps)
        )
