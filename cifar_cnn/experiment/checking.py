"""Checks of a whole config, before data, devices and compiling."""

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cifar_cnn import augment as augment_lib
from cifar_cnn import datasets, models, optim
from cifar_cnn import mesh as mesh_lib
from cifar_cnn.checks import (
    UsageError,
    check_choice,
    check_int,
    check_key,
    check_number,
    check_path,
    check_plain,
    leaves,
    shown,
)
from cifar_cnn.experiment.parts import (
    DTYPES,
    PRECISIONS,
    Config,
    make_augment,
    make_optimizer,
    make_schedule,
)
from cifar_cnn.images import FITS

_OF_PICTURES = ("data.image_size", "data.channels", "data.fit")


def check(config: Config, default: Config) -> None:
    """Checks everything that can be checked without data and devices.

    Args:
      config: complete nested config.
      default: `configs/default.py`'s, which says what keys there are and what "unset" means.

    Raises:
      UsageError: unknown or missing keys, values of the wrong type or out of range, and keys set
        to something that this config never reads; a name in a table that has no section.
    """
    _check_sections(default)
    known, got = dict(leaves(default)), dict(leaves(config))
    for key in sorted(got):
        check_key(key, known)
    for key in sorted(known.keys() - got.keys()):
        raise UsageError(f"config.{key} is missing: start from configs/default.py")
    check_values(config)
    changed = {key for key in got if got[key] != known[key]}
    for key, reason in itertools.chain(_unread_keys(config), _unread_of_pictures(config, changed)):
        if key in changed:
            raise UsageError(
                f"{key} is {shown(got[key])}, but nothing reads it ({reason}): leave it at its "
                f"default {known[key]!r}, or choose what reads it"
            )


def _check_sections(default: Config) -> None:
    """Checks that everything that can be chosen by name has its section."""
    tables = {
        "model": ("models.MODELS", models.MODELS),
        "optim": ("optim.OPTIMIZERS", optim.OPTIMIZERS),
        "augment": ("augment.AUGMENTS", augment_lib.AUGMENTS),
    }
    for section, (table, names) in tables.items():
        for name in names:
            if not isinstance(default[section].get(name), Mapping):
                raise UsageError(
                    f"{table} has {name!r}, but configs/default.py has no section "
                    f"{section}.{name}: add one, empty where {name!r} takes no options"
                )


def check_values(config: Config) -> None:
    """Checks the values of a config that has every key.

    Raises:
      UsageError: one of the wrong type or out of range.
    """
    for key, value in leaves(config):
        check_plain(key, value)
    check_int("seed", config["seed"], minimum=0, maximum=2**31 - 1)
    data, train = config["data"], config["train"]
    if not isinstance(data["name"], str) or not data["name"]:
        raise UsageError(
            f"data.name is {shown(data['name'])}, expected a TFDS name such as 'cifar10'"
        )
    _check_validation_size(data["validation_size"])
    _check_folder(data)
    check_int("data.split_seed", data["split_seed"], minimum=0, maximum=2**32 - 1)
    check_int("train.epochs", train["epochs"], minimum=1, maximum=100_000)
    check_int("train.batch_size", train["batch_size"], minimum=1, maximum=1_000_000)
    check_number("train.label_smoothing", train["label_smoothing"], minimum=0, below=1)
    check_int("train.log_every_steps", train["log_every_steps"], minimum=1, maximum=100_000)
    check_int("eval.every_epochs", config["eval"]["every_epochs"], minimum=1)
    check_int("eval.batch_size", config["eval"]["batch_size"], minimum=1, maximum=1_000_000)
    check_int("eval.tta_shift", config["eval"]["tta_shift"], minimum=1)
    check_int("checkpoint.every_epochs", config["checkpoint"]["every_epochs"], minimum=1)
    check_int("checkpoint.keep_latest", config["checkpoint"]["keep_latest"], minimum=1)
    check_int("checkpoint.keep_best", config["checkpoint"]["keep_best"], minimum=0)
    check_int("train.micro_batch_size", train["micro_batch_size"], minimum=1, maximum=1_000_000)
    augment_lib.check_mixup_alpha(train["mixup_alpha"])
    _check_image_sizes(train["image_sizes"], train["epochs"])
    check_choice("model.dtype", config["model"]["dtype"], DTYPES)
    check_choice("model.precision", config["model"]["precision"], PRECISIONS)
    check_choice("run.platform", config["run"]["platform"], mesh_lib.PLATFORMS)
    check_int("run.cpu_devices", config["run"]["cpu_devices"], minimum=0, maximum=1024)
    check_path("run.data_dir", config["run"]["data_dir"])
    check_path("run.cache_dir", config["run"]["cache_dir"])
    optimizer = config["optim"]
    check_number("optim.warmup_epochs", optimizer["warmup_epochs"], minimum=0)
    check_number("optim.ema_decay", optimizer["ema_decay"], minimum=0, below=1)
    if optimizer["warmup_epochs"] >= train["epochs"]:
        raise UsageError(
            f"optim.warmup_epochs is {optimizer['warmup_epochs']}, expected less than "
            f"train.epochs, {train['epochs']}"
        )
    names = config["augment"]["names"]
    if not isinstance(names, tuple | list):
        raise UsageError(
            f"augment.names is {shown(names)}, expected a tuple such as ('flip', 'crop')"
        )
    for name in names:
        if isinstance(name, str) and "," in name:
            raise UsageError(
                f"augment.names has {shown(name)}, expected one name each: write "
                "--config.augment.names=\"('flip','crop')\""
            )
    make_augment(config)
    make_optimizer(config, make_schedule(config, steps_per_epoch=100))


