"""The main command: what it says, when, and how it refuses."""

import json
import time

import pytest

from tests import commands
from tests.conftest import real_data

MAIN = ("-m", "cifar_cnn.main")


def quickest(attempt, enough):
    """The fewest seconds of up to three attempts: other tests compute at the same time."""
    seconds = []
    while len(seconds) < 3 and min(seconds, default=enough) >= enough:
        begin = time.monotonic()
        attempt()
        seconds.append(time.monotonic() - begin)
    return min(seconds)


def test_the_first_line_comes_within_5_seconds_without_tensorflow(tmp_path):
    def first_line():
        process = commands.start(*MAIN, *commands.TINY, f"--workdir={tmp_path}/run")
        assert process.stdout.readline().startswith("cifar_cnn ")
        process.kill()
        process.communicate()

    assert quickest(first_line, enough=5) < 5
    out = commands.run(
        "-c", "import sys, cifar_cnn.main, cifar_cnn.train; print('tensorflow' in sys.modules)"
    )
    assert out.strip() == "False"


def test_mistakes_are_one_line_and_exit_code_2_before_anything_is_written(tmp_path):
    (tmp_path / "broken.py").write_text("def get_config():\n    return 1 / 0\n")
    (tmp_path / "incomplete.py").write_text(
        "from ml_collections import ConfigDict\n\n\ndef get_config():\n"
        "    return ConfigDict({'seed': 1})\n"
    )
    good = "--config=configs/quickstart.py"
    cases = {
        (): "no config given",
        ("--config=configs/nothing.py",): "configs/nothing.py",
        (f"--config={tmp_path}/broken.py",): "ZeroDivisionError: division by zero",
        (f"--config={tmp_path}/incomplete.py",): "is missing: start from configs/default.py",
        (good, "--config.train.epoch=3"): "did you mean config.train.epochs?",
        (good, "--config.train.epochs=many"): "train.epochs",
        (good, "--config.train.epochs=0"): "train.epochs is 0, expected an integer from 1",
        (good, "--worckdir=x"): "worckdir",
        (good, "epochs=3"): "'epochs=3' is not a flag",
        (good, "--config.data.name=cifar11"): "cifar10",
        (good, "--config.data.validation_size=5000"): "validation_size is 5000, but the train",
        (good, "--config.train.batch_size=4501"): "expected at most the 4500 examples",
        (good, "--config.model.plain.padding=VALID", "--config.model.plain.kernel_size=9"):
            "kernel of extent 9 does not fit",
    }  # fmt: skip
    flags = list(cases)
    for group in (flags[:5], flags[5:9], flags[9:]):
        # A directory each: what runs on one at a time is another mistake, see lock_test.
        processes = [
            commands.start(*MAIN, f"--workdir={tmp_path}/run{number}", *flag)
            for number, flag in enumerate(group)
        ]
        for flag, process in zip(group, processes, strict=True):
            code, _, err = commands.finish(process)
            assert code == 2, (flag, err)
            assert err.startswith("error: "), flag
            assert err.count("\n") == 1, err
            assert cases[flag] in err, flag
    assert not list(tmp_path.glob("run*/config.json"))


def test_a_data_set_that_is_not_there_is_told_within_5_seconds(tmp_path):
    def refused():
        process = commands.start(
            *MAIN, "--config=configs/dropout.py", f"--workdir={tmp_path}/run",
            f"--config.run.data_dir={tmp_path}/none",
        )  # fmt: skip
        code, _, err = commands.finish(process)
        assert code == 2
        assert err.count("\n") == 1
        for word in ("cifar10", f"{tmp_path}/none", "prepare_data.py", "--archive", "quickstart"):
            assert word in err

    assert quickest(refused, enough=5) < 5


def test_another_config_on_a_workdir_is_refused_and_nothing_is_overwritten(tmp_path):
    workdir = tmp_path / "run"
    commands.train(workdir, "--config.train.epochs=1")
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    assert json.loads((workdir / "run.json").read_text())["data"]["name"] == "shapes10/1.0.0"
    code, _, err = commands.finish(
        commands.start(
            *MAIN, *commands.TINY, f"--workdir={workdir}", "--config.train.epochs=1",
            "--config.seed=1", "--config.optim.learning_rate=0.01",
        )
    )  # fmt: skip
    assert code == 2
    assert "optim.learning_rate: 0.003 there, 0.01 here" in err
    assert "seed: 0 there, 1 here" in err
    assert before == {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}


def test_faults_of_the_machine_are_one_line_and_exit_code_1(tmp_path):
    (tmp_path / "file").write_text("")
    processes = {
        "cannot write to --workdir": (f"--workdir={tmp_path}/file/run",),
        "run.platform is 'tpu', but JAX finds no such device": (
            f"--workdir={tmp_path}/run", "--config.run.platform=tpu",
        ),
        "the loss of step": (
            f"--workdir={tmp_path}/nan", "--config.optim.name=sgd",
            "--config.optim.learning_rate=1e30",
        ),
    }  # fmt: skip
    for message, flags in processes.items():
        code, _, err = commands.finish(commands.start(*MAIN, *commands.TINY, *flags))
        assert code == 1, err
        assert err.count("\n") == 1
        assert message in err


def test_a_non_finite_loss_keeps_the_last_good_checkpoint(tmp_path):
    # Weight decay of 2.1 times the weights a step lets them grow until they overflow, in epoch 2
    # or 3.
    flags = ("--config.train.epochs=4", "--config.optim.name=sgd",
             "--config.optim.weight_decay=2.1e8",
             "--config.optim.learning_rate=1e-8", "--config.optim.sgd.momentum=0.0",
             "--config.optim.sgd.nesterov=False")  # fmt: skip
    code, _, err = commands.finish(
        commands.start(*MAIN, *commands.TINY, f"--workdir={tmp_path}", *flags)
    )
    assert code == 1
    assert "training stopped" in err
    step = int(err.split("the loss of step ")[1].split()[0])
    kept = [int(p.name) for p in (tmp_path / "checkpoints").iterdir()]
    assert 45 <= max(kept) <= step
    assert commands.run("scripts/evaluate.py", f"--workdir={tmp_path}")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=real_data(name)) for name in ("cifar10", "mnist")],
)
def test_a_relative_workdir_and_every_real_set_train(tmp_path, name):
    commands.run(
        *MAIN, *commands.TINY, "--workdir=run", f"--config.data.name={name}",
        "--config.data.validation_size=45000", "--config.train.epochs=1",
        "--config.train.log_every_steps=100", "--config.model.plain.stride=2", cwd=tmp_path,
    )  # fmt: skip
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["data"]["name"].startswith(name)
    assert about["data"]["validation_examples"] == 45000
    assert len(about["data"]["class_names"]) == 10
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["validation_accuracy"] > 0.2


def test_parameters_that_the_last_update_broke_are_not_saved(tmp_path):
    # One step an epoch: its loss is still finite, what it does to the parameters is not.
    code, _, err = commands.finish(
        commands.start(
            *MAIN, *commands.TINY, f"--workdir={tmp_path}", "--config.optim.name=sgd",
            "--config.optim.learning_rate=1e30", "--config.optim.weight_decay=1e30",
            "--config.data.validation_size=4900",
        )
    )  # fmt: skip
    assert code == 1
    assert "the parameters after step 0 are not finite: training stopped" in err
    assert not list((tmp_path / "checkpoints").iterdir())
