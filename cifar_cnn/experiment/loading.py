"""Devices and data of a run, as its config names them."""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from cifar_cnn import data as data_lib
from cifar_cnn import datasets, hosts
from cifar_cnn import mesh as mesh_lib
from cifar_cnn.checks import UsageError, check_choice
from cifar_cnn.experiment.parts import Config, picture_folder, picture_shape


def start_devices(config: Config) -> Mesh:
    """Starts the backend as the section `run` says, together with the other processes of the job.

    See `mesh.start` and `hosts.connect`.
    """
    run = config["run"]
    programs = cache_dir(config) / "programs"
    hosts.connect()
    mesh = mesh_lib.start(run["platform"], run["cpu_devices"], str(programs))
    hosts.meet(mesh)
    return mesh


def cache_dir(config: Config) -> pathlib.Path:
    """Where decoded arrays, the embedded data set and compiled programs are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.path.expanduser(config["run"]["cache_dir"] or f"{base}/cifar_cnn")
    return pathlib.Path(folder).absolute()


def with_absolute_folder(config: Config) -> dict[str, Any]:
    """The config with `data.folder` as an absolute path, so that the run can be evaluated from
    any directory."""
    section = dict(config["data"])
    if section["folder"]:
        section["folder"] = os.path.abspath(os.path.expanduser(section["folder"]))
    return {**config, "data": section}


def make_builder(config: Config, say: Callable[[str], None] = print) -> Any:
    """The prepared TFDS builder that the config names, or its folder of pictures.

    See `datasets.make_builder`, `datasets.resize` and `datasets.open_folder`.
    """
    section, run = config["data"], config["run"]
    reading = {"image_shape": picture_shape(config), "fit": section["fit"], "say": say}
    if section["folder"]:
        return datasets.open_folder(picture_folder(config), cache_dir=cache_dir(config), **reading)
    builder = datasets.make_builder(
        section["name"],
        data_dir=run["data_dir"] or None,
        cache_dir=str(cache_dir(config)),
        say=say,
    )
    return datasets.resize(builder, **reading)


def load_training(
    config: Config, mesh: Mesh, say: Callable[[str], None]
) -> tuple[data_lib.Facts, data_lib.Examples, data_lib.Examples | None]:
    """Loads what training reads onto the devices; the test split is not opened.

    The validation part is the folder val/ of a folder of pictures that has one; otherwise it is
    held out of the train split.

    Returns:
      The facts of the data, the training part, and the validation part (None where its size is 0).

    Raises:
      UsageError: data not there, unknown, or too few for the config.
    """
    with hosts.first_then_others():  # Where they share a cache, one decodes.
        builder = make_builder(config, say)
        arrays = data_lib.load_arrays(builder, "train", cache_dir(config), say)
        own = None
        if _has_own_validation(builder):
            own = data_lib.load_arrays(builder, "validation", cache_dir(config), say)
    if own is not None:
        say(
            f"the validation part is a folder of its own in {builder.data_path}: nothing is held "
            "out of train/, and data.validation_size is not read"
        )
    train_rows, held_out = _divide(config, arrays, own is not None)
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
        validation_examples=len(held_out if own is None else own.labels),
    )
    _check_same_data(builder, *(("train", "validation") if own is not None else ("train",)))
    sharding = mesh_lib.replicated(mesh)
    train = data_lib.to_device(arrays, train_rows, sharding)
    if own is not None:
        return facts, train, data_lib.to_device(own, np.arange(len(own.labels)), sharding)
    held_out = mesh_lib.place(held_out, sharding)
    return facts, train, train.replace(indices=held_out) if len(held_out) else None


def load_evaluation(
    config: Config, facts: data_lib.Facts, split: str, mesh: Mesh, say: Callable[[str], None]
) -> data_lib.Examples:
    """Loads one part of the data of a trained run onto the devices.

    Args:
      facts: of the run; another copy of the data is said, other classes or image sizes refused.
      split: 'test', 'validation' or 'train' (without the validation part).

    Raises:
      UsageError: the data has no such part, does not suit the network, or is a folder whose
        training and validation parts cannot be told apart any more.
    """
    check_choice("split", split, ("test", "train", "validation"))
    if split == "validation" and not facts.validation_examples:
        raise UsageError("this run held out no validation part (data.validation_size is 0)")
    with hosts.first_then_others():
        builder = make_builder(config, say)
        _check_has(builder, split)
        if data_lib.fingerprint(builder) != facts.fingerprint:
            _tell_changed(builder, facts, split, say)
        source = source_split(builder, split)
        arrays = data_lib.load_arrays(builder, source, cache_dir(config), say)
    if arrays.class_names != facts.class_names or arrays.images.shape[1:] != facts.image_shape:
        raise UsageError(
            f"{builder.data_path} has images {arrays.images.shape[1:]} of "
            f"{len(arrays.class_names)} classes, but the run was trained on {facts.image_shape} of "
            f"{len(facts.class_names)} classes: give the run's own data with --data_dir"
        )
    _check_same_data(builder, source)
    rows = np.arange(len(arrays.labels))
    if source == "train":
        parts = _divide(config, arrays, _has_own_validation(builder))
        rows = parts[0] if split == "train" else parts[1]
    return data_lib.to_device(arrays, rows, mesh_lib.replicated(mesh))


def choose_split(
    asked: str | None,
    configs: Sequence[Config],
    settings: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> str:
    """The split that runs are read on, one for all.

    Args:
      asked: what the user names, which is obeyed; None for 'test', and for 'validation' where the
        data of one of the runs has no test split.
      configs: of the runs.
      settings: keys of the section `run` that differ on this machine, such as data_dir.
      say: told in one line that it is 'validation' for want of a test split.

    Raises:
      UsageError: data not there.
    """
    if asked is not None:
        return asked
    for config in configs:
        here = {**config, "run": {**config["run"], **(settings or {})}}
        with hosts.first_then_others():
            builder = make_builder(here, lambda line: None)  # Said when it is read.
        if "test" not in builder.info.splits:
            say(
                f"note: {builder.info.full_name} has no test split, so this is about the "
                "validation split; --split names another"
            )
            return "validation"
    return "test"


def source_split(builder: Any, split: str) -> str:
    """The split of the data that 'test', 'validation' or 'train' of a run is taken from."""
    own = split == "validation" and _has_own_validation(builder)
    return split if split == "test" or own else "train"


def _check_same_data(builder: Any, *splits: str) -> None:
    """Raises MachineError in a process that reads another copy of the data than process 0."""
    fingerprint = data_lib.fingerprint(builder, *splits)
    seen = {"name": builder.info.full_name, "fingerprint": fingerprint}
    hosts.check_agree("this process reads other data", seen)


def _is_folder(builder: Any) -> bool:
    return isinstance(builder, datasets.ImageFolder)


def _has_own_validation(builder: Any) -> bool:
    """Whether nothing is held out of the train split; of TFDS sets it always is."""
    return _is_folder(builder) and "validation" in builder.info.splits


def _divide(
    config: Config, arrays: data_lib.Arrays, own_validation: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the train split that are trained on, and those held out of it."""
    section = config["data"]
    size = 0 if own_validation else section["validation_size"]
    return data_lib.hold_out(len(arrays.labels), size, section["split_seed"])


