"""From a config to the objects of a run: the only reader of config sections."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cifar_cnn import augment as augment_lib
from cifar_cnn import data as data_lib
from cifar_cnn import datasets, models, optim, steps
from cifar_cnn import mesh as mesh_lib
from cifar_cnn.checks import (
    UsageError,
    check_choice,
    check_int,
    check_key,
    check_number,
    leaves,
)
from cifar_cnn.metrics import Metrics
from cifar_cnn.rng import stream
from cifar_cnn.state import TrainState, init_state

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a run computes with; programs are compiled when first called.

    Attributes:
      facts: of the data.
      mesh: the devices.
      model: the network.
      schedule: step -> learning rate.
      abstract_state: shapes, dtypes and shardings of the state.
      init: () -> state before the first step.
      train_chunk: (state, examples, stop step) -> (state, records); see `steps.train_chunk`.
        Donates the state.
      evaluate: (variables, examples) -> (Metrics, logits); see `steps.eval_pass`.
      batch_size: examples a step.
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
    init: Callable[[], TrainState]
    train_chunk: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    evaluate: Callable[..., tuple[Metrics, jax.Array]]
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    epochs: int
    log_every_steps: int
    eval_every_epochs: int
    checkpoint_every_epochs: int
    keep_latest: int
    keep_best: int


def check(config: Config, default: Config) -> None:
    """Checks everything that can be checked without data and devices.

    Args:
      config: complete nested config.
      default: `configs/default.py`'s, which says what keys there are and what "unset" means.

    Raises:
      UsageError: unknown or missing keys, values of the wrong type or out of range, and keys set
        to something that this config never reads.
    """
    known, got = dict(leaves(default)), dict(leaves(config))
    for key in sorted(got):
        check_key(key, known)
    for key in sorted(known.keys() - got.keys()):
        raise UsageError(f"config.{key} is missing: start from configs/default.py")

    check_int("seed", config["seed"], minimum=0, maximum=2**31 - 1)
    data, train = config["data"], config["train"]
    if not isinstance(data["name"], str) or not data["name"]:
        raise UsageError(f"data.name is {data['name']!r}, expected a TFDS name such as 'cifar10'")
    check_int("data.validation_size", data["validation_size"], minimum=0)
    check_int("data.split_seed", data["split_seed"], minimum=0, maximum=2**32 - 1)
    check_int("train.epochs", train["epochs"], minimum=1)
    check_int("train.batch_size", train["batch_size"], minimum=1)
    check_number("train.label_smoothing", train["label_smoothing"], minimum=0, below=1)
    check_int("train.log_every_steps", train["log_every_steps"], minimum=1, maximum=100_000)
    check_int("eval.every_epochs", config["eval"]["every_epochs"], minimum=1)
    check_int("eval.batch_size", config["eval"]["batch_size"], minimum=1)
    check_int("eval.tta_shift", config["eval"]["tta_shift"], minimum=1)
    check_int("checkpoint.every_epochs", config["checkpoint"]["every_epochs"], minimum=1)
    check_int("checkpoint.keep_latest", config["checkpoint"]["keep_latest"], minimum=1)
    check_int("checkpoint.keep_best", config["checkpoint"]["keep_best"], minimum=0)
    check_choice("model.dtype", config["model"]["dtype"], DTYPES)
    check_choice("run.platform", config["run"]["platform"], mesh_lib.PLATFORMS)
    check_int("run.cpu_devices", config["run"]["cpu_devices"], minimum=0, maximum=1024)
    optimizer = config["optim"]
    check_number("optim.warmup_epochs", optimizer["warmup_epochs"], minimum=0)
    check_number("optim.ema_decay", optimizer["ema_decay"], minimum=0, below=1)
    if optimizer["warmup_epochs"] >= train["epochs"]:
        raise UsageError(
            f"optim.warmup_epochs is {optimizer['warmup_epochs']}, expected less than "
            f"train.epochs, {train['epochs']}"
        )
    _make_augment(config)
    _make_optimizer(config, _make_schedule(config, steps_per_epoch=100))
    for key, reason in _unread_keys(config):
        if got[key] != known[key]:
            raise UsageError(
                f"{key} is {got[key]!r}, but nothing reads it ({reason}): leave it at its default "
                f"{known[key]!r}, or choose what reads it"
            )


def start_devices(config: Config) -> Mesh:
    """Starts the backend as the section `run` says; see `mesh.start`."""
    run = config["run"]
    programs = cache_dir(config) / "programs"
    return mesh_lib.start(run["platform"], run["cpu_devices"], str(programs))


def cache_dir(config: Config) -> pathlib.Path:
    """Where decoded arrays, the embedded data set and compiled programs are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(config["run"]["cache_dir"] or f"{base}/cifar_cnn").expanduser().absolute()


