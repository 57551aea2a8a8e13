"""The parts of a run that follow from the config alone."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from cifar_cnn import augment as augment_lib
from cifar_cnn import optim
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
