"""From a config to the objects of a run: the only reader of config sections."""

from cifar_cnn.experiment.building import Experiment, build
from cifar_cnn.experiment.checking import check
from cifar_cnn.experiment.loading import (
    cache_dir,
    load_evaluation,
    load_training,
    make_builder,
    start_devices,
)

__all__ = [
    "Experiment",
    "build",
    "cache_dir",
    "check",
    "load_evaluation",
    "load_training",
    "make_builder",
    "start_devices",
]
