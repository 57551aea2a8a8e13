"""The machine and the versions that figures hold for."""

import datetime
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

from cifar_cnn.machine import usable_cores, usable_memory
from cifar_cnn.versions import versions

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")
_PEER_LIBRARIES = {"torch": ("torch",), "keras": ("keras", "tensorflow", "tensorflow-cpu")}
# What changes the speed of a process without being seen in a command.
_VARIABLES = (
    "GLIBC_TUNABLES",
    "JAX_",
    "KMP_",
    "LD_PRELOAD",
    "MALLOC_",
    "OMP_",
    "TF_ENABLE_",
    "TF_XLA_",
    "XLA_",
)


def describe(peers: Sequence[str]) -> dict[str, Any]:
    """Date (UTC), processor, usable cores, load (processes that wanted one on average over the last
    minute), usable bytes of memory, system, versions, environment. Load and memory are None where
    nothing tells.

    Args:
      peers: libraries besides ours, such as 'torch'.
    """
    names = [*_LIBRARIES, *(name for peer in peers for name in _PEER_LIBRARIES.get(peer, ()))]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu(),
        "cores": usable_cores(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "memory_bytes": usable_memory(),
        "system": platform.platform(),
        "versions": versions(names),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)},
    }


def _cpu() -> str:
    """The processor's own name where Linux tells it."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
