"""From a config to the objects of a run: the only reader of config sections."""

from cifar_cnn.experiment.building import Experiment, build
from cifar_cnn.experiment.checking import check
from cifar_cnn.experiment.describing import describe_data
from cifar_cnn.experiment.loading import (
    cache_dir,
    choose_split,
    load_evaluation,
    load_training,
    make_builder,
    source_split,
    start_devices,
    with_absolute_folder,
)
from cifar_cnn.experiment.parts import make_network
from cifar_cnn.experiment.trained import Trained, open_trained, read_run

__all__ = [
    "Experiment",
    "Trained",
    "build",
    "cache_dir",
    "check",
    "choose_split",
    "describe_data",
    "load_evaluation",
    "load_training",
    "make_builder",
    "make_network",
    "open_trained",
    "read_run",
    "source_split",
    "start_devices",
    "with_absolute_folder",
]
