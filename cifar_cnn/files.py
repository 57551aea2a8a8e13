"""Files and folders that are either complete or not there."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator

from cifar_cnn.checks import MachineError

_INCOMPLETE = "incomplete."
# In every such folder: locked by the process that writes there, and holds the name of its machine.
_WRITER = "writer.lock"
_DAY = 86_400


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, which takes its place when the block succeeds.

    Missing parent folders are made. A reader sees the old file or the whole new one.

    Raises:
      MachineError: if the file cannot be written.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync(path: pathlib.Path) -> None:
    """Returns when a file is on the disk: a name without its content would not be complete."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def staging(root: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A temporary directory in `root`, so that what is built in it can be renamed into place.

    Leaves nothing behind, nor `root` if that was made for it and is empty at the end. What a killed
    process of this machine left in `root` is removed first, never what a living one writes.

    Raises:
        MachineError: `root` cannot be made or written.
    """
    root = pathlib.Path(root)
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        for folder in root.glob(f"{_INCOMPLETE}*"):
            _remove_if_abandoned(folder)
        # A name that tempfile chose is unique even among processes with equal random seeds.
        folder = pathlib.Path(tempfile.mkdtemp(prefix=_INCOMPLETE, dir=root))
    except OSError as error:
        raise MachineError(f"cannot write to {root}: {error.strerror}") from error
    try:
        with _signed(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for empty in made:
            with contextlib.suppress(OSError):
                empty.rmdir()


def publish(built: pathlib.Path, target: pathlib.Path) -> bool:
    """Renames `built` to `target` in one step.

    Returns:
        False if another process was first; its directory stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        built.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        return False
    return True


@contextlib.contextmanager
def _signed(folder: pathlib.Path) -> Iterator[None]:
    """Locks a directory for as long as the block lasts and this process lives."""
    with open(folder / _WRITER, "x", encoding="utf-8") as lock:
        # Where the file system has no locks it stays unsigned, and nobody removes the directory.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(socket.gethostname())
        lock.flush()
        yield


def _remove_if_abandoned(folder: pathlib.Path) -> None:
    """Removes a temporary directory whose writer is dead.

    The system drops the lock of a process that dies, however it dies. Locks of another machine may
    not be seen here, so that what it signed is left to itself. Without a lock file, it is from an
    older version or from a process killed in its first moment, and is kept for a day; with one that
    nobody has signed, for ever: it is being made, or there are no locks.
    """
    try:
        with open(folder / _WRITER, "r+", encoding="utf-8", errors="replace") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.read() == socket.gethostname():
                shutil.rmtree(folder, ignore_errors=True)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _DAY:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass  # Locked by its writer, or not ours to open.
