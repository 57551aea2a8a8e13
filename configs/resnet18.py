"""CIFAR-10, the standard baseline: ResNet-18, SGD and a cosine over 200 epochs; for one GPU.

python -m cifar_cnn.main --config=configs/resnet18.py

About 95 % is usual for this recipe; see "On a GPU" in the README. Add mixup with
--config.train.mixup_alpha=0.2, and cutout with --config.augment.names="('flip','crop','cutout')"
--config.augment.cutout.size=16.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """3 x 3 stem, eight basic blocks of 64 to 512 filters, 11.2 million parameters."""
    c = default.get_config()
    c.augment.names = ("flip", "crop")
    c.augment.crop.mode = "zero"
    c.model.name = "resnet"
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.1
    c.optim.schedule = "cosine"
    c.optim.weight_decay = 5e-4
    c.train.epochs = 200
    c.train.micro_batch_size = 128  # Batch statistics of the whole batch, as is usual.
    return c
