"""All faults in turn, a table of what was lost, and a file with the same."""

import concurrent.futures
import json
import pathlib
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from cifar_cnn import files
from cifar_cnn.checks import MachineError, UsageError, check_choice, check_int
from cifar_cnn.report.table import format_table
from cifar_cnn.signals import SIGNALS
from cifar_cnn.torture import damage, kills, locks, numbers, places, processes, stops
from cifar_cnn.torture.running import INTERVAL, Bench, Trial, prepare

# What is tried, by the name for --faults: a function, and how often by default.
FAULTS: dict[str, tuple[Callable[..., Any], int]] = {
    "kill": (kills.kill, 100),
    "signal": (stops.stop, 16),
    "early_signal": (stops.stop_early, 3),
    "second_signal": (stops.stop_twice, 2),
    "damage": (damage.damage, 12),
    "leftovers": (damage.leftovers, 4),
    "records": (damage.records, 12),
    "none_intact": (damage.none_intact, 2),
    "programs": (damage.programs, 2),
    "nan": (numbers.not_a_number, 4),
    "disk_full": (places.disk_full, 6),
    "read_only": (places.read_only, 2),
    "deleted": (places.deleted, 4),
    "clock": (places.clock, 2),
    "one_killed": (processes.one_killed, 8),
    "one_hangs": (processes.one_hangs, 1),
    "all_stopped": (processes.all_stopped, 2),
    "second_run": (locks.second_run, 2),
    "dead_elsewhere": (locks.dead_elsewhere, 1),
    "alive_elsewhere": (locks.alive_elsewhere, 1),
}
# Tries of one fault that one worker makes in turn: a run of them takes many kills.
_AT_ONCE = 10


def torture(
    out: pathlib.Path,
    *,
    faults: str = "",
    tries: int = 0,
    epochs: int = 20,
    seed: int = 0,
    jobs: int = 2,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Breaks runs in every way, prints a table and writes OUT/torture.json.

    Args:
      out: folder of everything that is made; OUT/bench is emptied first.
      faults: keys of `FAULTS` with commas between them; '' for all.
      tries: of each of them; 0 for the default.
      epochs: of every run, of `running.INTERVAL` steps each.
      seed: of what is broken, and when.
      jobs: runs at the same time.
      say: told every problem, and the table.

    Returns:
      What torture.json holds: settings, seconds, rows (a kind of fault each: fault, tried, skipped,
      problems, most_repeated_steps, most_seconds) and trials.

    Raises:
      UsageError: a mistake in these arguments.
      MachineError: something was lost; every problem has been told.
      KeyboardInterrupt: OUT/torture.json holds the trials that were made.
    """
    names = [name for name in faults.split(",") if name] or list(FAULTS)
    for name in names:
        check_choice("--faults", name, FAULTS)
    if len(set(names)) < len(names):
        raise UsageError(f"--faults is {faults!r}, expected each name once")
    check_int("--tries", tries, minimum=0, maximum=100_000)
    check_int("--epochs", epochs, minimum=3, maximum=10_000)
    check_int("--seed", seed, minimum=0)
    check_int("--jobs", jobs, minimum=1, maximum=1000)
    for number in SIGNALS:
        # As nohup and '&' in a script leave it, also to the runs, which are to be interrupted.
        if signal.getsignal(number) is signal.SIG_IGN:
            own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, own)
    begun = time.monotonic()
    bench = prepare(out.absolute() / "bench", epochs, say)
    work = []
    for name in names:
        function, count = FAULTS[name][0], tries or FAULTS[name][1]
        for first in range(0, count, _AT_ONCE):
            work.append((name, first, function, min(_AT_ONCE, count - first)))
    ending = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        parts = [pool.submit(_try, bench, seed, say, ending, *task) for task in work]
        try:
            concurrent.futures.wait(parts)
        except KeyboardInterrupt:
            # Hours of trials are not thrown away; those that run now come to their end.
            ending.set()
            pool.shutdown(cancel_futures=True)
    trials = [trial for part in parts if not part.cancelled() for trial in part.result()]
    result = {
        "settings": {"faults": names, "tries": tries, "epochs": epochs, "seed": seed},
        "seconds": time.monotonic() - begun,
        "rows": _rows(trials),
        "trials": [vars(trial) for trial in trials],
    }
    path = out / "torture.json"
    files.write_text(path, json.dumps(result, indent=2) + "\n")
    say(format_rows(result["rows"]))
    say(f"{len(trials)} trials in {result['seconds']:.0f} s; written to {path}")
    bad = sum(row["problems"] for row in result["rows"])
    if ending.is_set():
        raise KeyboardInterrupt
    if bad:
        raise MachineError(f"{bad} of {len(trials)} trials did not end as they should, see {path}")
    return result


def _try(
    bench: Bench,
    seed: int,
    say: Callable[[str], None],
    ending: threading.Event,
    name: str,
    first: int,
    function: Callable[..., Any],
    count: int,
) -> list[Trial]:
    """Some trials of one fault, in a folder of their own."""
    # A string seeds by its bytes, the same in every process.
    rng = random.Random(f"{seed} {name} {first}")
    trials = []
    try:
        for trial in function(bench, rng, bench.folder / f"{name}-{first}", count):
            if ending.is_set():
                break  # Ctrl-C reaches the runs, too: what they make of it is no result.
            trials.append(trial)
    except MachineError as error:
        trials.append(Trial(name, "", str(error)))
    except Exception as error:  # Of one fault; the trials of the others are results all the same.
        trials.append(Trial(name, "", f"{type(error).__name__}: {error}"))
    for trial in trials:
        if trial.problem:
            say(f"PROBLEM: {trial.fault}, {trial.detail}: {trial.problem}")
    return trials


def _rows(trials: list[Trial]) -> list[dict[str, Any]]:
    """One row for each kind of fault, in the order of their first trials."""
    kinds: dict[str, list[Trial]] = {}
    for trial in trials:
        kinds.setdefault(trial.fault, []).append(trial)
    return [
        {
            "fault": kind,
            "tried": sum(not trial.skipped for trial in some),
            "skipped": next((trial.skipped for trial in some if trial.skipped), ""),
            "problems": sum(bool(trial.problem) for trial in some),
            "most_repeated_steps": max(trial.repeated for trial in some),
            "most_seconds": max((x.seconds for x in some if x.seconds is not None), default=None),
        }
        for kind, some in kinds.items()
    ]


def format_rows(rows: list[Mapping[str, Any]]) -> str:
    """The table of `torture`."""
    head = ("fault", "tried", "outcome", "steps repeated", "seconds")
    cells = []
    for row in rows:
        outcome = f"{row['problems']} WRONG" if row["problems"] else "same end"
        seconds = row["most_seconds"]
        cells.append(
            (
                row["fault"],
                str(row["tried"]),
                f"skipped: {row['skipped']}" if not row["tried"] else outcome,
                str(row["most_repeated_steps"]),
                "" if seconds is None else f"{seconds:.1f}",
            )
        )
    legend = (
        f"steps repeated: the most that were computed twice; a save interval has {INTERVAL}.\n"
        "seconds: the longest that a run took to end."
    )
    return f"{format_table(head, cells)}\n{legend}"
