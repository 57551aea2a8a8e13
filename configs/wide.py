"""CIFAR-10, the dropout network with twice the filters.

python -m cifar_cnn.main --config=configs/wide.py
"""

from ml_collections import ConfigDict

from configs import dropout


def get_config() -> ConfigDict:
    """conv 64, 64, pool, conv 128, 128, pool, dense 512, 10, with the dropout of `dropout.py`."""
    c = dropout.get_config()
    c.model.plain.filters = ((64, 64), (128, 128))
    return c
