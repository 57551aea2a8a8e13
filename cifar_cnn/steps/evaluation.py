"""The evaluation of a whole part of a split, as one program."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from cifar_cnn.augment import View
from cifar_cnn.data import Examples, take_batch
from cifar_cnn.losses import cross_entropy
from cifar_cnn.mesh import AXIS, batch_sharded
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
    micro_batch_size: int,
    mesh: Mesh,
    one_by_one: bool,
) -> tuple[Metrics, jax.Array]:
    """Evaluates a whole part of a split in one program; every example counts exactly once.

    Args:
      variables: 'params' and 'batch_stats'.
      examples: n examples.
      views: weights and functions of the images; probabilities are averaged over them, and one
        view of weight 1 is the plain evaluation.
      batch_size, padded_size: see `data.take_batch`.
      micro_batch_size: rows that a device takes at a time where `one_by_one` holds; padded_size
        is a multiple of it times the number of devices.
      mesh, one_by_one: see `summed_gradients`.

    Returns:
      The metrics, and the logits float32 [n, K] in the order of examples.indices (with several
      views: the logarithm of the mean probabilities).
    """
    count = examples.indices.shape[0]

    def logits_of(variables, images):
        def seen_as(view):
            return forward(model, variables, view(images), mean=mean, std=std, train=False)[0]

        if len(views) == 1:
            return seen_as(views[0][1])
        weighted = [jax.nn.log_softmax(seen_as(view)) + jnp.log(weight) for weight, view in views]
        return jax.nn.logsumexp(jnp.stack(weighted), axis=0)

    predict = _in_turn(logits_of, micro_batch_size, mesh) if one_by_one else logits_of

    def body(metrics, batch):
        rows, mask = take_batch(examples.indices, batch, batch_size, padded_size)
        rows, mask = lax.with_sharding_constraint((rows, mask), batch_sharded(mesh))
        images, labels = examples.images[rows], examples.labels[rows]
        logits = predict(variables, images)
        losses = cross_entropy(logits, labels)
        new = Metrics.from_batch(losses, logits, labels, mask)
        return metrics.merge(new), logits[:batch_size]

    batches = -(-count // batch_size)
    metrics, logits = lax.scan(body, Metrics.empty(num_classes), jnp.arange(batches))
    return metrics, logits.reshape(-1, num_classes)[:count]


def _in_turn(
    function: Callable[[Variables, jax.Array], jax.Array], size: int, mesh: Mesh
) -> Callable[[Variables, jax.Array], jax.Array]:
    """`function`, by which every device takes `size` of its rows at a time."""

    def on_device(variables, images):
        pieces = images.reshape(-1, size, *images.shape[1:])
        outputs = lax.map(lambda piece: function(variables, piece), pieces)
        return outputs.reshape(-1, *outputs.shape[2:])

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(AXIS),
        check_vma=False,
    )
