"""Augmentations: pure functions (key, images, visit) -> images on device batches, chained by name.

Beside them stand mixup, which changes the labels too, a resize, and the views of an image that a
network can be averaged over at test time.

Every random draw has the batch as its leading axis. With JAX's default (partitionable) threefry
keys, row i of such a draw depends only on the key and i. So padding rows appended to a batch change
nothing for the others, and a batch split over devices is augmented in place, without communication.
"""

from cifar_cnn.augment.chain import AUGMENTS, make_augment
from cifar_cnn.augment.crop import crop
from cifar_cnn.augment.cutout import cutout
from cifar_cnn.augment.flip import flip
from cifar_cnn.augment.mixup import check_mixup_alpha, mixup
from cifar_cnn.augment.resize import shrink
from cifar_cnn.augment.views import View, make_views
from cifar_cnn.augment.visit import Augment, Visit

__all__ = [
    "AUGMENTS",
    "Augment",
    "View",
    "Visit",
    "check_mixup_alpha",
    "crop",
    "cutout",
    "flip",
    "make_augment",
    "make_views",
    "mixup",
    "shrink",
]
