"""Every network in evaluation against its definition, written out in numpy and in float64."""

import functools

import jax
import numpy as np
import pytest

from tests.families import drawn, noise, small


def relu(x):
    return np.maximum(x, 0)


def conv(x, layer, stride=1, pads=(0, 0), dilation=1):
    """A convolution whose image has so many zeros before and after on both axes."""
    kernel = layer["kernel"]
    x = np.pad(x, ((0, 0), pads, pads, (0, 0)))
    spans = [dilation * (k - 1) + 1 for k in kernel.shape[:2]]
    windows = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(1, 2))
    windows = windows[:, ::stride, ::stride, :, ::dilation, ::dilation]
    return np.einsum("bhwcij,ijcf->bhwf", windows, kernel) + layer.get("bias", 0)


def dense(x, layer):
    return x @ layer["kernel"] + layer.get("bias", 0)


def pooled(x, kind, window, stride):
    windows = np.lib.stride_tricks.sliding_window_view(x, (window, window), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    return windows.max((4, 5)) if kind == "max" else windows.mean((4, 5))


def norm(x, name, params, stats, epsilon=1e-5):
    """Batch normalisation with the running statistics."""
    mean, variance = stats[name]["mean"], stats[name]["var"]
    layer = params[name]
    return (x - mean) / np.sqrt(variance + epsilon) * layer.get("scale", 1) + layer["bias"]


def basic_block(x, params, stats, stride):
    shortcut = x
    x = relu(norm(conv(x, params["Conv_0"], stride, (1, 1)), "BatchNorm_0", params, stats))
    x = norm(conv(x, params["Conv_1"], 1, (1, 1)), "BatchNorm_1", params, stats)
    if x.shape != shortcut.shape:
        shortcut = conv(shortcut, params["shortcut"], stride)
        shortcut = norm(shortcut, "shortcut_norm", params, stats)
    return relu(x + shortcut)


def resnet(x, params, stats):
    """Blocks of 4, 8 and 8 filters; the second halves the image."""
    x = relu(norm(conv(x, params["stem"], 1, (1, 1)), "BatchNorm_0", params, stats))
    for block, stride in enumerate((1, 2, 1)):
        name = f"BasicBlock_{block}"
        x = basic_block(x, params[name], stats[name], stride)
    return dense(x.mean(axis=(1, 2)), params["head"])


def pre_activation_block(x, params, stats, stride):
    shortcut = x
    x = relu(norm(x, "BatchNorm_0", params, stats))
    if "shortcut" in params:
        shortcut = conv(x, params["shortcut"], stride)
    x = conv(x, params["Conv_0"], stride, (1, 1))
    x = relu(norm(x, "BatchNorm_1", params, stats))
    return conv(x, params["Conv_1"], 1, (1, 1)) + shortcut


def wide_resnet(x, params, stats):
    x = conv(x, params["stem"], 1, (1, 1))
    for block, stride in enumerate((1, 2, 2)):
        name = f"PreActivationBlock_{block}"
        x = pre_activation_block(x, params[name], stats[name], stride)
    x = relu(norm(x, "BatchNorm_0", params, stats)).mean(axis=(1, 2))
    return dense(x, params["head"])


def airbench_block(x, params, stats, depth):
    x = pooled(conv(x, params["Conv_0"], 1, (1, 1)), "max", 2, 2)
    shortcut = x = relu(norm(x, "BatchNorm_0", params, stats, 0.5))
    for number in range(1, depth):
        x = conv(x, params[f"Conv_{number}"], 1, (1, 1))
        x = norm(x, f"BatchNorm_{number}", params, stats, 0.5)
        if number < depth - 1:
            x = relu(x)
    return relu(x + shortcut if depth == 3 else x)


def airbench(x, params, stats, depth):
    x = relu(conv(x, params["whitening"]))
    for block in range(2):
        name = f"Block_{block}"
        x = airbench_block(x, params[name], stats[name], depth)
    return dense(0.25 * x.max(axis=(1, 2)), params["head"])


PLAIN = {
    "filters": ((4, 5), (6,)),
    "kernel_size": (3, 2),
    "stride": (2, 1),
    "padding": ("SAME", "VALID"),
    "dilation": (1, 2),
    "pool": ("avg", "max"),
    "pool_size": (3, 2),
    "pool_stride": (2, 1),
    "dense": (7,),
    "conv_dropout": 0.5,
    "dense_dropout": 0.5,
}


def plain(x, params, stats):
    """Of 45 x 45 pixels: 23, 12, and 5 after the pooling; then 3 and 2."""
    for number, pads in enumerate([(1, 1), (1, 1)]):
        name = f"BatchNorm_{number}"
        x = relu(norm(conv(x, params[f"Conv_{number}"], 2, pads), name, params, stats))
    x = pooled(x, "avg", 3, 2)
    x = relu(norm(conv(x, params["Conv_2"], dilation=2), "BatchNorm_2", params, stats))
    x = pooled(x, "max", 2, 1).reshape(len(x), -1)
    return dense(relu(dense(x, params["Dense_0"])), params["Dense_1"])


AIRBENCH = {"activation": "relu", "logit_scale": 0.25, "batch_norm_epsilon": 0.5}
DEFINITIONS = {
    "resnet": ("resnet", {}, resnet, 8),
    "wide_resnet": ("wide_resnet", {"dropout": 0.5}, wide_resnet, 8),
    "airbench": ("airbench", AIRBENCH, functools.partial(airbench, depth=2), 9),
    "airbench of depth 3": (
        "airbench", {**AIRBENCH, "depth": 3}, functools.partial(airbench, depth=3), 9,
    ),
    "plain": ("plain", {**PLAIN, "batch_norm": True}, plain, 45),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_network_is_its_definition(name):
    family, changes, definition, size = DEFINITIONS[name]
    model, images = small(family, **changes), noise(2, size, size, 3)
    rng = np.random.default_rng(1)

    def spread(path, leaf):
        """Scales and variances beside 1."""
        named = path[-1].key in ("scale", "var")
        return np.float32(rng.uniform(0.5, 2, leaf.shape)) if named else leaf

    variables = jax.tree_util.tree_map_with_path(spread, drawn(model, images))
    got = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (images, variables))
    expected = definition(exact[0], exact[1]["params"], exact[1]["batch_stats"])
    # Rounding of float32, some ten layers deep.
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
