"""Learning-rate schedules, optimizers and the moving average of parameters."""

import inspect
import numbers
from collections.abc import Callable
from typing import Any

import jax
import optax

from cifar_cnn.checks import UsageError, check_bool, check_choice, check_int, check_number

# A 'one_cycle' run starts at this fraction of its peak, optax's default.
_ONE_CYCLE_START = 1 / 25


def _constant(
    peak: float, total_steps: int, warmup_steps: int, end_factor: float, peak_step: int
) -> optax.Schedule:
    del total_steps, end_factor, peak_step
    return _after_warmup(optax.constant_schedule(peak), peak, warmup_steps)


def _cosine(
    peak: float, total_steps: int, warmup_steps: int, end_factor: float, peak_step: int
) -> optax.Schedule:
    del peak_step
    decay = optax.cosine_decay_schedule(peak, total_steps - warmup_steps, alpha=end_factor)
    return _after_warmup(decay, peak, warmup_steps)


def _triangular(
    peak: float, total_steps: int, warmup_steps: int, end_factor: float, peak_step: int
) -> optax.Schedule:
    del warmup_steps
    rise = optax.linear_schedule(0.0, peak, peak_step)
    fall = optax.linear_schedule(peak, end_factor * peak, total_steps - peak_step)
    return optax.join_schedules([rise, fall], [peak_step])


def _one_cycle(
    peak: float, total_steps: int, warmup_steps: int, end_factor: float, peak_step: int
) -> optax.Schedule:
    del warmup_steps
    # Each scale multiplies the value reached before it. `optax.cosine_onecycle_schedule` is this
    # very call, but cannot end at 0.
    scales = {peak_step: 1 / _ONE_CYCLE_START, total_steps: end_factor}
    return optax.piecewise_interpolate_schedule("cosine", peak * _ONE_CYCLE_START, scales)


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": _constant,
    "cosine": _cosine,
    "triangular": _triangular,
    "one_cycle": _one_cycle,
}
# Those that rise to the peak by themselves, and read peak_fraction instead of warmup_steps.
_WITH_OWN_RISE = ("triangular", "one_cycle")


def make_schedule(
    name: str,
    *,
    learning_rate: float,
    total_steps: int,
    warmup_steps: int,
    end_factor: float,
    peak_fraction: float,
) -> optax.Schedule:
    """Returns the learning rate as a function of the step.

    'constant': linear from 0 to the peak over warmup_steps, then the peak.
    'cosine': the same rise, then half a cosine to end_factor * peak at total_steps (Loshchilov &
      Hutter 2017, arXiv:1608.03983, without restarts).
    'triangular': linear from 0 to the peak at peak_fraction * total_steps (rounded to a step), then
      linear to end_factor * peak at total_steps.
    'one_cycle': half a cosine from 1/25 of the peak to the peak at peak_fraction * total_steps,
      then another to end_factor * peak at total_steps (Smith & Topin 2018, arXiv:1708.07120).

    A rise from 0 makes step 0 one of learning rate 0. From total_steps on, the value stays.

    Args:
      name: a key of `SCHEDULES`.
      learning_rate: the peak, above 0.
      total_steps: steps of the whole run, from 1 up (from 2 up if the schedule has its own rise).
      warmup_steps: in [0, total_steps); 0 for 'triangular' and 'one_cycle'.
      end_factor: in [0, 1]; not read by 'constant'.
      peak_fraction: in (0, 1); read by 'triangular' and 'one_cycle' only.

    Returns:
      step (int or int32 [], traced or not) -> learning rate (float or float32 []).

    Raises:
      UsageError: naming the key under `optim`.
    """
    check_choice("optim.schedule", name, SCHEDULES)
    check_number("optim.learning_rate", learning_rate, above=0)
    least = 2 if name in _WITH_OWN_RISE else 1
    check_int(f"total number of steps of the {name} schedule", total_steps, minimum=least)
    check_int("number of steps of optim.warmup_epochs", warmup_steps, minimum=0)
    check_number("optim.end_factor", end_factor, minimum=0, maximum=1)
    check_number("optim.peak_fraction", peak_fraction, above=0, below=1)
    if name in _WITH_OWN_RISE and warmup_steps:
        raise UsageError(
            f"optim.warmup_epochs is {warmup_steps} steps, expected 0: {name} has a rise of its "
            "own, see optim.peak_fraction"
        )
    if warmup_steps >= total_steps:
        raise UsageError(
            f"optim.warmup_epochs is {warmup_steps} steps, expected below the {total_steps} steps "
            "in total"
        )
    # At least one step on either side of the peak.
    peak_step = min(max(round(peak_fraction * total_steps), 1), total_steps - 1)
    return SCHEDULES[name](learning_rate, total_steps, warmup_steps, end_factor, peak_step)


