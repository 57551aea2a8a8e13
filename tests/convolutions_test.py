"""Every kind of convolution against plain loops, and the network that is made of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from cifar_cnn import mesh
from cifar_cnn.checks import UsageError
from cifar_cnn.layers import (
    TransposedConv,
    conv_general_dilated,
    conv_transposed,
    output_shape,
    transposed_output_shape,
)

NHWC = ("NHWC", "HWIO", "NHWC")


def same_pads(n, extent, stride):
    total = max((-(-n // stride) - 1) * stride + extent - n, 0)
    return total // 2


def convolve(x, w, stride, dilation, groups, padding):
    """The definition, one output number at a time."""
    batch, height, width, channels = x.shape
    kh, kw, _, filters = w.shape
    extent = [d * (k - 1) + 1 for k, d in zip((kh, kw), dilation, strict=True)]
    low, out = [0, 0], []
    for axis, n in enumerate((height, width)):
        if padding == "SAME":
            low[axis] = same_pads(n, extent[axis], stride[axis])
            out.append(-(-n // stride[axis]))
        else:
            out.append((n - extent[axis]) // stride[axis] + 1)
    y = np.zeros((batch, *out, filters))
    own = channels // groups
    for i, j, f in itertools.product(range(out[0]), range(out[1]), range(filters)):
        first = own * (f // (filters // groups))
        for a, b in itertools.product(range(kh), range(kw)):
            row = i * stride[0] + a * dilation[0] - low[0]
            column = j * stride[1] + b * dilation[1] - low[1]
            if 0 <= row < height and 0 <= column < width:
                y[:, i, j, f] += x[:, row, column, first : first + own] @ w[a, b, :, f]
    return y


def stamp(x, w, stride, dilation, padding):
    """Transposed convolution by its definition: every pixel stamps the kernel."""
    batch, height, width, _ = x.shape
    kh, kw, _, filters = w.shape
    extent = [d * (k - 1) + 1 for k, d in zip((kh, kw), dilation, strict=True)]
    sizes = [
        (n - 1) * s + max(e, s) for n, s, e in zip((height, width), stride, extent, strict=True)
    ]
    y = np.zeros((batch, *sizes, filters))
    for i, j, a, b in itertools.product(range(height), range(width), range(kh), range(kw)):
        row, column = i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]
        y[:, row, column] += x[:, i, j] @ w[a, b]
    if padding == "SAME":
        low = [max(e - s, 0) // 2 for e, s in zip(extent, stride, strict=True)]
        y = y[:, low[0] :, low[1] :][:, : height * stride[0], : width * stride[1]]
    return y


def value_and_gradients(function, x, w, g):
    """Output and gradients of sum(function(x, w) * g), computed in a loop as training does."""

    def looped(x, w, g):
        def body(_, carry):
            y, vjp = jax.vjp(function, x, w)
            return y, *vjp(g)

        return lax.fori_loop(0, 2, body, (jnp.zeros_like(g), jnp.zeros_like(x), jnp.zeros_like(w)))

    return jax.jit(looped)(x, w, g)


def check(function, reference, x, w):
    """The value, and both gradients: the map is linear in x and in w, so the derivative in any
    direction is the reference's own value there."""
    rng = np.random.default_rng(1)
    expected = reference(x, w)
    g = rng.normal(size=expected.shape).astype(np.float32)
    y, grad_x, grad_w = value_and_gradients(function, x, w, g)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for _ in range(2):
        dx, dw = rng.normal(size=x.shape), rng.normal(size=w.shape)
        for got, direction, moved in (
            (grad_x, dx, reference(dx, w)), (grad_w, dw, reference(x, dw))
        ):  # fmt: skip
            np.testing.assert_allclose(
                np.sum(np.asarray(got, np.float64) * direction), np.sum(moved * g),
                rtol=1e-4, atol=1e-4,
            )  # fmt: skip


