"""All families alike: parameter counts, shapes, mask, number types, precision, checks."""

import functools
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn.checks import UsageError
from cifar_cnn.models import MODELS
from cifar_cnn.models.global_pool import GlobalPool
from cifar_cnn.models.initializers import whitening_kernel
from cifar_cnn.report.summary import summarize, totals
from configs import default
from tests.families import ENTRIES, FAMILIES, MODES, called, calls, drawn, make, noise, small

MODE_NAMES = [f"{name} {mode or ''}".strip() for name, mode in MODES]


def test_every_family_has_its_entry_for_the_tests():
    missing = MODELS.keys() - FAMILIES.keys()
    assert not missing, f"tests/families.py has no entry for {missing} of models.MODELS: add one"
    gone = FAMILIES.keys() - MODELS.keys()
    assert not gone, f"tests/families.py has an entry for {gone}, which models.MODELS does not have"


def count(model, shape=(32, 32, 3)):
    """Parameters, and numbers in batch_stats."""
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)
    )
    kinds = (variables["params"], variables.get("batch_stats", {}))
    return tuple(sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(kind)) for kind in kinds)


def airbench_parameters(widths, depth, channels=3, whitening=2):
    first = 2 * whitening**2 * channels
    blocks = sum(
        9 * below * width + (depth - 1) * 9 * width * width + depth * width
        for below, width in itertools.pairwise((first, *widths))
    )
    return whitening**2 * channels * first + first + blocks + 10 * widths[-1]


def wide_resnet_parameters(depth, factor):
    """3 x 3 kernels and 1 x 1 shortcuts, two numbers a channel for each batch norm, the head."""
    widths, total = (16, 16 * factor, 32 * factor, 64 * factor), 9 * 3 * 16
    for below, width in itertools.pairwise(widths):
        for block in range((depth - 4) // 6):
            inputs = below if block == 0 else width
            total += 9 * inputs * width + 9 * width * width + 2 * (inputs + width)
            total += inputs * width if inputs != width or (block == 0 and below > 16) else 0
    return total + 2 * widths[-1] + 10 * widths[-1] + 10


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("airbench", {"widths": (5,), "whitening_size": 3}, airbench_parameters((5,), 2, 3, 3)),
        # The published figures of ResNet-34 for CIFAR and of WRN-16-4; others: configs_test.py.
        ("resnet", {"stage_sizes": (3, 4, 6, 3)}, 21_282_122),
        ("wide_resnet", {"depth": 16, "widen_factor": 4}, 2_748_890),
        ("wide_resnet", {"depth": 22, "widen_factor": 1}, wide_resnet_parameters(22, 1)),
    ],
)  # fmt: skip
def test_parameter_counts(name, changes, expected):
    assert count(make(name, **changes))[0] == expected


def test_the_counts_by_hand_give_the_published_ones():
    assert airbench_parameters((64, 256, 256), 2) == 1_971_640  # "1.97 million"
    assert wide_resnet_parameters(28, 10) == 36_479_194
    assert wide_resnet_parameters(16, 4) == 2_748_890


@functools.cache
def evaluation(name, mode, dtype):
    """A small network in evaluation, for which the tests compile once."""
    return jax.jit(functools.partial(small(name, dtype, **dict(mode)).apply, train=False))


@pytest.mark.parametrize(("name", "mode"), MODES, ids=MODE_NAMES)
def test_other_image_shapes_fit(name, mode):
    model = small(name, **mode)

    def made(shape):
        return jax.eval_shape(
            lambda: model.init_with_output(jax.random.key(0), jnp.zeros((2, *shape)), train=False)
        )

    _, expected = made((32, 32, 3))
    for shape in [(24, 24, 3), (28, 28, 1), (32, 20, 3)]:
        logits, variables = made(shape)
        assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)
        # A pooling over all pixels makes one network of all sizes.
        if shape[2] == 3 and any(isinstance(module, GlobalPool) for module in called(model)):
            assert jax.tree.leaves(variables) == jax.tree.leaves(expected)


@pytest.mark.parametrize(("name", "mode"), MODES, ids=MODE_NAMES)
def test_masked_rows_change_nothing_and_evaluation_uses_running_statistics(name, mode):
    model = small(name, **mode)
    images, weights = noise(8, 16, 16, 3), noise(4, 10)
    variables = drawn(model, images)
    stats = {key: value for key, value in variables.items() if key != "params"}

    @jax.jit
    def run(images, mask):
        def loss_of(params):
            logits, new = model.apply(
                {"params": params, **stats}, images, train=True, mask=mask, mutable=["batch_stats"]
            )
            return (logits[:4] * weights).sum(), (logits[:4], new)

        return jax.grad(loss_of, has_aux=True)(variables["params"])

    # The same rows twice, all of which count, have the statistics of half of them.
    twice, mask = jnp.concatenate([images[:4]] * 2), jnp.arange(8) < 4
    _, (logits, new) = run(twice, mask | True)
    expected = run(images.at[4:].set(0), mask)
    # Float sums in another order: some 1e-6 of each layer's values, a few layers deep.
    np.testing.assert_allclose(expected[1][0], logits, rtol=1e-4, atol=1e-4)
    for a, b in zip(jax.tree.leaves(expected[1][1]), jax.tree.leaves(new), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    # Wild values where the mask is False change neither of these nor the gradients.
    got = run(images.at[4:].set(1e4 * images[4:] + 1e4), mask)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())

    evaluate = evaluation(name, tuple(mode.items()), jnp.float32)
    before = evaluate(variables, images)
    if stats:
        assert np.abs(evaluate({**variables, **new}, images) - before).max() > 1e-3
    # Each row by itself: no batch statistics.
    others = evaluate(variables, images.at[4:].set(1e3))
    np.testing.assert_allclose(others[:4], before[:4], rtol=1e-5, atol=1e-5)


