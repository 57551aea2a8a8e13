"""This process of a job: which one it is, whether it prints, and how it meets the others."""

import collections
import importlib.util
import os
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from cifar_cnn import abort
from cifar_cnn.checks import MachineError, UsageError
from cifar_cnn.hosts import cluster
from cifar_cnn.hosts.cluster import Hosts

# JAX itself is imported where it is used: mistakes in the environment are told before it is loaded.
if TYPE_CHECKING:
    import jax

# How long to wait for hosts that are still starting; JAX_CONNECT_SECONDS is another limit.
CONNECT_SECONDS = 300
# A process that has not been heard of for so long is taken for dead, and the others end.
HEARTBEAT_SECONDS = 60
# At the end, for the others to end too.
SHUTDOWN_SECONDS = 60
# What JAX has found out, once all processes have met; this process's own stdout and what it prints
# to instead.
_met: Hosts | None = None
_stdout: int | None = None
_printing: TextIO | None = None


def find() -> Hosts:
    """The job as the environment says, or after `meet` as JAX does, which may know more.

    Raises:
      UsageError: see `cluster.read`.
    """
    return _met or cluster.read()


def is_first() -> bool:
    """Whether this process prints and writes: number 0, and one that runs alone."""
    return find().number == 0


def label() -> str:
    """'process 3: ' before an error of one of several processes; '' for one that runs alone."""
    try:
        here = find()
    except UsageError:
        return ""
    return f"process {here.number}: " if here.count > 1 else ""


def quiet_others() -> None:
    """From here on process 0 alone prints to stdout; stderr stays open to all.

    Call it again when it may have turned out which process is number 0.
    """
    global _stdout, _printing
    here = find()
    if here.count == 1 or sys.stdout not in (sys.__stdout__, _printing):
        return
    sys.stdout.flush()
    if _stdout is None:
        # Gloo prints to the descriptor itself, in every process.
        _stdout = os.dup(1)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
    target = os.dup(_stdout) if here.number == 0 else os.open(os.devnull, os.O_WRONLY)
    old, _printing = _printing, os.fdopen(target, "w", 1, sys.stdout.encoding, sys.stdout.errors)
    sys.stdout = _printing
    if old is not None:
        old.close()


def connect() -> None:
    """Starts `jax.distributed` where this is one of several processes.

    Call it before anything touches a device.

    Raises:
      UsageError: see `find`; or nothing tells where process 0 is.
      MachineError: process 0 cannot be reached, or cannot be process 0 where it runs.
    """
    import jax

    if jax.distributed.is_initialized():
        return
    here = find()
    # Of a TPU VM that is not of GKE only its metadata server knows, which JAX asks.
    on_tpu = not here.how and importlib.util.find_spec("libtpu") is not None
    if here.count == 1 and not on_tpu:
        return
    seconds = _connect_seconds()
    # Its handler in C++ would swallow SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    give_up = threading.Timer(seconds, _give_up, (here, seconds))
    give_up.daemon = True
    give_up.start()
    try:
        jax.distributed.initialize(
            here.coordinator,
            None if on_tpu else here.count,
            None if on_tpu else here.number,
            # What JAX would detect beside our variables is a device for each local process.
            cluster_detection_method="deactivate" if here.how == "JAX_NUM_PROCESSES" else None,
            # Longer than ours, because it ends in a stack trace.
            initialization_timeout=seconds + 60,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except ValueError as error:
        if not on_tpu:
            raise UsageError(
                f"{here.how} started {here.count} processes, but does not tell where the first is "
                f"({error}): set JAX_COORDINATOR_ADDRESS=HOST:PORT"
            ) from error
    except RuntimeError as error:
        if here.number:
            raise MachineError(
                f"process 0 cannot be reached at {here.coordinator or 'its port'} ({error})"
            ) from error
        raise MachineError(
            f"process 0 cannot serve the others at {here.coordinator or 'its port'} ({error}): "
            "choose another port with JAX_COORDINATOR_ADDRESS=HOST:PORT"
        ) from error
    finally:
        give_up.cancel()
    abort.announce(label())


def _connect_seconds() -> int:
    text = os.environ.get(cluster.VARIABLES["connect_seconds"]) or str(CONNECT_SECONDS)
    if not text.isdecimal() or not 0 < int(text) <= 86400:
        raise UsageError(f"JAX_CONNECT_SECONDS is {text!r}, expected seconds from 1 to 86400")
    return int(text)


def _give_up(here: Hosts, seconds: int) -> None:
    """Ends a process that waits for the others in vain: what it waits in cannot be interrupted."""
    where = here.coordinator or f"the first host that {here.how or 'the TPU'} names"
    print(
        f"error: {label()}the {here.count} processes did not meet at {where} within {seconds} "
        "seconds (JAX_CONNECT_SECONDS): start all of them, and let them reach that port",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def meet(mesh: "jax.sharding.Mesh") -> None:
    """Waits until all processes have started their devices; call it right after that.

    The first collective connects the devices to one another, for which Gloo allows 30 seconds: here
    nobody is late, while in training one would wait for the slowest to compile.

    Args:
      mesh: of one axis, over all devices of all processes.

    Raises:
      MachineError: some processes have more devices than others.
    """
    global _met
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return
    # On some TPUs nothing but the backend knows, and it may number them in an order of its own.
    how = find().how or "Cloud TPU"
    _met = Hosts(jax.process_index(), jax.process_count(), find().coordinator, how)
    quiet_others()
    owners = collections.Counter(device.process_index for device in mesh.devices.flat)
    if len(set(owners.values())) > 1:
        (most, high), (fewest, low) = owners.most_common()[0], owners.most_common()[-1]
        raise MachineError(
            f"process {most} has {high} devices and process {fewest} has {low}, expected as many "
            "in each: start them on equal hosts, or set --config.run.cpu_devices on CPUs"
        )
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*mesh.axis_names))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    ones = jax.jit(lambda: jax.numpy.ones(mesh.size), out_shardings=split)()
    assert int(jax.jit(jax.numpy.sum, out_shardings=whole)(ones)) == mesh.size
    multihost_utils.sync_global_devices("meet")
