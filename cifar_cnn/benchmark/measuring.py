"""Measures engines in turn, and puts them in proportion."""

import contextlib
import json
import os
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cifar_cnn import files
from cifar_cnn.benchmark import layers, machine
from cifar_cnn.benchmark.asking import Engine, started
from cifar_cnn.benchmark.inputs import write_inputs
from cifar_cnn.benchmark.planning import OURS, Cell
from cifar_cnn.benchmark.tables import format_benchmark
from cifar_cnn.checks import UsageError, check_int, check_number
from cifar_cnn.machine import usable_cores

WORKS = ("train", "evaluate")


def benchmark(
    cells: Sequence[Cell],
    engines: Sequence[Engine],
    out: str | os.PathLike,
    *,
    repeats: int = 5,
    seconds: float = 2.0,
    images: int = 0,
    eval_images: int = 5000,
    compile_cache: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measures every engine in every cell, prints a table and writes OUT/benchmark.json.

    In a cell each engine has a process of its own. They are asked in turn, one at a time, and
    sleep meanwhile, so that all see the same state of the machine. The file is written anew after
    every cell, so an interrupted benchmark keeps what was measured.

    Args:
      cells: networks and batch sizes.
      engines: ours first, then the modes of its peers.
      out: folder, made if missing.
      repeats: measurements of each kind.
      seconds: the least that one measurement takes.
      images: of the train split, the first ones; 0 for all.
      eval_images: at most so many are one evaluation.
      compile_cache: whether our programs are kept between processes; the first step of a later
        process then compiles nothing.
      say: told what happens, and the table.

    Returns:
      What benchmark.json holds:
        machine: see `machine.describe`. settings: the arguments above. data: see `write_inputs`.
        measurements: a cell and engine each: net, batch_size, engine, peer, device, parameters,
          data, first_step_seconds (initialising, compiling and one step), peak_bytes (of the
          process), device_peak_bytes (None where the backend does not count), notes, and for
          'train' and 'evaluate' the images_per_second as median, min, max and all; train is the
          whole step from the uint8 data set to the update.
        ratios: our median over that of each peer's mode, of the same cell, with min and max of
          the ratios of measurements that were taken in turn.
        best: for each net and peer, and for 'train' and 'evaluate': the fastest of ours over the
          fastest of theirs, whatever batch size and mode they come from.

    Raises:
      UsageError: arguments out of range, data that is not there, a peer that lacks something.
      MachineError: a process ended early, a loss is not finite.
    """
    check_int("--repeats", repeats, minimum=1)
    check_number("--seconds", seconds, above=0)
    check_int("--images", images, minimum=0)
    check_int("--eval_images", eval_images, minimum=1)
    out = pathlib.Path(out)
    result: dict[str, Any] = {
        "machine": machine.describe(sorted({engine.peer for engine in engines})),
        "settings": {
            "repeats": repeats,
            "seconds": seconds,
            "images": images,
            "eval_images": eval_images,
            "compile_cache": compile_cache,
        },
        "data": {},
        "measurements": [],
        "ratios": [],
        "best": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        # All that can be wrong is told before anything is measured.
        requests = []
        for cell in cells:
            key = cell.config["data"]["folder"] or cell.config["data"]["name"]
            if key not in result["data"]:
                place = pathlib.Path(folder) / str(len(result["data"]))
                result["data"][key] = write_inputs(cell.config, images, place, say)
            data = result["data"][key]
            requests.append(_request(cell, data, len(engines) > 1, eval_images, compile_cache))
        for cell, request in zip(cells, requests, strict=True):
            result["measurements"] += _measure(cell, engines, request, repeats, seconds, say)
            result["ratios"] = _ratios(result["measurements"])
            result["best"] = best_of_each(result["measurements"])
            files.write_text(out / "benchmark.json", json.dumps(result, indent=2) + "\n")
    say("")
    say(format_benchmark(result))
    say(f"written to {out / 'benchmark.json'}")
    return result


def _request(
    cell: Cell, data: dict[str, Any], compared: bool, eval_images: int, compile_cache: bool
) -> dict[str, Any]:
    """What every engine is told of a cell.

    Raises:
      UsageError: more examples a step than images, or a network that no peer can build.
    """
    if cell.batch_size > data["examples"]:
        raise UsageError(
            f"--batch_sizes has {cell.batch_size}, expected at most the {data['examples']} images "
            f"of {data['name']}"
        )
    channels = np.load(data["images"], mmap_mode="r").shape[-1]
    classes = len(data["class_names"])
    return {
        "do": "prepare",
        "config": cell.config,
        "layers": layers.describe(cell.config, channels, classes) if compared else None,
        "data": data,
        "threads": usable_cores(),
        "eval_images": min(eval_images, data["examples"]),
        "compile_cache": compile_cache,
    }


def _measure(
    cell: Cell,
    engines: Sequence[Engine],
    request: dict[str, Any],
    repeats: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The measurements of one cell, see `benchmark`."""
    say(f"{cell.net}, batch {cell.batch_size}: {', '.join(engine.name for engine in engines)}")
    with contextlib.ExitStack() as stack:
        asks, rows = [], []
        for engine in engines:
            ask = stack.enter_context(started(engine, request["threads"]))
            # One is ready, and still, before the next one starts.
            about = ask(**request, **engine.settings)
            asks.append(ask)
            rows.append(
                {
                    "net": cell.net,
                    "batch_size": cell.batch_size,
                    "engine": engine.name,
                    "peer": engine.peer,
                    "data": request["data"]["name"],
                    **about,
                }
            )
            if about["parameters"] != rows[0]["parameters"]:
                raise UsageError(
                    f"{engine.name} has {about['parameters']:,} parameters for {cell.net}, ours "
                    f"{rows[0]['parameters']:,}: not the same network, so it is not compared"
                )
        rates: list[dict[str, list[float]]] = [{work: [] for work in WORKS} for _ in engines]
        for _ in range(repeats):
            for work in WORKS:
                for ask, of_engine in zip(asks, rates, strict=True):
                    reply = ask(do=work, seconds=seconds)
                    of_engine[work].append(reply["images"] / reply["seconds"])
        for ask, row, of_engine in zip(asks, rows, rates, strict=True):
            row |= ask(do="memory")
            row |= {work: _spread(of_engine[work]) for work in WORKS}
    return rows


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "all": list(values),
    }


