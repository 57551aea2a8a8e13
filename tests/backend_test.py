"""Flags of the compiler, the faults of jaxlib that they avoid, and the check of untested ones."""

import os

import jaxlib
import pytest

from cifar_cnn import backend, mesh
from cifar_cnn.checks import MachineError
from tests import commands
from tests.packaging_test import PYTHONS, pins

pytestmark = pytest.mark.every_python
YNNPACK = "xla_cpu_experimental_ynn_fusion_type"


def flags_with(monkeypatch, version, own=""):
    monkeypatch.setattr(jaxlib, "__version__", version)
    monkeypatch.setenv("XLA_FLAGS", own)
    backend.set_flags()
    return os.environ["XLA_FLAGS"].split()


@pytest.mark.parametrize(
    ("version", "cured"),
    [
        ("0.9.2", False), ("0.10.1", False), ("0.10.2", True), ("0.11.1", False), ("0.11.2", True),
        ("0.12.0.1", True), ("0.12.1.dev20261201", True), ("1.0", True),
    ],
)  # fmt: skip
def test_versions_with_a_fault_get_the_flag_that_avoids_it(monkeypatch, version, cured):
    flags = flags_with(monkeypatch, version)
    assert (f"--{YNNPACK}=-reduce" in flags) == cured
    assert "--xla_gpu_deterministic_ops=true" in flags


def test_flags_that_the_user_has_set_are_left(monkeypatch):
    own = [f"--{YNNPACK}=+reduce", "--xla_gpu_deterministic_ops=false"]
    flags = flags_with(monkeypatch, "0.12.0.1", " ".join(own))
    assert [flag for flag in flags if YNNPACK in flag or "deterministic" in flag] == own


def test_the_tested_versions_are_those_of_the_lock():
    locked = {pins("requirements.lock", python)["jaxlib"] for python in PYTHONS}
    assert set(backend.TESTED) == locked
    assert jaxlib.__version__ in backend.TESTED


START = """
import sys
import jaxlib
jaxlib.__version__ = sys.argv[1]
from cifar_cnn import backend, mesh
from cifar_cnn.checks import MachineError
try:
    mesh.start("cpu", 1)
except MachineError as error:
    print(error)
print("found:", backend.wrong_number())
"""


def test_a_version_with_a_fault_is_wrong_without_its_flag_and_refused_where_it_is_not_known():
    out = commands.run("-c", START, "99.0", env={"XLA_FLAGS": f"--{YNNPACK}=+reduce"})
    if not any(backend.has(fault, jaxlib.__version__) for fault in backend.FAULTS):
        assert out == "found: \n"
        return
    error, found = out.splitlines()
    assert found.removeprefix("found: ") in error
    assert "jaxlib 99.0, with which this project was never tested, computes wrong numbers" in error
    assert f"install jaxlib {backend.TESTED[-1]}" in error


def test_an_untested_version_that_is_right_starts(monkeypatch):
    monkeypatch.setattr(jaxlib, "__version__", "99.0")
    assert mesh.start("cpu", 1).size == 1


def test_a_tested_version_is_not_checked(monkeypatch):
    monkeypatch.setattr(backend, "wrong_number", lambda: "all numbers")
    mesh.start("cpu", 1)
    monkeypatch.setattr(jaxlib, "__version__", "99.0")
    with pytest.raises(MachineError, match="computes wrong numbers on this CPU: all numbers; make"):
        mesh.start("cpu", 1)