def load_training(
    config: Config, mesh: Mesh, say: Callable[[str], None]
) -> tuple[data_lib.Facts, data_lib.Examples, data_lib.Examples | None]:
    """Loads the train split onto the devices; the test split is not opened.

    Returns:
      The facts of the data, the training part, and the validation part (None where its size is 0).

    Raises:
      UsageError: data not there, unknown, or too few for the config.
    """
    section = config["data"]
    builder = _make_builder(config, say)
    arrays = data_lib.load_arrays(builder, "train", cache_dir(config), say)
    count = len(arrays.labels)
    train_rows, held_out = data_lib.hold_out(
        count, section["validation_size"], section["split_seed"]
    )
    if config["train"]["batch_size"] > len(train_rows):
        raise UsageError(
            f"train.batch_size is {config['train']['batch_size']}, expected at most the "
            f"{len(train_rows)} examples of the training part"
        )
    mean, std = data_lib.channel_statistics(arrays.images, train_rows)
    facts = data_lib.Facts(
        name=builder.info.full_name,
        fingerprint=data_lib.fingerprint(builder),
        image_shape=tuple(arrays.images.shape[1:]),
        class_names=arrays.class_names,
        mean=tuple(mean),
        std=tuple(std),
        train_examples=len(train_rows),
        validation_examples=len(held_out),
    )
    train = data_lib.to_device(arrays, train_rows, mesh_lib.replicated(mesh))
    held_out = jax.device_put(held_out, mesh_lib.replicated(mesh))
    validation = train.replace(indices=held_out) if len(held_out) else None
    return facts, train, validation


def load_evaluation(
    config: Config, facts: data_lib.Facts, split: str, mesh: Mesh, say: Callable[[str], None]
) -> data_lib.Examples:
    """Loads one part of the data of a trained run onto the devices.

    Args:
      facts: of the run; another copy of the data is said, other classes or image sizes refused.
      split: 'test', 'validation' or 'train' (without the validation part).
    """
    check_choice("split", split, ("test", "train", "validation"))
    if split == "validation" and not facts.validation_examples:
        raise UsageError("this run held out no validation part (data.validation_size is 0)")
    builder = _make_builder(config, say)
    if data_lib.fingerprint(builder) != facts.fingerprint:
        say(
            f"note: {builder.data_path} is not the prepared copy of {facts.name} that this run "
            "was trained on"
        )
    arrays = data_lib.load_arrays(
        builder, "test" if split == "test" else "train", cache_dir(config), say
    )
    if arrays.class_names != facts.class_names or arrays.images.shape[1:] != facts.image_shape:
        raise UsageError(
            f"{builder.data_path} has images {arrays.images.shape[1:]} of "
            f"{len(arrays.class_names)} classes, but the run was trained on {facts.image_shape} of "
            f"{len(facts.class_names)} classes: give the run's own data with --data_dir"
        )
    rows = jnp.arange(len(arrays.labels))
    if split != "test":
        section = config["data"]
        parts = data_lib.hold_out(len(rows), section["validation_size"], section["split_seed"])
        rows = parts[0] if split == "train" else parts[1]
    return data_lib.to_device(arrays, rows, mesh_lib.replicated(mesh))


