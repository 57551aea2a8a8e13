"""Factors of the learning rate by a parameter's path: scaled, and frozen, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_cnn.checks import UsageError
from cifar_cnn.optim import OPTIMIZERS, lr_factor, make_optimizer
from configs import default
from tests.optimizers_test import takes_weight_decay

SHAPES = {
    "stem": {"kernel": (3, 3, 2, 4), "bias": (4,)},
    "conv": {"kernel": (3, 3, 4, 4), "bias": (4,)},
    "head": {"kernel": (5, 3)},
}


def optimizer_of(name, lr_mults, *, rate=0.1, clip_norm=0.0):
    """With weight decay where it takes any, and the options of the default config."""
    return make_optimizer(
        name,
        lambda step: rate / (1 + step),
        learning_rate=0.1,
        weight_decay=0.1 if takes_weight_decay(name) else 0.0,
        clip_norm=clip_norm,
        lr_mults=lr_mults,
        **default.get_config().optim[name].to_dict(),
    )


def random_tree(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(np.float32),
        SHAPES,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


def run_steps(optimizer, gradients):
    params = random_tree(0)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = jax.jit(optimizer.update)(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_first_match_scales_the_learning_rate_and_zero_freezes(name):
    gradients = [random_tree(seed) for seed in (1, 2, 3)]
    lr_mults = (("stem/kernel", 0.0), ("stem/.*|head/kernel", 0.5), (".*/bias", 3))
    got, _ = run_steps(optimizer_of(name, lr_mults), gradients)
    alone = {f: run_steps(optimizer_of(name, (), rate=0.1 * f), gradients)[0] for f in (1, 0.5, 3)}
    factors = {
        "stem": {"kernel": 0, "bias": 0.5},
        "conv": {"kernel": 1, "bias": 3},
        "head": {"kernel": 0.5},
    }
    for layer, leaves in factors.items():
        for leaf, factor in leaves.items():
            if factor == 0:
                np.testing.assert_array_equal(got[layer][leaf], random_tree(0)[layer][leaf])
            else:  # Rounding: the factor is multiplied at another place.
                expected = alone[factor][layer][leaf]
                np.testing.assert_allclose(got[layer][leaf], expected, rtol=1e-5, atol=1e-6)
                assert np.abs(got[layer][leaf] - random_tree(0)[layer][leaf]).max() > 1e-3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_frozen_has_no_state(name):
    lr_mults = (("(stem|conv)/.*", 0), ("head/kernel", 2.0))
    state = optimizer_of(name, lr_mults, clip_norm=1.0).init(random_tree(0))
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    assert {shape for shape in shapes if shape} == {(5, 3)}


def test_what_is_frozen_takes_no_part_in_the_clipping():
    gradient = random_tree(1)
    huge = gradient | {"stem": jax.tree.map(lambda leaf: 1e6 * leaf, gradient["stem"])}
    optimizer = optimizer_of("sgd", (("stem/.*", 0),), clip_norm=0.5)
    small, _ = run_steps(optimizer, [gradient])
    large, _ = run_steps(optimizer, [huge])
    jax.tree.map(np.testing.assert_array_equal, small, large)
    trained = np.concatenate([gradient[k]["kernel"].ravel() for k in ("conv", "head")]
                             + [gradient["conv"]["bias"]])  # fmt: skip
    clipped = 0.5 / np.linalg.norm(trained) * gradient["conv"]["bias"]
    expected = random_tree(0)["conv"]["bias"] - 0.1 * 1.9 * clipped
    np.testing.assert_allclose(small["conv"]["bias"], expected, rtol=1e-5)


def test_a_pattern_has_to_match_the_whole_path():
    lr_mults = (("stem/kernel", 0.5), ("head/.*", 2.0))
    paths = ("stem/kernel", "stem/kernel_2", "a/stem/kernel", "head/bias", "ahead/bias")
    assert [lr_factor(path, lr_mults) for path in paths] == [0.5, 1, 1, 2, 1]


def test_without_pairs_the_state_is_that_of_optax():
    params = random_tree(0)
    state = optimizer_of("adam", ()).init(params)
    assert jax.tree.structure(state) == jax.tree.structure(optax.adam(lambda _: 0.1).init(params))


def test_lists_as_read_from_json_are_pairs_too():
    gradients = [random_tree(1)]
    listed, _ = run_steps(optimizer_of("sgd", [["stem/.*", 0], [".*", 2]]), gradients)
    tupled, _ = run_steps(optimizer_of("sgd", (("stem/.*", 0.0), (".*", 2.0))), gradients)
    jax.tree.map(np.testing.assert_array_equal, listed, tupled)


@pytest.mark.parametrize(
    ("lr_mults", "message"),
    [
        ("abc", r"optim.lr_mults is 'abc', expected pairs of a pattern and a factor, such as \(\("),
        (("stem/kernel", 0.0), "optim.lr_mults has 'stem/kernel', expected pairs of a pattern"),
        (((1.0, "stem"),), r"optim.lr_mults has \(1.0, 'stem'\), expected pairs"),
        ((("(stem", 0.0),), r"optim.lr_mults has '\(stem', expected a regular expression: "),
        ((("stem", -1.0),), "factor of 'stem' in optim.lr_mults is -1.0, expected a finite number"),
        ((("stem", True),), "factor of 'stem' in optim.lr_mults is True, expected a finite number"),
    ],
)
def test_bad_pairs_are_told_at_once(lr_mults, message):
    with pytest.raises(UsageError, match=message):
        optimizer_of("sgd", lr_mults)


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
@pytest.mark.parametrize(
    ("lr_mults", "message"),
    [
        (
            (("whitening/kernel", 0),),
            "has 'whitening/kernel', which matches no parameter of the network, .*: conv/bias, ",
        ),
        (
            (("kernel", 0),),
            "has 'kernel', which matches no parameter",
        ),  # The whole path has to match.
        (
            ((".*/kernel", 0), ("stem/kernel", 1)),
            "has 'stem/kernel', .*left by .*: conv/bias, stem/bias",
        ),
        (((".*", 0), ("stem/.*", 1)), "has 'stem/.*', .*left by .*: none are left"),
    ],
)
def test_a_pattern_that_decides_nothing_is_told_before_compiling(lr_mults, message, clip_norm):
    optimizer = optimizer_of("adam", lr_mults, clip_norm=clip_norm)
    with pytest.raises(UsageError, match=message) as error:
        jax.eval_shape(optimizer.init, jax.tree.map(jnp.asarray, random_tree(0)))
    assert "\n" not in str(error.value)