def _check_has(builder: Any, split: str) -> None:
    """Raises UsageError if there are no test pictures."""
    if split != "test" or "test" in builder.info.splits:
        return
    where = builder.data_path
    if not _is_folder(builder):
        raise UsageError(
            f"data set {builder.info.name!r} has no split 'test': evaluate with --split=validation"
        )
    divide = "" if builder.layout.divided else f"move its class folders into {where}/train/ and "
    raise UsageError(
        f"{where} has no test pictures: evaluate with --split=validation, or {divide}put others "
        f"into {where}/test/CLASS/"
    )


def _tell_changed(
    builder: Any, facts: data_lib.Facts, split: str, say: Callable[[str], None]
) -> None:
    """Says that the data is not what the run was trained on.

    Raises:
      UsageError: for the two parts of a folder of pictures, whose division is another one now.
    """
    if not _is_folder(builder):
        say(
            f"note: {builder.data_path} is not the prepared copy of {facts.name} that this run "
            "was trained on"
        )
        return
    changed = f"the training pictures in {builder.data_path} are not those that this run saw"
    if split != "test":
        raise UsageError(
            f"{changed}, so nobody can tell which ones it was trained on: restore them, or "
            "evaluate with --split=test"
        )
    say(f"note: {changed}; the test pictures count as they are")
