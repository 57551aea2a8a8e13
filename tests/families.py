"""One entry for each family of networks: what the tests make of it; and networks made, drawn and
looked into.

What stands in `models.MODELS` is tested by models_test.py and by all else that goes over the
families. Without an entry here it is tested at its size in configs/default.py, which takes long,
and one test says that the entry is missing.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cifar_cnn.models import MODELS, make_model
from configs import default


class Family(NamedTuple):
    """What the tests know of a family.

    Attributes:
      small: settings of a network that compiles in a second or two, for images of 16 x 16.
      wide: settings of a network as wide as its section in configs/default.py, of few layers.
      modes: beside these, one for each way in which the network is put together. Dropout is left to
        tests of its own, because it blurs what these compare.
      bad: settings at fault, and the error that tells of them.
    """

    small: dict[str, Any]
    wide: dict[str, Any]
    modes: tuple[dict[str, Any], ...] = ({},)
    bad: tuple[tuple[dict[str, Any], str], ...] = ()


FAMILIES = {
    "plain": Family(
        {"filters": ((6,), (4,)), "dense": (8,)},
        {},
        (
            {"batch_norm": True},
            {"conv": ("separable", "transposed"), "pool": "avg"},
        ),
        (
            ({"kernel_size": "big"}, "model.plain.kernel_size is 'big', expected an integer"),
            ({"kernel_size": (3, 3, 3)}, "3 values for 2 stages"),
            ({"filters": (32, 64)}, "one non-empty tuple a stage"),
            ({"filters": ((),)}, "one non-empty tuple a stage"),
            ({"pool": "no_such_pool"}, "model.plain.pool is 'no_such_pool', expected one of: "),
            ({"conv_dropout": 1.0}, "model.plain.conv_dropout is 1.0"),
            (
                {"activation": "no_such_one"},
                "model.plain.activation is 'no_such_one', expected one",
            ),
            ({"conv": "seperable"}, r"model.plain.conv is 'seperable'.*did you mean 'separable'"),
            ({"conv": ("standard",) * 3}, "model.plain.conv is .* 3 values for 2 stages"),
            ({"dilation": 0}, "model.plain.dilation is 0, expected an integer from 1"),
            ({"groups": 2.0}, "model.plain.groups is 2.0, expected an integer from 1"),
            (
                {"conv": ("standard", "separable"), "groups": 2},
                "model.plain.groups is 2 for stage 2, expected 1 there: .* model.plain.conv is 'se",
            ),
        ),
    ),
    "airbench": Family(
        {"widths": (8, 12)},
        {"widths": (64, 256)},
        ({}, {"depth": 3}),
        (
            ({"widths": ()}, "model.airbench.widths is .*, expected a non-empty tuple"),
            ({"widths": (64, 0)}, "model.airbench.widths is 0, expected an integer"),
            ({"widths": 64}, "model.airbench.widths is 64, expected a non-empty tuple"),
            ({"depth": 4}, "model.airbench.depth is 4, expected an integer from 2 to 3"),
            ({"whitening_size": 0}, "model.airbench.whitening_size is 0"),
            ({"dirac": 1}, "model.airbench.dirac is 1, expected True or False"),
            ({"batch_norm_momentum": 1.0}, "batch_norm_momentum is 1.0, expected .* below 1"),
            ({"batch_norm_epsilon": 0.0}, "batch_norm_epsilon is 0.0, expected .* above 0"),
            ({"activation": "no_such_one"}, "model.airbench.activation is 'no_such_one'"),
            ({"logit_scale": 0.0}, "model.airbench.logit_scale is 0.0"),
        ),
    ),
    "resnet": Family(
        {"stage_sizes": (1, 2), "widths": (4, 8)},
        {"stage_sizes": (1, 1), "widths": (64, 512)},
        bad=(
            ({"stage_sizes": ()}, "model.resnet.stage_sizes is .*, expected a non-empty tuple"),
            ({"widths": (64, 128)}, "2 values for 4 stages"),
            ({"widths": (64, 128, 256, 0.5)}, "model.resnet.widths is 0.5"),
            ({"zero_init_residual": None}, "model.resnet.zero_init_residual is None"),
            ({"batch_norm_momentum": -0.1}, "model.resnet.batch_norm_momentum is -0.1"),
        ),
    ),
    "wide_resnet": Family(
        {"depth": 10, "widen_factor": 1},
        {"depth": 10},
        bad=(
            ({"depth": 27}, "model.wide_resnet.depth is 27, expected 6 n [+] 4"),
            ({"depth": 4}, "model.wide_resnet.depth is 4, expected an integer from 10"),
            ({"widen_factor": 0}, "model.wide_resnet.widen_factor is 0"),
            ({"dropout": 1.0}, "model.wide_resnet.dropout is 1.0"),
            ({"batch_norm_momentum": 2}, "model.wide_resnet.batch_norm_momentum is 2"),
        ),
    ),
}
ENTRIES = {name: FAMILIES.get(name, Family({}, {})) for name in MODELS}
MODES = [(name, mode) for name, entry in ENTRIES.items() for mode in entry.modes]


def make(name, dtype=jnp.float32, precision=None, **changes):
    section = {**default.get_config().model[name].to_dict(), **changes}
    return make_model(name, section, num_classes=10, dtype=dtype, precision=precision)


def small(name, dtype=jnp.float32, precision=None, **changes):
    return make(name, dtype, precision, **{**ENTRIES[name].small, **changes})


def noise(*shape):
    """Standard normal numbers from numpy, whose drawing need not be compiled."""
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def initial(model, images, *path):
    """One initial parameter; only what it takes is compiled, which is quick."""

    def init(key, images):
        params = model.init(key, images, train=False)["params"]
        return functools.reduce(lambda tree, name: tree[name], path, params)

    return jax.jit(init)(jax.random.key(0), images)


def drawn(model, images):
    """Variables of the right shapes, drawn by numpy: without a compilation."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        spread = math.prod(leaf.shape[:-1]) ** -0.5 if path[-1].key == "kernel" else 0.1
        return rng.normal(scale=spread, size=leaf.shape).astype(np.float32)

    key = jax.random.key(0)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), key, images)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def intermediates(model, variables, images):
    """What every module gives for `images`, as nested dictionaries."""

    def run(variables, images):
        return model.apply(
            variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
        )[1]["intermediates"]

    return jax.jit(run)(variables, images)


def calls(model, shape=(16, 16, 3), train=False):
    """(module, dtype of what it gives) of every call in the network; nothing is compiled."""
    seen = []

    def record(method, args, kwargs, context):
        result = method(*args, **kwargs)
        if context.method_name == "__call__":
            seen.append((context.module, result.dtype))
        return result

    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    with nn.intercept_methods(record):
        jax.eval_shape(lambda: model.init(keys, jnp.zeros((2, *shape)), train=train))
    return seen


def called(model, shape=(16, 16, 3), train=False):
    """The modules of `calls`, the inner ones first."""
    return [module for module, _ in calls(model, shape, train)]
