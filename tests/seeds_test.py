"""Several seeds: the real command once, and how its failures and interruptions are passed on."""

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys

import pytest
from scipy import stats

from cifar_cnn import seeds
from cifar_cnn.checks import UsageError
from cifar_cnn.evaluate import evaluate_run
from tests import commands

SCRIPT = "scripts/train_seeds.py"


def content(folder):
    """Bytes and times of what training and evaluation leave behind."""
    return {
        path: (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "model.txt"
    }


def test_a_finished_seed_is_kept_and_the_next_one_trained(trained, tmp_path):
    """`trained` is seed 0 of the same command; seed 1 is trained and evaluated here."""
    first = tmp_path / "quickstart-0"
    shutil.copytree(trained, first, ignore=shutil.ignore_patterns("eval"))
    options = {"split": "test", "which": "best", "tta": False, "rows": "true"}
    evaluate_run(first, settings={"cpu_devices": 0}, **options)
    before = content(first)
    out = commands.run(
        SCRIPT, *commands.TINY, "--config.train.epochs=3", "--seeds=2", f"--workdir={tmp_path}"
    )
    assert content(first) == before
    assert "this run is finished" in out
    assert "evaluated already" in out

    result = json.loads((tmp_path / "quickstart-seeds.json").read_text())
    accuracies = []
    for seed, row in enumerate(result["seeds"]):
        run = tmp_path / f"quickstart-{seed}"
        assert json.loads((run / "config.json").read_text())["seed"] == row["seed"] == seed
        metrics = json.loads((run / "eval" / f"test-{row['step']}" / "metrics.json").read_text())
        timing = [json.loads(x) for x in (run / "timing.jsonl").read_text().splitlines()]
        assert row["accuracy"] == metrics["accuracy"]
        assert row["seconds"] == pytest.approx(sum(x["seconds"] for x in timing))
        assert row["compiling_seconds"] == timing[0]["seconds"]
        accuracies.append(metrics["accuracy"])
        assert f"{metrics['accuracy']:.2%}" in out
    want = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert result["accuracy"]["interval_95"] == pytest.approx([want.low, want.high])
    assert "95 % interval of the mean" in out


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Puts a shell script in the place of Python, for processes that are started."""

    def replace(text):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(path))

    return replace


def trained_seeds(workdir, *overrides, **options):
    """`train_seeds` as the script calls it."""
    arguments = {
        "seeds": 1,
        "first_seed": 0,
        "split": "test",
        "which": "best",
        "tta": False,
        **options,
    }
    return seeds.train_seeds(
        "configs/quickstart.py", workdir=workdir, overrides=overrides, **arguments
    )


def test_one_seed_has_no_interval_and_flags_are_passed_on(trained, tmp_path, python, capsys):
    shutil.copytree(trained, tmp_path / "quickstart-7")
    options = {"split": "test", "which": "best", "tta": False, "rows": "true"}
    evaluate_run(tmp_path / "quickstart-7", settings={"cpu_devices": 0}, **options)
    python(f'echo "$@" > {tmp_path}/arguments')
    result = trained_seeds(tmp_path, "--config.train.epochs", "3", first_seed=7)
    assert (tmp_path / "arguments").read_text().split() == [
        "-m", "cifar_cnn.main", "--config=configs/quickstart.py", "--config.train.epochs", "3",
        "--config.seed=7", f"--workdir={tmp_path}/quickstart-7",
    ]  # fmt: skip
    assert result["accuracy"]["interval_95"] is None
    assert "one seed has no standard deviation and no interval" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "code"), [("exit 2", 2), ("exit 1", 1), ("kill -9 $$", 137)])
def test_a_failing_seed_stops_with_its_exit_code(tmp_path, python, capfd, command, code):
    python(f"echo started >> {tmp_path}/starts; {command}")
    with pytest.raises(SystemExit) as caught:
        trained_seeds(tmp_path, seeds=3)
    assert caught.value.code == code
    assert (tmp_path / "starts").read_text().split() == ["started"]
    err = capfd.readouterr().err
    assert "the training of seed 0 ended with exit code" in err
    assert "the same command goes on" in err
    assert not (tmp_path / "quickstart-seeds.json").exists()


def test_an_interrupted_seed_interrupts_all(tmp_path, python):
    python("exit 130")
    with pytest.raises(KeyboardInterrupt, match="interrupted in the training of seed 0"):
        trained_seeds(tmp_path, seeds=2)


def test_ctrl_c_waits_for_the_training_to_end(tmp_path, python, monkeypatch):
    """A signal to this process alone is passed on, and what the training then does is awaited."""
    monkeypatch.setattr(seeds, "_GRACE", 0.1)
    wait = subprocess.Popen.wait

    def wait_and_tell(process, timeout=None):
        (tmp_path / "waiting").touch()
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_and_tell)
    python(
        f"trap 'echo interrupted > {tmp_path}/ended; exit 130' INT; "
        f"while [ ! -e {tmp_path}/waiting ]; do sleep 0.01; done; kill -INT {os.getpid()}; "
        "while true; do sleep 0.01; done"
    )
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
            trained_seeds(tmp_path)
    finally:
        signal.signal(signal.SIGINT, old)
    assert (tmp_path / "ended").read_text() == "interrupted\n"


def test_mistakes_are_told_before_anything_is_started(tmp_path, python):
    python(f"touch {tmp_path}/started")
    cases = [
        ((), {"seeds": 0}, "--seeds is 0, expected an integer from 1 up"),
        ((), {"first_seed": -1}, "--first_seed is -1"),
        ((), {"split": "train"}, "--split is 'train'"),
        ((), {"which": "90"}, "--checkpoint is '90'"),
        (("--config.seed=3",), {}, "use --first_seed and --seeds"),
        (("-config.seed", "3"), {}, "use --first_seed and --seeds"),
    ]
    for overrides, options, words in cases:
        with pytest.raises(UsageError, match=words):
            trained_seeds(tmp_path, *overrides, **options)
    assert not (tmp_path / "started").exists()
