"""What all plots share: font, colours, how a picture is shown and how a page is saved.

matplotlib's object interface only: no pyplot, no global state, no window.
"""

import os

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cifar_cnn.files import replacing

FONT = "DejaVu Sans"  # Comes with matplotlib, so plots look the same on every machine.
# Okabe & Ito 2008: eight colours that colour-blind readers can tell apart.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442",
)  # fmt: skip
# For every text: in this project's font, and '$' in a class name is no formula.
TEXT = {"fontfamily": FONT, "parse_math": False}


def new_figure(width: float, height: float, *, dpi: int = 130) -> Figure:
    """An empty page of `width` x `height` inches that is drawn without a screen."""
    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes the page, cut to what is on it, as a PNG; whole or not at all.

    Raises:
      MachineError: if the file cannot be written.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight", pad_inches=0.2)


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Shows uint8 [H, W, C] (C = 1 is grey, 3 is RGB) pixel by pixel, without ticks."""
    shown = image[..., 0] if image.shape[-1] == 1 else image
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def plottable(name: str, label: int) -> str:
    """A class name for a plot: shortened in the middle, or the class's number where the plot's
    font lacks a character of the name and would draw boxes."""
    font = font_manager.get_font(font_manager.findfont(FONT))
    name = " ".join(name.split())
    if not name or not all(font.get_char_index(ord(character)) for character in name):
        return f"class {label}"
    return name if len(name) <= 24 else f"{name[:14].rstrip()}…{name[-9:].lstrip()}"
