"""Checks of values that people type: each error is one line that names the key, what was got and
what is expected.

Two kinds of error reach a user without a traceback: `UsageError` (exit code 2: something to
change in the command, the config or the files named) and `MachineError` (exit code 1: the disk,
the network or the devices failed). Anything else is a defect of this code and keeps its traceback.
"""

import difflib
import math
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

# Of a value that people type, as Python writes it; and of sections within sections.
_LONGEST_VALUE = 4096
_DEEPEST = 8
_FLOAT32_MAX = 3.4028234e38


class UsageError(ValueError):
    """A user's mistake, told in one line with the remedy."""


class MachineError(RuntimeError):
    """A fault of the machine (disk, network, device), told in one line with the remedy."""


def why(error: OSError) -> str:
    """What the operating system refused, on one line, with the file's name where there is one."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def printable(name: str | os.PathLike) -> str:
    """A name that is safe to print on one line: line ends, terminal escapes and bytes that are no
    UTF-8 appear as escapes such as \\n and \\xff."""
    return "".join(
        character if character.isprintable() else _escape(character) for character in str(name)
    )


def shown(value: Any, longest: int = 200) -> str:
    """A value as Python writes it, on one line and cut after `longest` characters."""
    try:
        text = repr(value)
    except Exception:  # An integer of more digits than Python writes, lists nested too deeply, ...
        return f"a {type(value).__name__} that cannot be written out"
    return printable(text if len(text) <= longest else f"{text[:longest]}...")


def check_choice(key: str, got: Any, known: Iterable[str]) -> None:
    """Raises UsageError unless `got` is one of `known`; lists them and suggests the nearest."""
    known = sorted(known)
    if isinstance(got, str) and got in known:
        return
    near = difflib.get_close_matches(shown(got).strip("'"), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise UsageError(f"{key} is {shown(got)}, expected one of: {', '.join(known)}{hint}")


def check_int(key: str, got: Any, *, minimum: int, maximum: int | None = None) -> None:
    """Raises UsageError unless `got` is an integer in [minimum, maximum]."""
    bounds = f"from {minimum} up" if maximum is None else f"from {minimum} to {maximum}"
    is_int = isinstance(got, numbers.Integral) and not isinstance(got, bool)
    if not is_int or got < minimum or (maximum is not None and got > maximum):
        raise UsageError(f"{key} is {shown(got)}, expected an integer {bounds}")


def check_number(
    key: str,
    got: Any,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Raises UsageError unless `got` is a number that is finite in float32 too, minimum <= got <=
    maximum and above < got < below."""
    limits = [("at least", minimum), ("at most", maximum), ("above", above), ("below", below)]
    words = " and ".join(f"{word} {limit:g}" for word, limit in limits if math.isfinite(limit))
    if not _is_finite(got) or not minimum <= got <= maximum or not above < got < below:
        raise UsageError(
            f"{key} is {shown(got)}, expected a finite number{' ' if words else ''}{words}"
        )


def check_bool(key: str, got: Any) -> None:
    """Raises UsageError unless `got` is True or False."""
    if not isinstance(got, bool):
        raise UsageError(f"{key} is {shown(got)}, expected True or False")


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
    key = shown(key)[1:-1]
    raise UsageError(f"there is no config.{key}{hint}: configs/default.py lists every key")


def check_plain(key: str, got: Any) -> None:
    """Raises UsageError unless `got` is a value that a file can hold and a line can show: True or
    False, a number, text, or tuples or lists of these, of 4,096 characters at most."""
    try:
        is_plain = _is_plain(got) and len(repr(got)) <= _LONGEST_VALUE
    except (ValueError, RecursionError):  # Of `repr`, see `shown`; a list that holds itself.
        is_plain = False
    if not is_plain:
        raise UsageError(
            f"{key} is {shown(got)} ({type(got).__name__}), expected True or False, a number, text "
            f"or tuples of these, of {_LONGEST_VALUE:,} characters at most"
        )


def check_path(key: str, got: Any) -> None:
    """Raises UsageError unless `got` is text that can be a path; '' can."""
    try:
        is_path = isinstance(got, str) and b"\0" not in os.fsencode(got)
    except UnicodeEncodeError:
        is_path = False
    if not is_path:
        raise UsageError(f"{key} is {shown(got)}, expected a path")


def leaves(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """('section.key', value) of every value of nested dictionaries.

    Raises:
      UsageError: a name that is no text or has a dot in it, dictionaries nested too deeply.
    """
    for name, value in nested.items():
        if not isinstance(name, str) or "." in name or prefix.count(".") > _DEEPEST:
            raise UsageError(
                f"config.{prefix} has the key {shown(name)}, expected sections of named keys, as "
                "in configs/default.py"
            )
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from leaves(value, key)
        else:
            yield key, value


def _is_finite(got: Any) -> bool:
    if not isinstance(got, numbers.Real) or isinstance(got, bool):
        return False
    try:
        return math.isfinite(got) and abs(got) <= _FLOAT32_MAX
    except OverflowError:  # An integer beyond the largest float.
        return False


def _is_plain(got: Any) -> bool:
    if isinstance(got, tuple | list):
        return all(_is_plain(item) for item in got)
    return isinstance(got, bool | int | float | str)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # How Python keeps a byte that is no UTF-8.
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
