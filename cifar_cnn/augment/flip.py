"""Mirror images: by a coin toss at every visit, or the two ways in turn."""

import jax
import jax.numpy as jnp

from cifar_cnn.augment.visit import Augment, Visit
from cifar_cnn.checks import UsageError, check_bool, check_number, check_shape


def flip(*, probability: float, alternate: bool) -> Augment:
    """Mirrors each image left to right with the given probability.

    Args:
      probability: in [0, 1], independent per image.
      alternate: whether the coin is tossed in epoch 0 alone, and every later epoch shows each
        image the other way round than the epoch before (Jordan 2024, arXiv:2404.00498, section
        3.2). Two epochs then show all 2N different images, where tosses repeat half of them.

    Returns:
      (key, images, visit) -> images; images: uint8 or float32 [B, H, W, C], dtype kept. Where
      `alternate` is True the way round is a function of visit.key, the row and the epoch alone:
      neither `key` nor the other rows of the batch change it.

    Raises:
      UsageError: naming `augment.flip.probability` or `augment.flip.alternate`.
      ValueError: when the function is called without the visit that `alternate` needs.
    """
    check_number("augment.flip.probability", probability, minimum=0, maximum=1)
    check_bool("augment.flip.alternate", alternate)
    if alternate and probability != 0.5:
        raise UsageError(
            f"augment.flip.probability is {probability!r}, expected 0.5 where "
            "augment.flip.alternate is True: every image is shown one way as often as the other"
        )

    def apply(key: jax.Array, images: jax.Array, visit: Visit | None = None) -> jax.Array:
        if alternate:
            mirrored = _in_turn(images.shape[0], visit)
        else:
            mirrored = jax.random.bernoulli(key, float(probability), images.shape[:1])
        return jnp.where(mirrored[:, None, None, None], mirror(images), images)

    return apply


def mirror(images: jax.Array) -> jax.Array:
    """[B, H, W, C] with the columns in reverse order."""
    return images[:, :, ::-1, :]


def _in_turn(batch: int, visit: Visit | None) -> jax.Array:
    """bool [B]: whether each row is mirrored in this epoch."""
    if visit is None:
        raise ValueError("augment.flip.alternate is True, expected a visit: rows, epoch and key")
    check_shape("visit.rows", visit.rows.shape, (batch,))

    # A key for each row costs some 20 microseconds for 500 rows; a draw for the whole data set
    # would need its size.
    def toss(row: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(visit.key, row))

    return jax.vmap(toss)(visit.rows) ^ (visit.epoch % 2 == 1)
