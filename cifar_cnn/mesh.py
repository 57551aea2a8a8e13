"""The devices of a run: starting the backend, the mesh over all devices, and its two shardings."""

import contextlib

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cifar_cnn import backend
from cifar_cnn.checks import MachineError, check_choice, check_int
from cifar_cnn.machine import usable_cores

AXIS = "data"
PLATFORMS = ("auto", "cpu", "cuda", "rocm", "tpu")
# More devices than this split a batch of 128 into pieces too small to pay for themselves.
_MOST_CPU_DEVICES = 8


def start(platform: str, cpu_devices: int, compile_cache_dir: str = "") -> Mesh:
    """Starts the backend and returns the mesh over its devices.

    Call it before anything else touches a device. XLA runs many operations of one CPU device on
    one core, so a CPU is presented as several devices.

    Args:
      platform: 'auto' takes the best that JAX finds; any other name is required, never replaced.
      cpu_devices: how many devices a CPU shows as; 0 for one a usable core, at most 8.
      compile_cache_dir: where compiled programs are kept between runs; '' for nowhere.

    Raises:
      UsageError: unknown platform, cpu_devices out of range.
      MachineError: the platform is not there, the CPU already runs with fewer devices, or an
        untested jaxlib computes wrong numbers (see `backend.complaint`).
    """
    check_choice("run.platform", platform, PLATFORMS)
    check_int("run.cpu_devices", cpu_devices, minimum=0, maximum=1024)
    wanted = cpu_devices or min(usable_cores(), _MOST_CPU_DEVICES)
    if compile_cache_dir:
        jax.config.update("jax_compilation_cache_dir", compile_cache_dir)
    backend.set_flags()
    if platform != "auto":
        jax.config.update("jax_platforms", platform)
    # The backend may run already, as in tests: what it has is checked below.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", wanted)
    try:
        devices = jax.devices() if platform == "auto" else jax.devices(platform)
    except RuntimeError as error:
        raise MachineError(
            f"run.platform is {platform!r}, but JAX finds no such device: install the matching "
            f"extra (pip install '.[cuda]' or '.[tpu]') or use --config.run.platform=auto "
            f"({str(error).splitlines()[0]})"
        ) from error
    if devices[0].platform == "cpu":
        own = jax.local_device_count()
        if own < wanted:
            raise MachineError(
                f"run.cpu_devices is {wanted}, but JAX already runs with {own} in this "
                "process: start a new process"
            )
        if jax.process_count() == 1:
            devices = devices[:wanted]
    if complaint := backend.complaint():
        raise MachineError(complaint)
    return make_mesh(devices)


def make_mesh(devices: list[jax.Device]) -> Mesh:
    """Mesh of one axis, 'data', over `devices`."""
    return Mesh(np.asarray(devices), (AXIS,))


def platform_of(mesh: Mesh) -> str:
    """JAX's name of what the mesh consists of: 'cpu', 'gpu' or 'tpu'."""
    return mesh.devices.flat[0].platform


def describe(mesh: Mesh) -> str:
    """What the mesh consists of, for people: '2 cpu devices', '4 cpu devices of 2 processes'."""
    kind = "cpu" if platform_of(mesh) == "cpu" else mesh.devices.flat[0].device_kind
    processes = len({device.process_index for device in mesh.devices.flat})
    among = f" of {processes} processes" if processes > 1 else ""
    return f"{mesh.size} {kind} device{'s' if mesh.size > 1 else ''}{among}"


def replicated(mesh: Mesh) -> NamedSharding:
    """The same whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def place(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Puts a whole array on every device of `sharding` (replicated).

    Each process feeds its own devices, from a copy that is the same in all of them.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    return jax.make_array_from_process_local_data(sharding, array)


def padded_size(batch_size: int, mesh: Mesh, piece: int = 1) -> int:
    """The fewest rows that hold `batch_size` and give every device as many whole pieces."""
    share = mesh.size * piece
    return -(-batch_size // share) * share