def build(config: Config, facts: data_lib.Facts, mesh: Mesh, *, tta: bool = False) -> Experiment:
    """Builds the objects of a run. Nothing is compiled; the network is traced once for its shapes.

    Args:
      tta: whether evaluation averages over the views of `augment.make_views`.

    Raises:
      UsageError: a network that does not fit the images, test-time views that suit no training.
    """
    train = config["train"]
    key = jax.random.key(config["seed"], impl="threefry2x32")
    replicated, sharded = mesh_lib.replicated(mesh), mesh_lib.batch_sharded(mesh)
    model = models.make_model(
        config["model"]["name"],
        config["model"][config["model"]["name"]],
        num_classes=len(facts.class_names),
        dtype=DTYPES[config["model"]["dtype"]],
    )
    steps_per_epoch = -(-facts.train_examples // train["batch_size"])
    schedule = _make_schedule(config, steps_per_epoch)
    optimizer = _make_optimizer(config, schedule)
    ema_decay = config["optim"]["ema_decay"]
    init = functools.partial(
        init_state, model, optimizer, stream(key, "init"), facts.image_shape, ema=ema_decay > 0
    )
    abstract_state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated),
        jax.eval_shape(init),
    )
    mean, std = jnp.asarray(facts.mean), jnp.asarray(facts.std)
    step = functools.partial(
        steps.train_step,
        model=model,
        optimizer=optimizer,
        augment=_make_augment(config),
        mean=mean,
        std=std,
        label_smoothing=train["label_smoothing"],
        ema_decay=ema_decay,
    )
    longest = min(train["log_every_steps"], steps_per_epoch)
    chunk = functools.partial(
        steps.train_chunk,
        step=step,
        batch_size=train["batch_size"],
        padded_size=mesh_lib.padded_size(train["batch_size"], mesh),
        steps_per_epoch=steps_per_epoch,
        longest=longest,
        sharding=sharded,
    )
    jitted_chunk = jax.jit(chunk, donate_argnums=0, out_shardings=replicated)
    views = [(1.0, lambda images: images)]
    if tta:
        views = augment_lib.make_views(
            config["augment"]["names"], shift=config["eval"]["tta_shift"]
        )
    eval_pass = functools.partial(
        steps.eval_pass,
        model=model,
        views=views,
        mean=mean,
        std=std,
        num_classes=len(facts.class_names),
        batch_size=config["eval"]["batch_size"],
        padded_size=mesh_lib.padded_size(config["eval"]["batch_size"], mesh),
        sharding=sharded,
    )
    return Experiment(
        facts=facts,
        mesh=mesh,
        model=model,
        schedule=schedule,
        abstract_state=abstract_state,
        init=jax.jit(init, out_shardings=replicated),
        train_chunk=lambda state, examples, stop: jitted_chunk(state, examples, key, stop),
        evaluate=jax.jit(eval_pass, out_shardings=replicated),
        batch_size=train["batch_size"],
        steps_per_epoch=steps_per_epoch,
        total_steps=steps_per_epoch * train["epochs"],
        epochs=train["epochs"],
        log_every_steps=train["log_every_steps"],
        eval_every_epochs=config["eval"]["every_epochs"],
        checkpoint_every_epochs=config["checkpoint"]["every_epochs"],
        keep_latest=config["checkpoint"]["keep_latest"],
        keep_best=config["checkpoint"]["keep_best"],
    )


def _make_builder(config: Config, say: Callable[[str], None]) -> Any:
    del say
    return datasets.make_builder(
        config["data"]["name"],
        data_dir=config["run"]["data_dir"] or None,
        cache_dir=str(cache_dir(config)),
    )


def _make_augment(config: Config) -> augment_lib.Augment:
    names, sections = config["augment"]["names"], dict(config["augment"])
    sections.pop("names")
    return augment_lib.make_augment(names, **sections)


def _make_schedule(config: Config, steps_per_epoch: int) -> optax.Schedule:
    section = config["optim"]
    return optim.make_schedule(
        section["schedule"],
        learning_rate=section["learning_rate"],
        total_steps=steps_per_epoch * config["train"]["epochs"],
        warmup_steps=round(section["warmup_epochs"] * steps_per_epoch),
        end_factor=section["end_factor"],
        peak_fraction=section["peak_fraction"],
    )


def _make_optimizer(config: Config, schedule: optax.Schedule) -> optax.GradientTransformation:
    section = config["optim"]
    check_choice("optim.name", section["name"], optim.OPTIMIZERS)
    return optim.make_optimizer(
        section["name"],
        schedule,
        weight_decay=section["weight_decay"],
        clip_norm=section["clip_norm"],
        **section[section["name"]],
    )


def _unread_keys(config: Config) -> Iterator[tuple[str, str]]:
    """Every key that this config never reads, with the reason."""
    name = config["model"]["name"]
    check_choice("model.name", name, models.MODELS)
    for family in models.MODELS:
        if family != name:
            for key, _ in leaves(config["model"][family], f"model.{family}"):
                yield key, f"model.name is {name!r}"
    for key in models.MODELS[name][1](config["model"][name]):
        yield f"model.{name}.{key}", "the network has no layer for it"
    for other in optim.OPTIMIZERS:
        if other != config["optim"]["name"]:
            for key, _ in leaves(config["optim"][other], f"optim.{other}"):
                yield key, f"optim.name is {config['optim']['name']!r}"
    schedule = config["optim"]["schedule"]
    if schedule == "constant":
        yield "optim.end_factor", "optim.schedule is 'constant'"
    if schedule not in ("triangular", "one_cycle"):
        yield "optim.peak_fraction", f"optim.schedule is {schedule!r}"
    else:
        yield "optim.warmup_epochs", f"optim.schedule is {schedule!r}, which has its own rise"
    for other in augment_lib.AUGMENTS:
        if other not in config["augment"]["names"]:
            for key, _ in leaves(config["augment"][other], f"augment.{other}"):
                yield key, f"{other!r} is not in augment.names"
    if not config["data"]["validation_size"]:
        for key in ("data.split_seed", "eval.every_epochs", "checkpoint.keep_best"):
            yield key, "data.validation_size is 0"
