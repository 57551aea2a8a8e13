"""CIFAR-10, the baseline with augmentation: random mirror images and shifted crops.

python -m cifar_cnn.main --config=configs/augment.py
"""

from ml_collections import ConfigDict

from configs import baseline


def get_config() -> ConfigDict:
    """The baseline, shown a new variant of every image in every epoch."""
    c = baseline.get_config()
    c.augment.names = ("flip", "crop")
    return c