KINDS = {
    # name: channels, filters, kernel, stride, dilation, groups, padding
    "strided": (3, 4, (3, 3), (2, 2), (1, 1), 1, "SAME"),
    "dilated": (3, 4, (3, 2), (1, 1), (2, 3), 1, "VALID"),
    "pointwise": (5, 3, (1, 1), (1, 1), (1, 1), 1, "SAME"),
    "pointwise strided": (4, 3, (1, 1), (3, 2), (1, 1), 1, "VALID"),
    "grouped": (4, 6, (3, 3), (1, 1), (1, 1), 2, "SAME"),
    "grouped, strided, dilated": (6, 9, (2, 3), (2, 1), (2, 2), 3, "SAME"),
    "depthwise": (4, 4, (3, 3), (1, 1), (1, 1), 4, "SAME"),
    "depthwise, 3 filters a channel": (2, 6, (3, 2), (1, 1), (1, 1), 2, "VALID"),
    "depthwise, strided, dilated": (3, 3, (3, 3), (2, 3), (2, 1), 3, "SAME"),
    "depthwise with windows apart": (3, 3, (2, 2), (3, 3), (1, 1), 3, "SAME"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_convolutions_match_the_definition(kind):
    channels, filters, kernel, stride, dilation, groups, padding = KINDS[kind]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 8, channels)).astype(np.float32)
    w = rng.normal(size=(*kernel, channels // groups, filters)).astype(np.float32)

    def ours(x, w):
        return conv_general_dilated(
            x, w, stride, padding, rhs_dilation=dilation, dimension_numbers=NHWC,
            feature_group_count=groups,
        )  # fmt: skip

    check(ours, lambda x, w: convolve(x, w, stride, dilation, groups, padding), x, w)
    assert ours(x, w).shape[1:3] == output_shape((7, 8), kernel, stride, padding, dilation)


TRANSPOSED = [
    ((3, 3), (2, 2), (1, 1), "SAME"),
    ((3, 3), (2, 2), (1, 1), "VALID"),
    ((4, 2), (2, 2), (1, 1), "SAME"),
    ((3, 3), (1, 1), (1, 1), "SAME"),
    ((2, 1), (3, 2), (1, 1), "SAME"),
    ((2, 1), (3, 2), (1, 1), "VALID"),
    ((3, 2), (2, 3), (2, 2), "SAME"),
]


@pytest.mark.parametrize(("kernel", "stride", "dilation", "padding"), TRANSPOSED)
def test_transposed_convolutions_match_the_definition(kernel, stride, dilation, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 3, 3)).astype(np.float32)
    w = rng.normal(size=(*kernel, 3, 2)).astype(np.float32)

    def ours(x, w):
        return conv_transposed(x, w, stride, padding, dilation)

    check(ours, lambda x, w: stamp(x, w, stride, dilation, padding), x, w)
    if dilation == (1, 1):  # lax writes the kernel the other way round.
        theirs = lax.conv_transpose(x, w[::-1, ::-1], stride, padding, dimension_numbers=NHWC)
        np.testing.assert_allclose(ours(x, w), theirs, rtol=1e-5, atol=1e-5)


def test_a_transposed_convolution_is_the_gradient_of_the_convolution():
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=(3, 3, 2, 5)), jnp.float32)
    grad = jnp.asarray(rng.normal(size=(1, 4, 4, 5)), jnp.float32)
    image = jnp.zeros((1, 8, 8, 2))
    _, vjp = jax.vjp(lambda x: lax.conv_general_dilated(x, w, (2, 2), "SAME",
                                                        dimension_numbers=NHWC), image)  # fmt: skip
    ours = conv_transposed(grad, w.transpose(0, 1, 3, 2), (2, 2), "SAME")
    np.testing.assert_allclose(ours, vjp(grad)[0], rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["SAME", "VALID"]),
)
def test_shape_formulas_are_those_of_lax(size, kernel, stride, dilation, padding):
    image = jax.ShapeDtypeStruct((1, *size, 1), jnp.float32)
    weights = jax.ShapeDtypeStruct((*kernel, 1, 1), jnp.float32)

    def shape(function, *arguments):
        return jax.eval_shape(function, *arguments).shape[1:3]

    got = shape(
        lambda x, w: lax.conv_transpose(x, w, stride, padding, dilation, NHWC), image, weights
    )
    assert got == transposed_output_shape(size, kernel, stride, padding, dilation)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding == "VALID" and any(e > n for e, n in zip(spans, size, strict=True)):
        with pytest.raises(UsageError, match="does not fit"):
            output_shape(size, kernel, stride, padding, dilation)
        return
    got = shape(
        lambda x, w: lax.conv_general_dilated(
            x, w, stride, padding, rhs_dilation=dilation, dimension_numbers=NHWC
        ),
        image,
        weights,
    )
    assert got == output_shape(size, kernel, stride, padding, dilation)
    pooled = shape(
        lambda x: lax.reduce_window(
            x, 0.0, lax.add, (1, *kernel, 1), (1, *stride, 1), padding,
            window_dilation=(1, *dilation, 1),
        ),
        image,
    )  # fmt: skip
    assert pooled == output_shape(size, kernel, stride, padding, dilation)


