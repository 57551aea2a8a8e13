"""CIFAR-10, the dropout network with twice the filters.

python -m cifar_cnn.main --config=configs/wide.py
"""

from ml_collections import ConfigDict

from configs import dropout


def get_config() -> ConfigDict:
    """conv 64, 64, pool, dropout .25, conv 128, 128, pool, dropout .25, dense 512, dropout .5, 10."""
    c = dropout.get_config()
    c.model.plain.filters = ((64, 64), (128, 128))
    return c
