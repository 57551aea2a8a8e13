"""Which process this is, as the environment says, and what is refused."""

import pytest

from cifar_cnn import hosts
from cifar_cnn.checks import UsageError
from tests import commands

SLURM = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}
BY_HAND = {
    "JAX_COORDINATOR_ADDRESS": "10.0.0.1:5000",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}


@pytest.fixture
def environment(monkeypatch):
    """Sets these variables, and no others that a cluster sets."""

    def set_all(values):
        known = {*hosts.VARIABLES.values(), *SLURM, "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"}
        known |= {"OMPI_COMM_WORLD_RANK", "TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID"}
        for name in known | {"MEGASCALE_NUM_SLICES", "MEGASCALE_SLICE_ID"}:
            # Set first, so that what `set_flags` sets is taken back at the end, too.
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, hosts.Hosts(0, 1, None, "")),
        (BY_HAND, hosts.Hosts(3, 4, "10.0.0.1:5000", "JAX_NUM_PROCESSES")),
        # One process runs alone, whatever else is set.
        ({**BY_HAND, "JAX_NUM_PROCESSES": "1"}, hosts.Hosts()),
        ({"JAX_NUM_PROCESSES": "1"}, hosts.Hosts()),
        (SLURM, hosts.Hosts(5, 8, None, "Slurm")),
        # srun --ntasks=1, and a batch script with --ntasks=8 that does not call srun.
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, hosts.Hosts()),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, hosts.Hosts()),
        # What is given by hand wins.
        (
            {**SLURM, "JAX_COORDINATOR_ADDRESS": "[fd00::1]:80"},
            hosts.Hosts(5, 8, "[fd00::1]:80", "Slurm"),
        ),
        ({**SLURM, **BY_HAND}, hosts.Hosts(3, 4, "10.0.0.1:5000", "JAX_NUM_PROCESSES")),
        (
            {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
            hosts.Hosts(1, 2, None, "Open MPI"),
        ),
        # mpirun in a job of Slurm, whose daemon on each node has these of Slurm's.
        (
            {
                "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "6",
                "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1",
            },
            hosts.Hosts(6, 8, None, "Open MPI"),
        ),
        (
            {"TPU_WORKER_HOSTNAMES": "a,b,c,d", "TPU_WORKER_ID": "2"},
            hosts.Hosts(2, 4, None, "Cloud TPU"),
        ),
        (
            {
                "TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1",
                "MEGASCALE_NUM_SLICES": "3", "MEGASCALE_SLICE_ID": "2",
            },
            hosts.Hosts(5, 6, None, "Cloud TPU"),
        ),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, hosts.Hosts()),
    ],
)  # fmt: skip
def test_the_environment_says_which_process_this_is(environment, values, expected):
    environment(values)
    assert hosts.find() == expected
    assert hosts.is_first() == (expected.number == 0)
    assert hosts.label() == (f"process {expected.number}: " if expected.count > 1 else "")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"JAX_PROCESS_ID": "1"}, "JAX_COORDINATOR_ADDRESS is not set"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_NUM_PROCESSES is not set"),
        ({**BY_HAND, "JAX_PROCESS_ID": ""}, "JAX_PROCESS_ID is not set"),
        ({"SLURM_STEP_NUM_TASKS": "8"}, "SLURM_PROCID is not set"),
        ({"OMPI_COMM_WORLD_RANK": "1"}, "OMPI_COMM_WORLD_SIZE is not set"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_RANK is not set"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "TPU_WORKER_ID is not set"),
        (
            {"TPU_WORKER_HOSTNAMES": "a", "TPU_WORKER_ID": "0", "MEGASCALE_NUM_SLICES": "2"},
            "MEGASCALE_SLICE_ID is not set",
        ),
        ({**BY_HAND, "JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID is '4', expected a number from 0"),
        ({**BY_HAND, "JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID is '-1'"),
        ({**BY_HAND, "JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is 'two', expected a number"),
        ({**BY_HAND, "JAX_NUM_PROCESSES": "0"}, "JAX_NUM_PROCESSES is '0'"),
        ({**BY_HAND, "JAX_COORDINATOR_ADDRESS": "10.0.0.1"}, "expected HOST:PORT of process 0"),
        ({**BY_HAND, "JAX_COORDINATOR_ADDRESS": "a:70000"}, "expected HOST:PORT of process 0"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "MEGASCALE_NUM_SLICES": "two"}, "MEGASCALE_NUM_SLICES is"),
    ],
)
def test_an_environment_set_by_halves_is_refused_by_name(environment, values, message):
    environment(values)
    with pytest.raises(UsageError, match=message):
        hosts.find()
    assert hosts.label() == ""


def test_flags_are_variables(environment):
    environment(SLURM)
    hosts.set_flags({"num_processes": 4, "process_id": 3, "coordinator_address": None})
    assert hosts.find() == hosts.Hosts(3, 4, None, "Slurm")


def test_one_process_agrees_with_itself(environment):
    environment({})
    assert hosts.highest(15) == 15
    assert hosts.from_first([1, "a"]) == [1, "a"]
    hosts.check_agree("config", {"a": (1, 2)})
    with hosts.first_then_others():
        pass


def test_what_a_process_is_refused_with_is_one_line(tmp_path):
    # Alone of two, in vain: the limit is named. Another one gets half of the flags.
    by_flag = ("--coordinator_address=127.0.0.1:9", "--num_processes=2", "--connect_seconds=2")
    cases = {
        ("-m", "cifar_cnn.main", *commands.TINY, "--num_processes=2"): (2, "ADDRESS is not set"),
        ("-m", "cifar_cnn.main", *commands.TINY, *by_flag, "--process_id=1"): (
            1, "process 1: the 2 processes did not meet at 127.0.0.1:9 within 2 seconds",
        ),
        ("scripts/evaluate.py", "--num_processes=two"): (2, "invalid int value: 'two'"),
    }  # fmt: skip
    for command, (code, message) in cases.items():
        got, out, err = commands.finish(commands.start(*command, f"--workdir={tmp_path}/run"))
        assert got == code, err
        assert out == "" or "process 1" not in err
        assert message in err.splitlines()[-1]
        assert "Traceback" not in err
        assert "Check failure" not in err
    # A command for one process says so, before it loads anything.
    some = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}
    process = commands.start("scripts/predict.py", f"--workdir={tmp_path}", "a.png", env=some)
    code, _, err = commands.finish(process)
    assert code == 2
    assert "runs in one process, but JAX_NUM_PROCESSES says that there are 2" in err