def operations(function, platform, *shapes):
    """Convolutions of a program: how their axes are used, and their groups."""
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    exported = jax.export.export(jax.jit(function), platforms=[platform])(*arguments)
    return sorted(
        (line.split("dim_numbers")[1].split("window")[0], line.split("feature_group_count")[1][:6])
        for line in exported.mlir_module().splitlines()
        if "stablehlo.convolution" in line
    )


@pytest.mark.parametrize("groups", [2, 4])
def test_groups_are_one_plain_convolution_off_the_cpu(groups):
    def gradients(conv):
        def loss(x, w):
            return conv(
                x, w, (1, 1), "SAME", dimension_numbers=NHWC, feature_group_count=groups
            ).sum()

        return jax.grad(loss, (0, 1))

    shapes = (2, 8, 8, 4), (3, 3, 4 // groups, 8)
    ours, plain = gradients(conv_general_dilated), gradients(lax.conv_general_dilated)
    for platform in ("cuda", "tpu"):
        assert operations(ours, platform, *shapes) == operations(plain, platform, *shapes)
    assert operations(ours, "cpu", *shapes) != operations(plain, "cpu", *shapes)


def test_a_transposed_convolution_is_one_input_dilated_one_off_the_cpu():
    def ours(x, w):
        return conv_transposed(x, w, (2, 2), "SAME")

    shapes = (2, 4, 4, 3), (3, 3, 3, 5)
    assert len(operations(ours, "cuda", *shapes)) == 1
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.export.export(jax.jit(ours), platforms=["cuda"])(*arguments).mlir_module()
    assert "lhs_dilate = [2, 2]" in text
    assert "stablehlo.pad" not in text


@pytest.mark.parametrize("kind", ["grouped", "depthwise", "transposed"])
def test_gradients_over_devices_need_one_all_reduce_and_no_gather(kind):
    devices = mesh.make_mesh(jax.devices()[:4])
    groups = {"grouped": 2, "depthwise": 4, "transposed": 1}[kind]

    def grad(w, x):
        def loss(w):
            if kind == "transposed":
                return jnp.sum(conv_transposed(x, w, (2, 2), "SAME") ** 2)
            return jnp.sum(
                conv_general_dilated(
                    x, w, (1, 1), "SAME", dimension_numbers=NHWC, feature_group_count=groups
                )
                ** 2
            )

        return jax.grad(loss)(w)

    x = jax.device_put(jnp.ones((8, 6, 6, 4)), mesh.batch_sharded(devices))
    w = jax.device_put(jnp.ones((3, 3, 4 // groups, 4)), mesh.replicated(devices))
    text = jax.jit(grad, out_shardings=mesh.replicated(devices)).lower(w, x).compile().as_text()
    assert text.count(" all-reduce(") >= 1
    assert "all-gather" not in text
    assert "all-to-all" not in text


def test_transposed_conv_as_a_layer_has_bias_and_dtype(key):
    x = jnp.ones((2, 3, 3, 4))
    layer = TransposedConv(5, (3, 3), (2, 2), dtype=jnp.bfloat16)
    y, variables = jax.jit(layer.init_with_output)(key, x)
    assert (y.shape, y.dtype) == ((2, 6, 6, 5), jnp.bfloat16)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), variables["params"])
    assert shapes == {"kernel": ((3, 3, 4, 5), "float32"), "bias": ((5,), "float32")}
    exact = stamp(np.asarray(x), np.asarray(variables["params"]["kernel"]), (2, 2), (1, 1), "SAME")
    np.testing.assert_allclose(np.asarray(y, np.float32), exact, rtol=2e-2, atol=2e-2)
    variables["params"]["bias"] = bias = jnp.arange(5.0)
    np.testing.assert_allclose(
        np.asarray(layer.apply(variables, x), np.float32),
        exact + np.asarray(bias),
        rtol=2e-2,
        atol=3e-2,
    )
