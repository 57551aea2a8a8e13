"""Loss and accuracy over the epochs of several runs."""

import os
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cifar_cnn.report.figure import COLOURS, FONT, TEXT, new_figure, save
from cifar_cnn.report.results import Curves

# Without the yellow, which is hard to see as a line on white.
_COLOURS = COLOURS[:7]
_MARKERS = ("o", "s", "^", "D", "v", "P")  # Six and seven colours make 42 pairs.
_DASHES = (0, (3, 1.6))
_NOTE = (
    "Training: mean over the steps of each epoch, drawn at its middle, with dropout and "
    "augmentation on where the config has them. Validation: at the end of an epoch. "
    "Gap: training minus validation accuracy in the last epoch."
)


def plot(
    groups: Sequence[tuple[str, Sequence[Curves]]], path: str | os.PathLike, *, title: str
) -> None:
    """Draws training (dashed) and validation (solid) curves as a PNG of two panels.

    A group has one colour: its runs are thin lines, their mean a thick one.

    Args:
      groups: (label, curves of its runs) of each group.
      path: the PNG file; replaced as a whole.
      title: printed above.

    Raises:
      MachineError: if the file cannot be written.
    """
    figure = new_figure(12, 4.8)
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(wspace=0.22)
    longest = max(curves.train_epochs[-1] for _, runs in groups for curves in runs)
    for axes, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for number, (_, runs) in enumerate(groups):
            _draw(axes, runs, quantity, number)
        _dress(axes, quantity)
        axes.set_xlim(0, 1.04 * longest)
    figure.suptitle(textwrap.fill(title, 100), y=0.96, va="bottom", fontsize=13, **TEXT)
    figure.text(
        0.125, -0.02, textwrap.fill(_NOTE, 135), va="top", fontsize=8.5, color="0.3", **TEXT
    )
    handles = [
        _sample(number, label=_entry(label, runs)) for number, (label, runs) in enumerate(groups)
    ]
    handles += [
        Line2D([], [], color="0.3", linestyle=_DASHES, label="training"),
        Line2D([], [], color="0.3", label="validation"),
    ]
    if any(len(runs) > 1 for _, runs in groups):
        handles.append(Line2D([], [], color="0.3", linewidth=0.7, alpha=0.6, label="single runs"))
    legend = figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.91, 0.89), frameon=False,
        prop={"family": FONT, "size": 9.5}, labelspacing=0.9, handlelength=2.6,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    save(figure, path)


def _draw(axes: Axes, runs: Sequence[Curves], quantity: str, number: int) -> None:
    """One group in one panel."""
    colour = _COLOURS[number % len(_COLOURS)]
    marker = _MARKERS[number % len(_MARKERS)]
    for part, style in (("train", _DASHES), ("validation", "-")):
        # The mean of an epoch is that of a network half an epoch younger than the one validated.
        shift = 0.5 if part == "train" else 0.0
        lines = [(getattr(c, f"{part}_epochs"), getattr(c, f"{part}_{quantity}")) for c in runs]
        if len(runs) > 1:
            for epochs, values in lines:
                axes.plot(
                    epochs - shift, values, color=colour, linestyle=style, linewidth=0.7, alpha=0.5
                )
        epochs, values = _mean(lines)
        axes.plot(
            epochs - shift, values, color=colour, linestyle=style, linewidth=1.9, marker=marker,
            markersize=4.5, markevery=max(1, len(epochs) // 15),
        )  # fmt: skip


def _mean(lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean over runs, at the epochs that all of them have."""
    epochs = lines[0][0]
    for other, _ in lines[1:]:
        epochs = np.intersect1d(epochs, other)
    values = [curve[np.isin(own, epochs)] for own, curve in lines]
    return epochs, np.mean(values, axis=0)


def _dress(axes: Axes, quantity: str) -> None:
    style = {"fontsize": 10.5, **TEXT}
    axes.set_title("Loss" if quantity == "loss" else "Accuracy", fontsize=11.5, **TEXT)
    axes.set_xlabel("epoch", **style)
    axes.set_ylabel("cross-entropy (nats)" if quantity == "loss" else "accuracy", **style)
    if quantity == "accuracy":
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9.5, labelfontfamily=FONT)


def _sample(number: int, label: str) -> Line2D:
    return Line2D(
        [], [], color=_COLOURS[number % len(_COLOURS)], marker=_MARKERS[number % len(_MARKERS)],
        markersize=4.5, linewidth=1.9, label=label,
    )  # fmt: skip


def _entry(label: str, runs: Sequence[Curves]) -> str:
    """'dropout', and below it the number of runs and the gap."""
    gaps = [gap for curves in runs if (gap := curves.gap) is not None]
    facts = [f"mean of {len(runs)} runs"] if len(runs) > 1 else []
    facts += [f"gap {100 * np.mean(gaps):+.1f} points"] if gaps else []
    return "\n".join([textwrap.fill(label, 34), ", ".join(facts)]).strip()
