"""Stochastic gradient descent with momentum, alone and as the second half of Muon."""

import optax

from cifar_cnn.checks import UsageError, check_bool, check_number
from cifar_cnn.optim.groups import kernel_mask


def sgd(
    schedule: optax.Schedule, weight_decay: float, *, momentum: float, nesterov: bool
) -> optax.GradientTransformation:
    """SGD; weight_decay times the kernels is added to gradients before the momentum."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=kernel_mask),
        # None, not 0, spares the memory of a momentum that is never used.
        optax.sgd(schedule, momentum=momentum or None, nesterov=nesterov),
    )


def check_momentum(section: str, momentum: float, nesterov: bool) -> None:
    """Raises UsageError, naming the key under `section`, unless the two suit each other."""
    check_number(f"{section}.momentum", momentum, minimum=0, below=1)
    check_bool(f"{section}.nesterov", nesterov)
    if nesterov and not momentum:
        raise UsageError(f"{section}.nesterov is True, which needs {section}.momentum above 0")
