"""The evaluation of a whole part of a split, as one program."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cifar_cnn.augment import View
from cifar_cnn.data import Examples, take_batch
from cifar_cnn.losses import cross_entropy
from cifar_cnn.metrics import Metrics
from cifar_cnn.steps.forward import Variables, forward


def eval_pass(
    variables: Variables,
    examples: Examples,
    *,
    model: nn.Module,
    views: list[tuple[float, View]],
    mean: jax.Array,
    std: jax.Array,
    num_classes: int,
    batch_size: int,
    padded_size: int,
    sharding: jax.sharding.Sharding,
) -> tuple[Metrics, jax.Array]:
    """Evaluates a whole part of a split in one program; every example counts exactly once.

    Args:
      variables: 'params' and 'batch_stats'.
      examples: n examples.
      views: weights and functions of the images; probabilities are averaged over them, and one
        view of weight 1 is the plain evaluation.
      batch_size, padded_size, sharding: see `data.take_batch`, `train_chunk`.

    Returns:
      The metrics, and the logits float32 [n, K] in the order of examples.indices (with several
      views: the logarithm of the mean probabilities).
    """
    count = examples.indices.shape[0]

    def body(metrics, batch):
        rows, mask = take_batch(examples.indices, batch, batch_size, padded_size)
        rows, mask = lax.with_sharding_constraint((rows, mask), sharding)
        images, labels = examples.images[rows], examples.labels[rows]

        def logits_of(view):
            return forward(model, variables, view(images), mean=mean, std=std, train=False)[0]

        if len(views) == 1:
            logits = logits_of(views[0][1])
        else:
            weighted = [
                jax.nn.log_softmax(logits_of(view)) + jnp.log(weight) for weight, view in views
            ]
            logits = jax.nn.logsumexp(jnp.stack(weighted), axis=0)
        losses = cross_entropy(logits, labels)
        new = Metrics.from_batch(losses, logits, labels, mask)
        return metrics.merge(new), logits[:batch_size]

    batches = -(-count // batch_size)
    metrics, logits = lax.scan(body, Metrics.empty(num_classes), jnp.arange(batches))
    return metrics, logits.reshape(-1, num_classes)[:count]
