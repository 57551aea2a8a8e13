"""Gradients of a sum over micro-batches, added up over the devices in one all-reduce."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

from cifar_cnn.mesh import AXIS

# (params, shared, micro-batch) -> (loss, tree of float32 arrays); all of them are added up.
Loss = Callable[[Any, Any, Any], tuple[jax.Array, Any]]


def summed_gradients(
    loss: Loss, params: Any, shared: Any, batches: Any, *, mesh: Mesh, one_by_one: bool
) -> tuple[Any, Any]:
    """Adds up the gradients and the results of `loss` over micro-batches.

    Every micro-batch lies whole on one device, so that what is computed over a micro-batch (batch
    statistics, a dropout mask) does not depend on the number of devices; only the order of the
    sums does.

    Args:
      loss: of one micro-batch.
      params: to differentiate by; the same on every device.
      shared: other arrays, the same on every device.
      batches: arrays [N, ...], N micro-batches; N is a multiple of the number of devices.
      one_by_one: whether a device takes its micro-batches in turn, which keeps their feature maps
        in the cache of a CPU, or all at once, which keeps an accelerator busy. The numbers are
        the same up to the order of sums.

    Returns:
      (gradients, (loss, results)), each the sum over all micro-batches, on every device.
    """

    def on_device(params: Any, shared: Any, batches: Any) -> Any:
        def differentiated(function: Callable[..., Any], batch: Any) -> Any:
            value, grads = jax.value_and_grad(function, has_aux=True)(params, shared, batch)
            return grads, value

        def together(params: Any, shared: Any, batches: Any) -> Any:
            each = jax.vmap(loss, in_axes=(None, None, 0))(params, shared, batches)
            return jax.tree.map(lambda leaf: leaf.sum(axis=0), each)

        def add_next(total: Any, batch: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, differentiated(loss, batch)), None

        first = jax.tree.map(lambda leaf: leaf[0], batches)
        if jax.tree.leaves(batches)[0].shape[0] == 1:
            total = differentiated(loss, first)
        elif one_by_one:
            shapes = jax.eval_shape(lambda batch: differentiated(loss, batch), first)
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            total, _ = lax.scan(add_next, zeros, batches)
        else:
            total = differentiated(together, batches)
        if one_by_one:
            return lax.psum(total, AXIS)  # XLA makes one of it on a CPU, without copies.
        flat, unflatten = ravel_pytree(total)
        return unflatten(lax.psum(flat, AXIS))

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(params, shared, batches)
