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
from cifar_cnn.experiment.trained import Trained, open_trained

__all__ = [
    "Experiment",
    "Trained",
    "build",
    "cache_dir",
    "check",
    "load_evaluation",
    "load_training",
    "make_builder",
    "open_trained",
    "start_devices",
]
