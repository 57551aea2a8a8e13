"""CIFAR-10, fast: 9 epochs of the network of the speed records, with Muon.

python -m cifar_cnn.main --config=configs/speedrun.py
python scripts/evaluate.py --workdir=... --tta

The network, the augmentation and the optimizer of Jordan 2024 (arXiv:2404.00498; Muon in its later
record of 2.59 s on an A100), on smaller images first; for CPUs, see "Speed" in the README for what
it reaches there and what its parts are worth. It trains on all 50,000 images; to tune it, hold some
out with --config.data.validation_size=5000.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Whitening, then blocks of 64, 256 and 256 filters; Muon on kernels, SGD on the rest."""
    c = default.get_config()
    c.data.validation_size = 0
    c.augment.names = ("flip", "crop")
    c.augment.flip.alternate = True
    c.augment.crop.padding = 2
    c.model.name = "airbench"
    c.model.precision = "bfloat16"
    # With this scale the head learns at the rate of the biases: the record divides logits by the
    # 256 inputs of the head and has a rate 12.6 times as high there, and (256 / 72)^2 is 12.6.
    c.model.airbench.logit_scale = 1 / 72
    c.optim.name = "muon"
    c.optim.learning_rate = 0.08
    c.optim.schedule = "linear"
    # The record's 0.053 is for the sum of a batch's losses; ours is their mean: 0.053 * 500.
    c.optim.muon.sgd_learning_rate = 26.5
    # Of the head alone: 2e-6 * 500 a step at the highest rate, which is multiplied by 26.5.
    c.optim.weight_decay = 3.8e-5
    # Frozen whole, and not the kernel alone: the first block then needs no gradient of its input.
    c.optim.lr_mults = (("whitening/.*", 0.0),)
    c.train.epochs = 9
    c.train.batch_size = 500
    c.train.micro_batch_size = 25
    c.train.image_sizes = ((0, 25), (4, 32))
    c.train.label_smoothing = 0.2
    return c
