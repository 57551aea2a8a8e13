"""The processes of a job: how many there are, which one this is, and how they keep together.

A job on many hosts is the same command in every process. Slurm, Open MPI and Cloud TPU tell each
process its number; by hand the variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
JAX_PROCESS_ID do, or the flags of the same names. One process without any of them runs alone, and
every function here then does nothing. Process 0 prints and writes; all of them compute, and all of
them take part in saving.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cifar_cnn import abort
from cifar_cnn.checks import MachineError, UsageError, leaves

# JAX itself is imported where it is used: mistakes in the environment are told before it is loaded.
if TYPE_CHECKING:
    import jax

# How long to wait for hosts that are still starting; JAX_CONNECT_SECONDS is another limit.
CONNECT_SECONDS = 300
# A process that has not been heard of for so long is taken for dead, and the others end.
HEARTBEAT_SECONDS = 60
# At the end, for the others to end too.
SHUTDOWN_SECONDS = 60
VARIABLES = {
    "coordinator_address": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
    "connect_seconds": "JAX_CONNECT_SECONDS",
}
# What srun and mpirun set for every process of several: their number, and which one it is.
# (SLURM_NTASKS is set for a batch script too, which runs once.)
_LAUNCHERS = {
    "Slurm": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
}


@dataclasses.dataclass(frozen=True)
class Hosts:
    """What the environment says of the job.

    Attributes:
      number: of this process, from 0.
      count: of all processes.
      coordinator: 'HOST:PORT' of process 0; None where JAX finds it out.
      how: what said so, for people; '' for a process that runs alone.
    """

    number: int = 0
    count: int = 1
    coordinator: str | None = None
    how: str = ""


def set_flags(values: Mapping[str, Any]) -> None:
    """Puts flags that are not None into the environment, where `find` looks.

    Args:
      values: by the names in `VARIABLES`.
    """
    os.environ.update({VARIABLES[k]: str(v) for k, v in values.items() if v is not None})


def find() -> Hosts:
    """Reads the environment; touches no device and no network.

    Raises:
      UsageError: it is set by halves, or to something impossible; names the variable.
    """
    coordinator = os.environ.get("JAX_COORDINATOR_ADDRESS") or None
    values = {name: os.environ.get(name, "") for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")}
    how = "JAX_NUM_PROCESSES"
    launched = None if coordinator and all(values.values()) else _launched()
    if launched is not None:
        # What is given by hand wins.
        how, found = launched
        pairs = zip(values.items(), found.items(), strict=True)
        values = dict(given if given[1] else detected for given, detected in pairs)
    elif not coordinator and not any(values.values()):
        return Hosts()
    (count_name, count), (number_name, number) = values.items()
    if count == "1":
        return Hosts()
    missing = [name for name, value in values.items() if not value]
    if not coordinator and how == "JAX_NUM_PROCESSES":
        missing.insert(0, "JAX_COORDINATOR_ADDRESS")
    if missing:
        raise UsageError(
            f"this is to be one of several processes, but {missing[0]} is not set: set "
            "JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID for each "
            "(or the flags of these names), or none of them to run alone"
        )
    if not count.isdecimal() or not int(count):
        raise UsageError(f"{count_name} is {count!r}, expected a number of processes from 1 up")
    if not number.isdecimal() or int(number) >= int(count):
        raise UsageError(f"{number_name} is {number!r}, expected a number from 0 to {count} - 1")
    if coordinator and not _is_address(coordinator):
        raise UsageError(
            f"JAX_COORDINATOR_ADDRESS is {coordinator!r}, expected HOST:PORT of process 0, such as "
            "10.0.0.1:5000"
        )
    return Hosts(int(number), int(count), coordinator, how)


def _launched() -> tuple[str, dict[str, str]] | None:
    """Who started several processes, and its variables of their number and of this one's."""
    for name, variables in _LAUNCHERS.items():
        found = {variable: os.environ.get(variable, "") for variable in variables}
        if any(found.values()) and found[variables[0]] not in ("", "1"):
            return name, found
    # Slices of a TPU pod, as GKE sets them, each of as many workers.
    workers = len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(","))
    slices, number_of_slice = (
        _natural(name, default)
        for name, default in (("MEGASCALE_NUM_SLICES", 1), ("MEGASCALE_SLICE_ID", 0))
    )
    if workers * slices == 1:
        return None
    number = os.environ.get("TPU_WORKER_ID", "")
    if number.isdecimal():
        number = str(number_of_slice * workers + int(number))
    return "Cloud TPU", {"TPU_WORKER_HOSTNAMES": str(workers * slices), "TPU_WORKER_ID": number}


