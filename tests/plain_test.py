"""The plain network: the lessons' parameter counts, per-stage options, kinds of convolution."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn.checks import UsageError
from cifar_cnn.layers import ACTIVATIONS
from cifar_cnn.models import MODELS, make_model
from configs import default


def make(**changes):
    section = {**default.get_config().model.plain.to_dict(), **changes}
    return make_model("plain", section, num_classes=10, dtype=jnp.float32)


def init(model, key, images):
    return jax.jit(functools.partial(model.init, train=False))(key, images)


def count(model, shape):
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)
    )
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("changes", "shape", "expected"),
    [
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


def test_activations_are_their_definitions():
    x = np.linspace(-4, 4, 33)
    sigmoid = 1 / (1 + np.exp(-x))
    cubic = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    definitions = {
        "relu": np.maximum(x, 0),
        "elu": np.where(x > 0, x, np.exp(x) - 1),
        "gelu": x * (1 + np.tanh(cubic)) / 2,
        "leaky_relu": np.where(x > 0, x, 0.01 * x),
        "sigmoid": sigmoid,
        "silu": x * sigmoid,
        "tanh": np.tanh(x),
    }
    for name, expected in definitions.items():
        got = ACTIVATIONS[name](jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_a_layer_of_any_network(activation):
    model = make(filters=((4,),), activation=activation, dense=(5,))
    logits = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), jnp.ones((2, 8, 8, 3)), train=False)[0]
    )
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)


def test_parameters_are_named_and_begin_as_before_there_were_kinds(key):
    model = make(filters=((4, 5), (6,)), dense=(7,), batch_norm=True)
    variables = init(model, key, jnp.zeros((1, 8, 8, 3)))
    names = ["BatchNorm_0", "BatchNorm_1", "BatchNorm_2"]
    names += ["Conv_0", "Conv_1", "Conv_2", "Dense_0", "Dense_1"]
    assert sorted(variables["params"]) == names
    # flax's own convolution under the same name draws the same numbers.

    class Named(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(4, (3, 3), use_bias=False, name="Conv_0")(x)

    reference = jax.jit(Named().init)(key, jnp.zeros((1, 8, 8, 3)))["params"]["Conv_0"]["kernel"]
    np.testing.assert_array_equal(variables["params"]["Conv_0"]["kernel"], reference)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"conv": "depthwise", "filters": ((6,),)}, 9 * 6 + 6),
        ({"conv": "separable", "filters": ((6,),)}, 9 * 3 + 3 * 6 + 6),
        ({"conv": "separable", "filters": ((6,),), "batch_norm": True}, 9 * 3 + 3 * 6 + 12),
        ({"groups": 3, "filters": ((6,),)}, 9 * 1 * 6 + 6),
        ({"groups": (1, 2), "filters": ((4,), (6,))}, 9 * 3 * 4 + 4 + 9 * 2 * 6 + 6),
        ({"conv": "transposed", "filters": ((6,),)}, 9 * 3 * 6 + 6),
        ({"conv": ("standard", "separable"), "filters": ((4,), (6,)), "kernel_size": (1, 5)},
         3 * 4 + 4 + 25 * 4 + 4 * 6 + 6),
        ({"dilation": 2, "filters": ((6,),)}, 9 * 3 * 6 + 6),
    ],
)  # fmt: skip
def test_parameters_of_every_kind_of_convolution(changes, expected):
    last = changes["filters"][-1][-1]
    model = make(dense=(), **changes)
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    )
    head = variables["params"]["Dense_0"]["kernel"].shape[0]
    assert head % last == 0
    assert count(model, (16, 16, 3)) == expected + head * 10 + 10


def test_a_separable_convolution_is_one_matrix_product_after_a_depthwise_one(key):
    model = make(conv="separable", filters=((5,),), pool="none", activation="tanh", dense=())
    images = jax.random.normal(key, (2, 6, 6, 3))
    variables = init(model, key, images)
    params = variables["params"]
    depthwise, pointwise = params["Conv_0"]["kernel"], params["Conv_1"]["kernel"][0, 0]
    # Equal to a full convolution whose kernel is the product of the two.
    kernel = jnp.einsum("ijc,cf->ijcf", depthwise[:, :, 0], pointwise)
    x = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jnp.tanh(x + params["Conv_1"]["bias"].reshape(1, 1, 1, -1)).reshape(2, -1)
    expected = x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"].reshape(1, -1)
    got = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_a_transposed_stage_enlarges_and_every_kind_trains(key):
    model = make(
        filters=((4,), (8,), (4,)), conv=("standard", "depthwise", "transposed"),
        stride=(2, 1, 2), dilation=(1, 2, 1), pool="none", dense=(),
    )  # fmt: skip
    images = jax.random.normal(key, (2, 8, 8, 3))
    variables = init(model, key, images)
    assert variables["params"]["Dense_0"]["kernel"].shape == (8 * 8 * 4, 10)
    assert "TransposedConv_0" in variables["params"]

    def loss(params):
        logits = model.apply({"params": params}, images, train=True)
        return (logits**2).mean()

    grads = jax.jit(jax.grad(loss))(variables["params"])
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": 2}, r"model.plain.groups is 2 for layer Conv_0 \(stage 1\).* 3 input channels"),
        (
            {"groups": (1, 5)},
            r"model.plain.groups is 5 for layer Conv_2 \(stage 2\), expected a divisor of both its "
            "32 input channels and its 64 filters",
        ),
        (
            {"conv": "depthwise"},
            r"model.plain.filters has 32 for layer Conv_0 \(stage 1\), expected a multiple of its ",
        ),
        (
            {"padding": "VALID", "kernel_size": (3, 9)},
            r"model.plain.kernel_size, layer Conv_3 \(stage 2\): a kernel of extent 9 does not fit "
            "an input of size 6",
        ),
        (
            {"padding": "VALID", "kernel_size": (3, 3), "dilation": (1, 4)},
            r"model.plain.kernel_size and dilation, layer Conv_3 \(stage 2\): a kernel of extent 9",
        ),
        (
            {"pool_size": (2, 20)},
            r"model.plain.pool_size, layer Pool_1 \(stage 2\): a kernel of extent 20 does not fit "
            "an input of size 16",
        ),
    ],
)
def test_what_does_not_fit_names_the_layer_and_the_key_before_compiling(changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        count(make(**changes), (32, 32, 3))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "unread"),
    [
        ({}, set()),
        ({"conv": "separable"}, {"groups"}),
        ({"conv": ("depthwise", "transposed")}, {"groups"}),
        ({"conv": ("depthwise", "standard")}, set()),
        ({"kernel_size": 1}, {"dilation"}),
        ({"kernel_size": (1, 3)}, set()),
        (
            {"filters": ()},
            {"conv", "kernel_size", "stride", "padding", "dilation", "groups", "pool", "pool_size",
             "pool_stride", "conv_dropout", "batch_norm"},
        ),
    ],
)  # fmt: skip
def test_keys_that_nothing_reads_are_told(changes, unread):
    section = {**default.get_config().model.plain.to_dict(), **changes}
    assert set(MODELS["plain"][1](section)) == unread
