"""Per-example losses, and the one place where they are masked and averaged."""

import jax
import jax.numpy as jnp

from cifar_cnn.checks import check_number, check_shape


def cross_entropy(
    logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
    """Returns the softmax cross entropy of each example, in nats.

    The target is (1 - label_smoothing) at the label plus label_smoothing / K everywhere (Szegedy
    et al. 2016, arXiv:1512.00567, section 7).

    Args:
      logits: float [B, K]; computed in float32 whatever the dtype.
      labels: int [B] in [0, K).
      label_smoothing: in [0, 1).

    Returns:
      float32 [B]; NaN where the label is outside [0, K), so that such an example is not mistaken
      for a well-classified one.

    Raises:
      UsageError: naming `train.label_smoothing`, or if the shapes do not match.
    """
    check_number("train.label_smoothing", label_smoothing, minimum=0, below=1)
    check_shape("logits", logits.shape, (None, None))
    check_shape("labels", labels.shape, logits.shape[:1])
    num_classes = logits.shape[1]
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    is_label = labels[:, None] == jnp.arange(num_classes)[None, :]
    # A select rather than a product: a class of probability 0 has log_prob -inf, and 0 * -inf
    # is NaN.
    losses = -jnp.where(is_label, log_probs, 0.0).sum(axis=-1)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * log_probs.mean(axis=-1)
    return jnp.where(is_label.any(axis=-1), losses, jnp.nan)


def masked_mean(values: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns the mean of `values` over the rows where `mask` is True.

    Args:
      values: float [B]; rows that are masked out never contribute, even if NaN or infinite.
      mask: bool [B], or None for all rows.

    Returns:
      Scalar of the dtype of `values`: sum(values where mask) / max(sum(mask), 1).
    """
    if mask is None:
        return values.mean()
    return jnp.where(mask, values, 0).sum() / jnp.maximum(mask.sum(), 1).astype(values.dtype)
