"""The evaluation of a part of a split, batch after batch."""

from collections.abc import Callable

import flax.linen as nn
import flax.struct
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


@flax.struct.dataclass
class Evaluation:
    """An evaluation under way; the batches that it has not seen yet have logits of 0.

    Attributes:
      metrics: of the batches so far.
      logits: float32 [batches, B, K].
    """

    metrics: Metrics
    logits: jax.Array

    @classmethod
    def begin(cls, batches: int, batch_size: int, num_classes: int) -> "Evaluation":
        """Returns that of no batch yet."""
        logits = jnp.zeros((batches, batch_size, num_classes), jnp.float32)
        return cls(Metrics.empty(num_classes), logits)

    def finish(self, count: int) -> tuple[Metrics, jax.Array]:
        """Returns the metrics and the logits float32 [n, K] of the n = `count` examples."""
        return self.metrics, self.logits.reshape(-1, self.logits.shape[-1])[:count]


def eval_batches(
    variables: Variables,
    examples: Examples,
    evaluation: Evaluation,
    first: int | jax.Array,
    stop: int | jax.Array,
    *,
    model: nn.Module,
    views: list[tuple[float, View]],
    mean: jax.Array,
    std: jax.Array,
    padded_size: int,
    micro_batch_size: int,
    mesh: Mesh,
    one_by_one: bool,
) -> Evaluation:
    """Evaluates some batches of a part of a split as one loop; every example counts exactly once.

    The result of all batches is the same to the bit in however many calls they are made.

    Args:
      variables: 'params' and 'batch_stats'.
      examples: n examples.
      evaluation: of the batches before `first`.
      first, stop: the batches from `first` to before `stop`; may be traced.
      views: weights and functions of the images; probabilities are averaged over them, and one
        view of weight 1 is the plain evaluation.
      padded_size: see `data.take_batch`.
      micro_batch_size: rows that a device takes at a time where `one_by_one` holds; padded_size
        is a multiple of it times the number of devices.
      mesh, one_by_one: see `summed_gradients`.

    Returns:
      The evaluation of the batches before `stop`, with the logits in the order of
      examples.indices (with several views: the logarithm of the mean probabilities).
    """
    batch_size = evaluation.logits.shape[1]

    def logits_of(variables, images):
        def seen_as(view):
            return forward(model, variables, view(images), mean=mean, std=std, train=False)[0]

        if len(views) == 1:
            return seen_as(views[0][1])
        weighted = [jax.nn.log_softmax(seen_as(view)) + jnp.log(weight) for weight, view in views]
        return jax.nn.logsumexp(jnp.stack(weighted), axis=0)

    predict = _in_turn(logits_of, micro_batch_size, mesh) if one_by_one else logits_of

    def body(batch, evaluation):
        rows, mask = take_batch(examples.indices, batch, batch_size, padded_size)
        rows, mask = lax.with_sharding_constraint((rows, mask), batch_sharded(mesh))
        images, labels = examples.images[rows], examples.labels[rows]
        logits = predict(variables, images)
        losses = cross_entropy(logits, labels)
        new = Metrics.from_batch(losses, logits, labels, mask)
        return Evaluation(
            evaluation.metrics.merge(new), evaluation.logits.at[batch].set(logits[:batch_size])
        )

    return lax.fori_loop(first, stop, body, evaluation)


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
