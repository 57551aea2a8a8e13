"""Checks of a network against the images of a run, before anything is compiled."""

import functools

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_cnn import augment as augment_lib
from cifar_cnn.checks import UsageError
from cifar_cnn.data import Facts
from cifar_cnn.experiment.parts import Config
from cifar_cnn.state import TrainState


def check_sizes(config: Config, facts: Facts, model: nn.Module, state: TrainState) -> None:
    """Traces the network for the shapes of every other size that it is to be trained on.

    Args:
      state: shapes and dtypes.

    Raises:
      UsageError: `train.image_sizes` that the images or the network's parameters do not suit.
    """
    whole = jax.ShapeDtypeStruct((1, *facts.image_shape), jnp.uint8)
    for _, size in config["train"]["image_sizes"]:
        smaller = jax.eval_shape(functools.partial(augment_lib.shrink, size=size), whole)
        if smaller.shape == whole.shape:
            continue  # The state was made for them.
        images = jax.ShapeDtypeStruct(smaller.shape, jnp.float32)
        try:
            jax.eval_shape(
                functools.partial(model.apply, train=False), state.eval_variables, images
            )
        except flax.errors.ScopeParamShapeError as error:
            raise UsageError(
                f"train.image_sizes has {size}, but a dense layer of the network is made for "
                f"images of {facts.image_shape[0]} x {facts.image_shape[1]} pixels alone: leave "
                "train.image_sizes at (), or choose a network that ends in a global pooling"
            ) from error
