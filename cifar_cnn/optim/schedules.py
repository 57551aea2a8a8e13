"""Learning-rate schedules."""

from collections.abc import Callable

import optax

from cifar_cnn.checks import UsageError, check_choice, check_int, check_number

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


def _linear(
    peak: float, total_steps: int, warmup_steps: int, end_factor: float, peak_step: int
) -> optax.Schedule:
    del peak_step
    decay = optax.linear_schedule(peak, end_factor * peak, total_steps - warmup_steps)
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
    "linear": _linear,
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
    'linear': the same rise, then straight to end_factor * peak at total_steps.
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


def _after_warmup(schedule: optax.Schedule, peak: float, warmup_steps: int) -> optax.Schedule:
    """`schedule` delayed by a linear rise from 0 over warmup_steps, if there are any."""
    if not warmup_steps:
        return schedule
    return optax.join_schedules(
        [optax.linear_schedule(0.0, peak, warmup_steps), schedule], [warmup_steps]
    )
