"""Schedules as tables, and one or two steps of each optimizer, recomputed in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_cnn.checks import UsageError
from cifar_cnn.optim import (
    OPTIMIZERS,
    SCHEDULES,
    ema_update,
    kernel_mask,
    make_optimizer,
    make_schedule,
)
from cifar_cnn.optim.groups import convolution_mask

PEAK, TOTAL, WARMUP, END, FRACTION = 0.4, 100, 10, 0.05, 0.25
OPTIONS = {
    # An eps that shows: of the size of some gradients.
    "adam": {"b1": 0.9, "b2": 0.99, "eps": 0.1},
    "adamw": {"b1": 0.9, "b2": 0.99, "eps": 0.1},
    "sgd": {"momentum": 0.9, "nesterov": False},
}


def schedule_of(name, **changes):
    values = {
        "learning_rate": PEAK,
        "total_steps": TOTAL,
        "warmup_steps": 0 if name in ("triangular", "one_cycle") else WARMUP,
        "end_factor": END,
        "peak_fraction": FRACTION,
    }
    return make_schedule(name, **values | changes)


def half_cosine(start, end, part):
    return end + (start - end) * (1 + np.cos(np.pi * part)) / 2


def numpy_schedule(name, step):
    step = min(step, TOTAL)
    if name in ("constant", "cosine", "linear") and step < WARMUP:
        return PEAK * step / WARMUP
    if name == "constant":
        return PEAK
    if name == "cosine":
        return half_cosine(PEAK, END * PEAK, (step - WARMUP) / (TOTAL - WARMUP))
    if name == "linear":
        return PEAK + (END * PEAK - PEAK) * (step - WARMUP) / (TOTAL - WARMUP)
    rise, fall = step / 25, (step - 25) / 75
    if name == "triangular":
        return PEAK * rise if step < 25 else PEAK + (END * PEAK - PEAK) * fall
    return half_cosine(PEAK / 25, PEAK, rise) if step < 25 else half_cosine(PEAK, END * PEAK, fall)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedule_matches_numpy_at_every_step_and_beyond(name):
    steps = [*range(TOTAL + 3), 10 * TOTAL, 2**31 - 1]
    got = np.asarray(jax.jit(jax.vmap(schedule_of(name)))(jnp.array(steps, jnp.int32)))
    expected = np.array([numpy_schedule(name, step) for step in steps])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
    assert np.all(np.isfinite(got))


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedule_takes_python_steps(name):
    got = [float(schedule_of(name)(step)) for step in (0, 7, TOTAL)]
    expected = [numpy_schedule(name, step) for step in (0, 7, TOTAL)]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["cosine", "linear", "triangular", "one_cycle"])
def test_schedule_can_end_at_zero(name):
    schedule = schedule_of(name, end_factor=0)
    assert abs(schedule(TOTAL)) < 1e-8
    assert abs(schedule(TOTAL + 50)) < 1e-8


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedule_of_the_shortest_run(name):
    steps = 2 if name in ("triangular", "one_cycle") else 1
    schedule = schedule_of(name, total_steps=steps, warmup_steps=0, peak_fraction=0.01)
    values = np.array([schedule(jnp.int32(step)) for step in range(4)])
    assert np.all(np.isfinite(values))
    assert np.isclose(values.max(), PEAK)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
@pytest.mark.parametrize("name", ["triangular", "one_cycle"])
def test_a_step_is_left_on_either_side_of_the_peak(name, fraction):
    schedule = schedule_of(name, total_steps=2, peak_fraction=fraction)
    values = [float(schedule(step)) for step in range(3)]
    np.testing.assert_allclose(values[1], PEAK, rtol=1e-6)
    assert max(values[0], values[2]) < PEAK / 2


def test_the_peak_is_at_the_nearest_step():
    schedule = schedule_of("triangular", total_steps=10, peak_fraction=0.26)
    np.testing.assert_allclose([schedule(step) for step in (2, 3, 4)][1], PEAK, rtol=1e-6)
    assert max(schedule(2), schedule(4)) < PEAK


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("no_such_schedule", {}, "optim.schedule is 'no_such_schedule', expected one of: "),
        ("cosine", {"learning_rate": 0.0}, "optim.learning_rate is 0.0, expected a finite number"),
        ("cosine", {"learning_rate": float("inf")}, "optim.learning_rate is inf, expected a finit"),
        ("cosine", {"total_steps": 0}, "total number of steps of the cosine schedule is 0, expect"),
        (
            "one_cycle",
            {"total_steps": 1},
            "of the one_cycle schedule is 1, expected an integer from 2",
        ),
        ("cosine", {"warmup_steps": -1}, "steps of optim.warmup_epochs is -1, expected an integer"),
        ("cosine", {"warmup_steps": 100}, "optim.warmup_epochs is 100 steps, expected below the 1"),
        ("linear", {"warmup_steps": 100}, "optim.warmup_epochs is 100 steps, expected below the 1"),
        ("constant", {"warmup_steps": 101}, "optim.warmup_epochs is 101 steps, expected below"),
        ("triangular", {"warmup_steps": 5}, "expected 0: triangular has a rise of its own"),
        ("one_cycle", {"warmup_steps": 5}, "optim.warmup_epochs is 5 steps, expected 0: one_cyc"),
        ("cosine", {"end_factor": 1.5}, "optim.end_factor is 1.5, expected a finite number"),
        ("triangular", {"peak_fraction": 1.0}, "optim.peak_fraction is 1.0, expected a finite nu"),
    ],
)
def test_bad_schedule_values_name_their_key(name, changes, message):
    with pytest.raises(UsageError, match=message):
        schedule_of(name, **changes)


def random_params(seed):
    rng = np.random.default_rng(seed)
    shapes = {
        "conv": {"kernel": (3, 3, 2, 4), "bias": (4,)},
        "bn": {"scale": (4,), "bias": (4,)},
    }
    return jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(np.float32),
        shapes,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


def optimizer_of(name, schedule, **changes):
    """With the options of its name, and what most tests leave off."""
    values = {"learning_rate": PEAK, "weight_decay": 0.0, "clip_norm": 0.0, "lr_mults": ()}
    return make_optimizer(name, schedule, **values | OPTIONS.get(name, {}) | changes)


def run_steps(optimizer, params, gradients):
    state = optimizer.init(params)
    step = jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = step(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def numpy_steps(name, params, gradients, learning_rates, decay, options):
    """The textbook updates of one leaf in float64; `decay` is 0 where the leaf has none."""
    param, first, second = params.astype(np.float64), 0.0, 0.0
    for t, (gradient, rate) in enumerate(zip(gradients, learning_rates, strict=True), start=1):
        if name == "sgd":
            gradient = gradient + decay * param
            first = options["momentum"] * first + gradient
            ahead = gradient + options["momentum"] * first
            param = param - rate * (ahead if options["nesterov"] else first)
            continue
        b1, b2 = options["b1"], options["b2"]
        first = b1 * first + (1 - b1) * gradient
        second = b2 * second + (1 - b2) * gradient**2
        direction = first / (1 - b1**t) / (np.sqrt(second / (1 - b2**t)) + options["eps"])
        param = param - rate * (direction + decay * param)
    return param


@pytest.mark.parametrize(
    ("name", "weight_decay", "changes"),
    [
        ("adam", 0.0, {}),
        ("adamw", 0.1, {}),
        ("sgd", 0.1, {}),
        ("sgd", 0.1, {"nesterov": True}),
        ("sgd", 0.0, {"momentum": 0.0}),
    ],
)
def test_three_steps_match_numpy_and_decay_touches_kernels_only(name, weight_decay, changes):
    options = OPTIONS[name] | changes
    rates = [0.1, 0.05, 0.2]
    params = random_params(0)
    gradients = [random_params(seed) for seed in (1, 2, 3)]
    optimizer = optimizer_of(
        name, lambda step: jnp.array(rates)[step], weight_decay=weight_decay, **options
    )
    got = run_steps(optimizer, params, gradients)
    for layer, leaf in [("conv", "kernel"), ("conv", "bias"), ("bn", "scale"), ("bn", "bias")]:
        expected = numpy_steps(
            name,
            params[layer][leaf],
            [gradient[layer][leaf] for gradient in gradients],
            rates,
            weight_decay if leaf == "kernel" else 0.0,
            options,
        )
        np.testing.assert_allclose(got[layer][leaf], expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("clip_norm", "clips"), [(0.5, True), (1e6, False)])
def test_gradient_is_clipped_by_its_global_norm_before_the_decay(clip_norm, clips):
    params, gradient = random_params(0), random_params(1)
    norm = np.sqrt(sum(np.sum(leaf.astype(np.float64) ** 2) for leaf in jax.tree.leaves(gradient)))
    scale = clip_norm / norm if clips else 1.0
    optimizer = optimizer_of(
        "sgd", optax.constant_schedule(0.1), weight_decay=0.1, clip_norm=clip_norm
    )
    got = run_steps(optimizer, params, [gradient])
    for layer, leaf, decay in [("conv", "kernel", 0.1), ("bn", "scale", 0.0)]:
        old = params[layer][leaf]
        expected = old - 0.1 * (scale * gradient[layer][leaf] + decay * old)
        np.testing.assert_allclose(got[layer][leaf], expected, rtol=1e-5, atol=1e-6)


def test_optimizer_reads_the_schedule_from_its_first_step_on():
    optimizer = optimizer_of("sgd", schedule_of("cosine"), momentum=0.0)
    params, ones = {"kernel": np.zeros(2, np.float32)}, {"kernel": np.ones(2, np.float32)}
    got = run_steps(optimizer, params, [ones] * 3)
    np.testing.assert_allclose(got["kernel"], -PEAK * (0 + 1 + 2) / WARMUP, rtol=1e-5)


def test_sgd_without_momentum_keeps_none():
    state = optimizer_of("sgd", optax.constant_schedule(0.1), momentum=0.0).init(random_params(0))
    assert not [leaf for leaf in jax.tree.leaves(state) if jnp.ndim(leaf)]


def test_convolutions_are_the_kernels_of_four_axes():
    assert convolution_mask({"a": {"kernel": np.ones((3, 3, 2, 4)), "bias": np.ones((1, 1, 1, 4))},
                             "b": {"kernel": np.ones((6, 3))}}) == {
        "a": {"kernel": True, "bias": False}, "b": {"kernel": False}}  # fmt: skip


def test_kernel_mask_goes_by_the_last_name_of_the_path():
    params = {"kernel": {"bias": 1.0, "scale": 2.0}, "dense": {"kernel": 3.0}, "stack": [4.0]}
    assert kernel_mask(params) == {
        "kernel": {"bias": False, "scale": False},
        "dense": {"kernel": True},
        "stack": [False],
    }


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("no_such_one", {}, f"optim.name is 'no_such_one', exp.*: {', '.join(sorted(OPTIMIZERS))}"),
        ("adam", {"weight_decay": 0.1}, "adam does not read optim.weight_decay; use adamw"),
        ("sgd", {"weight_decay": -1}, "optim.weight_decay is -1, expected a finite number at leas"),
        ("sgd", {"learning_rate": 0}, "optim.learning_rate is 0, expected a finite number above"),
        ("sgd", {"clip_norm": float("nan")}, "optim.clip_norm is nan, expected a finite number"),
        ("sgd", {"momentum": 1.0}, "optim.sgd.momentum is 1.0, expected a finite number"),
        ("sgd", {"nesterov": 1}, "optim.sgd.nesterov is 1, expected True or False"),
        ("sgd", {"nesterov": True, "momentum": 0}, "nesterov is True, which needs optim.sgd.mom"),
        ("sgd", {"b1": 0.9}, "optim.sgd has b1, momentum, nesterov, expected: momentum, nesterov"),
        ("adam", {"b1": 1.0}, "optim.adam.b1 is 1.0, expected a finite number"),
        ("adamw", {"b2": -0.1}, "optim.adamw.b2 is -0.1, expected a finite number"),
        ("adamw", {"eps": 0}, "optim.adamw.eps is 0, expected a finite number above 0"),
    ],
)
def test_bad_optimizer_values_name_their_key(name, changes, message):
    with pytest.raises(UsageError, match=message):
        optimizer_of(name, optax.constant_schedule(0.1), **changes)


def test_ema_is_a_weighted_mean_of_all_params_so_far():
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    ema = {"kernel": jnp.asarray(values[0])}
    for value in values[1:]:
        ema = jax.jit(ema_update)(ema, {"kernel": value}, 0.9)
    weights = np.array([0.9**4, *(0.1 * 0.9 ** (4 - i) for i in range(1, 5))])
    assert ema["kernel"].dtype == jnp.float32
    np.testing.assert_allclose(ema["kernel"], weights @ values, rtol=1e-5)


def test_ema_decay_of_zero_is_the_newest_and_of_one_is_refused():
    old, new = {"kernel": jnp.ones(2)}, {"kernel": jnp.full(2, 3.0)}
    assert ema_update(old, new, 0.0)["kernel"].tolist() == [3, 3]
    with pytest.raises(UsageError, match=r"optim\.ema_decay is 1\.0, expected a finite number"):
        ema_update(old, new, 1.0)
