"""MNIST, two convolutions with dropout before the logits.

python -m cifar_cnn.main --config=configs/mnist.py

About 100 seconds on 2 CPU cores, 98.7 +- 0.2 % on the first 3,000 test images, 99.3 +- 0.1 % on the
5,000 images held out for validation (3 seeds).
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """conv 32 3x3, pool, conv 64 3x3, pool, flatten 1600, dropout .5, 10; Adam."""
    c = default.get_config()
    c.data.name = "mnist"
    c.model.plain.filters = ((32,), (64,))
    c.model.plain.padding = "VALID"
    c.model.plain.conv_dropout = (0.0, 0.5)
    c.model.plain.dense = ()
    c.train.epochs = 10
    c.train.batch_size = 64
    return c
