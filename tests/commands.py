"""Runs the project's commands as a user does, in processes of their own."""

import os
import subprocess
import sys

from tests.conftest import ROOT

# A network and a data set that train in seconds.
TINY = (
    f"--config={ROOT}/configs/quickstart.py",
    "--config.model.plain.filters=((16,),(32,))",
    "--config.model.plain.dense=(64,)",
    "--config.model.plain.dense_dropout=0.1",
    "--config.optim.learning_rate=0.003",
    "--config.train.batch_size=100",
    "--config.train.log_every_steps=20",
)


def start(*command: str, **options) -> subprocess.Popen:
    """Starts `python COMMAND` in the repository; output is text."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=options.pop("cwd", ROOT),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Waits for a process; returns its exit code, stdout and stderr."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def run(*command: str, **options) -> str:
    """Runs `python COMMAND`, which has to succeed, and returns its stdout."""
    code, out, err = finish(start(*command, **options))
    assert code == 0, f"{' '.join(command)}\nexit code {code}\n{out}\n{err}"
    return out


def train(workdir, *flags: str, **options) -> str:
    """Trains the tiny network in `workdir`."""
    return run("-m", "cifar_cnn.main", *TINY, f"--workdir={workdir}", *flags, **options)