DROPOUTS = [
    (name, key) for name in MODELS for key in default.get_config().model[name] if "dropout" in key
]


@pytest.mark.parametrize(("name", "key"), DROPOUTS)
def test_every_dropout_has_its_rate_and_acts_in_training_only(name, key):
    model = small(name, **{key: 0.25})
    images = noise(16, 16, 16, 3)
    variables = drawn(model, images)

    @jax.jit
    def run(seed):
        keys, mutable = {"dropout": jax.random.key(seed)}, ["batch_stats"]
        return model.apply(variables, images, train=True, rngs=keys, mutable=mutable)[0]

    np.testing.assert_array_equal(run(0), run(0))
    assert np.abs(run(0) - run(1)).max() > 0
    layers = [layer for layer in called(model, train=True) if isinstance(layer, nn.Dropout)]
    assert {layer.rate for layer in layers} == {0.25}
    # Without a key, dropout would raise.
    jax.eval_shape(functools.partial(model.apply, train=False), variables, images)


@pytest.mark.parametrize(("name", "mode"), MODES, ids=MODE_NAMES)
def test_bfloat16_has_float32_parameters_and_comes_near(name, mode, key):
    images = noise(8, 16, 16, 3)
    variables = drawn(small(name, **mode), images)
    half, exact = (
        evaluation(name, tuple(mode.items()), dtype)(variables, images)
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    model = small(name, jnp.bfloat16, **mode)
    start = jax.eval_shape(lambda: model.init(key, images, train=False))
    assert {leaf.dtype for leaf in jax.tree.leaves(start)} == {jnp.dtype("float32")}
    assert half.dtype == jnp.float32
    # Eight bits of mantissa, some ten layers.
    assert 0 < np.abs(half - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize(("name", "mode"), MODES, ids=MODE_NAMES)
def test_every_layer_computes_in_the_dtype_and_at_the_precision_asked_for(name, mode, dtype, train):
    *layers, network = calls(small(name, dtype, "bfloat16", **mode), train=train)
    assert network[1] == jnp.float32  # The logits.
    assert len(layers) > 4
    assert {given for _, given in layers} == {jnp.dtype(dtype)}
    convolutions = [module for module, _ in layers if isinstance(module, nn.Conv)]
    assert convolutions
    assert {module.precision for module in convolutions} == {"bfloat16"}


NORMS = [
    (name, key)
    for name in MODELS
    for key in default.get_config().model[name]
    if "batch_norm_" in key
]


@pytest.mark.parametrize(("name", "key"), NORMS)
def test_every_batch_norm_has_the_values_of_its_section(name, key):
    layers = called(small(name, **{key: 0.625}), train=True)
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm)]
    assert {getattr(norm, key.removeprefix("batch_norm_")) for norm in norms} == {0.625}


@pytest.mark.parametrize("name", MODELS)
def test_a_summary_counts_every_parameter_and_ends_with_the_logits(name):
    model = make(name)
    rows = summarize(model, (32, 32, 3))
    trainable, others = count(model)
    assert totals(rows)["trainable"] == trainable
    assert totals(rows)["non_trainable"] == others
    layers = called(model, (32, 32, 3))[:-1]
    assert (rows[0].name, rows[-1].name) == (layers[0].name, layers[-1].name)
    assert rows[-1].output_shape == (10,)


BAD = [(name, *case) for name, entry in ENTRIES.items() for case in entry.bad]


@pytest.mark.parametrize(("name", "changes", "message"), BAD, ids=[str(b[:2]) for b in BAD])
def test_bad_values_are_one_line_naming_key_and_expectation(name, changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        make(name, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_no_key_takes_a_value_of_another_kind(name):
    for key in default.get_config().model[name]:
        for value in (None, object(), "no_such_value", math.nan, {}):
            with pytest.raises(UsageError, match=rf"model\.{name}\.{key}\b") as caught:
                make(name, **{key: value})
            assert "\n" not in str(caught.value)


def test_images_that_are_too_small_are_told_with_the_key():
    with pytest.raises(UsageError, match=r"widths has 3 blocks.* at least 9 x 9 .* got 8 x 32"):
        count(make("airbench"), (8, 32, 3))
    assert count(make("airbench"), (9, 9, 3)) == count(make("airbench"))
    with pytest.raises(UsageError, match=r"images are 1 x 4 pixels, expected at least the 2 x 2"):
        whitening_kernel(jnp.zeros((1, 1, 4, 3)), 2)
