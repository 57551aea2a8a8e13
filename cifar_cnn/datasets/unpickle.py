"""Reads the pickles of the CIFAR archives for Python, and nothing else that a pickle can do.

A pickle is a program, which Python's own reader runs: it may call any function, and even without
that a few bytes can ask for gigabytes or overflow the stack. Here `pickletools`, which only
disassembles, gives the instructions, and the few that such a file needs build numbers, text, lists
and arrays; what they name is never looked up, and an unknown one is refused.
"""

import math
import pickletools
from collections.abc import Mapping
from typing import Any

import numpy as np

# The largest file of CIFAR, 100,000 labels and 50,000 names, takes about 250,000 instructions.
_MOST_INSTRUCTIONS = 1_000_000
# What the files of Python 2 and 3 call: they stand for themselves.
_DTYPE = "numpy dtype"
_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_ENCODE = "_codecs encode"  # With which Python 3 writes bytes for Python 2.
_NAMES = (_DTYPE, *_RECONSTRUCT, _ENCODE, "numpy ndarray")


class MalformedError(Exception):
    """Says what a pickle has that no CIFAR file has."""


def loads(data: bytes) -> dict[bytes, Any]:
    """Reads a pickled dict of bytes, numbers, lists and uint8 arrays.

    Args:
      data: the pickle, in protocol 0, 1 or 2 as Python 2 or 3 wrote it.

    Returns:
      The dict with keys as bytes; strings of Python 2 are bytes, arrays are `np.ndarray`.

    Raises:
      MalformedError: the pickle is damaged or asks for anything else.
    """
    machine = _Machine(len(data))
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > _MOST_INSTRUCTIONS:
                raise MalformedError(f"has more than {_MOST_INSTRUCTIONS:,} instructions")
            machine.step(opcode.name, argument)
        value = machine.stack.pop()
        if not isinstance(value, dict):
            raise MalformedError(f"holds a {type(value).__name__}, expected a dict")
        # Text may have surrogates in it, which UTF-8 has not.
        keys = [key.encode() if isinstance(key, str) else key for key in value]
    except MalformedError:
        raise
    except Exception as error:  # Damaged bytes fail in ways of their own at every instruction.
        raise MalformedError(f"damaged pickle ({type(error).__name__})") from error
    values = [item.array if isinstance(item, _Array) else item for item in value.values()]
    return dict(zip(keys, values, strict=True))


class _Name:
    """The name of a function or class in a pickle."""

    def __init__(self, name: str):
        if name not in _NAMES:
            raise MalformedError(f"names {name.replace(' ', '.')}, which no CIFAR file does")
        self.name = name


class _Dtype:
    """Stands for a numpy.dtype."""

    def __init__(self, name: str | bytes):
        self.name = name


class _Array:
    """Stands for a numpy.ndarray: takes its state and builds a uint8 array from that alone."""

    array: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran_order, data = state
        if (
            not isinstance(dtype, _Dtype)
            or dtype.name not in ("u1", b"u1")
            or fortran_order
            or not isinstance(data, bytes)
            # Before the product, which takes hours for many or long numbers.
            or len(shape) > 2
            or not all(type(side) is int and 0 <= side <= len(data) for side in shape)
            or math.prod(shape) != len(data)
        ):
            raise MalformedError("holds an array that is not plain uint8")
        self.array = np.frombuffer(data, np.uint8).reshape(shape)


class _Machine:
    """The stack, its marks and the memo of a pickle; see `pickletools` for the instructions."""

    def __init__(self, size: int):
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        # Bytes that calls may still make; those of Python 3 are never longer than the pickle.
        self.left = size

    def step(self, name: str, argument: Any) -> None:
        """Carries out one instruction."""
        stack = self.stack
        match name:
            case "PROTO" | "STOP":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(_CONSTANTS[name])
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1":
                stack.append(argument)
            case "UNICODE" | "BINUNICODE":
                stack.append(argument)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument.encode("latin-1"))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                # Python counts the places; chosen ones could all have the same hash.
                if argument > _MOST_INSTRUCTIONS:
                    raise MalformedError(f"has a memo of more than {_MOST_INSTRUCTIONS:,} places")
                self.memo[argument] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(self._since_mark())
            case "APPEND":
                item = stack.pop()
                _as(list, stack[-1]).append(item)
            case "APPENDS":
                items = self._since_mark()
                _as(list, stack[-1]).extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                stack.append(_pairs(self._since_mark()))
            case "SETITEM":
                items = [stack.pop(), stack.pop()][::-1]
                _as(dict, stack[-1]).update(_pairs(items))
            case "SETITEMS":
                items = self._since_mark()
                _as(dict, stack[-1]).update(_pairs(items))
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                items = stack[-count:]
                del stack[-count:]
                stack.append(tuple(items))
            case "GLOBAL":
                stack.append(_Name(argument))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(_call(_as(_Name, stack.pop()).name, arguments))
                if isinstance(stack[-1], bytes):
                    self.left -= len(stack[-1])
                    if self.left < 0:
                        raise MalformedError("makes more bytes than it has")
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], _Array):
                    stack[-1].set_state(state)
                else:  # Byte order and the like, without meaning for bytes.
                    _as(_Dtype, stack[-1])
            case _:
                raise MalformedError(f"has the instruction {name}, which no CIFAR file has")

    def _since_mark(self) -> list[Any]:
        place = self.marks.pop()
        items = self.stack[place:]
        del self.stack[place:]
        return items


_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def _as(kind: type, value: Any) -> Any:
    """`value`, which has to be of a type."""
    if not isinstance(value, kind):
        raise MalformedError(f"treats a {type(value).__name__} as a {kind.__name__.strip('_')}")
    return value


def _pairs(items: list[Any]) -> dict[Any, Any]:
    """Keys and values in turn as a dict; keys are text, whose hashes nobody can choose."""
    if not all(isinstance(key, bytes | str) for key in items[::2]):
        raise MalformedError("has a key that is no text")
    return dict(zip(items[::2], items[1::2], strict=True))


def _call(name: str, arguments: Any) -> Any:
    """What a call in a pickle stands for."""
    if name == _DTYPE:
        return _Dtype(arguments[0])
    if name in _RECONSTRUCT:
        return _Array()
    if name == _ENCODE and arguments[1] == "latin1":
        return _as(str, arguments[0]).encode("latin-1")
    raise MalformedError(f"calls {name.replace(' ', '.')} as no CIFAR file does")
