"""The versions that a run or a figure holds for."""

import importlib.metadata
import platform
from collections.abc import Sequence

from cifar_cnn import __version__


def versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of this project, of Python, and of those packages of `names` that are installed."""
    found = {"cifar_cnn": __version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
