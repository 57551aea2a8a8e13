"""The parts of a run that follow from the config alone."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax

from cifar_cnn import augment as augment_lib
from cifar_cnn import models, optim
from cifar_cnn.checks import check_choice

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
PRECISIONS = {"default": None, "bfloat16": "bfloat16", "float32": "float32"}
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
        learning_rate=section["learning_rate"],
        weight_decay=section["weight_decay"],
        clip_norm=section["clip_norm"],
        lr_mults=section["lr_mults"],
        **section[section["name"]],
    )


def make_network(config: Config, classes: int) -> nn.Module:
    """The network of a config.

    Raises:
      UsageError: see `models.make_model`.
    """
    name = config["model"]["name"]
    return models.make_model(
        name,
        config["model"][name],
        num_classes=classes,
        dtype=DTYPES[config["model"]["dtype"]],
        precision=PRECISIONS[config["model"]["precision"]],
    )


def image_size_at(sizes: Sequence[tuple[int, int]], epoch: int) -> int:
    """Side in pixels of the training images of an epoch (from 0); 0 where no size is given yet."""
    return next((size for start, size in reversed(sizes) if start <= epoch), 0)


def picture_folder(config: Config) -> pathlib.Path:
    """Where the folder of pictures is now: `run.data_dir` if it has moved, else `data.folder`."""
    folder = config["run"]["data_dir"] or config["data"]["folder"]
    return pathlib.Path(os.path.expanduser(folder)).absolute()


def picture_shape(config: Config) -> tuple[int, int, int]:
    """(H, W, C) that pictures of several sizes are brought to."""
    section = config["data"]
    size = section["image_size"]
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return height, width, section["channels"]
