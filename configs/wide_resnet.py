"""CIFAR-10, WRN-28-10: the standard baseline with a wide residual network; for one GPU.

python -m cifar_cnn.main --config=configs/wide_resnet.py

Published: 96.0 %, with learning rates in four steps instead of the cosine (Zagoruyko & Komodakis
2016, arXiv:1605.07146). Not measured here beyond five epochs. Cutout and mixup as in `resnet18.py`;
a smaller one is --config.model.wide_resnet.depth=16 --config.model.wide_resnet.widen_factor=4.
"""

from ml_collections import ConfigDict

from configs import resnet18


def get_config() -> ConfigDict:
    """28 layers, 160 to 640 filters, 36.5 million parameters; trained as `resnet18.py`."""
    c = resnet18.get_config()
    c.model.name = "wide_resnet"
    return c
