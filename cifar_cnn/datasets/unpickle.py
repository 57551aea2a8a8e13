"""Reads the pickles of the CIFAR archives for Python, and nothing else that a pickle can do.

A pickle is a program. Those of CIFAR call four functions of numpy and codecs; here they get
harmless stand-ins instead, and a pickle that names anything else is refused before it is called.
"""

import io
import math
import pickle
from typing import Any

import numpy as np


def loads(data: bytes) -> dict[bytes, Any]:
    """Reads a pickled dict of bytes, numbers, lists and uint8 arrays.

    Args:
        data: the pickle, as Python 2 or 3 wrote it.

    Returns:
        The dict with keys as bytes; strings of Python 2 are bytes, arrays are `np.ndarray`.

    Raises:
        pickle.UnpicklingError: the pickle is damaged or asks for anything else.
    """
    try:
        value = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # Any opcode can fail in its own way on damaged bytes.
        raise pickle.UnpicklingError(f"damaged pickle ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise pickle.UnpicklingError(f"holds a {type(value).__name__}, expected a dict")
    keys = [key.encode() if isinstance(key, str) else key for key in value]
    values = [item.array if isinstance(item, _Array) else item for item in value.values()]
    return dict(zip(keys, values, strict=True))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"names {module}.{name}, which no CIFAR file does"
            ) from None


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, name: str | bytes, *flags: Any):
        del flags
        self.name = name

    def __setstate__(self, state: Any) -> None:
        pass  # Byte order and the like, without meaning for bytes.


class _Array:
    """Stands in for numpy.ndarray: takes its state and builds a uint8 array from that alone."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran_order, data = state
        if (
            not isinstance(dtype, _Dtype)
            or dtype.name not in ("u1", b"u1")
            or fortran_order
            or not isinstance(data, bytes)
            or math.prod(shape) != len(data)
        ):
            raise pickle.UnpicklingError("holds an array that is not plain uint8")
        self.array = np.frombuffer(data, np.uint8).reshape(shape)


def _reconstruct(*args: Any) -> _Array:
    """Stands in for the function that makes an empty array for `__setstate__` to fill."""
    del args
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for codecs.encode, with which Python 3 writes bytes for Python 2."""
    del encoding
    return text.encode("latin1")


_STAND_INS = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _encode,
}
