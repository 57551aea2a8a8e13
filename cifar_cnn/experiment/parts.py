"""The parts of a run that follow from the config alone."""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax

from cifar_cnn import augment as augment_lib
from cifar_cnn import models, optim
from cifar_cnn.checks import check_choice

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
Config = Mapping[str, Any]


def make_augment(config: Config) -> augment_lib.Augment:
    """See `augment.make_augment`."""
    names, sections = config["augment"]["names"], dict(config["augment"])
    sections.pop("names")
    return augment_lib.make_augment(names, **sections)


def make_schedule(config: Config, steps_per_epoch: int) -> optax.Schedule:
    """See `optim.make_schedule`; warm-up is turned from epochs into steps."""
    section = config["optim"]
    return optim.make_schedule(
        section["schedule"],
        learning_rate=section["learning_rate"],
        total_steps=steps_per_epoch * config["train"]["epochs"],
        warmup_steps=round(section["warmup_epochs"] * steps_per_epoch),
        end_factor=section["end_factor"],
        peak_fraction=section["peak_fraction"],
    )


def make_optimizer(config: Config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """See `optim.make_optimizer`."""
    section = config["optim"]
    check_choice("optim.name", section["name"], optim.OPTIMIZERS)
    return optim.make_optimizer(
        section["name"],
        schedule,
        weight_decay=section["weight_decay"],
        clip_norm=section["clip_norm"],
        **section[section["name"]],
    )


def make_network(config: Config, classes: int) -> nn.Module:
    """The network of a config.

    Raises:
      UsageError: see `models.make_model`.
    """
    name = config["model"]["name"]
    dtype = DTYPES[config["model"]["dtype"]]
    return models.make_model(name, config["model"][name], num_classes=classes, dtype=dtype)


def picture_folder(config: Config) -> pathlib.Path:
    """Where the folder of pictures is now: `run.data_dir` if it has moved, else `data.folder`."""
    folder = config["run"]["data_dir"] or config["data"]["folder"]
    return pathlib.Path(folder).expanduser().absolute()


def picture_shape(config: Config) -> tuple[int, int, int]:
    """(H, W, C) that the pictures of a folder are brought to."""
    section = config["data"]
    size = section["image_size"]
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return height, width, section["channels"]
