"""A run that is killed and resumed ends with the same bytes as one that was not."""

import json
import pathlib
import signal
import time

from cifar_cnn import checkpoint
from tests import commands
from tests.conftest import is_prepared

EPOCHS = 3
STEPS = 60  # An epoch.


def shrunk_data():
    """3,000 images to train on: of real CIFAR-10 where it is prepared, else of the embedded set."""
    if not is_prepared("cifar10"):
        return ("--config.data.validation_size=2000",)
    return (
        "--config.data.name=cifar10",
        "--config.data.validation_size=47000",
        "--config.eval.every_epochs=100",
    )


def command(workdir, devices):
    return (
        "-m", "cifar_cnn.main", *commands.TINY, *shrunk_data(), f"--workdir={workdir}",
        f"--config.train.epochs={EPOCHS}", f"--config.run.cpu_devices={devices}",
        "--config.optim.ema_decay=0.99", "--config.model.plain.batch_norm=True",
        "--config.train.batch_size=50",
    )  # fmt: skip


def bytes_of(workdir):
    """All that a run leaves that must not depend on interruptions."""
    last = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    note = json.loads((last / "note" / "metadata").read_text())
    assert len(note["checksums"]) > 20
    return last.name, note, (workdir / "metrics.jsonl").read_bytes()


def kill_when(condition, process):
    """Kills -9 as soon as `condition` holds; fails if the run ends first."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    commands.finish(process)


def in_second_epoch(workdir):
    """Between two steps, when a checkpoint is there to resume from."""
    path = workdir / "metrics.jsonl"
    recorded = path.exists() and '"epoch": 1.' in path.read_text()
    return recorded and (workdir / "checkpoints" / str(STEPS)).exists()


def test_killed_three_times_and_resumed_is_bit_identical(tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    process = commands.start(*command(broken, devices=2))
    # While it compiles, before the first step is recorded.
    kill_when(lambda: (broken / "timing.jsonl").exists(), process)
    assert (broken / "config.json").exists()
    # In the middle of saving a checkpoint.
    process = commands.start(*command(broken, devices=2))
    kill_when(lambda: any("tmp" in p.name for p in (broken / "checkpoints").glob("*")), process)
    # Between two steps of a later epoch.
    process = commands.start(*command(broken, devices=2))
    kill_when(lambda: in_second_epoch(broken), process)
    out = commands.run(*command(broken, devices=2))
    assert "resuming after step" in out
    commands.run(*command(unbroken, devices=2))
    assert bytes_of(broken) == bytes_of(unbroken)
    assert pathlib.Path(unbroken / "checkpoints" / str(STEPS * EPOCHS)).is_dir()


def test_killed_and_resumed_on_one_device_is_bit_identical(tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    process = commands.start(*command(broken, devices=1))
    kill_when(lambda: in_second_epoch(broken), process)
    assert "resuming after step" in commands.run(*command(broken, devices=1))
    commands.run(*command(unbroken, devices=1))
    assert bytes_of(broken) == bytes_of(unbroken)


def test_a_finished_run_is_left_as_it_is(tmp_path):
    commands.train(tmp_path, "--config.train.epochs=1")
    before = bytes_of(tmp_path)
    out = commands.train(tmp_path, "--config.train.epochs=1")
    assert "is finished" in out
    assert bytes_of(tmp_path) == before


def test_a_checkpoint_of_two_devices_resumes_on_one(tmp_path):
    process = commands.start(*command(tmp_path, 2))
    kill_when(lambda: (tmp_path / "checkpoints" / str(STEPS)).exists(), process)
    out = commands.run(*command(tmp_path, 1))
    assert f"resuming after step {STEPS}" in out
    name, _, metrics = bytes_of(tmp_path)
    assert name == str(STEPS * EPOCHS)
    steps = [json.loads(line)["step"] for line in metrics.decode().splitlines()]
    assert steps == sorted(steps)


def test_a_signal_ends_a_validation_and_the_same_command_makes_it_anew(tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    metrics = broken / "metrics.jsonl"
    # 900 batches, and 5 steps.
    slow = (
        "--config.data.validation_size=4500", "--config.eval.batch_size=5",
        "--config.train.epochs=1", "--config.run.cpu_devices=1",
    )  # fmt: skip
    command = ("-m", "cifar_cnn.main", *commands.TINY, *slow)
    process = commands.start(*command, f"--workdir={broken}")
    deadline = time.monotonic() + 300
    while not (metrics.exists() and '"epoch": 1.0' in metrics.read_text()):
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    code, _, err = commands.finish(process)
    assert code == 143
    assert "saved at step 5;" in err
    assert "validation" not in metrics.read_text()
    out = commands.run(*command, f"--workdir={broken}")
    assert "resuming after step 5 of 5, with its validation\n" in out
    assert "the training step" not in out
    commands.run(*command, f"--workdir={unbroken}")
    assert "validation" in metrics.read_text()
    assert bytes_of(broken) == bytes_of(unbroken)
    assert checkpoint.steps(broken) == checkpoint.steps(unbroken)
    assert checkpoint.validation_accuracy(broken, 5) == checkpoint.validation_accuracy(unbroken, 5)
    assert "is finished" in commands.run(*command, f"--workdir={broken}")
