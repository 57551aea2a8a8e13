"""Checks of a run's parts against its images and its machine, before anything is compiled."""

import functools
import math
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cifar_cnn import augment as augment_lib
from cifar_cnn import mesh as mesh_lib
from cifar_cnn.checks import UsageError
from cifar_cnn.data import Facts
from cifar_cnn.experiment.parts import Config, make_augment
from cifar_cnn.machine import usable_memory
from cifar_cnn.state import TrainState


def check_fit(
    config: Config, facts: Facts, model: nn.Module, state: TrainState, mesh: Mesh
) -> None:
    """Checks what compiling and the first step would stumble over.

    Traces the augmentations and the network for their shapes; computes nothing.

    Args:
      state: shapes and dtypes.

    Raises:
      UsageError: augmentations or `train.image_sizes` that do not suit the images, sizes that the
        network's parameters do not suit, arrays larger than the memory of a device.
    """
    key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    images = jax.ShapeDtypeStruct((1, *facts.image_shape), jnp.uint8)
    numbers = jax.ShapeDtypeStruct((1,), jnp.int32)
    visit = augment_lib.Visit(rows=numbers, epoch=jax.ShapeDtypeStruct((), jnp.int32), key=key)
    jax.eval_shape(make_augment(config), key, images, visit)
    for _, size in config["train"]["image_sizes"]:
        smaller = jax.eval_shape(functools.partial(augment_lib.shrink, size=size), images)
        if smaller.shape == images.shape:
            continue  # The state was made for them.
        try:
            _trace(model, state, smaller.shape)
        except flax.errors.ScopeParamShapeError as error:
            raise UsageError(
                f"train.image_sizes has {size}, but a dense layer of the network is made for "
                f"images of {facts.image_shape[0]} x {facts.image_shape[1]} pixels alone: leave "
                "train.image_sizes at (), or choose a network that ends in a global pooling"
            ) from error
    rows = min(config["train"]["micro_batch_size"], config["train"]["batch_size"])
    features = _trace(model, state, (rows, *facts.image_shape))
    _check_memory(config, state, features, mesh)


def _trace(model: nn.Module, state: TrainState, shape: tuple[int, ...]) -> Any:
    """Shapes of the outputs of all layers for images of `shape`."""

    def outputs(variables: Any, images: jax.Array) -> Any:
        return model.apply(
            variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
        )

    return jax.eval_shape(outputs, state.eval_variables, jax.ShapeDtypeStruct(shape, jnp.float32))


def _check_memory(config: Config, state: TrainState, features: Any, mesh: Mesh) -> None:
    """Raises UsageError where the state or a single feature map alone exceed the memory."""
    there = _device_memory(mesh)
    if there is None:
        return
    # Every device holds the whole state, and those of a CPU share its memory.
    sharing = len(mesh.local_devices) if mesh_lib.platform_of(mesh) == "cpu" else 1
    name = f"the network of model.{config['model']['name']}"
    needed = sharing * sum(map(_bytes, jax.tree.leaves(state)))
    if needed > there:
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
        raise UsageError(
            f"{name} has {count:,} parameters, which with what optim.{config['optim']['name']} "
            f"keeps of each take {needed / 1e9:,.0f} GB of memory, and there are "
            f"{there / 1e9:,.0f} GB: make it smaller"
        )
    largest = max(jax.tree.leaves(features), key=_bytes)
    if sharing * _bytes(largest) > there:
        raise UsageError(
            f"{name} has a layer whose output {largest.shape} takes "
            f"{sharing * _bytes(largest) / 1e9:,.0f} GB of memory, and there are "
            f"{there / 1e9:,.0f} GB: make it smaller, or train.micro_batch_size"
        )


def _bytes(leaf: Any) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _device_memory(mesh: Mesh) -> int | None:
    """Bytes of memory of one device, or those that this process may use where the devices are
    CPUs; None where they cannot be known."""
    if mesh_lib.platform_of(mesh) == "cpu":
        return usable_memory()
    about = mesh.local_devices[0].memory_stats() or {}
    return about.get("bytes_limit")
