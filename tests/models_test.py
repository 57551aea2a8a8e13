"""The families beside the plain network: parameter counts, shapes, mask, precision, checks."""

import functools
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn.checks import UsageError
from cifar_cnn.models import MODELS, make_model
from cifar_cnn.models.initializers import whitening_kernel
from cifar_cnn.report.summary import summarize, totals
from configs import default
from tests.families import SMALL, drawn, make, noise, small

MODES = [("airbench", {}), ("airbench", {"depth": 3}), ("resnet", {}), ("wide_resnet", {})]


def count(model, shape=(32, 32, 3)):
    """Parameters, and numbers in batch_stats."""
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)
    )
    kinds = (variables["params"], variables["batch_stats"])
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
        ("airbench", {}, 1_971_640),
        ("airbench", {"widths": (128, 384, 384)}, airbench_parameters((128, 384, 384), 2)),
        ("airbench", {"widths": (128, 512, 512), "depth": 3},
         airbench_parameters((128, 512, 512), 3)),
        ("airbench", {"widths": (5,), "whitening_size": 3}, airbench_parameters((5,), 2, 3, 3)),
        # The published figures of ResNet-18 and ResNet-34 for CIFAR, WRN-28-10 and WRN-16-4.
        ("resnet", {}, 11_173_962),
        ("resnet", {"stage_sizes": (3, 4, 6, 3)}, 21_282_122),
        ("wide_resnet", {}, 36_479_194),
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


@pytest.mark.parametrize("shape", [(32, 32, 3), (24, 24, 3), (28, 28, 1), (32, 20, 3)])
@pytest.mark.parametrize("name", sorted(SMALL))
def test_other_image_shapes_fit_and_do_not_change_the_head(name, shape):
    model = small(name)
    images = jnp.zeros((2, *shape))
    logits, variables = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), images, train=False)
    )
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)
    assert variables["params"]["head"]["kernel"].shape[0] == {"airbench": 12, "resnet": 8}.get(
        name, 64
    )


