"""One run a directory: a second one refuses, and what a run that is gone left is no obstacle."""

import concurrent.futures
import errno
import fcntl
import json
import os
import shutil
import socket
import threading
import time

import pytest

from cifar_cnn import lock
from cifar_cnn.checks import MachineError, UsageError
from tests import commands

ELSEWHERE = {"host": "elsewhere", "pid": 7, "since": "then", "boot": "another", "token": "theirs"}


@pytest.fixture
def quick(monkeypatch):
    """Hearts beat and stand still in fractions of a second."""
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.5)
    monkeypatch.setattr(lock, "LEASE_SECONDS", 1.0)


def holder_process(workdir):
    """A process that holds the lock of `workdir`; it has it when this returns."""
    process = commands.start(
        "-c",
        "import pathlib, sys, time; from cifar_cnn import lock\n"
        "with lock.held(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)",
        str(workdir),
    )
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    process.kill()
    commands.finish(process)


def test_a_second_run_is_refused_and_told_who_is_there(tmp_path):
    process = holder_process(tmp_path)
    try:
        who = rf"in use by process {process.pid} on {socket.gethostname()} since 20\d\d-"
        begin = time.monotonic()
        with pytest.raises(UsageError, match=who), lock.held(tmp_path):
            pass
        assert time.monotonic() - begin < 1
    finally:
        end(process)


def test_kill_9_leaves_no_obstacle(tmp_path):
    process = holder_process(tmp_path)
    end(process)
    said = []
    begin = time.monotonic()
    with lock.held(tmp_path, said.append) as check:
        check()
    assert time.monotonic() - begin < 1
    assert len(said) == 1
    assert f"process {process.pid} on" in said[0]
    assert "is gone" in said[0]


def test_nothing_is_left_at_the_end(tmp_path):
    for _ in range(2):
        said = []
        with lock.held(tmp_path, said.append) as check:
            check()
            assert os.listdir(tmp_path) == ["lock"]
        assert os.listdir(tmp_path) == []
        assert not said


def test_of_many_at_once_one_wins(tmp_path):
    def attempt(_):
        try:
            with lock.held(tmp_path, lambda line: None):
                time.sleep(0.5)
                return True
        except UsageError:
            return False

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(attempt, range(16))) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\0" * 100, "[" * 4000])
def test_a_damaged_file_that_nobody_holds_is_taken(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    with lock.held(tmp_path, lambda line: None):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_what_the_file_names_is_shown_and_not_obeyed(tmp_path, quick):
    path = tmp_path / "lock"
    holder = {**ELSEWHERE, "host": "\x1b[31mred", "pid": "7\n", "since": "\x1b[2J"}
    path.write_text(json.dumps({**holder, "pid": [[[7]]]}))  # No name: nobody has it.
    said = []
    with lock.held(tmp_path, said.append):
        pass
    assert not said
    path.write_text(json.dumps(holder))
    with lock.held(tmp_path, said.append):
        pass
    assert len(said) == 2
    with open(path, "w") as file:
        file.write(json.dumps(holder))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UsageError) as caught, lock.held(tmp_path, said.append):
            pass
    said.append(str(caught.value))
    assert all(line.isprintable() for line in said)
    assert r"process 7\n on \x1b[31mred since \x1b[2J" in said[-1]


def test_the_lock_of_another_host_is_taken_when_its_heart_stands_still(tmp_path, quick):
    (tmp_path / "lock").write_text(json.dumps({**ELSEWHERE, "beat": 3}))
    said = []
    begin = time.monotonic()
    with lock.held(tmp_path, said.append):
        assert time.monotonic() - begin >= 0.5
    assert "waiting for a sign of life" in said[0]
    assert "process 7 on elsewhere had" in said[1]


def test_a_host_whose_heart_beats_is_left_alone_where_locks_do_not_reach(tmp_path, quick):
    """As on a network file system that is mounted without locks."""
    path = tmp_path / "lock"
    path.write_text(json.dumps({**ELSEWHERE, "beat": 3}))

    def say(line):
        if "sign of life" in line:
            path.write_text(json.dumps({**ELSEWHERE, "beat": 4}))

    refused = pytest.raises(UsageError, match="process 7 on elsewhere since then")
    with refused, lock.held(tmp_path, say):
        pass
    assert json.loads(path.read_text())["beat"] == 4


def test_without_any_locks_the_heartbeat_decides(tmp_path, quick, monkeypatch):
    def unsupported(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    refused = pytest.raises(UsageError, match="is in use by process")
    with lock.held(tmp_path), refused, lock.held(tmp_path):
        pass
    with lock.held(tmp_path):
        pass


def test_a_host_that_is_gone_frees_its_lock_after_the_lease_of_its_server(tmp_path, quick):
    """Until then the file is locked, and its content stands still."""
    path = tmp_path / "lock"
    path.write_text(json.dumps({**ELSEWHERE, "beat": 3}))
    file = os.open(path, os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    refused = pytest.raises(UsageError, match="in use by process 7 on elsewhere")
    with refused, lock.held(tmp_path, lambda line: None):
        pass

    def say(line):
        if "sign of life" in line:
            os.close(file)

    with lock.held(tmp_path, say):
        pass


def test_a_directory_that_is_deleted_moved_or_taken_is_noticed(tmp_path, quick):
    workdir = tmp_path / "run"
    workdir.mkdir()
    with lock.held(workdir) as check:
        (workdir / "lock").unlink()
        check()  # It is still ours.
        workdir.rename(tmp_path / "away")
        with pytest.raises(MachineError, match=r"run was deleted or replaced"):
            check()
        shutil.copytree(tmp_path / "away", workdir)
        with pytest.raises(MachineError, match=r"run was deleted or replaced"):
            check()
    with lock.held(workdir) as check:
        # Over the same file, as a host would that sees no locks.
        (workdir / "lock").write_text(json.dumps({**ELSEWHERE, "beat": 3}))
        time.sleep(0.5)  # Ten heartbeats.
        with pytest.raises(MachineError, match="another run has taken"):
            check()
    assert json.loads((workdir / "lock").read_text())["host"] == "elsewhere"


def test_a_directory_that_cannot_be_written_is_a_fault_of_the_machine(tmp_path):
    refused = pytest.raises(MachineError, match=r"cannot write .*gone/lock")
    with refused, lock.held(tmp_path / "gone"):
        pass


def test_a_glance_names_the_holder_and_takes_nothing(tmp_path):
    assert lock.holder(tmp_path) is None
    with lock.held(tmp_path) as check:
        assert lock.holder(tmp_path) == f"process {os.getpid()} on {socket.gethostname()}"
        check()
    assert lock.holder(tmp_path) is None


def test_a_glance_refuses_no_run(tmp_path):
    """At what a run left that is gone, in the very moment in which it is resumed."""
    process = holder_process(tmp_path)
    end(process)
    file = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_SH)
    gone = threading.Timer(0.3, os.close, [file])
    gone.start()
    said = []
    with lock.held(tmp_path, said.append):
        assert len(said) == 1
        assert "is gone" in said[0]
    gone.join()


def test_a_file_server_that_is_away_fails_no_glance(tmp_path, monkeypatch):
    (tmp_path / "lock").write_text(json.dumps({**ELSEWHERE, "beat": 3}))
    assert lock.holder(tmp_path) == "process 7 on elsewhere"  # Its heart has just beaten.

    def away(*arguments):
        raise OSError(errno.ESTALE, "Stale file handle")

    for name in ("pread", "fstat"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, away)
            assert lock.holder(tmp_path) is None
