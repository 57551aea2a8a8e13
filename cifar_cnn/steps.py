"""One training step, one evaluation, and the programs that run many of either in one call.

All functions are pure; the objects that a run is made of (network, optimizer, augmentation) come
in as keyword arguments and are bound once, before compiling.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from cifar_cnn.augment import Augment, View
from cifar_cnn.data import Examples, epoch_order, take_batch
from cifar_cnn.losses import cross_entropy, masked_mean
from cifar_cnn.metrics import Metrics
from cifar_cnn.optim import ema_update
from cifar_cnn.rng import stream
from cifar_cnn.state import TrainState

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
      images: uint8 [B, H, W, C].
      mean, std: float32 [C] of the training images, in units of 1/255.
      train, mask: as the network takes them.
      dropout_key: needed where train is True.

    Returns:
      logits float32 [B, K], and the new batch_stats (the old ones where train is False).
    """
    shape = (1, 1, 1, -1)
    x = (images.astype(jnp.float32) / 255 - mean.reshape(shape)) / std.reshape(shape)
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


def train_step(
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    mask: jax.Array | None,
    key: jax.Array,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    mean: jax.Array,
    std: jax.Array,
    label_smoothing: float,
    ema_decay: float,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update from one batch.

    Args:
      images: uint8 [B, H, W, C], not yet augmented.
      labels: int32 [B].
      mask: bool [B], False where a row is padding; None when every row counts.
      key: of the run; the step's own keys follow from it and state.step.

    Returns:
      The state after the update, and float32 scalars of the batch before it: 'loss' (mean in
      nats, label smoothing included), 'correct' and 'count' (sums over the rows that count).
    """
    images = augment(stream(key, "augment", state.step), images)

    def batch_loss(params):
        logits, batch_stats = forward(
            model,
            {"params": params, "batch_stats": state.batch_stats},
            images,
            mean=mean,
            std=std,
            train=True,
            mask=mask,
            dropout_key=stream(key, "dropout", state.step),
        )
        losses = cross_entropy(logits, labels, label_smoothing=label_smoothing)
        return masked_mean(losses, mask), (logits, batch_stats)

    (loss, (logits, batch_stats)), grads = jax.value_and_grad(batch_loss, has_aux=True)(
        state.params
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    hits = logits.argmax(axis=-1) == labels
    counted = jnp.ones_like(hits) if mask is None else mask
    scalars = {
        "loss": loss,
        "correct": jnp.sum(hits & counted).astype(jnp.float32),
        "count": jnp.sum(counted).astype(jnp.float32),
    }
    ema_params = state.ema_params
    if ema_params is not None:
        ema_params = ema_update(ema_params, params, ema_decay)
    new_state = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema_params=ema_params,
    )
    return new_state, scalars


def train_chunk(
    state: TrainState,
    examples: Examples,
    key: jax.Array,
    stop: jax.Array,
    *,
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]],
    batch_size: int,
    padded_size: int,
    steps_per_epoch: int,
    longest: int,
    sharding: jax.sharding.Sharding,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Runs steps until `stop`, or until a loss is not finite, in one compiled loop.

    The loop's length is an argument and not part of the program, so that one compilation serves
    the whole run. All steps must lie in one epoch, whose order is drawn once, at the start.

    Args:
      state: donated by the caller.
      examples: the training part.
      key: of the run.
      stop: int32 [], state.step to reach.
      step: `train_step` with its keyword arguments bound.
      batch_size, padded_size: see `data.take_batch`.
      longest: at most so many steps a call.
      sharding: how a batch lies on the mesh.

    Returns:
      The state, and float32 [longest] records of `train_step`'s scalars, NaN beyond the last
      step that ran.
    """
    count = examples.indices.shape[0]
    exact = padded_size == batch_size and count % batch_size == 0
    start = state.step
    order = epoch_order(stream(key, "order", start // steps_per_epoch), examples.indices)

    def goes_on(carry):
        state, _, finite = carry
        return (state.step < stop) & finite

    def body(carry):
        state, records, _ = carry
        rows, mask = take_batch(order, state.step % steps_per_epoch, batch_size, padded_size)
        rows, mask = lax.with_sharding_constraint((rows, mask), sharding)
        new_state, scalars = step(
            state,
            examples.images[rows],
            examples.labels[rows],
            None if exact else mask,
            key,
        )
        place = state.step - start
        records = {name: records[name].at[place].set(scalars[name]) for name in records}
        return new_state, records, jnp.isfinite(scalars["loss"])

    records = {name: jnp.full(longest, jnp.nan) for name in ("loss", "correct", "count")}
    state, records, _ = lax.while_loop(goes_on, body, (state, records, jnp.bool_(True)))
    return state, records


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