@pytest.mark.parametrize(("name", "changes"), MODES)
def test_masked_rows_change_nothing_and_evaluation_uses_running_statistics(name, changes):
    model = small(name, **changes)
    images = noise(6, 16, 16, 3)
    variables = drawn(model, images)

    @jax.jit
    def run(images, mask):
        return model.apply(variables, images, train=True, mask=mask, mutable=["batch_stats"])

    logits, stats = run(images[:4], None)
    padded, padded_stats = run(images.at[4:].set(1e3), jnp.arange(6) < 4)
    # Float sums of other lengths: some 1e-6 of each layer's values, a few layers deep.
    np.testing.assert_allclose(padded[:4], logits, rtol=1e-4, atol=1e-4)
    for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(padded_stats), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)

    evaluate = jax.jit(functools.partial(model.apply, train=False))
    before, after = evaluate(variables, images), evaluate({**variables, **stats}, images)
    assert np.abs(after - before).max() > 1e-3
    # Each row by itself: no batch statistics.
    others = evaluate(variables, images.at[4:].set(1e3))
    np.testing.assert_allclose(others[:4], before[:4], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_bfloat16_has_float32_parameters_and_comes_near(name, key):
    images = noise(4, 16, 16, 3)
    variables = drawn(small(name), images)
    half, exact = (
        jax.jit(functools.partial(small(name, dtype).apply, train=False))(variables, images)
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    start = jax.eval_shape(lambda: small(name, jnp.bfloat16).init(key, images, train=False))
    assert {leaf.dtype for leaf in jax.tree.leaves(start)} == {jnp.dtype("float32")}
    assert half.dtype == jnp.float32
    # Eight bits of mantissa, some ten layers.
    assert 0 < np.abs(half - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_convolution_computes_at_the_precision_asked_for(name):
    section = {**default.get_config().model[name].to_dict(), **SMALL[name]}
    model = make_model(name, section, num_classes=10, dtype=jnp.float32, precision="bfloat16")
    seen = []

    def record(method, args, kwargs, context):
        if isinstance(context.module, nn.Conv):
            seen.append(context.module.precision)
        return method(*args, **kwargs)

    with nn.intercept_methods(record):
        count(model)
    assert len(seen) > 4
    assert set(seen) == {"bfloat16"}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_summary_counts_every_parameter_and_names_the_head(name):
    model = make(name)
    rows = summarize(model, (32, 32, 3))
    trainable, others = count(model)
    assert totals(rows)["trainable"] == trainable
    assert totals(rows)["non_trainable"] == others
    assert rows[0].name == {"airbench": "whitening"}.get(name, "stem")
    assert (rows[-1].name, rows[-1].output_shape) == ("head", (10,))


BAD = [
    ("airbench", {"widths": ()}, "model.airbench.widths is .*, expected a non-empty tuple"),
    ("airbench", {"widths": (64, 0)}, "model.airbench.widths is 0, expected an integer"),
    ("airbench", {"widths": 64}, "model.airbench.widths is 64, expected a non-empty tuple"),
    ("airbench", {"depth": 4}, "model.airbench.depth is 4, expected an integer from 2 to 3"),
    ("airbench", {"whitening_size": 0}, "model.airbench.whitening_size is 0"),
    ("airbench", {"dirac": 1}, "model.airbench.dirac is 1, expected True or False"),
    ("airbench", {"batch_norm_momentum": 1.0}, "batch_norm_momentum is 1.0, expected .* below 1"),
    ("airbench", {"batch_norm_epsilon": 0.0}, "batch_norm_epsilon is 0.0, expected .* above 0"),
    ("airbench", {"activation": "swish"}, "model.airbench.activation is 'swish'"),
    ("airbench", {"logit_scale": 0.0}, "model.airbench.logit_scale is 0.0"),
    ("resnet", {"stage_sizes": ()}, "model.resnet.stage_sizes is .*, expected a non-empty tuple"),
    ("resnet", {"widths": (64, 128)}, "2 values for 4 stages"),
    ("resnet", {"widths": (64, 128, 256, 0.5)}, "model.resnet.widths is 0.5"),
    ("resnet", {"zero_init_residual": None}, "model.resnet.zero_init_residual is None"),
    ("resnet", {"batch_norm_momentum": -0.1}, "model.resnet.batch_norm_momentum is -0.1"),
    ("wide_resnet", {"depth": 27}, "model.wide_resnet.depth is 27, expected 6 n [+] 4"),
    ("wide_resnet", {"depth": 4}, "model.wide_resnet.depth is 4, expected an integer from 10"),
    ("wide_resnet", {"widen_factor": 0}, "model.wide_resnet.widen_factor is 0"),
    ("wide_resnet", {"dropout": 1.0}, "model.wide_resnet.dropout is 1.0"),
    ("wide_resnet", {"batch_norm_momentum": 2}, "model.wide_resnet.batch_norm_momentum is 2"),
]


@pytest.mark.parametrize(("name", "changes", "message"), BAD, ids=[str(b[:2]) for b in BAD])
def test_bad_values_are_one_line_naming_key_and_expectation(name, changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        make(name, **changes)
    assert "\n" not in str(caught.value)


def test_images_that_are_too_small_are_told_with_the_key():
    with pytest.raises(UsageError, match=r"widths has 3 blocks.* at least 9 x 9 .* got 8 x 32"):
        count(make("airbench"), (8, 32, 3))
    assert count(make("airbench"), (9, 9, 3)) == count(make("airbench"))
    with pytest.raises(UsageError, match=r"images are 1 x 4 pixels, expected at least the 2 x 2"):
        whitening_kernel(jnp.zeros((1, 1, 4, 3)), 2)


def test_every_family_is_tested_here_or_by_itself():
    assert set(MODELS) == {"plain", *SMALL}
