"""One training in one process or in several: the same losses, and checkpoints that open on either.

Several processes are real ones here, which exchange their gradients with Gloo.
"""

import fcntl
import json
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from cifar_cnn import data, experiment
from cifar_cnn.evaluate import evaluate_run
from tests import commands
from tests.conftest import ROOT, make_config, real_data

pytestmark = real_data("cifar10")
# Of real images; 1,001 do not divide by anything.
SIZES = {"train": 2000, "val": 300, "test": 1001}
EPOCHS, STEPS = 2, 20  # Steps an epoch.
# With what is drawn and what is averaged over a batch. The loss is smooth in the parameters and the
# update in the gradients, so that rounding stays as small as it is: with relu and max pooling, a
# change of 1e-7 in one process can send a gradient elsewhere and move a loss by 1e-3.
FLAGS = (
    *commands.TINY, f"--config.train.epochs={EPOCHS}",
    "--config.train.log_every_steps=10", "--config.optim.name=sgd",
    "--config.optim.learning_rate=0.02",
    "--config.optim.ema_decay=0.9", "--config.model.plain.batch_norm=True",
    "--config.model.plain.activation=gelu", "--config.model.plain.pool=avg",
)  # fmt: skip
LAUNCH = ("scripts/launch_local.py", "--processes=2", "--devices=2", "--")


def write_pictures(folder):
    """Writes images of CIFAR-10 as a folder of pictures."""
    builder = experiment.make_builder(make_config({"data.name": "cifar10"}))
    arrays = data.load_arrays(builder, "test", experiment.cache_dir(make_config()))
    first = 0
    for split, size in SIZES.items():
        for number in range(first, first + size):
            name = arrays.class_names[arrays.labels[number]]
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(arrays.images[number]).save(place / f"{number}.bmp")
        first += size


