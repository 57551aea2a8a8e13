"""What the environment says of a job: how many processes there are, and which one this is.

Slurm, Open MPI and Cloud TPU tell each process its number; by hand the variables
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID do, or the flags of the same names.
One process without any of them runs alone.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from cifar_cnn.checks import UsageError

VARIABLES = {
    "coordinator_address": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
    "connect_seconds": "JAX_CONNECT_SECONDS",
}
# What srun and mpirun set for every process of several: their number, and which one it is.
# (SLURM_NTASKS is set for a batch script too, which runs once.)
# mpirun comes first: within Slurm, srun starts its daemons, whose numbers the processes inherit.
_LAUNCHERS = {
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    "Slurm": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
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


def read() -> Hosts:
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
        # A batch script of Slurm has a number, too, and runs alone.
        is_half = name != "Slurm" and any(found.values()) and not found[variables[0]]
        if found[variables[0]] not in ("", "1") or is_half:
            return name, found
    # Slices of a TPU pod, as GKE sets them, each of as many workers.
    workers = len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(","))
    slices, number_of_slice = (
        _natural(name, default)
        for name, default in (("MEGASCALE_NUM_SLICES", 1), ("MEGASCALE_SLICE_ID", 0))
    )
    if workers * slices == 1:
        return None
    if slices > 1 and not os.environ.get("MEGASCALE_SLICE_ID"):
        raise UsageError(
            f"MEGASCALE_NUM_SLICES is {slices}, but MEGASCALE_SLICE_ID is not set: set it to the "
            "number of this process's slice, from 0"
        )
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
