"""From uint8 images to logits, in training and in evaluation."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Variables = dict[str, Any]


def forward(
    model: nn.Module,
    variables: Variables,
    images: jax.Array,
    *,
    mean: jax.Array,
    std: jax.Array,
    train: bool,
    mask: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
) -> tuple[jax.Array, Any]:
    """Normalises uint8 images and runs the network; training and evaluation both go through here.

    Args:
      variables: 'params' and 'batch_stats' of the network.
      images: uint8 [B, H, W, C], or float32 in the same units.
      mean, std: float32 [C] of the training images, as shares of 255.
      train, mask: as the network takes them.
      dropout_key: needed where train is True.

    Returns:
      logits float32 [B, K], and the new batch_stats (the old ones where train is False).
    """
    x = normalise(images, mean=mean, std=std)
    if not train:
        return model.apply(variables, x, train=False), variables["batch_stats"]
    logits, updates = model.apply(
        variables,
        x,
        train=True,
        mask=mask,
        rngs={"dropout": dropout_key},
        mutable=["batch_stats"],
    )
    return logits, updates.get("batch_stats", {})


def normalise(images: jax.Array, *, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Images of 0 to 255 [B, H, W, C] as float32 of zero mean and unit deviation a channel.

    Args:
      images: uint8, or float32 in the same units.
      mean, std: float32 [C] of the training images, as shares of 255.
    """
    shape = (1, 1, 1, -1)
    return (images.astype(jnp.float32) / 255 - mean.reshape(shape)) / std.reshape(shape)
