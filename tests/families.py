"""Small networks of the families beside the plain one: made, drawn, and looked into."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from cifar_cnn.models import make_model
from configs import default

SMALL = {
    "airbench": {"widths": (8, 12)},
    "resnet": {"stage_sizes": (1, 2), "widths": (4, 8)},
    "wide_resnet": {"depth": 10, "widen_factor": 1},
}


def make(name, dtype=jnp.float32, **changes):
    section = {**default.get_config().model[name].to_dict(), **changes}
    return make_model(name, section, num_classes=10, dtype=dtype)


def small(name, dtype=jnp.float32, **changes):
    return make(name, dtype, **{**SMALL[name], **changes})


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
