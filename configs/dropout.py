"""CIFAR-10, augmentation and dropout: the main job.

python -m cifar_cnn.main --config=configs/dropout.py
"""

from ml_collections import ConfigDict

from configs import augment


def get_config() -> ConfigDict:
    """conv 32, 32, pool, dropout .25, conv 64, 64, pool, dropout .25, dense 512, dropout .5, 10."""
    c = augment.get_config()
    c.model.plain.conv_dropout = 0.25
    c.model.plain.dense_dropout = 0.5
    return c
