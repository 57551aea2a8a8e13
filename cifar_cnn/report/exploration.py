"""A data set before training: its summary in words, how many images each class has, and how pixel
values are distributed."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cifar_cnn.report.figure import COLOURS, TEXT, new_figure, plottable, save, show_image
from cifar_cnn.report.gallery import splits_of

_SPLIT_COLOURS = {"train": COLOURS[0], "validation": COLOURS[2], "test": COLOURS[1]}
_LINES = {"test": {"linewidth": 0.8}, "validation": {"linewidth": 0.8, "linestyle": ":"}}
# Names and colours of the channels, by their number.
_CHANNELS = {
    1: [("grey level", "0.45")],
    3: [("red", "#c0392b"), ("green", "#2e8b57"), ("blue", "#2c6fbb")],
}
_MOST_PRINTED = 20  # Classes up to which the text has a line for each.
_MOST_LABELLED = 120  # Classes up to which every one gets its name and its count.


def plot_class_counts(
    counts: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    path: str | os.PathLike,
    *,
    title: str,
) -> None:
    """Draws bars of the number of images of each class, one panel a split, as a PNG.

    Every panel has its own scale, so that a small split beside a large one stays legible, and the
    share of the split behind each count makes them comparable. A dashed line marks equal shares.

    Args:
      counts: split -> integers [K].
      class_names: K names, in label order.
      path: the PNG file; replaced as a whole.
      title: printed above.

    Raises:
      MachineError: if the file cannot be written.
    """
    classes = len(class_names)
    pitch = float(np.clip(9 / classes, 0.15, 0.42))  # Inches a class.
    height = min(pitch * classes + 0.5, 20.0)
    width, gap = 4.6, 0.25
    total = len(counts) * width + (len(counts) - 1) * gap
    figure = new_figure(total, height)
    size = float(np.clip(pitch * 72 * 0.68, 6.5, 10))
    step = 1 if classes <= _MOST_LABELLED else int(np.ceil(classes * size * 1.3 / (72 * height)))
    names = [plottable(str(name), label) for label, name in enumerate(class_names)]
    for place, (split, numbers) in enumerate(counts.items()):
        left = place * (width + gap) / total
        axes = figure.add_axes((left, 0, width / total, 1))
        axes.barh(np.arange(classes), numbers, height=0.78, color=_SPLIT_COLOURS.get(split, "0.5"))
        axes.set_ylim(classes - 0.4, -0.6)
        axes.set_xlim(0, max(1, numbers.max()) * 1.38)  # Room for the numbers.
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
        labels = names[::step] if place == 0 else [""] * len(names[::step])
        axes.set_yticks(range(0, classes, step), labels=labels, fontsize=size, **TEXT)
        axes.axvline(numbers.sum() / classes, color="0.25", linewidth=1, linestyle="--")
        if step == 1:
            _write_counts(axes, numbers, size)
        axes.set_title(f"{split}: {numbers.sum():,} images", fontsize=11, pad=6, **TEXT)
        axes.set_xlabel("images (dashed: equal shares)", fontsize=9, **TEXT)
        _plain(axes)
    figure.suptitle(textwrap.fill(title, int(total * 9)), y=1 + 0.68 / height, fontsize=13, **TEXT)
    save(figure, path)


def _write_counts(axes: Axes, numbers: np.ndarray, size: float) -> None:
    """Count and share of each class, in a column of their own right of the bars."""
    place = axes.get_xlim()[1]
    for label, number in enumerate(numbers.tolist()):
        share = number / max(1, int(numbers.sum()))
        axes.text(
            place, label, f"{number:,}  ({share:.1%})",
            ha="right", va="center", fontsize=size * 0.92, **TEXT,
        )  # fmt: skip


def plot_pixels(
    histograms: Mapping[str, np.ndarray],
    mean: Sequence[float],
    std: Sequence[float],
    mean_image: np.ndarray,
    path: str | os.PathLike,
    *,
    title: str,
) -> None:
    """Draws the histogram of all 256 values of each channel and the mean image, as a PNG.

    Bars are the train split, with its mean (solid line) and one standard deviation on both sides
    (shaded); black lines are the test split and, dotted, the validation split. Where a few values,
    such as the black ground of digits, are far more frequent than all others, the axis ends below
    their bars and the share of each is written there.

    Args:
      histograms: split -> counts [C, 256]; needs 'train'.
      mean, std: of each channel of the train split, in [0, 1].
      mean_image: uint8 [H, W, C].
      path: the PNG file; replaced as a whole.
      title: printed above.

    Raises:
      MachineError: if the file cannot be written.
    """
    shares = {
        split: counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for split, counts in histograms.items()
    }
    channels = len(mean)
    names = _CHANNELS.get(channels) or [(f"channel {c}", COLOURS[c % 8]) for c in range(channels)]
    panel = 4.2 if channels > 1 else 6.5
    figure = new_figure(panel * channels + 3.2, 3.4)
    grid = figure.add_gridspec(
        1, channels + 1, width_ratios=[panel] * channels + [2.6],
        left=0, right=1, bottom=0, top=1, wspace=0.2,
    )  # fmt: skip
    ceiling = max(_ceiling(shares["train"][c]) for c in range(channels))
    for c, (name, colour) in enumerate(names):
        axes = figure.add_subplot(grid[c])
        lines = {split: values[c] for split, values in shares.items()}
        _histogram(axes, lines, mean[c] * 255, std[c] * 255, colour, ceiling)
        facts = f"mean {mean[c]:.4f} ({mean[c] * 255:.1f}), std {std[c]:.4f} ({std[c] * 255:.1f})"
        axes.set_title(f"{name}\n{facts}", fontsize=10, **TEXT)
        axes.set_xlabel("pixel value", fontsize=10, **TEXT)
        if c == 0:
            axes.set_ylabel("share of pixels", fontsize=10, **TEXT)
    axes = figure.add_subplot(grid[channels])
    show_image(axes, mean_image)
    axes.set_title("mean image of train", fontsize=10, **TEXT)
    keys = [Patch(color=names[0][1] if channels == 1 else "0.45", label="train")]
    for split in [split for split in _LINES if split in shares]:
        keys.append(Line2D([], [], color="black", label=split, **_LINES[split]))
    keys.append(Line2D([], [], color="black", linewidth=1.8, label="mean of train"))
    keys.append(Patch(color="0.9", label="mean ± std of train"))
    figure.legend(
        handles=keys, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=len(keys),
        frameon=False, fontsize=9.5,
    )  # fmt: skip
    figure.suptitle(title, y=1.24, fontsize=13, **TEXT)
    save(figure, path)


def _ceiling(shares: np.ndarray) -> float:
    """Where the axis of a histogram ends: above the highest bar, or above the eighth highest where
    the highest would flatten all others."""
    highest = np.sort(shares)[::-1]
    usual = highest[min(7, np.count_nonzero(shares) - 1)]
    return 1.3 * (usual if highest[0] > 4 * usual else highest[0])


def _histogram(
    axes: Axes,
    shares: Mapping[str, np.ndarray],
    mean: float,
    std: float,
    colour: str,
    ceiling: float,
) -> None:
    """One channel; mean and std in grey levels."""
    axes.axvspan(max(mean - std, 0), min(mean + std, 255), color="0.9")
    edges = np.arange(257) - 0.5
    axes.stairs(shares["train"], edges, fill=True, color=colour)  # 256 bars would be slow.
    for split in [split for split in _LINES if split in shares]:
        axes.stairs(shares[split], edges, color="black", **_LINES[split])
    axes.axvline(mean, color="black", linewidth=1.8)
    axes.set_xlim(-3, 258)
    axes.set_ylim(0, ceiling)
    axes.set_xticks([0, 64, 128, 192, 255])
    beyond = np.flatnonzero(shares["train"] > ceiling).tolist()
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.9}
    for side, place in (("left", 0.03), ("right", 0.95)):
        values = [value for value in beyond if (value > 128) == (side == "right")]
        text = "\n".join(f"value {value}: {shares['train'][value]:.1%}" for value in values)
        if text:
            axes.text(
                place, 0.97, text, transform=axes.transAxes, ha=side, va="top", fontsize=8.5,
                bbox=box, **TEXT,
            )  # fmt: skip
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.2%}")
    _plain(axes)


def _plain(axes: Axes) -> None:
    """No box, thin ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5, length=2)
    axes.tick_params(axis="y", length=0)


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Sentences about what is unusual in a summary; none for a balanced set without faults."""
    found, shares = [], {}
    for split, figures in summary["splits"].items():
        counts = np.array(figures["class_counts"])
        shares[split] = counts / counts.sum()
        if not counts.all():
            names = [summary["class_names"][k] for k in np.flatnonzero(counts == 0)[:5]]
            found.append(f"{split} has no image of: {', '.join(names)}")
        elif counts.max() >= 1.5 * counts.min():
            found.append(
                f"the classes of {split} are not balanced: the largest has "
                f"{counts.max() / counts.min():.1f} times as many images as the smallest"
            )
        if figures["blank"]:
            found.append(f"images of one single colour in {split}: {figures['blank']:,}")
        if figures["maximum"] <= 1:
            found.append(f"{split} has values from 0 to 1 only: was it scaled before it was saved?")
        if figures["left_out"]:
            found.append(f"files of {split} that cannot be read: {figures['left_out']:,}")
    if "test" not in shares:
        found.append("there is no test split")
    for split in list(shares)[1:]:
        apart = np.abs(shares["train"] - shares[split])
        most = int(apart.argmax())
        if apart[most] >= 0.02:
            found.append(
                f"train and {split} differ in class shares, most in "
                f"{summary['class_names'][most]}: {shares['train'][most]:.1%} and "
                f"{shares[split][most]:.1%}"
            )
    for kind, figures in summary["duplicates"].items():
        first, second = splits_of(kind)
        if figures["count"]:
            where = "occur there before" if first == second else f"are in {first} as well"
            found.append(
                f"images of {second} that {where}: {figures['count']:,}, with another label: "
                f"{figures['conflicting']:,}"
            )
    return found


def format_summary(summary: Mapping[str, Any]) -> str:
    """The summary as text for a terminal."""
    height, width, channels = summary["image_shape"]
    names, splits = summary["class_names"], summary["splits"]
    lines = [
        f"{summary['data']} in {summary['path']}",
        f"{len(names)} classes, images of {height} x {width} pixels and {channels} "
        f"channel{'s' if channels > 1 else ''}, {summary['dtype']}",
    ]
    for split, figures in splits.items():
        lines.append(
            f"{split:<10} {figures['images']:>9,} images, values {figures['minimum']} to "
            f"{figures['maximum']}, {min(figures['class_counts']):,} to "
            f"{max(figures['class_counts']):,} a class"
        )
    for what in ("mean", "std"):
        lines.append(
            f"{what:<10} {', '.join(f'{x:.4f}' for x in summary[what])} of train, in [0, 1]"
        )
    if len(names) <= _MOST_PRINTED:
        left = max(map(len, ["class", *names]))
        lines.append(f"{'class':<{left}}" + "".join(f"{split:>17}" for split in splits))
        for label, name in enumerate(names):
            cells = [(s["class_counts"][label], s["images"]) for s in splits.values()]
            shares = [f"{count:>9,} {count / of:>6.1%}" for count, of in cells]
            lines.append(f"{name:<{left}}" + "".join(f"{cell:>17}" for cell in shares))
    lines += [f"note: {note}" for note in summary["notes"]]
    if not any(figures["count"] for figures in summary["duplicates"].values()):
        lines.append("no image occurs twice, byte for byte")
    return "\n".join(lines)
