"""One update from one batch, and the loop of many as one program."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from cifar_cnn.augment import Augment, Visit, mixup, shrink
from cifar_cnn.data import Examples, take_batch
from cifar_cnn.losses import cross_entropy
from cifar_cnn.mesh import batch_sharded
from cifar_cnn.optim import ema_update
from cifar_cnn.rng import stream
from cifar_cnn.state import TrainState
from cifar_cnn.steps.forward import forward
from cifar_cnn.steps.gradients import summed_gradients


def train_step(
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    mask: jax.Array | None,
    count: jax.Array,
    visit: Visit,
    key: jax.Array,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    image_size: int,
    mixup_alpha: float,
    mean: jax.Array,
    std: jax.Array,
    label_smoothing: float,
    ema_decay: float,
    micro_batch_size: int,
    mesh: Mesh,
    one_by_one: bool,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update from one batch.

    Args:
      images: uint8 [B, H, W, C], not yet augmented; B is a multiple of micro_batch_size times the
        number of devices.
      labels: int32 [B].
      mask: bool [B], False where a row is padding; None when every row counts. The rows that
        count come first.
      count: int32 [], how many they are.
      visit: which examples these are, for augmentations that ask.
      key: of the run; the step's own keys follow from it and state.step.
      image_size: side in pixels that the augmented images are brought to; 0 for none.
      mixup_alpha: see `augment.mixup`; 0 for none.
      micro_batch_size: rows that share batch statistics and a dropout key (Hoffer et al. 2017,
        arXiv:1705.08741, call it ghost batch normalisation). Running statistics are means over
        the micro-batches.
      mesh, one_by_one: see `summed_gradients`.

    Returns:
      The state after the update, and float32 scalars of the batch before it: 'loss' (mean in
      nats, label smoothing included), 'correct' and 'count' (sums over the rows that count).
    """
    images = augment(stream(key, "augment", state.step), images, visit)
    if image_size:
        images = shrink(images, image_size)
    batch = {"images": images, "labels": labels, "mask": mask}
    shared = {
        "batch_stats": state.batch_stats,
        "dropout_key": stream(key, "dropout", state.step),
        "count": count.astype(jnp.float32),
    }
    if mixup_alpha:
        mixup_key = stream(key, "mixup", state.step)
        batch["images"], partner, shared["weight"] = mixup(
            mixup_key, images, count, alpha=mixup_alpha
        )
        batch["other_labels"] = labels[partner]
    batch = jax.tree.map(lambda leaf: leaf.reshape(-1, micro_batch_size, *leaf.shape[1:]), batch)
    batch["number"] = jnp.arange(batch["labels"].shape[0])

    def loss_of(params, shared, batch):
        mask = batch["mask"]
        # Where every row is padding, statistics over some finite rows instead of over none.
        rows = None if mask is None else mask | ~mask.any()
        logits, batch_stats = forward(
            model,
            {"params": params, "batch_stats": shared["batch_stats"]},
            batch["images"],
            mean=mean,
            std=std,
            train=True,
            mask=rows,
            dropout_key=jax.random.fold_in(shared["dropout_key"], batch["number"]),
        )
        losses = cross_entropy(logits, batch["labels"], label_smoothing=label_smoothing)
        if mixup_alpha:
            other = cross_entropy(logits, batch["other_labels"], label_smoothing=label_smoothing)
            losses = shared["weight"] * losses + (1 - shared["weight"]) * other
        counted = jnp.ones(losses.shape, bool) if mask is None else mask
        hits = (logits.argmax(axis=-1) == batch["labels"]) & counted
        results = {
            "correct": hits.sum().astype(jnp.float32),
            "count": counted.sum().astype(jnp.float32),
        }
        share = results["count"] / shared["count"]
        results["batch_stats"] = jax.tree.map(lambda leaf: share * leaf, batch_stats)
        return jnp.where(counted, losses, 0).sum() / shared["count"], results

    grads, (loss, results) = summed_gradients(
        loss_of, state.params, shared, batch, mesh=mesh, one_by_one=one_by_one
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_params is not None:
        ema_params = ema_update(ema_params, params, ema_decay)
    new_state = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=results.pop("batch_stats"),
        opt_state=opt_state,
        ema_params=ema_params,
    )
    return new_state, {"loss": loss, **results}


def train_chunk(
    state: TrainState,
    examples: Examples,
    order: jax.Array,
    key: jax.Array,
    stop: jax.Array,
    *,
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]],
    batch_size: int,
    padded_size: int,
    steps_per_epoch: int,
    longest: int,
    mesh: Mesh,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Runs steps until `stop`, or until a loss is not finite, in one compiled loop.

    The loop's length is an argument and not part of the program, so that one compilation serves
    the whole run. All steps must lie in one epoch.

    Args:
      state: donated by the caller.
      examples: the training part.
      order: int32 [n], the rows of the training part in the order of this epoch.
      key: of the run.
      stop: int32 [], state.step to reach.
      step: `train_step` with its keyword arguments bound.
      batch_size, padded_size: see `data.take_batch`.
      longest: at most so many steps a call.
      mesh: the devices; a batch is split over them.

    Returns:
      The state, and float32 [longest] records of `train_step`'s scalars, NaN beyond the last
      step that ran.
    """
    count = order.shape[0]
    exact = padded_size == batch_size and count % batch_size == 0
    start = state.step
    epoch = start // steps_per_epoch
    sharding = batch_sharded(mesh)

    def goes_on(carry):
        state, _, finite = carry
        return (state.step < stop) & finite

    def body(carry):
        state, records, _ = carry
        batch = state.step % steps_per_epoch
        rows, mask = take_batch(order, batch, batch_size, padded_size)
        rows, mask = lax.with_sharding_constraint((rows, mask), sharding)
        new_state, scalars = step(
            state,
            examples.images[rows],
            examples.labels[rows],
            None if exact else mask,
            jnp.minimum(count - batch * batch_size, batch_size),
            Visit(rows=rows, epoch=epoch, key=stream(key, "visit")),
            key,
        )
        place = state.step - start
        records = {name: records[name].at[place].set(scalars[name]) for name in records}
        return new_state, records, jnp.isfinite(scalars["loss"])

    records = {name: jnp.full(longest, jnp.nan) for name in ("loss", "correct", "count")}
    state, records, _ = lax.while_loop(goes_on, body, (state, records, jnp.bool_(True)))
    return state, records
