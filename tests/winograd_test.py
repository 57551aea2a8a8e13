"""Minimal filtering against the plain convolution: forward and both gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cifar_cnn.layers import Conv, conv_general_dilated, winograd

NHWC = ("NHWC", "HWIO", "NHWC")
# Share of the outputs' root mean square. bfloat16 keeps 8 bits, so factors are off by up to 2^-9;
# the transforms amplify that to 0.7 %. float32 has 2^-24.
TOLERANCE = {None: 3e-6, "bfloat16": 1e-2}
CASES = [
    ((2, 8, 8, 16), 16, "SAME"),
    ((2, 7, 15, 24), 64, "SAME"),
    ((3, 31, 9, 16), 32, "VALID"),
    ((1, 3, 3, 32), 16, "SAME"),
    ((2, 2, 1, 16), 16, "SAME"),
    ((2, 5, 6, 16), 48, ((0, 2), (2, 1))),
]


def arrays(shape, features):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=(3, 3, shape[3], features)).astype(np.float32)
    return x, kernel


def everything(conv, x, kernel, padding, precision):
    """The outputs and both gradients of a random sum of them."""
    y, pull = jax.vjp(
        lambda x, w: conv(
            x, w, (1, 1), padding, dimension_numbers=NHWC, precision=precision
        ),
        x,
        kernel,
    )  # fmt: skip
    grad = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    return y, *pull(grad)


def distance(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2))


@pytest.mark.parametrize("precision", [None, "bfloat16"])
@pytest.mark.parametrize(("shape", "features", "padding"), CASES)
def test_equals_the_plain_convolution_forward_and_backward(shape, features, padding, precision):
    x, kernel = arrays(shape, features)
    got = everything(conv_general_dilated, x, kernel, padding, precision)
    expected = everything(lax.conv_general_dilated, x, kernel, padding, "float32")
    for ours, plain in zip(got, expected, strict=True):
        assert ours.shape == plain.shape
        assert distance(ours, plain) < TOLERANCE[precision]
    if precision == "bfloat16":  # Or else it is not what was asked for.
        assert all(distance(a, b) > 1e-3 for a, b in zip(got, expected, strict=True))


def test_float32_is_the_plain_convolution():
    x, kernel = arrays((2, 8, 8, 16), 16)
    got = everything(conv_general_dilated, x, kernel, "SAME", "float32")
    np.testing.assert_array_equal(
        got[0], everything(lax.conv_general_dilated, x, kernel, "SAME", "float32")[0]
    )


def test_the_same_inside_a_loop_and_under_vmap():
    x, kernel = arrays((4, 2, 7, 7, 16), 16)[0], arrays((2, 7, 7, 16), 16)[1]

    def conv(x):
        return conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NHWC)

    one_by_one = jax.jit(lambda x: lax.map(conv, x))(x)
    np.testing.assert_allclose(jax.vmap(conv)(x), one_by_one, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(conv(x[1]), one_by_one[1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "strides", "dilation"),
    [
        ((3, 3, 16, 16), (2, 2), (1, 1)),
        ((3, 3, 16, 16), (1, 1), (2, 2)),
        ((5, 5, 16, 16), (1, 1), (1, 1)),
        ((3, 3, 3, 64), (1, 1), (1, 1)),
    ],
)
def test_other_convolutions_are_left_alone(kernel, strides, dilation):
    assert winograd.pays((3, 3, 16, 16), (1, 1), (1, 1))
    assert not winograd.pays(kernel, strides, dilation)


@pytest.mark.parametrize(("strides", "dilation"), [((2, 2), (1, 1)), ((1, 1), (2, 2))])
def test_strides_and_gaps_are_those_of_the_plain_convolution(strides, dilation):
    x, kernel = arrays((2, 8, 8, 16), 16)

    def made(conv):
        return conv(x, kernel, strides, "SAME", rhs_dilation=dilation, dimension_numbers=NHWC)

    ours, plain = made(conv_general_dilated), made(lax.conv_general_dilated)
    assert distance(ours, plain) < TOLERANCE[None]


@pytest.mark.parametrize("precision", [None, "default", "bfloat16", "float32"])
def test_the_layer_takes_minimal_filtering_at_the_precision_asked_for(precision):
    layer = Conv(16, (3, 3), precision=precision)
    x = jax.ShapeDtypeStruct((2, 8, 8, 16), jnp.float32)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)
    text = jax.export.export(jax.jit(layer.apply), platforms=["cpu"])(params, x).mlir_module()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) == (precision != "float32")
    assert all(("bf16" in line) == (precision == "bfloat16") for line in products)
    # Sums are float32.
    assert all(line.rstrip().endswith("xf32>") or "xf32> loc" in line for line in products)


def test_off_the_cpu_it_is_the_plain_convolution():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 8, 8, 16), (3, 3, 16, 16))]

    def operations(conv, platform):
        def loss(x, w):
            y = conv(x, w, (1, 1), "SAME", dimension_numbers=NHWC, precision="bfloat16")
            return jnp.sum(y**2)

        function = jax.jit(jax.grad(loss, (0, 1)))
        text = jax.export.export(function, platforms=[platform])(*shapes).mlir_module()
        lines = [line.split("stablehlo.")[1] for line in text.splitlines() if "stablehlo." in line]
        names = [line.split("(")[0].split(" ")[0] for line in lines]
        return sorted(n for n in names if n in ("convolution", "dot_general", "concatenate"))

    for platform in ("cuda", "tpu"):
        assert operations(conv_general_dilated, platform) == ["convolution"] * 3
    assert "dot_general" in operations(conv_general_dilated, "cpu")
