"""The side of a worker: it answers one request at a time and sleeps in between.

Requests and replies are JSON, one a line, over stdin and stdout. This file is loaded beside other
libraries, so it imports none of ours but the errors.
"""

import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cifar_cnn.checks import MachineError, UsageError

Measure = Callable[[float], dict[str, Any]]


def serve(prepare: Callable[[dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Answers requests until stdin ends.

    Args:
      prepare: request -> what is said of the engine, and its functions by name:
        'train' and 'evaluate', (seconds) -> {'images': int, 'seconds': float}, see `timed`;
        'device_memory', () -> peak bytes of the device, or None where nothing tells.
    """
    # Libraries print to stdout: that goes to stderr, and the replies to where stdout was.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    functions: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "prepare":
                reply, functions = prepare(request)
            elif request["do"] == "memory":
                device = functions["device_memory"]()
                reply = {"peak_bytes": peak_memory(), "device_peak_bytes": device}
            else:
                reply = functions[request["do"]](request["seconds"])
        except (UsageError, MachineError) as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(reply), file=replies, flush=True)


def timed(run: Callable[[float], int], seconds: float) -> dict[str, Any]:
    """Calls `run` until `seconds` are over, at least once.

    Args:
      run: (seconds that are left) -> images that it got through; returns when they are done.
      seconds: the least time to measure over.
    """
    images, start = 0, time.perf_counter()
    elapsed = 0.0
    while elapsed < seconds or not images:
        images += run(seconds - elapsed)
        elapsed = time.perf_counter() - start
    return {"images": images, "seconds": elapsed}


def left_out(config: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """A sentence about each part of a config's training step that an engine does without.

    Args:
      config: complete nested config.
      known: what the engine does, such as 'flip' or 'label smoothing'.
    """
    train, optimizer = config["train"], config["optim"]
    asked = {
        "mixup": train["mixup_alpha"],
        "label smoothing": train["label_smoothing"],
        "gradient clipping": optimizer["clip_norm"],
        "the average of the weights": optimizer["ema_decay"],
    }
    parts = [*config["augment"]["names"], *(part for part, value in asked.items() if value)]
    return [f"{part} is left out" for part in parts if part not in known]


def peak_memory() -> int:
    """Bytes that this process held at most in main memory."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which on Linux starts from the size of the process that started this one.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
