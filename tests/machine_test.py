"""How many cores and how much memory a process may use, as control groups and systems tell it."""

import os

import pytest

from cifar_cnn import machine

MEMORY = machine.usable_memory("/nonexistent")  # The whole machine's.


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return machine.usable_memory(root)


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"
OWN_V2 = {"proc/self/cgroup": "0::/batch.slice/job_7/step"}
OWN_V1 = {"proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/a7\n1:name=systemd:/a:b\n0::/"}
NONE_V1 = 0x7FFFFFFFFFFFF000  # What version 1 says where there is no limit.


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({**OWN_V2, f"{V2}/batch.slice/job_7/step/memory.max": 5000}, 5000),
        # The step has no limit of its own, the job has.
        (
            {
                **OWN_V2, f"{V2}/batch.slice/job_7/step/memory.max": "max",
                f"{V2}/batch.slice/job_7/memory.max": 6000,
                f"{V2}/batch.slice/memory.max": 7000,
            },
            6000,
        ),
        ({**OWN_V2, f"{V2}/batch.slice/memory.max": 7000}, 7000),
        # Of others.
        ({**OWN_V2, f"{V2}/batch.slice/job_8/memory.max": 5}, MEMORY),
        ({**OWN_V2, f"{V2}/batch.slice/job_7/step/memory.max": "max"}, MEMORY),
        ({**OWN_V2, f"{V2}/batch.slice/memory.max": 2**62}, MEMORY),
        # A container sees its own group as the top one.
        ({"proc/self/cgroup": "0::/", f"{V2}/memory.max": 8000}, 8000),
        ({"proc/self/cgroup": "0::/../elsewhere", f"{V2}/memory.max": 8000}, 8000),
        ({**OWN_V1, f"{V1}/docker/a7/memory.limit_in_bytes": 9000}, 9000),
        ({**OWN_V1, f"{V1}/memory.limit_in_bytes": 9500}, 9500),
        ({**OWN_V1, f"{V1}/docker/a7/memory.limit_in_bytes": NONE_V1}, MEMORY),
        ({**OWN_V1, f"{V1}/docker/a7/memory.limit_in_bytes": "?"}, MEMORY),
    ],
)  # fmt: skip
def test_the_lowest_limit_of_a_process_and_its_parents_counts(tmp_path, files, expected):
    assert write(tmp_path, files) == expected


def test_a_system_that_tells_nothing(tmp_path, monkeypatch):
    assert os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") == MEMORY
    monkeypatch.delattr(os, "sysconf")
    assert machine.usable_memory(tmp_path) is None
    assert write(tmp_path, {**OWN_V2, f"{V2}/batch.slice/memory.max": 7000}) == 7000


def test_cores_are_those_of_this_process(monkeypatch):
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        assert machine.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, usable)
    monkeypatch.delattr(os, "sched_getaffinity")  # As on macOS.
    assert machine.usable_cores() == os.cpu_count()