def _ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours over each mode of a peer in the same cell."""
    ratios = []
    for row in rows:
        if row["peer"] == OURS.peer:
            ours = row
            continue
        ratio = {key: row[key] for key in ("net", "batch_size", "engine", "peer")}
        for work in WORKS:
            pairs = zip(ours[work]["all"], row[work]["all"], strict=True)
            in_turn = [a / b for a, b in pairs]
            median = ours[work]["median"] / row[work]["median"]
            ratio[work] = {"median": median, "min": min(in_turn), "max": max(in_turn)}
        ratios.append(ratio)
    return ratios


def best_of_each(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each net and peer the fastest of ours over the fastest of theirs, see `benchmark`."""
    best = []
    pairs = dict.fromkeys((x["net"], x["peer"]) for x in rows if x["peer"] != OURS.peer)
    for net, peer in pairs:
        entry: dict[str, Any] = {"net": net, "peer": peer}
        for work in WORKS:

            def fastest(who: str, net: str = net, work: str = work) -> dict[str, Any]:
                those = [x for x in rows if (x["net"], x["peer"]) == (net, who)]
                row = max(those, key=lambda row: row[work]["median"])
                return {key: row[key] for key in ("engine", "batch_size")} | {
                    "images_per_second": row[work]["median"]
                }

            ours, theirs = fastest(OURS.peer), fastest(peer)
            ratio = ours["images_per_second"] / theirs["images_per_second"]
            entry[work] = {"ratio": ratio, "ours": ours, "theirs": theirs}
        best.append(entry)
    return best
