"""CIFAR-10, the tier of 96 %: deeper and wider, residual, cutout, 40 epochs; set up for one GPU.

python -m cifar_cnn.main --config=configs/speedrun_96.py
python scripts/evaluate.py --workdir=... --tta

Published for PyTorch with test-time augmentation: 96.0 %, mean of 200 runs of 40 epochs in 46 s on
an A100, later 31 epochs (Jordan 2024, arXiv:2404.00498; this is the later network and schedule, but
without the averaging of weights by lookahead, hence 40). The README has what one GPU gave.
"""

from ml_collections import ConfigDict

from configs import speedrun_95


def get_config() -> ConfigDict:
    """Whitening, then blocks of 128, 512 and 512 filters with three convolutions each."""
    c = speedrun_95.get_config()
    c.augment.names = ("flip", "crop", "cutout")
    c.augment.crop.padding = 4
    c.augment.cutout.size = 12
    c.model.airbench.widths = (128, 512, 512)
    c.model.airbench.depth = 3
    c.model.airbench.batch_norm_momentum = 0.9
    # From 9 and 0.012, as in speedrun_95.py.
    c.optim.learning_rate = 1.17
    c.optim.weight_decay = 1.33e-3
    c.optim.peak_fraction = 0.1
    c.optim.end_factor = 0.0
    c.train.epochs = 40
    return c
