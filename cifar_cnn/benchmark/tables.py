"""The text of a benchmark, from the numbers that benchmark.json holds."""

from typing import Any

from cifar_cnn.report.table import format_table


def format_benchmark(result: dict[str, Any]) -> str:
    """Machine and versions, the table of measurements, the best against the best, notes."""
    parts = [_machine(result["machine"]), _measurements(result)]
    if result["best"]:
        parts.append(_best(result["best"]))
    notes = dict.fromkeys(
        f"note: {row['net']}, {row['engine']}: {note}"
        for row in result["measurements"]
        for note in row["notes"]
    )
    notes |= dict.fromkeys(
        f"note: {row['net']} ran on {row['data']}"
        for row in result["measurements"]
        if row["data"].startswith("random")
    )
    load = result["machine"]["load"]
    if load is not None and load > 0.5:
        notes[f"note: load {load:.1f} at the start: others may have used the processor, too"] = None
    if notes:
        parts.append("\n".join(notes))
    return "\n\n".join(parts)


def _machine(machine: dict[str, Any]) -> str:
    cores = machine["cores"]
    memory = machine["memory_bytes"]
    facts = [f"{cores} core{'s' if cores > 1 else ''} of {machine['cpu']}"]
    if memory:
        facts.append(f"{memory / 2**30:.0f} GiB")
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [f"{machine['date']}, {', '.join(facts)}", versions]
    lines += [f"{name}={value}" for name, value in machine["environment"].items()]
    return "\n".join(lines)


def _measurements(result: dict[str, Any]) -> str:
    head = ("net", "engine", "batch", "train images/s", "min-max", "ours/it", "eval images/s")
    head += ("min-max", "ours/it", "first step s", "peak MiB")
    ratios = {(x["net"], x["batch_size"], x["engine"]): x for x in result["ratios"]}
    with_device = any(row["device_peak_bytes"] is not None for row in result["measurements"])
    if with_device:
        head += ("device MiB",)
    rows = []
    for row in result["measurements"]:
        ratio = ratios.get((row["net"], row["batch_size"], row["engine"]))
        cells = [row["net"], row["engine"], f"{row['batch_size']:,}"]
        for work in ("train", "evaluate"):
            rate = row[work]
            cells += [
                _number(rate["median"]),
                f"{_number(rate['min'])}-{_number(rate['max'])}",
                "" if ratio is None else f"{ratio[work]['median']:.2f}",
            ]
        cells += [f"{row['first_step_seconds']:.1f}", _mebibytes(row["peak_bytes"])]
        if with_device:
            cells.append(_mebibytes(row["device_peak_bytes"]))
        rows.append(cells)
    settings = result["settings"]
    repeats = settings["repeats"]
    legend = (
        f"Medians of {repeats} measurement{'s' if repeats > 1 else ''} of at least "
        f"{settings['seconds']:g} s each, with the smallest and the largest.\n"
        "train: the whole step, from uint8 images to the update; eval: in batches of the same\n"
        "size. first step: initialising, compiling and one step. peak: of the process."
    )
    return "\n".join([format_table(head, rows, left=2), legend])


def _best(best: list[dict[str, Any]]) -> str:
    head = ("best of each", "against", "train", "ours", "theirs", "eval", "ours", "theirs")
    rows = []
    for entry in best:
        cells = [entry["net"], entry["peer"]]
        for work in ("train", "evaluate"):
            cells.append(f"{entry[work]['ratio']:.2f}")
            for side in ("ours", "theirs"):
                one = entry[work][side]
                mode = one["engine"].removeprefix(entry["peer"]).strip()
                mode = f" {mode}" if side == "theirs" and mode else ""
                rate = _number(one["images_per_second"])
                cells.append(f"{rate} at {one['batch_size']:,}{mode}")
        rows.append(cells)
    return "\n".join(
        [format_table(head, rows, left=2), "ours/theirs, each at its best batch size and mode."]
    )


def _number(value: float) -> str:
    """With three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _mebibytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 2**20:,.0f}"
