"""One training step, one evaluation, and the programs that run many of either in one call.

All functions are pure; the objects that a run is made of (network, optimizer, augmentation) come
in as keyword arguments and are bound once, before compiling.
"""

from cifar_cnn.steps.evaluation import Evaluation, eval_batches
from cifar_cnn.steps.forward import Variables, forward, normalise
from cifar_cnn.steps.gradients import summed_gradients
from cifar_cnn.steps.training import train_chunk, train_step

__all__ = [
    "Evaluation",
    "Variables",
    "eval_batches",
    "forward",
    "normalise",
    "summed_gradients",
    "train_chunk",
    "train_step",
]
