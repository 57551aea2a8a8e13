"""Learning-rate schedules, optimizers and the moving average of parameters."""

from cifar_cnn.optim.average import ema_update
from cifar_cnn.optim.groups import kernel_mask, lr_factor
from cifar_cnn.optim.optimizers import OPTIMIZERS, make_optimizer
from cifar_cnn.optim.schedules import SCHEDULES, make_schedule

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "ema_update",
    "kernel_mask",
    "lr_factor",
    "make_optimizer",
    "make_schedule",
]
