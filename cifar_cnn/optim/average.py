"""The moving average of parameters."""

import numbers

import jax
import optax

from cifar_cnn.checks import check_number


def ema_update(
    ema_params: optax.Params, params: optax.Params, decay: float | jax.Array
) -> optax.Params:
    """Returns decay * ema_params + (1 - decay) * params, leaf by leaf.

    Starting from the initial parameters (not from 0), so there is no bias to correct; a traced
    `decay`, e.g. min(0.999, (1 + step) / (10 + step)), forgets the start sooner.

    Args:
      ema_params: tree of float arrays, the average so far.
      params: tree of the same structure, shapes and dtypes.
      decay: in [0, 1), or a float32 [] that the caller keeps there.

    Raises:
      UsageError: naming `optim.ema_decay`, if it is a Python number out of range.
    """
    if isinstance(decay, numbers.Number):
        check_number("optim.ema_decay", decay, minimum=0, below=1)
    return jax.tree.map(lambda ema, new: decay * ema + (1 - decay) * new, ema_params, params)
