"""Muon: its iteration and its steps recomputed in float64, its training state kept and resumed."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_cnn import checkpoint
from cifar_cnn.checks import UsageError
from cifar_cnn.optim import make_optimizer
from cifar_cnn.optim.muon import orthogonalize
from cifar_cnn.state import TrainState, init_state

OPTIONS = {
    "momentum": 0.6,
    "nesterov": True,
    "ns_steps": 3,
    "normalize_kernels": True,
    "sgd_learning_rate": 0.05,
    "sgd_momentum": 0.85,
}
SHAPES = {"conv": {"kernel": (3, 3, 2, 4), "bias": (4,)}, "head": {"kernel": (6, 3)}}
PEAK = 0.25


def muon_of(rates=(PEAK,), **changes):
    values = {"learning_rate": PEAK, "weight_decay": 0.0, "clip_norm": 0.0, "lr_mults": ()}
    return make_optimizer("muon", lambda step: jnp.array(rates)[step], **values | OPTIONS | changes)


def random_tree(seed, shapes=None):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(np.float32),
        shapes or SHAPES,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


def run_steps(optimizer, params, gradients):
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = jax.jit(optimizer.update)(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def numpy_newton_schulz(matrix, steps):
    """The iteration as it is published, on the matrix itself."""
    x = matrix.astype(np.float64)
    x = x / np.linalg.norm(x)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


@pytest.mark.parametrize("shape", [(72, 16), (16, 72), (24, 20), (1, 7), (7, 1)])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_iteration_matches_the_published_one_in_float64(shape, steps):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    got = jax.jit(orthogonalize, static_argnums=1)(matrix, steps)
    # Rounding of float32, which a step makes up to 12 times larger on the Gram matrix.
    np.testing.assert_allclose(got, numpy_newton_schulz(matrix, steps), atol=1e-4)


@pytest.mark.parametrize(("shape", "steps"), [((72, 16), 3), ((16, 72), 3), ((24, 20), 5)])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_updates_are_near_orthogonal_whatever_the_scale(shape, steps, scale):
    matrix = scale * np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before = np.linalg.svd(matrix, compute_uv=False)
    after = np.linalg.svd(np.asarray(orthogonalize(matrix, steps)), compute_uv=False)
    assert before[0] / before[-1] > 2
    # The quintic settles between 0.68 and 1.21 rather than on 1.
    assert 0.65 < after.min() <= after.max() < 1.25


def test_matrices_without_full_rank_stay_finite():
    rng = np.random.default_rng(0)
    thin = np.outer(rng.normal(size=72), rng.normal(size=16)).astype(np.float32)
    got = np.linalg.svd(np.asarray(orthogonalize(thin, 5)), compute_uv=False)
    assert 0.65 < got[0] < 1.25
    assert got[1] < 1e-2
    assert not np.any(orthogonalize(np.zeros((72, 16), np.float32), 5))


def numpy_steps(params, gradients, rates, decay, options):
    """Three leaves in float64: a convolution by Muon, a dense kernel and a bias by SGD."""
    kernel, sums = params["conv"]["kernel"].astype(np.float64), 0.0
    matrix = kernel.reshape(-1, kernel.shape[-1])
    for gradient, rate in zip(gradients, rates, strict=True):
        slope = gradient["conv"]["kernel"].reshape(matrix.shape).astype(np.float64)
        sums = options["momentum"] * sums + slope
        ahead = slope + options["momentum"] * sums if options["nesterov"] else sums
        if options["normalize_kernels"]:
            matrix = matrix * np.sqrt(matrix.shape[1]) / np.linalg.norm(matrix)
        else:
            matrix = matrix - rate * decay * matrix
        matrix = matrix - rate * numpy_newton_schulz(ahead.T, options["ns_steps"]).T
    others = []
    for layer, leaf in [("head", "kernel"), ("conv", "bias")]:
        param, sums = params[layer][leaf].astype(np.float64), 0.0
        for gradient, rate in zip(gradients, rates, strict=True):
            slope = gradient[layer][leaf] + (decay * param if leaf == "kernel" else 0.0)
            sums = options["sgd_momentum"] * sums + slope
            rate = rate / PEAK * options["sgd_learning_rate"]
            ahead = slope + options["sgd_momentum"] * sums if options["sgd_momentum"] else slope
            param = param - rate * ahead
        others.append(param)
    return {"conv": {"kernel": matrix.reshape(kernel.shape), "bias": others[1]},
            "head": {"kernel": others[0]}}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nesterov": False, "ns_steps": 5},
        {"normalize_kernels": False},
        {"nesterov": False, "momentum": 0.0, "sgd_momentum": 0.0},
    ],
)
def test_three_steps_match_numpy(changes):
    rates, decay = [0.25, 0.05, 0.125], 0.1
    params, gradients = random_tree(0), [random_tree(seed) for seed in (1, 2, 3)]
    got = run_steps(muon_of(rates, weight_decay=decay, **changes), params, gradients)
    expected = numpy_steps(params, gradients, rates, decay, OPTIONS | changes)
    # float32 against float64 through three times the iteration.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, expected)


@pytest.mark.parametrize("factor", [1.0, 12.0])
def test_kernels_are_normalised_whatever_the_factor_of_their_learning_rate(factor):
    params = random_tree(0)
    still = jax.tree.map(np.zeros_like, params)
    got = run_steps(muon_of(lr_mults=((".*/kernel", factor),)), params, [still])
    norm = np.sqrt(4) / np.linalg.norm(params["conv"]["kernel"])
    np.testing.assert_allclose(got["conv"]["kernel"], norm * params["conv"]["kernel"], rtol=1e-5)
    np.testing.assert_array_equal(got["head"]["kernel"], params["head"]["kernel"])
    nothing = run_steps(muon_of(), still, [still])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(nothing))


def products(optimizer, params):
    """Shapes of the matrix products in the lowered program of one update."""
    text = jax.jit(optimizer.update).lower(params, optimizer.init(params), params).as_text()
    return set(re.findall(r"dot_general .* -> tensor<(\w+)xf32>", text))


def test_products_are_of_the_smaller_side_and_none_is_for_what_is_frozen():
    params = random_tree(0, {"a": {"kernel": (3, 3, 4, 8)}, "b": {"kernel": (1, 1, 4, 16)}})
    assert products(muon_of(), params) == {"8x8", "36x8", "4x4", "4x16"}
    assert products(muon_of(lr_mults=(("b/.*", 0),)), params) == {"8x8", "36x8"}
    assert not products(muon_of(lr_mults=((".*", 0),)), params)


def test_a_network_without_convolutions_is_refused():
    for lr_mults in ((), (("head/.*", 2.0),)):
        with pytest.raises(UsageError, match=r"optim\.name is 'muon', but the network has no conv"):
            jax.eval_shape(
                muon_of(lr_mults=lr_mults).init, random_tree(0, {"head": {"kernel": (6, 3)}})
            )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 1.0}, "optim.muon.momentum is 1.0, expected a finite number"),
        ({"momentum": 0}, "optim.muon.nesterov is True, which needs optim.muon.momentum above 0"),
        ({"nesterov": 1}, "optim.muon.nesterov is 1, expected True or False"),
        ({"ns_steps": 6}, "optim.muon.ns_steps is 6, expected an integer from 1 to 5"),
        ({"normalize_kernels": None}, "optim.muon.normalize_kernels is None, expected True or"),
        ({"sgd_learning_rate": 0.0}, "optim.muon.sgd_learning_rate is 0.0, expected a finite num"),
        ({"sgd_momentum": -0.1}, "optim.muon.sgd_momentum is -0.1, expected a finite number"),
    ],
)
def test_bad_values_name_their_key(changes, message):
    with pytest.raises(UsageError, match=message):
        muon_of(**changes)


class Net(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(8, (3, 3), name="whitening")(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.relu(nn.Conv(8, (3, 3))(x)).mean(axis=(1, 2))
        return nn.Dense(2, name="head")(x)


@pytest.fixture
def training():
    """(state before the first step, step of the state that donates it, optimizer and all)."""
    labels = jnp.arange(32) % 2
    images = jax.random.normal(jax.random.key(1), (32, 8, 8, 3))
    images = images + 0.3 * labels[:, None, None, None]  # One class is brighter.
    model = Net()
    optimizer = muon_of((0.1,), clip_norm=5.0, lr_mults=(("whitening/kernel", 0), (".*/bias", 2.0)))

    def step(state):
        def loss_of(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), new["batch_stats"]

        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, stats, opt_state, state.ema_params), loss

    init = jax.jit(lambda: init_state(model, optimizer, jax.random.key(0), images, ema=False))
    return init, jax.jit(step, donate_argnums=0)


def test_training_lowers_the_loss_and_resumes_to_the_same_bytes(training, tmp_path):
    init, step = training
    state, losses = init(), []
    frozen = np.asarray(state.params["whitening"]["kernel"]).tobytes()
    with checkpoint.saving(tmp_path, keep_latest=2, keep_best=0) as save:
        for number in range(30):
            if number == 10:
                save(state, None, {})
            state, loss = step(state)
            losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
    assert np.asarray(state.params["whitening"]["kernel"]).tobytes() == frozen
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        jax.eval_shape(init),
    )
    resumed = checkpoint.restore(tmp_path, 10, abstract)
    assert jax.tree.structure(resumed) == jax.tree.structure(state)
    for _ in range(20):
        resumed, _ = step(resumed)
    assert checkpoint.checksums(resumed) == checkpoint.checksums(state)
