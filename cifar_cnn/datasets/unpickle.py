"""Reads the pickles of the CIFAR archives for Python.

A pickle is a program that Python's reader runs: give it only bytes that are known, which
`archive.read` sees to. It finds no other names here than those that the published files need; so
what has been published under a wrong md5 could exhaust the memory, but not call a function.
"""

import _codecs
import io
import pickle
from typing import Any

import numpy as np

_RECONSTRUCT = np.empty(0).__reduce__()[0]
# What the files of Python 2 and 3 call. Nobody can set an attribute of any of these.
_NAMES = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    # With which Python 3 writes bytes for Python 2.
    ("_codecs", "encode"): _codecs.encode,
}


class MalformedError(Exception):
    """Says what a pickle has that no CIFAR file has."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise MalformedError(f"names {module}.{name}, which no CIFAR file does") from None


def loads(data: bytes) -> dict[bytes, Any]:
    """Reads a pickled dict whose arrays are uint8.

    Args:
      data: the pickle, as Python 2 or 3 wrote it.

    Returns:
      The dict with keys as bytes; strings of Python 2 are bytes.

    Raises:
      MalformedError: the pickle is damaged, names anything else, or is no such dict.
    """
    try:
        value = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except MalformedError:
        raise
    except Exception as error:  # Damaged bytes fail in ways of their own at every instruction.
        raise MalformedError(f"damaged pickle ({type(error).__name__})") from error
    if type(value) is not dict:
        raise MalformedError(f"holds a {type(value).__name__}, expected a dict")
    for item in value.values():
        if isinstance(item, np.ndarray) and item.dtype != np.uint8:
            raise MalformedError("holds an array that is not uint8")
    try:  # Text may have surrogates in it, which UTF-8 has not.
        return {key if isinstance(key, bytes) else key.encode(): value[key] for key in value}
    except (AttributeError, UnicodeEncodeError) as error:
        raise MalformedError("has a key that is no text") from error
