"""Optimizers, as optax transformations."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import optax

from cifar_cnn.checks import UsageError, check_choice, check_number
from cifar_cnn.optim.groups import (
    LrMults,
    check_lr_mults,
    kernel_mask,
    partition_by_lr,
    trained_mask,
)
from cifar_cnn.optim.muon import muon, needs_convolutions
from cifar_cnn.optim.sgd import check_momentum, sgd


def _adam(
    schedule: optax.Schedule,
    learning_rate: float,
    weight_decay: float,
    *,
    b1: float,
    b2: float,
    eps: float,
) -> optax.GradientTransformation:
    del learning_rate
    if weight_decay:
        raise UsageError("adam does not read optim.weight_decay; use adamw")
    _check_adam("adam", b1, b2, eps)
    return optax.adam(schedule, b1=b1, b2=b2, eps=eps)


def _adamw(
    schedule: optax.Schedule,
    learning_rate: float,
    weight_decay: float,
    *,
    b1: float,
    b2: float,
    eps: float,
) -> optax.GradientTransformation:
    del learning_rate
    _check_adam("adamw", b1, b2, eps)
    return optax.adamw(schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=kernel_mask)


def _sgd(
    schedule: optax.Schedule,
    learning_rate: float,
    weight_decay: float,
    *,
    momentum: float,
    nesterov: bool,
) -> optax.GradientTransformation:
    del learning_rate
    check_momentum("optim.sgd", momentum, nesterov)
    return sgd(schedule, weight_decay, momentum=momentum, nesterov=nesterov)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": _adam,
    "adamw": _adamw,
    "muon": muon,
    "sgd": _sgd,
}


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    learning_rate: float,
    weight_decay: float,
    clip_norm: float,
    lr_mults: LrMults,
    **options: Any,
) -> optax.GradientTransformation:
    """Returns the optimizer; its state counts the steps that `schedule` is evaluated at.

    'adam' (b1, b2, eps): Kingma & Ba 2015, arXiv:1412.6980.
    'adamw' (b1, b2, eps): Adam with decoupled weight decay, param -= learning_rate * weight_decay *
      param (Loshchilov & Hutter 2019, arXiv:1711.05101).
    'muon' (momentum, nesterov, ns_steps, normalize_kernels, sgd_learning_rate, sgd_momentum):
      orthogonal updates of convolutions, SGD for the rest (Jordan et al. 2024); see `muon.muon`.
    'sgd' (momentum, nesterov): weight_decay * param is added to the gradient before the momentum,
      that is an L2 penalty of weight_decay / 2, as in PyTorch.

    Args:
      name: a key of `OPTIMIZERS`.
      schedule: step -> learning rate, from `make_schedule`.
      learning_rate: the schedule's peak, above 0; read by 'muon' only.
      weight_decay: from 0 up; on kernels only, see `kernel_mask`. 0 for 'adam'.
      clip_norm: from 0 up. Above 0, a gradient of larger global norm is first scaled down to this
        norm (before any weight decay is added); 0 leaves gradients as they are.
      lr_mults: pairs of a regular expression and a factor from 0 up of the learning rate (and so of
        decoupled weight decay) of every parameter whose whole path, such as 'Conv_0/kernel',
        it matches; the first that matches counts, and without one the factor is 1. A factor of 0
        freezes a parameter: no decay, no state, and no part in the norm that is clipped.
      **options: exactly those listed with the name.

    Raises:
      UsageError: naming the key under `optim` or `optim.<name>`; from the `init` of what is
        returned, where the parameters have no path that a pattern of lr_mults could match.
    """
    check_choice("optim.name", name, OPTIMIZERS)
    check_number("optim.learning_rate", learning_rate, above=0)
    check_number("optim.weight_decay", weight_decay, minimum=0)
    check_number("optim.clip_norm", clip_norm, minimum=0)
    check_lr_mults(lr_mults)
    parameters = inspect.signature(OPTIMIZERS[name]).parameters.values()
    known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    if options.keys() != known:
        got = ", ".join(sorted(options)) or "no keys"
        raise UsageError(f"optim.{name} has {got}, expected: {', '.join(sorted(known))}")

    def make(factor: float) -> optax.GradientTransformation:
        scaled = schedule if factor == 1 else lambda step: factor * schedule(step)
        return OPTIMIZERS[name](scaled, learning_rate, weight_decay, **options)

    optimizer = partition_by_lr(make, lr_mults) if lr_mults else make(1.0)
    if name == "muon":
        optimizer = needs_convolutions(optimizer)
    if not clip_norm:
        return optimizer
    clip = optax.clip_by_global_norm(clip_norm)
    if lr_mults:
        clip = optax.masked(clip, functools.partial(trained_mask, lr_mults=lr_mults))
    return optax.chain(clip, optimizer)


def _check_adam(name: str, b1: float, b2: float, eps: float) -> None:
    """UsageError unless the moments' decay rates are in [0, 1) and eps is above 0."""
    check_number(f"optim.{name}.b1", b1, minimum=0, below=1)
    check_number(f"optim.{name}.b2", b2, minimum=0, below=1)
    check_number(f"optim.{name}.eps", eps, above=0)