def _check_validation_size(size: Any) -> None:
    is_share = isinstance(size, float) and 0 <= size < 1
    is_count = isinstance(size, int) and not isinstance(size, bool) and size >= 0
    if not is_share and not is_count:
        raise UsageError(
            f"data.validation_size is {shown(size)}, expected an integer number of examples from 0 "
            "up, or their share as a number from 0 to below 1, such as 0.1"
        )


def _check_image_sizes(sizes: Any, epochs: int) -> None:
    """Checks `train.image_sizes` but for the size of the images, which is not known yet."""
    pairs = isinstance(sizes, tuple | list) and all(
        isinstance(pair, tuple | list) and len(pair) == 2 for pair in sizes
    )
    if not pairs:
        raise UsageError(
            f"train.image_sizes is {shown(sizes)}, expected (first epoch, pixels) pairs such as "
            "((0, 24), (4, 32)), or () for none"
        )
    for start, size in sizes:
        check_int("first epoch in train.image_sizes", start, minimum=0, maximum=epochs - 1)
        check_int("pixels in train.image_sizes", size, minimum=1, maximum=4096)
    starts = [start for start, _ in sizes]
    if starts != sorted(set(starts)):
        raise UsageError(
            f"train.image_sizes is {shown(sizes)}, expected its epochs in rising order"
        )


def _check_folder(section: Mapping[str, Any]) -> None:
    """Checks the keys that say how pictures are read."""
    check_path("data.folder", section["folder"])
    size = section["image_size"]
    sides = size if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2:
        raise UsageError(f"data.image_size is {shown(size)}, expected pixels or (height, width)")
    for side in sides:
        check_int("data.image_size", side, minimum=1, maximum=4096)
    if isinstance(section["channels"], bool | float) or section["channels"] not in (1, 3):
        raise UsageError(
            f"data.channels is {shown(section['channels'])}, expected 3 (RGB) or 1 (grey)"
        )
    check_choice("data.fit", section["fit"], FITS)


def _unread_keys(config: Config) -> Iterator[tuple[str, str]]:
    """Every key that this config never reads, with the reason; see `_unread_of_pictures`."""
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
    if config["data"]["folder"]:
        return  # It may have a val/, for which the keys below count.
    if not config["data"]["validation_size"]:
        for key in ("data.split_seed", "eval.every_epochs", "checkpoint.keep_best"):
            yield key, "data.validation_size is 0"


def _unread_of_pictures(config: Config, changed: Collection[str]) -> Iterator[tuple[str, str]]:
    """The keys that bring pictures of several sizes to one, where a TFDS set has one size.

    The set is asked only where one of them is among `changed`.
    """
    section = config["data"]
    if section["folder"] or not any(key in changed for key in _OF_PICTURES):
        return
    name = section["name"]
    shape, _ = datasets.read_metadata(name, data_dir=config["run"]["data_dir"] or None)
    if None not in shape:
        size = " x ".join(map(str, shape))
        for key in _OF_PICTURES:
            yield key, f"data.folder is '', and all images of {name} are {size}"
