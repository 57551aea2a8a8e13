"""How much of the machine this process may use: cores and memory."""

import os
import pathlib
from collections.abc import Iterator


def usable_cores() -> int:
    """Number of CPU cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_memory(root: str | os.PathLike = "/") -> int | None:
    """Bytes of memory that this process may use: the machine's, or less where a container or a
    batch system sets a limit (Linux's control groups, version 1 or 2); None where nothing tells.

    Args:
      root: of the file system that tells the limits.
    """
    known = [*_limits(pathlib.Path(root)), *_physical()]
    return min(known, default=None)


def _physical() -> Iterator[int]:
    """Bytes of memory of the machine, where the system tells."""
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # No such function, value or name.
        return
    if pages > 0 and size > 0:
        yield pages * size


def _limits(root: pathlib.Path) -> Iterator[int]:
    """The limits of the control groups that this process is in, each with its parents.

    A container may see its own group as the top one, below another name: then the path does not
    exist, but its parents do.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # Version 2.
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        inner = pathlib.PurePosixPath(path.lstrip("/"))
        for group in (inner, *inner.parents):
            try:
                limit = (top / group / name).read_text().strip()
            except (OSError, UnicodeDecodeError):
                continue
            if limit.isdecimal():  # Not 'max'.
                yield int(limit)
