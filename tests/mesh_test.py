"""Devices: how many, how batches are padded to them, and what is refused."""

import jax
import pytest

from cifar_cnn import mesh
from cifar_cnn.checks import MachineError, UsageError


def test_batches_are_padded_to_a_multiple_of_the_devices():
    three = mesh.make_mesh(jax.devices()[:3])
    assert [mesh.padded_size(n, three) for n in (1, 3, 100, 128)] == [3, 3, 102, 129]
    assert mesh.describe(three) == "3 cpu devices"
    assert mesh.describe(mesh.make_mesh(jax.devices()[:1])) == "1 cpu device"


def test_a_cpu_shows_as_one_device_a_core_unless_told(monkeypatch):
    monkeypatch.setattr(mesh, "usable_cores", lambda: 3)
    assert mesh.start("cpu", 0).size == 3
    assert mesh.start("auto", 2).size == 2
    monkeypatch.setattr(mesh, "usable_cores", lambda: 2)
    assert mesh.start("auto", 0).size == 2


def test_missing_devices_are_refused_and_never_replaced():
    with pytest.raises(
        UsageError, match=r"run.platform is 'gpu', expected one of: auto, cpu, cuda"
    ):
        mesh.start("gpu", 0)
    with pytest.raises(UsageError, match=r"run.cpu_devices is -1"):
        mesh.start("cpu", -1)
    with pytest.raises(MachineError, match=r"run.cpu_devices is 64, but JAX already runs with 4"):
        mesh.start("cpu", 64)
