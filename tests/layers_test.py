"""Convolution and pooling against plain numpy, and the shape formulas against both."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cifar_cnn import mesh
from cifar_cnn.checks import UsageError
from cifar_cnn.layers import Conv, Flatten, Pool, conv_general_dilated, output_shape, pool

NHWC = ("NHWC", "HWIO", "NHWC")


def windows(x, kernel, stride, padding, dilation, fill):
    """Every window of x [B, H, W, C] as [B, H', W', kh, kw, C], by loops; and what is inside."""
    pads = [(0, 0), (0, 0)]
    if padding == "SAME":
        for axis in (0, 1):
            n, s = x.shape[1 + axis], stride[axis]
            extent = dilation[axis] * (kernel[axis] - 1) + 1
            total = max((-(-n // s) - 1) * s + extent - n, 0)
            pads[axis] = (total // 2, total - total // 2)
    inside = np.pad(np.ones(x.shape[1:3], bool), pads)
    x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    tops = range(0, x.shape[1] - dilation[0] * (kernel[0] - 1), stride[0])
    lefts = range(0, x.shape[2] - dilation[1] * (kernel[1] - 1), stride[1])
    rows = [[t + i * dilation[0] for i in range(kernel[0])] for t in tops]
    columns = [[c + j * dilation[1] for j in range(kernel[1])] for c in lefts]
    out = np.stack([np.stack([x[:, r][:, :, c] for c in columns], 1) for r in rows], 1)
    kept = np.stack([np.stack([inside[r][:, c] for c in columns]) for r in rows])
    return out, kept


CASES = list(
    itertools.product(
        [(8, 9)], [(3, 3), (2, 4), (1, 1)], [(1, 1), (2, 3)], [(1, 1), (2, 1)],
        ["SAME", "VALID"],
    )
)  # fmt: skip


@pytest.mark.parametrize(("size", "kernel", "stride", "dilation", "padding"), CASES)
def test_conv_and_its_gradients_match_numpy(size, kernel, stride, dilation, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    w = rng.normal(size=(*kernel, 3, 4)).astype(np.float32)
    patches, _ = windows(x.astype(np.float64), kernel, stride, padding, dilation, 0.0)
    expected = np.einsum("bhwijc,ijco->bhwo", patches, w)
    g = rng.normal(size=expected.shape).astype(np.float32)

    def conv(x, w):
        return conv_general_dilated(
            x, w, stride, padding, rhs_dilation=dilation, dimension_numbers=NHWC
        )

    # Inside a loop, where the lowering differs from XLA's own.
    def looped(x, w, g):
        def body(_, carry):
            y, vjp = jax.vjp(conv, x, w)
            return y, *vjp(g)

        zeros = (jnp.zeros_like(g), jnp.zeros_like(x), jnp.zeros_like(w))
        return lax.fori_loop(0, 2, body, zeros)

    y, grad_x, grad_w = jax.jit(looped)(x, w, g)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    assert y.shape[1:3] == output_shape(size, kernel, stride, padding, dilation)
    np.testing.assert_allclose(
        grad_w, np.einsum("bhwijc,bhwo->ijco", patches, g), rtol=1e-5, atol=2e-5
    )
    # The input gradient is the transpose of the forward map: <conv(v), g> = <v, grad_x>.
    for seed in range(3):
        v = np.random.default_rng(seed).normal(size=x.shape)
        moved, _ = windows(v, kernel, stride, padding, dilation, 0.0)
        left = np.sum(np.einsum("bhwijc,ijco->bhwo", moved, w) * g)
        np.testing.assert_allclose(left, np.sum(v * np.asarray(grad_x)), rtol=1e-4, atol=1e-4)


def test_conv_takes_explicit_pads_groups_and_bfloat16():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 4)), jnp.float32)
    w = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 4, 8)), jnp.float32)
    for kernel, options in [
        (w, {"padding": [(2, 0), (1, 3)]}),
        (w[:, :, :2], {"padding": "SAME", "feature_group_count": 2}),
        (w, {"padding": [(1, 1), (1, 1)], "lhs_dilation": (2, 2)}),
        (w.astype(jnp.bfloat16), {"padding": "SAME"}),
    ]:
        images = x.astype(kernel.dtype)

        def both(conv, images=images, kernel=kernel, options=options):
            def loss(kernel):
                out = conv(images, kernel, window_strides=(1, 1), dimension_numbers=NHWC, **options)
                return jnp.sum(out.astype(jnp.float32) ** 2)

            return jax.value_and_grad(loss)(kernel)

        ours, plain = both(conv_general_dilated), both(lax.conv_general_dilated)
        assert ours[1].dtype == kernel.dtype
        tolerance = 2e-2 if kernel.dtype == jnp.bfloat16 else 1e-5
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
            a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
            assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def test_conv_off_the_cpu_is_the_plain_one():
    def grads(x, w):
        def loss(x, w):
            return conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NHWC).sum()

        return jax.grad(loss, (0, 1))(x, w)

    def plain(x, w):
        def loss(x, w):
            return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NHWC).sum()

        return jax.grad(loss, (0, 1))(x, w)

    shapes = jnp.zeros((4, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))

    def convolutions(function, platform):
        text = jax.export.export(jax.jit(function), platforms=[platform])(*shapes).mlir_module()
        return sorted(
            line.split("dim_numbers")[1].split("window")[0]
            for line in text.splitlines()
            if "stablehlo.convolution" in line
        )

    for platform in ("cuda", "tpu"):
        assert convolutions(grads, platform) == convolutions(plain, platform)
        assert len(convolutions(grads, platform)) == 2
    assert convolutions(grads, "cpu") != convolutions(plain, "cpu")


def test_conv_gradients_over_devices_need_one_all_reduce_and_no_gather():
    devices = mesh.make_mesh(jax.devices()[:4])

    def grad(w, x):
        def loss(w):
            return jnp.sum(conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NHWC) ** 2)

        return jax.grad(loss)(w)

    x = jax.device_put(jnp.ones((8, 8, 8, 3)), mesh.batch_sharded(devices))
    w = jax.device_put(jnp.ones((3, 3, 3, 5)), mesh.replicated(devices))
    compiled = jax.jit(grad, out_shardings=mesh.replicated(devices)).lower(w, x).compile()
    text = compiled.as_text()
    assert text.count(" all-reduce(") == 1
    assert "all-gather" not in text
    assert "all-to-all" not in text


POOL_CASES = list(
    itertools.product(
        ["max", "avg"], [(7, 9)], [(2, 2), (3, 2)], [(1, 1), (2, 2), (3, 2)],
        ["SAME", "VALID"],
    )
)  # fmt: skip


@pytest.mark.parametrize(("kind", "size", "window", "stride", "padding"), POOL_CASES)
def test_pool_matches_numpy(kind, size, window, stride, padding):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    fill = -np.inf if kind == "max" else 0.0
    patches, inside = windows(x.astype(np.float64), window, stride, padding, (1, 1), fill)
    if kind == "max":
        expected = patches.max((3, 4))
    else:
        expected = patches.sum((3, 4)) / inside.sum((2, 3))[None, :, :, None]
    got = jax.jit(pool, static_argnums=(1, 2, 3, 4))(x, kind, window, stride, padding)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert got.shape[1:3] == output_shape(size, window, stride, padding)


def test_max_pool_gives_the_gradient_of_a_tie_to_the_first():
    x = jnp.ones((1, 4, 4, 1))
    grad = jax.grad(lambda x: pool(x, "max", (2, 2), (2, 2)).sum())(x)[0, :, :, 0]
    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(grad, expected)
    # As flax's own pooling does.
    np.testing.assert_array_equal(
        grad, jax.grad(lambda x: nn.max_pool(x, (2, 2), (2, 2)).sum())(x)[0, :, :, 0]
    )


@pytest.mark.parametrize("place", range(4))
def test_max_pool_keeps_nan(place):
    x = jnp.zeros(4).at[place].set(jnp.nan).reshape(1, 2, 2, 1)
    assert jnp.isnan(pool(x, "max", (2, 2), (2, 2))).all()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        (28, 3, 1, "VALID", 26),
        (28, 5, 1, "VALID", 24),
        (28, 3, 1, "SAME", 28),
        (28, 4, 1, "VALID", 25),
        (26, 2, 2, "VALID", 13),
        (13, 2, 2, "VALID", 6),
        (13, 2, 2, "SAME", 7),
        (32, 3, 2, "SAME", 16),
        (32, 3, 2, "VALID", 15),
    ],
)
def test_output_shape_of_the_lessons(size, kernel, stride, padding, expected):
    got = output_shape((size, 40), (kernel, 1), (stride, 1), padding)
    assert got == (expected, 40)


def test_layers_have_the_shapes_of_the_formulas(key):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = Conv(5, (3, 3), strides=2, padding="VALID")(x)
            x = Pool("avg", 3, 2, "SAME")(x)
            return Flatten()(x)

    x = jnp.zeros((2, 13, 11, 3))
    shape = output_shape((13, 11), (3, 3), (2, 2), "VALID")
    height, width = output_shape(shape, (3, 3), (2, 2), "SAME")
    out, _ = Net().init_with_output(key, x)
    assert out.shape == (2, height * width * 5)


def test_a_kernel_larger_than_its_input_is_told():
    with pytest.raises(UsageError, match=r"extent 5 does not fit an input of size 4.*SAME"):
        output_shape((4, 4), (3, 3), (1, 1), "VALID", (2, 2))
    with pytest.raises(UsageError, match="does not fit"):
        conv_general_dilated(
            jnp.zeros((1, 2, 2, 1)), jnp.zeros((3, 3, 1, 1)), (1, 1), "VALID",
            dimension_numbers=NHWC,
        )  # fmt: skip
    with pytest.raises(UsageError, match="does not fit"):
        pool(jnp.zeros((1, 1, 1, 1)), "max", (2, 2), (2, 2))
    with pytest.raises(UsageError, match="expected one of: SAME, VALID"):
        pool(jnp.zeros((1, 4, 4, 1)), "max", (2, 2), (2, 2), "FULL")