def _adam(
    schedule: optax.Schedule, weight_decay: float, *, b1: float, b2: float, eps: float
) -> optax.GradientTransformation:
    if weight_decay:
        raise UsageError("adam does not read optim.weight_decay; use adamw")
    _check_adam("adam", b1, b2, eps)
    return optax.adam(schedule, b1=b1, b2=b2, eps=eps)


def _adamw(
    schedule: optax.Schedule, weight_decay: float, *, b1: float, b2: float, eps: float
) -> optax.GradientTransformation:
    _check_adam("adamw", b1, b2, eps)
    return optax.adamw(schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=kernel_mask)


def _sgd(
    schedule: optax.Schedule, weight_decay: float, *, momentum: float, nesterov: bool
) -> optax.GradientTransformation:
    check_number("optim.sgd.momentum", momentum, minimum=0, below=1)
    check_bool("optim.sgd.nesterov", nesterov)
    if nesterov and not momentum:
        raise UsageError("optim.sgd.nesterov is True, which needs optim.sgd.momentum above 0")
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=kernel_mask),
        # None, not 0, spares the memory of a momentum that is never used.
        optax.sgd(schedule, momentum=momentum or None, nesterov=nesterov),
    )


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
}


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    clip_norm: float,
    **options: Any,
) -> optax.GradientTransformation:
    """Returns the optimizer; its state counts the steps that `schedule` is evaluated at.

    'adam' (b1, b2, eps): Kingma & Ba 2015, arXiv:1412.6980.
    'adamw' (b1, b2, eps): Adam with decoupled weight decay, param -= learning_rate * weight_decay *
      param (Loshchilov & Hutter 2019, arXiv:1711.05101).
    'sgd' (momentum, nesterov): weight_decay * param is added to the gradient before the momentum,
      that is an L2 penalty of weight_decay / 2, as in PyTorch.

    Args:
      name: a key of `OPTIMIZERS`.
      schedule: step -> learning rate, from `make_schedule`.
      weight_decay: from 0 up; on kernels only, see `kernel_mask`. 0 for 'adam'.
      clip_norm: from 0 up. Above 0, a gradient of larger global norm is first scaled down to this
        norm (before any weight decay is added); 0 leaves gradients as they are.
      **options: exactly those listed with the name.

    Raises:
      UsageError: naming the key under `optim` or `optim.<name>`.
    """
    check_choice("optim.name", name, OPTIMIZERS)
    check_number("optim.weight_decay", weight_decay, minimum=0)
    check_number("optim.clip_norm", clip_norm, minimum=0)
    parameters = inspect.signature(OPTIMIZERS[name]).parameters.values()
    known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    if options.keys() != known:
        got = ", ".join(sorted(options)) or "no keys"
        raise UsageError(f"optim.{name} has {got}, expected: {', '.join(sorted(known))}")
    optimizer = OPTIMIZERS[name](schedule, weight_decay, **options)
    if not clip_norm:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)


def kernel_mask(params: optax.Params) -> optax.Params:
    """Returns a tree of bool shaped like `params`: True for the leaves named 'kernel'.

    Biases and the scale and bias of a normalisation stay free of weight decay: they do not
    multiply the inputs of a layer, so pulling them to 0 does not make the function simpler.
    """

    def is_kernel(path: tuple[Any, ...], leaf: jax.Array) -> bool:
        del leaf
        return getattr(path[-1], "key", None) == "kernel" if path else False

    return jax.tree_util.tree_map_with_path(is_kernel, params)


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


def _after_warmup(schedule: optax.Schedule, peak: float, warmup_steps: int) -> optax.Schedule:
    """`schedule` delayed by a linear rise from 0 over warmup_steps, if there are any."""
    if not warmup_steps:
        return schedule
    return optax.join_schedules(
        [optax.linear_schedule(0.0, peak, warmup_steps), schedule], [warmup_steps]
    )


def _check_adam(name: str, b1: float, b2: float, eps: float) -> None:
    """UsageError unless the moments' decay rates are in [0, 1) and eps is above 0."""
    check_number(f"optim.{name}.b1", b1, minimum=0, below=1)
    check_number(f"optim.{name}.b2", b2, minimum=0, below=1)
    check_number(f"optim.{name}.eps", eps, above=0)
