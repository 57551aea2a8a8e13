"""The launcher: output with the number of the process, exit codes, signals, and no orphans."""

import os
import pathlib
import signal
import time

import pytest

from cifar_cnn import launch
from cifar_cnn.checks import UsageError
from tests import commands

# A stand-in for cifar_cnn.main that starts in no time: what it does depends on its number.
_CHILD = """
import os, pathlib, signal, sys, time
number = int(os.environ["JAX_PROCESS_ID"])
assert os.environ["JAX_NUM_PROCESSES"] == "2" and os.environ["JAX_COORDINATOR_ADDRESS"]
assert sys.argv[-2:] == ["--platform=cpu", "--cpu_devices=3"], sys.argv
what = sys.argv[1]
def told(signum, frame):
    print("got", signum, flush=True)
    sys.exit(128 + signum)
if what == "wait":
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, told)
if what == "talk":
    signal.signal(signal.SIGHUP, lambda signum, frame: sys.exit(128 + signum))
if what == "stubborn" and number:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", os.getpid(), flush=True)
print("to stderr", file=sys.stderr)
if what == "done" or (what == "stubborn" and not number):
    sys.exit(7 * (what == "stubborn"))
if what == "fail" and number:
    os.kill(os.getpid(), signal.SIGKILL)
if what == "follow":  # Process 0 ends a moment after process 1.
    path = pathlib.Path(__file__).with_name("pid")
    if number:
        path.with_suffix(".part").write_text(str(os.getpid()))
        path.with_suffix(".part").rename(path)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    while not path.exists():
        time.sleep(0.001)
    while pathlib.Path("/proc", path.read_text(), "stat").exists():
        if pathlib.Path("/proc", path.read_text(), "stat").read_text().rsplit(")")[1][1] == "Z":
            break
    sys.exit(1)
for _ in range(600):
    if what == "talk":
        print("still here " * 100, flush=True)
    time.sleep(0.1)
"""


@pytest.fixture
def child(tmp_path):
    path = tmp_path / "child.py"
    path.write_text(_CHILD)
    return str(path)


def start(child, what, grace=1.0):
    call = f"launch(2, 3, [{child!r}, {what!r}], grace={grace})"
    return commands.start(
        "-c", f"import sys; from cifar_cnn.launch import launch; sys.exit({call})"
    )


def pids(process):
    """Waits until both children are there; returns their process ids."""
    found = {}
    while len(found) < 2:
        line = process.stdout.readline()
        assert line, process.communicate()
        number, word, *rest = line.split()
        if word == "ready":
            found[number] = int(rest[0])
    assert set(found) == {"[0]", "[1]"}
    return list(found.values())


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except OSError:
        return False


def all_gone(children, seconds=5.0):
    deadline = time.monotonic() + seconds
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_running, children))


def test_output_is_numbered_and_success_is_0(child):
    code, out, err = commands.finish(start(child, "done"))
    assert code == 0
    assert sorted(line.split()[:2] for line in out.splitlines()) == [["[0]", "ready"],
                                                                     ["[1]", "ready"]]  # fmt: skip
    assert sorted(err.splitlines()) == ["[0] to stderr", "[1] to stderr"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_every_process_once(child, number):
    process = start(child, "wait", grace=20)
    children = pids(process)
    process.send_signal(number)
    code, out, _ = commands.finish(process)
    assert code == 128 + number
    assert sorted(out.splitlines()) == [f"[0] got {number}", f"[1] got {number}"]
    assert all_gone(children)


def test_when_one_is_killed_the_others_are_ended_and_its_code_is_told(child):
    begin = time.monotonic()
    code, _, _ = commands.finish(start(child, "fail"))
    assert code == 128 + signal.SIGKILL
    assert time.monotonic() - begin < 20


def test_of_two_that_end_within_a_moment_the_code_of_the_first_is_told(child):
    code, _, _ = commands.finish(start(child, "follow"))
    assert code == 128 + signal.SIGKILL


def test_one_that_does_not_end_is_killed(child):
    process = start(child, "stubborn")
    children = pids(process)
    code, _, _ = commands.finish(process)
    assert code == 7
    assert all_gone(children)


def test_when_nobody_reads_any_more_all_are_hung_up_and_none_waits_to_be_read(child):
    process = start(child, "talk", grace=20)
    children = pids(process)
    process.stdout.close()
    with process.stderr:
        assert process.wait(20) == 128 + signal.SIGHUP
    assert all_gone(children)


def test_a_launcher_that_is_killed_leaves_no_orphan(child):
    process = start(child, "wait")
    children = pids(process)
    assert all(map(is_running, children))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert all_gone(children)


def test_mistakes_are_told(monkeypatch):
    for arguments, message in (
        ([], "nothing to run"), (["train"], "'train' is neither a flag"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            launch.launch(2, 1, arguments)
    with pytest.raises(UsageError, match="--processes is 0"):
        launch.launch(0, 1, ["--x"])
    monkeypatch.delattr(os, "sched_getaffinity")  # As on macOS.
    with pytest.raises(UsageError, match="'train' is neither a flag"):
        launch.launch(2, 0, ["train"])
    code, _, err = commands.finish(commands.start("scripts/launch_local.py", "--processes=2"))
    assert code == 2
    assert "write -- and the flags" in err
