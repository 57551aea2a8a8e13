"""TensorBoard's event files of a run: scalars, the confusion matrix, predictions, the config.

`tensorboard --logdir runs` shows them. They are a view of what metrics.jsonl holds, and nothing
reads them back.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from cifar_cnn import hosts
from cifar_cnn.checks import leaves

# TensorBoard puts what has the same word before the slash together.
_NAMES = {
    "train_loss": "loss/training",
    "validation_loss": "loss/validation",
    "train_accuracy": "accuracy/training",
    "validation_accuracy": "accuracy/validation",
    "learning_rate": "learning_rate",
}


class Events:
    """Writes event files into WORKDIR/tensorboard; of several processes only the first does."""

    def __init__(self, workdir: pathlib.Path, config: Mapping[str, Any], *, keep_to_step: int):
        """Opens a new event file.

        Args:
          config: complete and nested, without the section `run`; shown as hyper-parameters.
          keep_to_step: TensorBoard leaves out what older files of the run have beyond this step.
        """
        self._writer = None
        if not hosts.is_first():
            return
        self._writer = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=keep_to_step + 1 if keep_to_step else None
        )
        if not keep_to_step:
            plain = {key: _plain(value) for key, value in leaves(config)}
            for summary in hparams(plain, {_NAMES["validation_accuracy"]: None}):
                self._writer.file_writer.add_summary(summary)

    def write(self, step: int, **scalars: Any) -> None:
        """Writes the scalars that have a name here; the others are left out."""
        if self._writer is not None:
            for name, value in scalars.items():
                if name in _NAMES:
                    self._writer.add_scalar(_NAMES[name], value, step)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture uint8 [H, W, 3]."""
        if self._writer is not None:
            self._writer.add_image(name, image, step, dataformats="HWC")

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.close()


def _plain(value: Any) -> Any:
    """What TensorBoard takes for a hyper-parameter."""
    return value if isinstance(value, bool | int | float | str) else repr(value)
