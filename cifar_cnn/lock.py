"""One run writes into a run directory at a time.

WORKDIR/lock is held with flock: the kernel frees it when its process ends, however that ends, also
on NFS, where the server does so when a whole host is gone. What is written in it names the holder.
Some file systems lock each host for itself, or not at all. A holder on another host, or on a file
system without locks, is therefore believed to live while its heartbeat goes on; watching the
heartbeat change compares no clocks.
"""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from cifar_cnn.checks import MachineError, UsageError, printable

HEARTBEAT_SECONDS = 5.0
# Without a heartbeat for so long, a holder that no lock speaks for is gone.
STALE_SECONDS = 3 * HEARTBEAT_SECONDS
# An NFS server keeps the locks of a host that is gone for its lease, 90 seconds by default.
LEASE_SECONDS = 150.0
# So often a run that starts waits for so long while others only glance at the lock.
_GLANCES, _GLANCE_SECONDS = 20, 0.05
_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")


@contextlib.contextmanager
def held(workdir: pathlib.Path, say: Callable[[str], None] = print) -> Iterator[Callable[[], None]]:
    """Holds the lock of a run directory in the block.

    Args:
      say: told when the lock of a run that is gone is taken over.

    Yields:
      check(): raises MachineError if the directory was deleted, replaced or taken meanwhile.

    Raises:
      UsageError: another run writes there; names its host and process.
      MachineError: the directory cannot be written.
    """
    path, me = workdir / "lock", _describe_this_process()
    try:
        file, folder = _acquire(path, me, say), _identity(workdir)
    except OSError as error:
        raise MachineError(
            f"cannot write {path}: {error.strerror or error}; choose another --workdir"
        ) from error
    done, lost = threading.Event(), threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            me["beat"] += 1
            # A disk that is full or away for a moment ends no training here.
            with contextlib.suppress(OSError):
                if (_read(file) or me)["token"] != me["token"]:
                    lost.set()
                    return
                _write(file, me)

    def check() -> None:
        try:
            now, name = _identity(workdir), _identity(path)
        except OSError:
            return  # A file server that is away for a moment says nothing about the directory.
        if now != folder:
            raise MachineError(
                f"{workdir} was deleted or replaced while this run wrote into it: training "
                "stopped, and what was in it is gone; start anew, or restore it from a copy"
            )
        if lost.is_set() or name not in (None, _identity(file)):
            raise MachineError(
                f"another run has taken {workdir} from this one: training stopped; its own "
                "checkpoints there are intact"
            )

    heart = threading.Thread(target=beat, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield check
    finally:
        done.set()
        heart.join(HEARTBEAT_SECONDS)  # Not for ever: a write to a file server may hang.
        # Only a file of this name that is still ours.
        with contextlib.suppress(OSError):
            if not lost.is_set() and _identity(path) == _identity(file):
                path.unlink()
        os.close(file)


def holder(workdir: pathlib.Path) -> str | None:
    """Who writes into a run directory now, as 'process 7 on host'; None for nobody.

    Takes nothing from a run: one that starts meanwhile sees that the lock is only glanced at. Of
    another host's process it is told by the age of its heartbeat, for which the clocks of both have
    to agree.
    """
    path = workdir / "lock"
    found, age, boot = None, STALE_SECONDS, _boot_id()
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = _read(file)
        age = time.time() - os.fstat(file).st_mtime
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _name(found) if found else "another process"
    except OSError:
        pass  # A file system without locks, or one that is away: its heartbeat tells.
    else:
        if found is None or found["boot"] == boot:
            return None
    finally:
        with contextlib.suppress(OSError):
            os.close(file)
    return _name(found) if found and age < STALE_SECONDS else None


def _acquire(path: pathlib.Path, me: dict[str, Any], say: Callable[[str], None]) -> int:
    """Opens the lock file, locks it where the file system can, and writes this process into it.

    Raises:
      UsageError: another run lives.
    """
    began, first = time.monotonic(), None
    while True:
        file, taken = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), False
        try:
            locked, holder = _lock(file), _read(file)
            if _identity(path) == _identity(file):  # Else its holder has just removed it.
                free = _is_free(locked, holder, first, me, time.monotonic() - began)
                if free is False:
                    raise _in_use(path, holder)
                if free:
                    if holder is not None:
                        say(f"note: {_name(holder)} had {path} and is gone: going on in its place")
                    _write(file, me)
                    taken = True
                    return file
                if first is None and holder is not None:
                    first = holder
                    say(f"{path} names {_name(holder)}: waiting for a sign of life")
        finally:
            if not taken:
                os.close(file)
        time.sleep(min(0.5, STALE_SECONDS / 10))


def _is_free(
    locked: bool | None,
    holder: dict[str, Any] | None,
    first: dict[str, Any] | None,
    me: dict[str, Any],
    waited: float,
) -> bool | None:
    """Whether the lock may be taken; None while that is not known yet.

    Args:
      locked: see `_lock`.
      holder, first: whom the file names now and named at first.
      waited: seconds since then.
    """
    if first is not None and holder is not None and holder != first:
        return False  # Its heart beats, or another was quicker.
    # All processes of one kernel see each other's locks; every boot of one has an id.
    here = holder is not None and me["boot"] is not None and holder["boot"] == me["boot"]
    if locked is False:
        patience = 0.0 if here else 1.0 if holder is None else LEASE_SECONDS
        return False if waited >= patience else None
    if holder is None or (locked and here):
        return True
    return True if waited >= STALE_SECONDS else None


def _lock(file: int) -> bool | None:
    """Locks an open file: False if another process has, None if the file system has no locks."""
    for _ in range(_GLANCES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                # No run shares its lock. Where it can be shared, `holder` glances at it, and is
                # gone in a moment.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                fcntl.flock(file, fcntl.LOCK_UN)
            except OSError:
                return False
        except OSError:
            return None
        else:
            return True
        time.sleep(_GLANCE_SECONDS)
    return False


def _in_use(path: pathlib.Path, holder: dict[str, Any] | None) -> UsageError:
    who = "another process"
    if holder is not None:
        who = f"{_name(holder)} since {printable(holder['since'])}"
    return UsageError(
        f"{path.parent} is in use by {who}: wait for it, end it, or choose another --workdir"
    )


def _name(holder: dict[str, Any]) -> str:
    return printable(f"process {holder['pid']} on {holder['host']}")


def _boot_id() -> str | None:
    """Of the running kernel; None where it has none."""
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return None


def _describe_this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "boot": _boot_id(),
        "token": uuid.uuid4().hex,
        "beat": 0,
    }


def _write(file: int, content: dict[str, Any]) -> None:
    """Writes over what is there: a file of one block, which no reader sees half written."""
    text = json.dumps(content).encode().ljust(1024) + b"\n"
    os.pwrite(file, text, 0)
    os.ftruncate(file, len(text))  # Of a damaged one, more may have been there.
    os.fsync(file)


def _read(file: int) -> dict[str, Any] | None:
    """The holder that the file names; None where it names none."""
    try:
        content = json.loads(os.pread(file, 4096, 0))
        names = [content[key] for key in ("host", "pid", "since", "boot", "token")]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return content if all(isinstance(name, str | int | None) for name in names) else None


def _identity(place: pathlib.Path | int) -> tuple[int, int] | None:
    """Device and inode of a path or of an open file; None where there is nothing."""
    try:
        status = os.stat(place)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino
