"""The side that asks: starts an engine's process and passes requests to it."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cifar_cnn.checks import MachineError, UsageError

Ask = Callable[..., dict[str, Any]]

# Seconds that a worker has to end when it is asked no more.
_GRACE = 10.0


@dataclasses.dataclass(frozen=True)
class Engine:
    """Something that trains: this project, or a peer in one of its modes.

    Attributes:
      name: in the table, such as 'torch bfloat16'.
      peer: the library, such as 'torch'; modes of one library share it.
      command: arguments of Python that start its worker.
      settings: added to every 'prepare' request.
      environment: added to the worker's environment.
    """

    name: str
    peer: str
    command: Sequence[str]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def started(engine: Engine, threads: int) -> Iterator[Ask]:
    """Starts the worker of an engine; it has ended when the block does.

    Args:
      threads: of the libraries that take their number from OMP_NUM_THREADS.

    Yields:
      ask(do=..., ...) -> the worker's reply. Raises the UsageError or MachineError that the
      worker raised, and MachineError if it ended without a reply.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **engine.environment}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            [sys.executable, *engine.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )

        def ask(**request: Any) -> dict[str, Any]:
            line = ""
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            if not line:
                raise _ended(engine, process, log)
            reply = json.loads(line)
            if "error" in reply:
                kind = {"UsageError": UsageError, "MachineError": MachineError}[reply["error"]]
                raise kind(f"{engine.name}: {reply['message']}")
            return reply

        try:
            yield ask
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def _ended(engine: Engine, process: subprocess.Popen, log: Any) -> MachineError:
    """What to say of a worker that is gone; all that it wrote goes to stderr."""
    code = process.wait()
    log.seek(0)
    text = log.read()
    sys.stderr.write(text)
    last = text.strip().splitlines()[-1:] or ["it said nothing"]
    # Linux kills a process without a word when memory is short.
    hint = "; is there enough memory for it?" if code < 0 else ""
    return MachineError(
        f"the process of {engine.name} ended with exit code {code}: {last[0]}{hint}"
    )
