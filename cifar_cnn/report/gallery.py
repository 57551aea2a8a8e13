"""Grids of pictures: samples of every class, mean images, duplicates, augmented images."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from cifar_cnn.data import Arrays
from cifar_cnn.report.figure import TEXT, new_figure, plottable, save

MOST_SAMPLED = 20  # Classes up to which each one has its row of samples.
MOST_MEANS = 100  # Classes up to which each one has its mean image.
_DPI = 130
_TILE = 112  # Pixels of the page that an image takes at most, unless it is larger than twice that.
_GAP = 6  # Pixels of the page between two images.
_CHUNK_BYTES = 1 << 23  # Of images that are averaged at a time.


def plot_samples(
    train: Arrays, path: str | os.PathLike, *, count: int, seed: int, title: str
) -> None:
    """Draws random images of each class, one class a row, as a PNG; with more than 20 classes,
    of 20 at even distances.

    Args:
      train: the images to choose from.
      path: the PNG file; replaced as a whole.
      count: images a class; a class that has fewer leaves places empty.
      seed: of the choice.
      title: printed above.

    Raises:
      MachineError: if the file cannot be written.
    """
    names = _names(train)
    shown = spread(len(names), MOST_SAMPLED)
    plot_grid(
        [train.images[sample(train.labels, label, count, seed)] for label in shown],
        path,
        title=title + _part(shown, names),
        row_labels=[names[label] for label in shown],
    )


def plot_class_means(train: Arrays, path: str | os.PathLike, *, title: str) -> None:
    """Draws the mean image of each class as a PNG; with more than 100 classes, of 100 at even
    distances."""
    names = _names(train)
    shown = spread(len(names), MOST_MEANS)
    rows = [np.flatnonzero(train.labels == label) for label in shown]
    means = [mean_image(train.images, part) if len(part) else None for part in rows]
    width = 5 if len(shown) <= 10 else 10
    parts = [slice(start, start + width) for start in range(0, len(shown), width)]
    plot_grid(
        [means[part] for part in parts],
        path,
        title=title + _part(shown, names),
        captions=[[_wrapped(names[label]) for label in shown[part]] for part in parts],
    )


def plot_augmentations(
    before: np.ndarray, after: Mapping[str, np.ndarray], path: str | os.PathLike, *, title: str
) -> None:
    """Draws images before and after augmentations as a PNG.

    Args:
      before: uint8 [N, H, W, C].
      after: label of an augmentation -> uint8 [N, D, H, W, C], D draws of each image.
      path: the PNG file; replaced as a whole.
      title: printed above.
    """
    draws = max((images.shape[1] for images in after.values()), default=0)
    rows, labels = [], []
    for label, images in after.items():
        rows += [[image, *drawn] for image, drawn in zip(before, images, strict=True)]
        labels += [label, *[""] * (len(before) - 1)]
    plot_grid(
        rows or [[image] for image in before],
        path,
        title=title,
        row_labels=labels,
        column_labels=["before", *(f"draw {n + 1}" for n in range(draws))],
    )


def plot_duplicates(
    duplicates: Mapping[str, Mapping[str, Any]],
    arrays: Mapping[str, Arrays],
    path: str | os.PathLike,
    *,
    title: str,
) -> None:
    """Draws the listed pairs of equal images as a PNG, each picture once, with the positions and
    classes of both.

    Args:
      duplicates: as `explore.find_duplicates` returns them.
      arrays: split -> its images.
      path: the PNG file; replaced as a whole.
      title: printed above.
    """
    names = _names(arrays["train"])
    items = []
    for kind, found in duplicates.items():
        first, second = splits_of(kind)
        for pair in found["pairs"]:
            one, other = (names[label] for label in pair["labels"])
            text = f"{first} {pair['first']}:\n{one}\n{second} {pair['second']}:\n{other}"
            items.append((arrays[first].images[pair["first"]], text))
    parts = [items[start : start + 5] for start in range(0, len(items), 5)]
    plot_grid(
        [[image for image, _ in part] for part in parts],
        path,
        title=title,
        captions=[[text for _, text in part] for part in parts],
        column_width=190,
    )


def splits_of(kind: str) -> tuple[str, str]:
    """('train', 'test') of 'train_test', ('test', 'test') of 'test'."""
    first, _, second = kind.partition("_")
    return first, second or first


def spread(classes: int, most: int) -> list[int]:
    """All classes, or `most` of them at even distances, the first and the last among them."""
    return np.linspace(0, classes - 1, min(classes, most)).round().astype(int).tolist()


def sample(labels: np.ndarray, label: int, count: int, seed: int) -> list[int]:
    """Positions of up to `count` random images of a class; of one class they do not depend on
    the others."""
    # RandomState, because its stream is frozen by NumPy's compatibility policy.
    rows = np.flatnonzero(labels == label)
    return np.random.RandomState([seed, label]).permutation(rows)[:count].tolist()


def mean_image(images: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """The mean of uint8 [N, H, W, C], or of the given rows of it, rounded to uint8 [H, W, C]."""
    rows = np.arange(len(images)) if rows is None else rows
    total = np.zeros(images.shape[1:], np.int64)
    for chunk in np.array_split(rows, max(1, len(rows) * total.size // _CHUNK_BYTES)):
        total += images[chunk].sum(axis=0, dtype=np.int64)
    return np.rint(total / len(rows)).astype(np.uint8)


def plot_grid(
    rows: Sequence[Sequence[np.ndarray | None]],
    path: str | os.PathLike,
    *,
    title: str,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    column_width: int = 0,
) -> None:
    """Draws images in rows and columns as a PNG, each enlarged by a whole number of pixels.

    Args:
      rows: images uint8 [H, W, C] of one shape, C = 1 (grey) or 3 (RGB); None leaves a place
        empty. Rows may differ in length.
      path: the PNG file; replaced as a whole.
      title: printed above; its lines are wrapped to the width of the page.
      row_labels: printed left of each row, if any.
      column_labels: printed above each column, if any.
      captions: one short text below each image, if any.
      column_width: pixels of the page that a column has at least, for its captions.

    Raises:
      MachineError: if the file cannot be written.
    """
    height, width = next(image.shape[:2] for row in rows for image in row if image is not None)
    scale = _scale(max(height, width))
    tile = (max(1, round(height * scale)), max(1, round(width * scale)))
    lines = max((text.count("\n") + 1 for row in captions for text in row), default=0)
    pitch = (tile[0] + _GAP + 20 * lines, max(tile[1] + _GAP, column_width))
    columns = max(map(len, rows))
    # White, and with the captions' place below each row.
    margin = (pitch[1] - _GAP - tile[1]) // 2
    canvas = np.full((len(rows) * pitch[0] - _GAP, columns * pitch[1] - _GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            if image is not None:
                corner = (i * pitch[0], j * pitch[1] + margin)
                canvas[corner[0] :, corner[1] :][: tile[0], : tile[1]] = _resized(image, tile)

    page = (canvas.shape[1] / _DPI, canvas.shape[0] / _DPI)
    figure = new_figure(*page, dpi=_DPI)
    # One axes for the whole grid: a hundred of them would take seconds.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_frame_on(False)
    axes.tick_params(length=0)
    down = np.arange(len(row_labels)) * pitch[0] + tile[0] / 2
    across = np.arange(columns) * pitch[1] + margin + tile[1] / 2
    axes.set_yticks(down, labels=row_labels, fontsize=10, **TEXT)
    axes.set_xticks(across[: len(column_labels)], labels=column_labels, fontsize=10, **TEXT)
    axes.xaxis.tick_top()
    for i, row in enumerate(captions):
        for j, text in enumerate(row):
            place = (across[j], i * pitch[0] + tile[0] + 3)
            axes.text(*place, text, ha="center", va="top", fontsize=7.5, **TEXT)
    width = max(36, int(page[0] * 11))
    wrapped = "\n".join(textwrap.fill(line, width) for line in title.splitlines())
    axes.set_title(wrapped, fontsize=11, pad=8, **TEXT)
    save(figure, path)


def _scale(side: int) -> float:
    """Page pixels per image pixel: whole numbers, so that no pixel is wider than another; large
    images are reduced."""
    return max(1, _TILE // side) if side <= 2 * _TILE else 2 * _TILE / side


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image as uint8 RGB of `size` (height, width)."""
    image = np.broadcast_to(image, (*image.shape[:2], 3))
    smaller = size[0] < image.shape[0]
    method = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size[::-1], method))


def _names(arrays: Arrays) -> list[str]:
    return [plottable(str(name), label) for label, name in enumerate(arrays.class_names)]


def _part(shown: Sequence[int], names: Sequence[str]) -> str:
    """What a title adds where not every class is shown."""
    if len(shown) == len(names):
        return ""
    return f"\n{len(shown)} of the {len(names)} classes, at even distances"


def _wrapped(name: str) -> str:
    """A class name in at most two lines that fit below an image."""
    return "\n".join(textwrap.wrap(name, 15)[:2])
