"""Fashion-MNIST, a convolutional net, to be compared with fashion_dense.

python -m cifar_cnn.main --config=configs/fashion_cnn.py

About 3 minutes on 2 CPU cores, 91.0 +- 0.2 % test accuracy (3 seeds).
"""

from ml_collections import ConfigDict

from configs import fashion_dense


def get_config() -> ConfigDict:
    """conv 64 3x3, pool, conv 64 3x3, pool, flatten 1600, dense 128, 10; Adam."""
    c = fashion_dense.get_config()
    c.model.plain.filters = ((64,), (64,))
    c.model.plain.padding = "VALID"
    return c
