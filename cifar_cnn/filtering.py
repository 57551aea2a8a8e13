"""Filters a picture of the user's, or an image of a data set, and draws what came of it."""

import pathlib
import re

import numpy as np
from PIL import Image

from cifar_cnn import data, datasets, experiment, filters
from cifar_cnn.checks import UsageError, check_choice, printable
from cifar_cnn.images import open_image
from cifar_cnn.layers import POOLS
from cifar_cnn.report import filtering as pictures

LONGEST = 512  # Pixels; on the page more could not be told apart.
_OF_A_SET = re.compile(r"(?P<name>[a-z]\w*(/[\w.-]+)*(:[\d.]+)?):(?P<index>\d+)", re.ASCII)


def filter_picture(
    source: str,
    *,
    kernel: str,
    size: int,
    padding: str,
    stride: int,
    relu: bool,
    pool: str | None,
    pool_size: int,
    pool_stride: int | None,
    gray: bool,
    out: pathlib.Path | None,
    data_dir: str | None,
) -> pathlib.Path:
    """Reads an image, filters it, and draws before, kernel and after as one PNG.

    Prints the shapes with their arithmetic and the ranges of values.

    Args:
      source: a picture file, or DATASET:INDEX such as 'mnist:7' for an image of a train split.
      kernel: as `filters.make_kernel` takes it, or 'all' for one page of every kernel.
      size, padding, stride, relu: see `filters`.
      pool: 'max', 'avg' or None; of pool_size x pool_size pixels, every pool_stride pixels (None
        for pool_size).
      gray: whether a colour image is made grey first.
      out: the PNG; None for SOURCE-KERNEL.png in the current folder.
      data_dir: of prepared TFDS sets; None for TFDS's own.

    Returns:
      The path of the PNG.

    Raises:
      UsageError: a source that is not there, an unknown kernel, padding or pool, sizes that do
        not fit the image, an `out` that would replace the source.
      MachineError: the PNG cannot be written.
    """
    check_choice("--padding", padding, filters.PADDINGS)
    if pool is not None:
        check_choice("--pool", pool, POOLS)
        if kernel == "all":
            raise UsageError("--pool shows one kernel's result: choose one with --kernel=NAME")
    names = list(filters.KERNELS) if kernel == "all" else [kernel]
    kernels = [filters.make_kernel(name, size) for name in names]
    title, image = read_source(source, gray=gray, data_dir=data_dir)
    path = out or pathlib.Path(f"{_stem(source)}-{_word(kernel)}.png")
    if pathlib.Path(source).exists() and path.exists() and path.samefile(source):
        raise UsageError(f"--out is {path}, the picture itself: give --out another file")
    print(f"{title}: shape {image.shape}, values {image.min()} to {image.max()}")

    results = [
        _filtered(image, _word(name), weights, padding, stride, relu)
        for name, weights in zip(names, kernels, strict=True)
    ]
    if kernel == "all":
        _say(results)
        title = f"{title}: every kernel, {_settings(padding, stride, relu)}, "
        title += "; ".join(results[0].notes)
        pictures.plot_all(results, path, title=title)
    else:
        if pool is not None:
            results.append(_pooled(results[0], pool, pool_size, pool_stride or pool_size))
        _say(results)
        title = f"{title}: {results[0].name}, {_settings(padding, stride, relu)}"
        pictures.plot(image, results, path, title=title, window=_window(image, results[0]))
    print(f"written to {printable(path)}")
    return path


def read_source(source: str, *, gray: bool, data_dir: str | None) -> tuple[str, np.ndarray]:
    """Reads what the user named.

    Returns:
      Words for a title, and the image as uint8 [H, W, C], its longer side at most LONGEST.

    Raises:
      UsageError: neither a picture nor an image of a prepared data set.
    """
    match = _OF_A_SET.fullmatch(source)
    if match and not pathlib.Path(source).exists():
        title, image = _of_a_set(match["name"], int(match["index"]), data_dir)
    else:
        if not pathlib.Path(source).exists():
            raise UsageError(
                f"{printable(source)} does not exist, expected a picture file, or an image of a "
                "data set such as mnist:7"
            )
        title, image = printable(pathlib.Path(source).name), open_image(source, channels=3)
        if (image == image[..., :1]).all():
            image = image[..., :1]  # A picture without colours has one channel, as in a data set.
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if gray:
        picture = picture.convert("L")
    if max(picture.size) > LONGEST:
        old = f"{picture.height} x {picture.width}"
        picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        print(f"reduced from {old} to {picture.height} x {picture.width} pixels")
    return title, np.atleast_3d(np.asarray(picture))


