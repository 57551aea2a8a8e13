"""Devices and data of a run, as its config names them."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cifar_cnn import data as data_lib
from cifar_cnn import datasets
from cifar_cnn import mesh as mesh_lib
from cifar_cnn.checks import UsageError, check_choice
from cifar_cnn.experiment.parts import Config


def start_devices(config: Config) -> Mesh:
    """Starts the backend as the section `run` says; see `mesh.start`."""
    run = config["run"]
    programs = cache_dir(config) / "programs"
    return mesh_lib.start(run["platform"], run["cpu_devices"], str(programs))


def cache_dir(config: Config) -> pathlib.Path:
    """Where decoded arrays, the embedded data set and compiled programs are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(config["run"]["cache_dir"] or f"{base}/cifar_cnn").expanduser().absolute()


def make_builder(config: Config) -> Any:
    """The prepared TFDS builder that the config names; see `datasets.make_builder`."""
    return datasets.make_builder(
        config["data"]["name"],
        data_dir=config["run"]["data_dir"] or None,
        cache_dir=str(cache_dir(config)),
    )


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
    builder = make_builder(config)
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
    builder = make_builder(config)
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
    rows = np.arange(len(arrays.labels))
    if split != "test":
        section = config["data"]
        parts = data_lib.hold_out(len(rows), section["validation_size"], section["split_seed"])
        rows = parts[0] if split == "train" else parts[1]
    return data_lib.to_device(arrays, rows, mesh_lib.replicated(mesh))
