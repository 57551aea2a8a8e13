"""Checks of values that people type: each error is one line that names the key, what was got and
what is expected.

Two kinds of error reach a user without a traceback: `UsageError` (exit code 2: something to
change in the command, the config or the files named) and `MachineError` (exit code 1: the disk,
the network or the devices failed). Anything else is a defect of this code and keeps its traceback.
"""

import difflib
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any


class UsageError(ValueError):
    """A user's mistake, told in one line with the remedy."""


class MachineError(RuntimeError):
    """A fault of the machine (disk, network, device), told in one line with the remedy."""


def check_choice(key: str, got: Any, known: Iterable[str]) -> None:
    """Raises UsageError unless `got` is one of `known`; lists them and suggests the nearest."""
    known = sorted(known)
    if got in known:
        return
    near = difflib.get_close_matches(str(got), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise UsageError(f"{key} is {got!r}, expected one of: {', '.join(known)}{hint}")


def check_int(key: str, got: Any, *, minimum: int, maximum: int | None = None) -> None:
    """Raises UsageError unless `got` is an integer in [minimum, maximum]."""
    bounds = f"from {minimum} up" if maximum is None else f"from {minimum} to {maximum}"
    is_int = isinstance(got, numbers.Integral) and not isinstance(got, bool)
    if not is_int or got < minimum or (maximum is not None and got > maximum):
        raise UsageError(f"{key} is {got!r}, expected an integer {bounds}")


def check_number(
    key: str,
    got: Any,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Raises UsageError unless `got` is a finite number, minimum <= got <= maximum and
    above < got < below."""
    limits = [("at least", minimum), ("at most", maximum), ("above", above), ("below", below)]
    words = " and ".join(f"{word} {limit:g}" for word, limit in limits if math.isfinite(limit))
    is_number = isinstance(got, numbers.Real) and not isinstance(got, bool)
    if (
        not is_number
        or not math.isfinite(got)
        or not minimum <= got <= maximum
        or not above < got < below
    ):
        raise UsageError(f"{key} is {got!r}, expected a finite number{' ' if words else ''}{words}")


def check_bool(key: str, got: Any) -> None:
    """Raises UsageError unless `got` is True or False."""
    if not isinstance(got, bool):
        raise UsageError(f"{key} is {got!r}, expected True or False")


def check_shape(name: str, got: Sequence[int], expected: Sequence[int | None]) -> None:
    """Raises UsageError unless shape `got` equals `expected`, where None stands for any size."""
    matches = len(got) == len(expected) and all(
        want is None or have == want for have, want in zip(got, expected, strict=True)
    )
    if not matches:
        words = ", ".join("any" if want is None else str(want) for want in expected)
        raise UsageError(f"{name} has shape {tuple(got)}, expected ({words})")


def check_key(key: str, known: Iterable[str]) -> None:
    """Raises UsageError unless the config key `key` is a known key or section."""
    known = list(known)
    if key in known or any(name.startswith(f"{key}.") for name in known):
        return
    near = difflib.get_close_matches(key, known, n=1)
    hint = f" (did you mean config.{near[0]}?)" if near else ""
    raise UsageError(f"there is no config.{key}{hint}: configs/default.py lists every key")


def leaves(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """('section.key', value) of every value of nested dictionaries."""
    for name, value in nested.items():
        key = f"{prefix}.{name}".lstrip(".")
        if isinstance(value, Mapping):
            yield from leaves(value, key)
        else:
            yield key, value
