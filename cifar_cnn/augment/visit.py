"""What an augmentation is, and what it may know of the images beside their pixels."""

from collections.abc import Callable
from typing import NamedTuple

import jax


class Visit(NamedTuple):
    """Which examples a batch shows, and when: for augmentations that go by the example.

    Attributes:
      rows: int32 [B], row of each image in the data set.
      epoch: int32 [], passes over the data set before this one.
      key: typed key of the run, the same at every step.
    """

    rows: jax.Array
    epoch: jax.Array
    key: jax.Array


# (key of the step, images, visit) -> images. The visit may be left out where none is needed.
Augment = Callable[[jax.Array, jax.Array, Visit | None], jax.Array]
