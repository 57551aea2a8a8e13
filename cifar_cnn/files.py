"""Files and folders that are either complete or not there."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from cifar_cnn.checks import MachineError


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

    Leaves nothing behind, nor `root` if that was made for it and is empty at the end.

    Raises:
        MachineError: `root` cannot be made or written.
    """
    root = pathlib.Path(root)
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        # A name that tempfile chose is unique even among processes with equal random seeds.
        folder = pathlib.Path(tempfile.mkdtemp(prefix="incomplete.", dir=root))
    except OSError as error:
        raise MachineError(f"cannot write to {root}: {error.strerror}") from error
    try:
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
