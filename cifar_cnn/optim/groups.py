"""Groups of parameters, told apart by their paths."""

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from cifar_cnn.checks import UsageError, check_number, shown

# Pairs of a regular expression and the factor of the learning rate where it matches.
LrMults = Sequence[tuple[str, float]]


def kernel_mask(params: optax.Params) -> optax.Params:
    """Returns a tree of bool shaped like `params`: True for the leaves named 'kernel'.

    Biases and the scale and bias of a normalisation stay free of weight decay: they do not
    multiply the inputs of a layer, so pulling them to 0 does not make the function simpler.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: _is_kernel(path), params)


def convolution_mask(params: optax.Params) -> optax.Params:
    """Returns a tree of bool shaped like `params`: True for kernels of four axes."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: _is_kernel(path) and leaf.ndim == 4, params
    )


def check_lr_mults(lr_mults: LrMults) -> None:
    """Raises UsageError, naming `optim.lr_mults`, unless it is pairs of pattern and factor."""
    example = "expected pairs of a pattern and a factor, such as (('.*/bias', 2.0),)"
    if not isinstance(lr_mults, tuple | list):
        raise UsageError(f"optim.lr_mults is {shown(lr_mults)}, {example}")
    for pair in lr_mults:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise UsageError(f"optim.lr_mults has {shown(pair)}, {example}")
        pattern, factor = pair
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Of what a later Python would read otherwise.
                re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise UsageError(
                f"optim.lr_mults has {shown(pattern)}, expected a regular expression: {error}"
            ) from None
        check_number(f"factor of {shown(pattern)} in optim.lr_mults", factor, minimum=0)


def lr_factors(params: optax.Params, lr_mults: LrMults) -> optax.Params:
    """Returns a tree of float shaped like `params`: the factor of the learning rate of each leaf.

    Args:
      lr_mults: see `make_optimizer`.

    Raises:
      UsageError: a pattern that decides nothing, with some paths that it could have matched.
    """
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    for number, (pattern, _) in enumerate(lr_mults):
        earlier = lr_mults[:number]
        left = [path for path in paths if _first_match(path, earlier) is None]
        if not any(re.fullmatch(pattern, path) for path in left):
            some = ", ".join(left[:6]) + (", ..." if len(left) > 6 else "")
            which = "left by the patterns before it" if number else "of the network"
            raise UsageError(
                f"optim.lr_mults has {shown(pattern)}, which matches no parameter {which}, "
                f"expected the whole path of one of: {some or 'none are left'}"
            )
    return jax.tree.unflatten(
        jax.tree.structure(params), [lr_factor(path, lr_mults) for path in paths]
    )


def lr_factor(path: str, lr_mults: LrMults) -> float:
    """The factor of the learning rate of the parameter at `path`, such as 'Conv_0/kernel'."""
    factor = _first_match(path, lr_mults)
    return 1.0 if factor is None else factor


def trained_mask(params: optax.Params, lr_mults: LrMults) -> optax.Params:
    """Returns a tree of bool shaped like `params`: False where the learning rate's factor is 0."""
    return jax.tree.map(lambda factor: factor > 0, lr_factors(params, lr_mults))


def partition_by_lr(
    make: Callable[[float], optax.GradientTransformation], lr_mults: LrMults
) -> optax.GradientTransformationExtraArgs:
    """Returns one optimizer for each factor of the learning rate, over the parameters that have it.

    A factor of 0 leaves parameters exactly as they are: no decay, no state.

    Args:
      make: factor -> optimizer at the learning rate times that factor.
      lr_mults: checked; see `make_optimizer`.
    """
    factors = {1.0, *(float(factor) for _, factor in lr_mults)}
    # Named, because a checkpoint holds the states under these keys.
    groups: dict[Any, optax.GradientTransformation] = {
        f"lr_mult={factor}": make(factor) if factor else optax.set_to_zero()
        for factor in sorted(factors)
    }

    def names(params: optax.Params) -> optax.Params:
        return jax.tree.map(lambda factor: f"lr_mult={factor}", lr_factors(params, lr_mults))

    return optax.partition(groups, names)


def _first_match(path: str, lr_mults: LrMults) -> float | None:
    return next((float(f) for pattern, f in lr_mults if re.fullmatch(pattern, path)), None)


def _is_kernel(path: tuple[Any, ...]) -> bool:
    return getattr(path[-1], "key", None) == "kernel" if path else False
