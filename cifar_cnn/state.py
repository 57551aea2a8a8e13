"""Everything that training changes, as one immutable value."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """State between two steps; a checkpoint is exactly this.

    Attributes:
      step: int32 [], number of updates made.
      params: float32 tree.
      batch_stats: running statistics of batch normalisation; empty without it.
      opt_state: of the optax transformation.
      ema_params: moving average of params, or None where none is kept.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any

    @property
    def eval_variables(self) -> dict[str, Any]:
        """What the network is evaluated with: the averaged parameters where there are any."""
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": params, "batch_stats": self.batch_stats}


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    images: jax.Array,
    *,
    ema: bool,
) -> TrainState:
    """State before the first step; to be jitted or passed to `jax.eval_shape`.

    Args:
      key: typed key of the stream "init".
      images: float32 [N, H, W, C], normalised. Their shape is what most networks ask for; layers
        that are initialised from data see their values.
      ema: whether a moving average of the parameters is kept.
    """
    variables = model.init(key, images, train=False)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        # A copy, because a donated state must not hold one buffer twice.
        ema_params=jax.tree.map(jnp.copy, params) if ema else None,
    )
