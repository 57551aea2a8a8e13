"""The objects and programs of a run, built from its config and the facts of its data."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cifar_cnn import augment as augment_lib
from cifar_cnn import data as data_lib
from cifar_cnn import mesh as mesh_lib
from cifar_cnn import steps
from cifar_cnn.checks import UsageError
from cifar_cnn.experiment.evaluating import PLAIN, Evaluator
from cifar_cnn.experiment.fitting import check_fit
from cifar_cnn.experiment.parts import (
    Config,
    image_size_at,
    make_augment,
    make_network,
    make_optimizer,
    make_schedule,
)
from cifar_cnn.rng import stream
from cifar_cnn.state import TrainState, init_state

# Training images that the network sees when it is initialised; a whitening layer learns from them.
_INIT_IMAGES = 5000


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a run computes with; programs are compiled when first called.

    Attributes:
      facts: of the data.
      mesh: the devices.
      model: the network.
      schedule: step -> learning rate.
      abstract_state: shapes, dtypes and shardings of the state.
      init: (examples of the training part) -> state before the first step; without examples, the
        initialisation that learns from images is left out.
      epoch_order: (examples, epoch) -> rows of the training part in the order of that epoch.
      train_chunk: (state, examples, order, stop step) -> (state, records); see
        `steps.train_chunk`. Donates the state. One program for each size of images.
      image_size: (step) -> side that the images are shrunk to there, in pixels; 0 for none.
      evaluate: (variables, examples) -> (Metrics, logits), and the same in several calls.
      batch_size: examples a step.
      busy_devices: devices that have a micro-batch in every full step.
      steps_per_epoch, total_steps: updates.
      epochs: of the whole run.
      log_every_steps, eval_every_epochs, checkpoint_every_epochs: intervals.
      keep_latest, keep_best: numbers of checkpoints.
    """

    facts: data_lib.Facts
    mesh: Mesh
    model: nn.Module
    schedule: optax.Schedule
    abstract_state: TrainState
    init: Callable[..., TrainState]
    epoch_order: Callable[[data_lib.Examples, int], jax.Array]
    train_chunk: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    image_size: Callable[[int], int]
    evaluate: Evaluator
    batch_size: int
    busy_devices: int
    steps_per_epoch: int
    total_steps: int
    epochs: int
    log_every_steps: int
    eval_every_epochs: int
    checkpoint_every_epochs: int
    keep_latest: int
    keep_best: int


def build(config: Config, facts: data_lib.Facts, mesh: Mesh, *, tta: bool = False) -> Experiment:
    """Builds the objects of a run. Nothing is compiled; the network is traced for its shapes.

    Args:
      tta: whether evaluation averages over the views of `augment.make_views`.

    Raises:
      UsageError: a network or augmentations that do not fit the images, test-time views that do
        not either or suit no training, more than a device can hold; see `fitting.check_fit`.
    """
    train = config["train"]
    key = jax.random.key(config["seed"], impl="threefry2x32")
    replicated = mesh_lib.replicated(mesh)
    model = make_network(config, len(facts.class_names))
    steps_per_epoch = -(-facts.train_examples // train["batch_size"])
    total_steps = steps_per_epoch * train["epochs"]
    if total_steps >= 2**31:
        raise UsageError(
            f"train.epochs is {train['epochs']}: {total_steps} steps do not fit an int32; "
            "use fewer epochs or a larger train.batch_size"
        )
    schedule = make_schedule(config, steps_per_epoch)
    optimizer = make_optimizer(config, schedule)
    ema_decay = config["optim"]["ema_decay"]
    mean, std = jnp.asarray(facts.mean), jnp.asarray(facts.std)

    def init(examples: data_lib.Examples | None = None) -> TrainState:
        images = jnp.zeros((1, *facts.image_shape))
        if examples is not None:
            first = examples.images[examples.indices[:_INIT_IMAGES]]
            images = steps.normalise(first, mean=mean, std=std)
        return init_state(model, optimizer, stream(key, "init"), images, ema=ema_decay > 0)

    # A program of its own, as it takes as long as some steps of a small network.
    @functools.partial(jax.jit, out_shardings=replicated)
    def epoch_order(examples: data_lib.Examples, epoch: int | jax.Array) -> jax.Array:
        return data_lib.epoch_order(stream(key, "order", epoch), examples.indices)

    abstract_state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated),
        jax.eval_shape(init),
    )
    check_fit(config, facts, model, abstract_state, mesh)
    one_by_one = mesh_lib.platform_of(mesh) == "cpu"
    micro_batch_size = min(train["micro_batch_size"], train["batch_size"])
    longest = min(train["log_every_steps"], steps_per_epoch)

    @functools.cache
    def chunk_at(image_size: int) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
        step = functools.partial(
            steps.train_step,
            model=model,
            optimizer=optimizer,
            augment=make_augment(config),
            image_size=image_size,
            mixup_alpha=train["mixup_alpha"],
            mean=mean,
            std=std,
            label_smoothing=train["label_smoothing"],
            ema_decay=ema_decay,
            micro_batch_size=micro_batch_size,
            mesh=mesh,
            one_by_one=one_by_one,
        )
        chunk = functools.partial(
            steps.train_chunk,
            step=step,
            batch_size=train["batch_size"],
            padded_size=mesh_lib.padded_size(train["batch_size"], mesh, micro_batch_size),
            steps_per_epoch=steps_per_epoch,
            longest=longest,
            mesh=mesh,
        )
        return jax.jit(chunk, donate_argnums=0, out_shardings=replicated)

    def image_size(step: int) -> int:
        return image_size_at(train["image_sizes"], step // steps_per_epoch)

    def train_chunk(
        state: TrainState, examples: data_lib.Examples, order: jax.Array, stop: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        # All steps of a call lie in one epoch. Without sizes `stop` need not have a value yet.
        size = image_size(int(stop) - 1) if train["image_sizes"] else 0
        return chunk_at(size)(state, examples, order, key, stop)

    views = PLAIN
    if tta:
        views = augment_lib.make_views(
            config["augment"]["names"], shift=config["eval"]["tta_shift"]
        )
        images = jax.ShapeDtypeStruct((1, *facts.image_shape), jnp.uint8)
        for _, view in views:
            jax.eval_shape(view, images)  # A shift may be too far for the images.
    return Experiment(
        facts=facts,
        mesh=mesh,
        model=model,
        schedule=schedule,
        abstract_state=abstract_state,
        init=jax.jit(init, out_shardings=replicated),
        epoch_order=epoch_order,
        train_chunk=train_chunk,
        image_size=image_size,
        evaluate=Evaluator(config, facts, model, mesh, views),
        batch_size=train["batch_size"],
        busy_devices=min(mesh.size, -(-train["batch_size"] // micro_batch_size)),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        epochs=train["epochs"],
        log_every_steps=train["log_every_steps"],
        eval_every_epochs=config["eval"]["every_epochs"],
        checkpoint_every_epochs=config["checkpoint"]["every_epochs"],
        keep_latest=config["checkpoint"]["keep_latest"],
        keep_best=config["checkpoint"]["keep_best"],
    )
