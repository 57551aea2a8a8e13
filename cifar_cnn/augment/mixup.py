"""Blends of two images with the labels of both."""

import jax
import jax.numpy as jnp

from cifar_cnn.checks import check_number, check_shape


def check_mixup_alpha(alpha: float) -> None:
    """Raises UsageError unless `train.mixup_alpha` is a number from 0, which is none, up."""
    check_number("train.mixup_alpha", alpha, minimum=0)


def mixup(
    key: jax.Array, images: jax.Array, count: int | jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Blends each image with another of the batch (Zhang et al. 2018, arXiv:1710.09412).

    As in the paper's code, one weight serves the whole batch. The loss to minimise is
    weight * loss(labels) + (1 - weight) * loss(labels[partner]).

    Args:
      key: of the weight. Row i's partner is row count - 1 - i and not drawn: the order of the
        rows is random where they come from a shuffled data set.
      images: uint8 or float32 [B, H, W, C].
      count: int32 [], how many rows count: the first ones. A row beyond them is its own partner,
        as is the middle one of an odd number.
      alpha: of the distribution Beta(alpha, alpha) of the weight, above 0. Near 0 one image of the
        two prevails, 1 is the uniform distribution, a large value blends equal parts.

    Returns:
      The blends, float32 [B, H, W, C] in the units of `images`; the partners, int32 [B]; and the
      weight of the row's own image, float32 [] in [0, 1].

    Raises:
      UsageError: naming `train.mixup_alpha`, or if images are not a batch.
    """
    check_number("train.mixup_alpha", alpha, above=0)
    check_shape("images", images.shape, (None,) * 4)
    weight = jax.random.beta(key, float(alpha), float(alpha), dtype=jnp.float32)
    rows = jnp.arange(images.shape[0], dtype=jnp.int32)
    partner = jnp.where(rows < count, count - 1 - rows, rows)
    # Taken before the cast: of uint8 a quarter of the bytes moves between devices.
    own, other = images.astype(jnp.float32), images[partner].astype(jnp.float32)
    # This form returns a row that is its own partner exactly.
    return other + weight * (own - other), partner, weight