def _of_a_set(name: str, index: int, data_dir: str | None) -> tuple[str, np.ndarray]:
    """An image of a train split, with its class for the title."""
    cache_dir = experiment.cache_dir({"run": {"cache_dir": ""}})
    builder = datasets.make_builder(name, data_dir=data_dir, cache_dir=cache_dir)
    count = builder.info.splits["train"].num_examples if "train" in builder.info.splits else 0
    if index >= count:
        raise UsageError(f"{name} has {count} images in its train split, expected 0 to {count - 1}")
    if datasets.varies(builder):  # Each has its own size: this one alone is read.
        encoded, label = datasets.encoded_example(builder, "train", index)
        image = open_image(encoded, channels=3)
    else:
        arrays = data.load_arrays(builder, "train", cache_dir)
        image, label = arrays.images[index], arrays.labels[index]
    class_name = printable(builder.info.features[builder.info.supervised_keys[1]].names[label])
    return f"{builder.info.full_name}, train image {index} (class {class_name})", image


def _filtered(
    image: np.ndarray, name: str, kernel: np.ndarray, padding: str, stride: int, relu: bool
) -> pictures.Filtered:
    """One kernel's result with the arithmetic of its shape."""
    result = filters.filter_image(image, kernel, padding=padding, stride=stride, relu=relu)
    pads = filters.padding_amounts(image.shape[:2], kernel.shape, stride, padding)
    notes = _arithmetic(image.shape, kernel.shape, stride, pads)
    return pictures.Filtered(name, kernel, np.asarray(result), notes)


def _pooled(before: pictures.Filtered, kind: str, size: int, stride: int) -> pictures.Filtered:
    """What pooling makes of a result."""
    result = filters.pool_image(before.image, kind, size=size, stride=stride)
    notes = _arithmetic(before.image.shape, (size, size), stride, [(0, 0)] * 2)
    name = f"{kind} pooling {size} x {size}, stride {stride}"
    return pictures.Filtered(name, before.kernel, np.asarray(result), notes)


def _arithmetic(shape, kernel, stride: int, pads) -> list[str]:
    """Lines about height and width; one line where both are the same."""
    lines = [
        filters.arithmetic(n, k, stride, pad)
        for n, k, pad in zip(shape[:2], kernel, pads, strict=True)
    ]
    if lines[0] == lines[1]:
        return [f"height, width: {lines[0]}"]
    return [f"height: {lines[0]}", f"width: {lines[1]}"]


def _window(image: np.ndarray, result: pictures.Filtered) -> tuple[int, int] | None:
    """The place of the strongest response of a grey image, where input and output align."""
    if image.shape != result.image.shape or image.shape[-1] != 1:
        return None
    margins = [size // 2 for size in result.kernel.shape]
    inner = result.image[margins[0] : -margins[0] or None, margins[1] : -margins[1] or None, 0]
    if not inner.size:
        return None
    row, column = np.unravel_index(np.abs(inner).argmax(), inner.shape)
    return int(row) + margins[0], int(column) + margins[1]


def _say(results: list[pictures.Filtered]) -> None:
    for result in results:
        low, high = result.image.min(), result.image.max()
        arithmetic = "; ".join(result.notes)
        print(f"  {result.name}: {arithmetic}; values {low:,.1f} to {high:,.1f}")


def _settings(padding: str, stride: int, relu: bool) -> str:
    """How the kernel slid, for a title."""
    border = f"padding {padding}{' (zeros)' if padding == 'same' else ''}"
    return f"{border}, stride {stride}{', ReLU' if relu else ''}"


def _word(kernel: str) -> str:
    """The kernel's name; a matrix has none."""
    return "custom" if kernel.lstrip().startswith("[") else kernel


def _stem(source: str) -> str:
    """'mnist-7' of 'mnist:7', 'cat' of 'photos/cat.jpg'."""
    return re.sub(r"[^\w.-]+", "-", pathlib.Path(source).stem)