@pytest.fixture(scope="session")
def runs(shared, cache):
    """Finished runs of one process with 4 devices, and of 2 processes with 2 devices each."""
    folder = shared / "processes"
    with open(shared / "processes.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # One worker trains, the others wait for it.
        if not (folder / "two.log").exists():
            shutil.rmtree(folder, ignore_errors=True)  # Of a worker that failed.
            write_pictures(folder / "pictures")
            flags = (*FLAGS, f"--config.data.folder={folder}/pictures")
            one = ("-m", "cifar_cnn.main", *flags, "--config.run.cpu_devices=4")
            two = commands.start(*LAUNCH, *flags, f"--workdir={folder}/two")
            commands.run(*one, f"--workdir={folder}/one")
            code, out, err = commands.finish(two)
            assert code == 0, out + err
            (folder / "two.log").write_text(out)
    return folder


@pytest.fixture
def copy(runs, tmp_path):
    """Copies a finished run, which the test may change."""
    return lambda name: shutil.copytree(runs / name, tmp_path / name)


def metrics_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def check_same_training(workdir, other):
    """Compares all that was recorded: losses up to the order of float sums, which may turn a
    prediction here and there where two classes are as likely."""
    ours, theirs = metrics_of(workdir), metrics_of(other)
    assert [line["step"] for line in ours] == [10, 20, 20, 30, 40, 40]
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            slack = 0.01 if key.endswith("accuracy") else 0
            np.testing.assert_allclose(
                a[key], b[key], rtol=1e-5, atol=slack, err_msg=f"{key} at {a['step']}"
            )


def test_two_processes_of_two_devices_train_as_one_of_four(runs):
    check_same_training(runs / "two", runs / "one")
    about = json.loads((runs / "two" / "run.json").read_text())
    assert about["devices"] == "4 cpu devices of 2 processes"
    out = (runs / "two.log").read_text()
    # Process 0 alone prints, and Gloo not at all.
    assert {line[:4] for line in out.splitlines()} == {"[0] "}
    assert "Gloo" not in out
    assert out.count("4 cpu devices of 2 processes") == 1
    assert {p.name for p in (runs / "two").iterdir()} == {p.name for p in (runs / "one").iterdir()}


def test_several_processes_evaluate_a_run_of_one_and_count_every_example_once(copy):
    workdir = copy("one")
    flags = ("scripts/evaluate.py", f"--workdir={workdir}", "--checkpoint=20")
    out = commands.run(*LAUNCH, *flags)
    assert "1,001" in out
    folder = workdir / "eval" / "test-20"
    together = json.loads((folder / "metrics.json").read_text())
    lines = (folder / "predictions.csv").read_text().splitlines()
    assert together["examples"] == len(lines) - 1 == SIZES["test"]
    alone = evaluate_run(
        workdir, split="test", which="20", tta=False, rows="true", settings={"cpu_devices": 4}
    )
    assert together["accuracy"] == alone["accuracy"]
    assert together["cross_entropy"] == pytest.approx(alone["cross_entropy"], rel=1e-5)


def test_one_process_opens_a_run_of_two(copy):
    # Restoring compares the checksums of the whole state.
    one, two = (
        evaluate_run(
            copy(name), split="test", which="latest", tta=False, rows="true",
            settings={"cpu_devices": 1},
        )
        for name in ("one", "two")
    )  # fmt: skip
    assert two["examples"] == SIZES["test"]
    assert two["cross_entropy"] == pytest.approx(one["cross_entropy"], rel=1e-5)


def test_one_process_goes_on_with_a_run_of_two(runs, copy):
    workdir = copy("two")
    shutil.rmtree(workdir / "checkpoints" / str(EPOCHS * STEPS))
    data = f"--config.data.folder={runs}/pictures"
    out = commands.run(
        "-m", "cifar_cnn.main", *FLAGS, data, f"--workdir={workdir}", "--config.run.cpu_devices=4"
    )
    assert f"resuming after step {STEPS}" in out
    check_same_training(workdir, runs / "one")


def start_two(workdirs, *others):
    """Starts two processes of the tiny network; the second one has other flags, too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    return [
        commands.start(
            "-m", "cifar_cnn.main", *commands.TINY, "--config.run.cpu_devices=1",
            f"--workdir={workdir}", f"--coordinator_address={address}", "--num_processes=2",
            f"--process_id={number}", *(others if number else ()),
        )
        for number, workdir in enumerate(workdirs)
    ]  # fmt: skip


def check_refused(two, said):
    """The second process says why, the first that it did; both end at once."""
    begin = time.monotonic()
    for process, words in zip(two, ("process 1 failed and says why", said), strict=True):
        code, _, err = commands.finish(process)
        assert code == 1
        assert err.count("\n") == 1, err
        assert words in err
    assert time.monotonic() - begin < 30  # JAX would wait a minute for one that is lost.


def test_a_process_with_another_config_is_refused(tmp_path):
    two = start_two([tmp_path / "run"] * 2, "--config.optim.learning_rate=0.03")
    check_refused(two, "this process has another config than process 0 (optim.learning_rate: 0.003")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_process_with_other_data_is_refused(tmp_path, cache):
    experiment.make_builder(make_config())  # Prepares it.
    other = tmp_path / "cache"
    shutil.copytree(cache / "tensorflow_datasets", other / "tensorflow_datasets")
    about = next(other.rglob("dataset_info.json"))
    about.write_text(about.read_text() + "\n")  # Another copy, as far as one can tell.
    two = start_two([tmp_path / "run"] * 2, f"--config.run.cache_dir={other}")
    check_refused(two, "this process reads other data than process 0 (fingerprint: ")
    assert not (tmp_path / "run" / "config.json").exists()


def two_hosts_reason():
    """Why no second host can be made here; '' where it can."""
    if sys.platform != "linux" or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return "needs Linux with unshare, nsenter and ip"
    probe = ["unshare", "-rnmu", "sh", "-c", "hostname left && ip link add cable type veth"]
    done = subprocess.run(probe, capture_output=True, text=True)
    return f"no network namespaces here: {done.stderr.strip()}" if done.returncode else ""


@pytest.mark.skipif(bool(two_hosts_reason()), reason=two_hosts_reason())
def test_two_hosts_with_addresses_of_their_own_go_on_with_a_run_of_one(runs, tmp_path):
    shutil.copytree(runs / "one", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / str(EPOCHS * STEPS))
    process = subprocess.run(
        [
            "unshare", "-rnmu", "bash", f"{ROOT}/tests/two_hosts.sh", str(tmp_path), sys.executable,
            "-m", "cifar_cnn.main", *FLAGS, f"--workdir={tmp_path}/run",
            f"--config.data.folder={runs}/pictures", "--config.run.cpu_devices=2",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    assert "4 cpu devices of 2 processes" in process.stdout
    assert f"resuming after step {STEPS}" in process.stdout
    assert (tmp_path / "right.log").read_text() == ""
    check_same_training(tmp_path / "run", runs / "one")


def test_slurm_tasks_that_share_no_disk_end_with_one_line(tmp_path):
    # What srun sets for two tasks on this machine; each has a --workdir of its own.
    job = {
        "SLURM_JOB_ID": str(tmp_path.stat().st_ino), "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2",
    }  # fmt: skip
    two = [
        commands.start(
            "-m", "cifar_cnn.main", *commands.TINY, "--config.run.cpu_devices=1",
            f"--workdir={tmp_path}/{number}",
            env={**job, "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)},
        )
        for number in range(2)
    ]  # fmt: skip
    for number, process in enumerate(two):
        code, _, err = commands.finish(process)
        assert code == 1
        assert err.count("\n") == 1, err
        said = ("process 1 failed and says why", "is not the folder that process 0 writes to")
        assert said[number] in err
    assert not list((tmp_path / "0").iterdir())