def _natural(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise UsageError(f"{name} is {text!r}, expected a number from 0 up")
    return int(text)


def _is_address(text: str) -> bool:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%\w]+\]|[^\s:/]+):(\d{1,5})", text)
    return match is not None and 0 < int(match[2]) < 65536


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
    """From here on process 0 alone prints to stdout; stderr stays open to all."""
    here = find()
    if here.count == 1 or sys.stdout is not sys.__stdout__:
        return
    # Gloo prints to the descriptor itself, in every process.
    sys.stdout.flush()
    kept = os.dup(1) if here.number == 0 else os.open(os.devnull, os.O_WRONLY)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    sys.stdout = os.fdopen(kept, "w", 1, sys.stdout.encoding, sys.stdout.errors)


def connect() -> None:
    """Starts `jax.distributed` where this is one of several processes.

    Call it before anything touches a device.

    Raises:
      UsageError: see `find`; or nothing tells where process 0 is.
      MachineError: a device has been used already.
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
        raise MachineError(
            f"process 0 cannot serve the others at {here.coordinator or 'its port'} ({error}): "
            "choose another port with JAX_COORDINATOR_ADDRESS=HOST:PORT"
        ) from error
    finally:
        give_up.cancel()
    abort.announce(label())


def _connect_seconds() -> int:
    text = os.environ.get(VARIABLES["connect_seconds"]) or str(CONNECT_SECONDS)
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
    """
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return
    # On some TPUs nothing but the backend knew.
    set_flags({"num_processes": jax.process_count(), "process_id": jax.process_index()})
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*mesh.axis_names))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    ones = jax.jit(lambda: jax.numpy.ones(mesh.size), out_shardings=split)()
    assert int(jax.jit(jax.numpy.sum, out_shardings=whole)(ones)) == mesh.size
    multihost_utils.sync_global_devices("meet")


def any_of(value: bool) -> bool:
    """Whether `value` holds in any process; all have to call it at the same point."""
    return max(_gather(int(value))) > 0


def from_first(value: Any) -> Any:
    """The value that process 0 gives, which JSON can hold; all have to call it."""
    import numpy as np
    from jax.experimental import multihost_utils

    if find().count == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
    text = np.resize(text, size) if is_first() else np.zeros(size, np.uint8)
    return json.loads(multihost_utils.broadcast_one_to_all(text).tobytes())


def check_agree(what: str, values: Mapping[str, Any]) -> None:
    """Raises MachineError in a process whose values are not process 0's, with the differing keys.

    The others end without a word, with the same exit code.

    Args:
      what: opens the message.
      values: nested dictionaries of what JSON can hold.
    """
    if find().count == 1:
        return
    own = json.loads(json.dumps(dict(leaves(values))))
    theirs = from_first(own)
    differing = [
        f"{key}: {theirs.get(key)!r} there, {own.get(key)!r} here"
        for key in sorted(own.keys() | theirs.keys())
        if own.get(key) != theirs.get(key)
    ]
    _settle(int(bool(differing)), f"{what} than process 0 ({'; '.join(differing)})")


@contextlib.contextmanager
def first_then_others() -> Iterator[None]:
    """Runs a block in process 0, and then in the others, which find what it has made.

    Where it fails in one process, that one says why, and the others end with its exit code.
    """
    if find().count == 1:
        yield
        return
    if not is_first():
        _settle(0)
    try:
        yield
    except BaseException as error:
        _gather(2 if isinstance(error, UsageError) else 1)
        raise
    _settle(0)
    if is_first():
        _settle(0)


def _settle(code: int, message: str = "") -> None:
    """Ends every process if `code` is not 0 in one of them; that one says why."""
    codes = _gather(code)
    if code:
        raise MachineError(message)
    if any(codes):
        if is_first():
            failed = next(number for number, code in enumerate(codes) if code)
            print(f"error: process {failed} failed and says why itself", file=sys.stderr)
        raise SystemExit(max(codes))


def _gather(value: int) -> list[int]:
    """The values of all processes, in their order."""
    import numpy as np
    from jax.experimental import multihost_utils

    if find().count == 1:
        return [value]
    return np.ravel(multihost_utils.process_allgather(np.int32(value))).tolist()
