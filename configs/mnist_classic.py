"""MNIST, the classical small network: one convolution, then narrow dense layers.

python -m cifar_cnn.main --config=configs/mnist_classic.py
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """conv 32 4x4, pool, flatten 4608, dense 16, 8, 10; Adam."""
    c = default.get_config()
    c.data.name = "mnist"
    c.model.plain.filters = ((32,),)
    c.model.plain.kernel_size = 4
    c.model.plain.padding = "VALID"
    c.model.plain.dense = (16, 8)
    c.train.epochs = 10
    c.train.batch_size = 64
    return c
