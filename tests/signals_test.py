"""Signals: noted or raised, and a second one ends the process whatever it does."""

import signal
import time

import pytest

from cifar_cnn.signals import SAME_SECONDS
from tests import commands

# A process that waits; what it does with a signal is told by its last line and its exit code.
WAITING = """
import hashlib, sys, time
from cifar_cnn import cli, signals
from cifar_cnn.signals import Interrupted

def command():
    with signals.watched() as watch:
        watch.deferred, watch.unsaved = {deferred}, {unsaved}
        print("ready", flush=True)
        begin = time.monotonic()
        while watch.received is None and time.monotonic() < begin + 30:
            time.sleep(0.01)
        hashlib.pbkdf2_hmac("sha256", b"", b"", {work})  # One call, as that of a program is.
        if watch.received:
            raise Interrupted(watch.received, "saved")

sys.exit(cli.run(command))
"""
LONG = 10**8  # Iterations, for half a minute or more.


def waiting(*, deferred, unsaved, work=1, prefix=()):
    code = WAITING.format(deferred=deferred, unsaved=unsaved, work=work)
    process = commands.start("-c", code, *prefix)
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process, begin):
    code, _, err = commands.finish(process)
    return code, err, time.monotonic() - begin


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_raised_or_noted_with_the_exit_code_of_its_number(number):
    for deferred, words in ((False, "nothing was begun"), (True, "saved")):
        process = waiting(deferred=deferred, unsaved=True)
        begin = time.monotonic()
        process.send_signal(number)
        code, err, seconds = ended(process, begin)
        assert code == 128 + number
        last = err.splitlines()[-1]
        assert last.startswith(f"error: interrupted by {number.name}: {words}")
        assert ("finishing the step and saving" in err) == deferred
        assert "Traceback" not in err
        assert seconds < 5


def test_with_nothing_to_save_a_signal_ends_a_call_that_nothing_else_can():
    process = waiting(deferred=True, unsaved=False, work=LONG)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, err, seconds = ended(process, begin)
    assert code == 143
    assert "before the first step" in err
    assert err.count("\n") == 1
    assert seconds < 5


def test_a_second_signal_ends_at_once_but_the_same_one_twice_is_one():
    process = waiting(deferred=True, unsaved=True, work=LONG)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    time.sleep(SAME_SECONDS + 0.3)
    assert process.poll() is None
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, err, seconds = ended(process, begin)
    assert code == 143
    assert "a second signal: the same command goes on after the last checkpoint" in err
    assert seconds < 5


def test_a_warning_is_not_the_first_of_two():
    process = waiting(deferred=True, unsaved=True, work=LONG)
    for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
        process.send_signal(number)
        time.sleep(SAME_SECONDS + 0.2)
        assert process.poll() is None, number
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, _, seconds = ended(process, begin)
    assert code == 143
    assert seconds < 5


def test_a_signal_that_was_ignored_from_the_start_stays_so():
    code = WAITING.format(deferred=True, unsaved=True, work=1)
    ignoring = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{code}"
    process = commands.start("-c", ignoring)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert ended(process, time.monotonic())[0] == 143
