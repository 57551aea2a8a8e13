"""Classification metrics as mergeable sums: batches, devices and processes add up, and the division
comes last."""

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax


@flax.struct.dataclass
class Metrics:
    """Sums over the examples seen; padded examples are never part of them.

    A plain float32 sum loses digits as it grows, the more so when all terms are alike. So the loss
    is summed as an unevaluated pair: `loss_residual` collects the rounding errors of `loss_sum`
    (Knuth's two-sum). For n losses of one sign, summed in batches of at most b, the pair is within
    about (b + n/b)^2 * 2^-48 of the exact sum, relatively: 4e-9 for n = 60,000 and b = 1,000. The
    float32 result of `compute` adds its own two roundings, 2^-23 = 1.2e-7.

    Attributes:
      loss_sum: float32 [], the sum as float32 arithmetic gives it.
      loss_residual: float32 [], what to add to it.
      count: int32 [], number of examples.
      confusion: int32 [K, K], examples by true class (row) and predicted class (column).
    """

    loss_sum: jax.Array
    loss_residual: jax.Array
    count: jax.Array
    confusion: jax.Array

    @classmethod
    def empty(cls, num_classes: int) -> "Metrics":
        """Returns the metrics of no examples: merging them changes nothing."""
        return cls(
            loss_sum=jnp.zeros((), jnp.float32),
            loss_residual=jnp.zeros((), jnp.float32),
            count=jnp.zeros((), jnp.int32),
            confusion=jnp.zeros((num_classes, num_classes), jnp.int32),
        )

    @classmethod
    def from_batch(
        cls, losses: jax.Array, logits: jax.Array, labels: jax.Array, mask: jax.Array
    ) -> "Metrics":
        """Returns the metrics of one batch.

        Args:
          losses: float [B], per example.
          logits: float [B, K]; the predicted class is the first of the largest.
          labels: int [B]; an example whose label is outside [0, K) counts as wrong and is not in
            the confusion matrix.
          mask: bool [B], False for padding, whose values may be anything, NaN included.
        """
        losses = jnp.where(mask, losses.astype(jnp.float32), 0.0)
        zero = jnp.zeros((), jnp.float32)
        loss_sum, loss_residual = lax.reduce(
            (losses, jnp.zeros_like(losses)), (zero, zero), _add_pairs, dimensions=(0,)
        )
        num_classes = logits.shape[1]
        counted = mask & (labels >= 0)
        # Out of bounds rows are dropped. On CPU, scattering 1,000 examples takes 0.06 ms for 10 and
        # for 100 classes; multiplying one-hot matrices 0.08 and 0.4 ms.
        rows = jnp.where(counted, labels, num_classes)
        confusion = jnp.zeros((num_classes, num_classes), jnp.int32)
        return cls(
            loss_sum=loss_sum,
            loss_residual=loss_residual,
            count=mask.sum(dtype=jnp.int32),
            confusion=confusion.at[rows, logits.argmax(axis=-1)].add(1, mode="drop"),
        )

    def merge(self, other: "Metrics") -> "Metrics":
        """Returns the metrics of the examples of both."""
        loss_sum, loss_residual = _add_pairs(
            (self.loss_sum, self.loss_residual), (other.loss_sum, other.loss_residual)
        )
        return Metrics(
            loss_sum=loss_sum,
            loss_residual=loss_residual,
            count=self.count + other.count,
            confusion=self.confusion + other.confusion,
        )

    def compute(self) -> dict[str, jax.Array]:
        """Returns `loss` (float32 [], mean in nats), `accuracy` (float32 [], in [0, 1]) and `count`
        (int32 []). Loss and accuracy of no examples are NaN."""
        # The residual of an infinite sum is NaN, which would hide the infinity.
        finite = jnp.isfinite(self.loss_sum)
        loss_sum = self.loss_sum + jnp.where(finite, self.loss_residual, 0.0)
        return {
            "loss": loss_sum / self.count,
            "accuracy": jnp.diagonal(self.confusion).sum() / self.count,
            "count": self.count,
        }


def _add_pairs(
    a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """(sum, residual) of two (sum, residual) pairs; the sum's rounding error goes to the latter."""
    total = a[0] + b[0]
    of_b = total - a[0]
    error = (a[0] - (total - of_b)) + (b[0] - of_b)
    return total, a[1] + b[1] + error
