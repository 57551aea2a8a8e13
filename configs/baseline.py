"""CIFAR-10, the lessons' network without dropout and without augmentation: it overfits.

python -m cifar_cnn.main --config=configs/baseline.py

Three epochs (--config.train.epochs=3) take about 4 minutes on 2 CPU cores and reach 71.3 +- 1.0 %
test accuracy on the copy of CIFAR-10 that the README names.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """conv 32, 32, pool, conv 64, 64, pool, dense 512, 10; Adam."""
    return default.get_config()
