"""The text of a comparison of runs, from the numbers that comparison.json holds."""

from typing import Any

from cifar_cnn.report.table import format_table


def format_comparison(comparison: dict[str, Any]) -> str:
    """Tables of runs and groups, what differs between the configs, and the differences."""
    parts = [_runs(comparison), _groups(comparison), _configs(comparison)]
    parts += [_difference(pair, comparison["split"]) for pair in comparison["differences"]]
    return "\n\n".join(parts)


def format_value(value: Any) -> str:
    """The value of a config key, short: flip+crop, 48-48/96-96, 0.5, none."""
    if isinstance(value, (list, tuple)):
        nested = any(isinstance(item, (list, tuple)) for item in value)
        words = [format_value(item) for item in value]
        numbers = not nested and all(isinstance(item, (int, float)) for item in value)
        return ("/" if nested else "-" if numbers else "+").join(words) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def percent(value: float | None) -> str:
    """A share as a percentage with two digits; '-' for None."""
    return "-" if value is None else f"{value:.2%}"


def percent_range(interval: list[float] | None) -> str:
    """'70.11 to 72.43 %', cut to what a share can be; '-' for None."""
    if interval is None:
        return "-"
    low, high = (100 * min(max(bound, 0.0), 1.0) for bound in interval)
    return f"{low:.2f} to {high:.2f} %"


def mean_and_std(statistics: dict[str, Any] | None) -> str:
    """'71.27 ± 0.99 %', without the deviation where there is one value; '-' for None."""
    if statistics is None:
        return "-"
    spread = f" ± {100 * statistics['std']:.2f}" if statistics["std"] is not None else ""
    return f"{100 * statistics['mean']:.2f}{spread} %"


def _runs(comparison: dict[str, Any]) -> str:
    split = comparison["split"]
    head = ("run", "data", "seed", "parameters", "epochs", "training", "best validation")
    head += (split, f"95 % over {split} images", "seconds", "compiling")
    rows = []
    for run in comparison["runs"]:
        of = "" if run["epochs"] == run["planned_epochs"] else f" of {run['planned_epochs']}"
        rows.append(
            (
                run["name"],
                run["data"],
                str(run["seed"]),
                "-" if run["parameters"] is None else f"{run['parameters']:,}",
                f"{run['epochs']}{of}",
                percent(run["train_accuracy"]),
                percent(run["best_validation_accuracy"]),
                percent(run["accuracy"]),
                percent_range(run["accuracy_interval_95"]),
                f"{run['seconds']:,.0f}",
                f"{run['compiling_seconds']:,.0f}",
            )
        )
    notes = (
        f"training: accuracy over the last epoch, as trained. {split}: of the "
        f"{comparison['checkpoint']} checkpoint.\nseconds: of training alone; compiling: those of "
        "them in which the program was compiled too."
    )
    return "\n".join([format_table(head, rows, left=2), notes])


def _groups(comparison: dict[str, Any]) -> str:
    split = comparison["split"]
    head = ("group", "runs", f"{split} mean ± std", "95 % of the mean", "training", "gap")
    rows = [
        (
            group["label"],
            str(len(group["runs"])),
            mean_and_std(group["accuracy"]),
            percent_range(group["accuracy"]["interval_95"]),
            mean_and_std(group["train_accuracy"]),
            "-" if group["gap"] is None else f"{100 * group['gap']['mean']:+.2f} points",
        )
        for group in comparison["groups"]
    ]
    lines = [
        format_table(head, rows),
        "gap: training minus validation accuracy in the last epoch. A group is the runs that "
        "differ only in seed.",
    ]
    lines += [
        f"group {group['label']}: {', '.join(group['runs'])}" for group in comparison["groups"]
    ]
    return "\n".join(lines)


def _configs(comparison: dict[str, Any]) -> str:
    first, *others = comparison["groups"]
    lines = [f"config, compared with {first['label']}:"]
    for group in others:
        changes = [
            f"{key} {format_value(there)} -> {format_value(here)}"
            for key, (there, here) in group["config_differences"].items()
        ]
        lines.append(f"  {group['label']}: {'; '.join(changes) or 'the same'}")
    return "\n".join(lines if others else ["config: the same in all runs but for the seed"])


def _difference(pair: dict[str, Any], split: str) -> str:
    a, b = pair["labels"]
    title = f"{b} minus {a}, {split} accuracy in percentage points:"
    if pair["refused"]:
        return f"{title} not computed, because {pair['refused']}"
    lines = [title]
    if pair["welch"]:
        counts = " and ".join(map(str, pair["runs"]))
        lines.append(
            f"  over seeds ({counts} runs): {_points(pair['welch'])} (Welch's t interval; quote "
            "this one unless pairs were planned)"
        )
        if pair["paired"]:
            lines.append(
                f"  over the same seeds in pairs: {_points(pair['paired'])} (paired t interval)"
            )
        lines.append(
            f"  These cover the variation between seeds, on these {split} images; 2 or 3 seeds "
            "make them wide."
        )
    images = pair["images"]
    a, b = pair["names"]
    lines.append(
        f"  over images, {b} minus {a}: {_points(images)} (paired, Agresti-Min); McNemar's exact "
        f"p = {images['mcnemar_p']:.2g}"
    )
    lines.append(
        "  This is about these two trained networks: it does not cover the variation between seeds."
    )
    lines.append(
        f"  both right {images['both_right']:,}; only {a} {images['only_first']:,}; only {b} "
        f"{images['only_second']:,}; both wrong {images['both_wrong']:,}"
    )
    return "\n".join(lines)


def _points(difference: dict[str, Any]) -> str:
    """'-5.16, 95 % interval -7.29 to -3.03'."""
    low, high = (100 * bound for bound in difference["interval_95"])
    return f"{100 * difference['difference']:+.2f}, 95 % interval {low:+.2f} to {high:+.2f}"
