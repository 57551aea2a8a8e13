"""Pooling over all pixels, which ends most networks."""

from typing import Literal

import flax.linen as nn
import jax


class GlobalPool(nn.Module):
    """Maximum or mean of each channel, as a layer with a row in a summary; no parameters."""

    kind: Literal["max", "avg"]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, C]."""
        return x.max(axis=(1, 2)) if self.kind == "max" else x.mean(axis=(1, 2))
