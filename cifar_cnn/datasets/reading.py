"""What a folder of pictures and a TFDS set of pictures have in common while they are read."""

import math
import time
from collections.abc import Callable

from cifar_cnn.checks import UsageError
from cifar_cnn.machine import usable_memory

# Part of every fingerprint: raised when the same files would be read as other pixels.
READER = 1
_REPORT_SECONDS = 10.0


class Progress:
    """Tells every ten seconds how many pictures of a split are read."""

    def __init__(self, split: str, count: int, say: Callable[[str], None]) -> None:
        self._split, self._count, self._say = split, count, say
        self._begin = self._last = time.monotonic()

    def read(self, pictures: int) -> None:
        """Called when so many are read."""
        if (now := time.monotonic()) - self._last > _REPORT_SECONDS:
            self._last = now
            self._say(
                f"{pictures:,} of {self._count:,} pictures of {self._split} read in "
                f"{now - self._begin:.0f} s"
            )


def check_memory(count: int, image_shape: tuple[int, int, int], copies: int) -> None:
    """Raises UsageError if a split needs more than the machine's memory while it is read.

    Args:
      count: of pictures.
      image_shape: (H, W, C) that they are brought to.
      copies: of each in memory at that time.
    """
    needed, there = copies * count * math.prod(image_shape), usable_memory()
    if there is not None and needed > there:
        raise UsageError(
            f"{count:,} pictures of {image_shape} need {needed / 1e9:.0f} GB of memory while they "
            f"are read, and there are {there / 1e9:.0f} GB: choose a smaller data.image_size"
        )
