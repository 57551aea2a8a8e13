"""Looks at a data set before anything is trained on it: figures, checks and pictures."""

import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cifar_cnn import augment as augment_lib
from cifar_cnn import data as data_lib
from cifar_cnn import experiment, files
from cifar_cnn.checks import UsageError, check_int, check_shape, printable
from cifar_cnn.report import exploration, gallery

_SPLITS = ("train", "validation", "test")
_PAIRS = 10  # Duplicates of each kind that are listed and drawn.
_DRAWS = 6  # Of each augmentation.
_CHUNK_BYTES = 1 << 23  # Of images worked on at a time.

Images = np.ndarray


def explore(
    config: Mapping[str, Any],
    out: str | os.PathLike,
    *,
    seed: int = 0,
    examples: int = 5,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Describes a data set in figures and pictures; nothing is trained.

    Prints a summary and writes to `out`: summary.json, samples.png, class_counts.png, pixels.png,
    class_means.png, augmentations.png, and duplicates.png where there are any. Pictures, mean and
    deviation come from the train split; of other splits, classes and pixel values are counted, and
    they are searched for duplicates. All of the train split is used, while a training run leaves
    out its validation part.

    Args:
      config: complete nested config; read are the sections data, run and augment.
      out: the folder to write to; made if missing.
      seed: of the samples and of the augmentations.
      examples: images a class in samples.png.
      say: told what is done and found, line by line.

    Returns:
      What summary.json holds:
        data, path, fingerprint: name and version, folder, and identity of the prepared copy.
        seed: int.
        image_shape: [H, W, C]; dtype: 'uint8'.
        class_names: K names.
        splits: 'train' and, where they are there, 'validation' and 'test' -> images (count),
          left_out (files that cannot be read), minimum, maximum (pixel values), class_counts [K],
          histogram [C][256] (counts of pixel values), blank (images of one single colour).
        mean, std: of each channel of train, in [0, 1]; see `data.channel_statistics`.
        duplicates: a split, or two as in 'train_test' -> count (images that equal an earlier one
          in every byte; with two splits, images of the second that are in the first), conflicting
          (those whose label differs from it), pairs (the first ten, conflicting ones in front:
          first, second (positions in their splits), labels (of both), and of a folder of pictures
          files (names of both)).
        notes: sentences about what is unusual.
        files: names of the pictures.

    Raises:
      UsageError: unknown or unprepared data, malformed arrays, arguments out of range.
      MachineError: a disk or device that fails.
    """
    check_int("--seed", seed, minimum=0, maximum=2**31 - 1)
    check_int("--examples", examples, minimum=1, maximum=100)
    experiment.start_devices(config)
    builder = experiment.make_builder(config, say)
    arrays = {
        split: data_lib.load_arrays(builder, split, experiment.cache_dir(config), say)
        for split in _SPLITS
        if split == "train" or split in builder.info.splits
    }
    train = arrays["train"]
    for split, part in arrays.items():
        check_arrays(
            part.images, part.labels, num_classes=len(train.class_names),
            image_shape=train.images.shape[1:], name=f"{builder.info.full_name} {split}",
        )  # fmt: skip
    total = sum(len(part.labels) for part in arrays.values())
    say(f"counting pixel values and comparing {total:,} images")
    summary = {
        "data": builder.info.full_name,
        "path": str(builder.data_path),
        "fingerprint": data_lib.fingerprint(builder),
        "seed": seed,
        "image_shape": list(train.images.shape[1:]),
        "dtype": str(train.images.dtype),
        "class_names": list(train.class_names),
        "splits": {split: split_figures(part) for split, part in arrays.items()},
    }
    for split, figures in summary["splits"].items():
        figures["left_out"] = builder.info.splits[split].num_examples - figures["images"]
    mean, std = data_lib.channel_statistics(train.images, np.arange(len(train.labels)))
    summary |= {"mean": mean, "std": std, "duplicates": find_duplicates(arrays)}
    if hasattr(builder, "file_names"):  # A folder of pictures.
        _add_files(summary["duplicates"], {split: builder.file_names(split) for split in arrays})
    summary["notes"] = exploration.notes(summary)
    out = pathlib.Path(out)
    say(f"drawing pictures in {printable(out)}")
    summary["files"] = _draw(config, summary, arrays, out, examples=examples, say=say)
    files.write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    say(exploration.format_summary(summary))
    say(f"written to {out}")
    return summary


def check_arrays(
    images: Images,
    labels: np.ndarray,
    *,
    num_classes: int,
    image_shape: Sequence[int] | None = None,
    name: str = "the set",
) -> None:
    """Checks that a split is what a training run expects.

    Args:
      images: should be uint8 [N, H, W, C], N >= 1, C = 1 (grey) or 3 (RGB).
      labels: should be integers [N] in [0, num_classes).
      num_classes: K.
      image_shape: the [H, W, C] that is expected; None for any.
      name: what the split is called in an error.

    Raises:
      UsageError: on the first thing that is not so.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8:
        raise UsageError(
            f"images of {name} are {images.dtype}, expected uint8 values from 0 to 255: "
            "convert them before anything scales them"
        )
    if images.ndim != 4:
        raise UsageError(
            f"images of {name} have shape {images.shape}, expected (images, height, width, "
            "channels), with 1 channel for grey"
        )
    check_shape(f"images of {name}", images.shape, (None, *(image_shape or (None,) * 3)))
    if images.shape[-1] not in (1, 3):
        raise UsageError(
            f"images of {name} have {images.shape[-1]} channels, expected 1 (grey) or 3 (RGB)"
        )
    if not images.size:
        raise UsageError(f"{name} has shape {images.shape}, expected at least one image")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(
            f"labels of {name} are {labels.dtype} of shape {labels.shape}, expected one integer "
            "an image"
        )
    if len(labels) != len(images):
        raise UsageError(
            f"{name} has {len(images)} images and {len(labels)} labels, expected as many of both"
        )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise UsageError(
            f"{name} has {outside.size} labels out of range, the first is {labels[outside[0]]} of "
            f"image {outside[0]}: expected 0 to {num_classes - 1}"
        )


def split_figures(part: data_lib.Arrays) -> dict[str, Any]:
    """Figures of one split as `explore` describes them under `splits`."""
    histogram = np.zeros((part.images.shape[-1], 256), np.int64)
    blank = 0
    for chunk in _chunks(part.images):
        for channel in range(len(histogram)):
            histogram[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
        blank += int((chunk == chunk[:, :1, :1]).all(axis=(1, 2, 3)).sum())
    values = np.flatnonzero(histogram.sum(axis=0))
    return {
        "images": len(part.labels),
        "minimum": int(values[0]),
        "maximum": int(values[-1]),
        "class_counts": np.bincount(part.labels, minlength=len(part.class_names)).tolist(),
        "histogram": histogram.tolist(),
        "blank": blank,
    }


def find_duplicates(arrays: Mapping[str, data_lib.Arrays]) -> dict[str, dict[str, Any]]:
    """Images that are equal in every byte, as `explore` describes them under `duplicates`.

    Images are compared by a hash of 128 bits. Recompressed, resized or shifted copies are not
    found.

    Args:
      arrays: split -> its images.
    """
    digests = {
        split: [
            hashlib.blake2b(image.tobytes(), digest_size=16).digest()
            for chunk in _chunks(part.images)
            for image in chunk
        ]
        for split, part in arrays.items()
    }
    found = {
        split: _describe(duplicate_pairs(digests[split]), part.labels, part.labels)
        for split, part in arrays.items()
    }
    for first, second in itertools.combinations(arrays, 2):
        pairs = duplicate_pairs(digests[second], digests[first])
        labels = arrays[first].labels, arrays[second].labels
        found[f"{first}_{second}"] = _describe(pairs, *labels)
    return found


def duplicate_pairs(digests: Sequence[bytes], among: Sequence[bytes] | None = None) -> np.ndarray:
    """Pairs of equal items, int64 [n, 2], each (first occurrence, repetition).

    Args:
      digests: items, each of which is a repetition at most once.
      among: where the first occurrences are looked for; None for `digests` itself, earlier.
    """
    first: dict[bytes, int] = {}
    for position, digest in enumerate(digests if among is None else among):
        first.setdefault(digest, position)
    pairs = [
        (first[digest], position)
        for position, digest in enumerate(digests)
        if digest in first and (among is not None or first[digest] != position)
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _describe(pairs: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Counts pairs of duplicates and lists some; `first` and `second` are their splits' labels."""
    labels = np.stack([first[pairs[:, 0]], second[pairs[:, 1]]], axis=1)
    conflicting = labels[:, 0] != labels[:, 1]
    shown = np.argsort(~conflicting, kind="stable")[:_PAIRS]
    return {
        "count": len(pairs),
        "conflicting": int(conflicting.sum()),
        "pairs": [
            {"first": int(i), "second": int(j), "labels": labels[k].tolist()}
            for k, (i, j) in zip(shown, pairs[shown], strict=True)
        ],
    }


def _add_files(duplicates: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> None:
    """Adds the names of both files to every listed pair."""
    for kind, found in duplicates.items():
        first, second = gallery.splits_of(kind)
        for pair in found["pairs"]:
            pair["files"] = [names[first][pair["first"]], names[second][pair["second"]]]


def _chunks(images: Images) -> Iterator[Images]:
    """The images in parts of a few megabytes, read from disk one at a time."""
    step = max(1, _CHUNK_BYTES // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), step):
        yield np.asarray(images[start : start + step])


def _draw(
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    arrays: Mapping[str, data_lib.Arrays],
    out: pathlib.Path,
    *,
    examples: int,
    say: Callable[[str], None],
) -> list[str]:
    """Draws every picture; returns the names of their files."""
    data, splits, train, seed = summary["data"], summary["splits"], arrays["train"], summary["seed"]
    exploration.plot_class_counts(
        {split: np.array(figures["class_counts"]) for split, figures in splits.items()},
        train.class_names, out / "class_counts.png", title=f"{data}: images of each class",
    )  # fmt: skip
    exploration.plot_pixels(
        {split: np.array(figures["histogram"]) for split, figures in splits.items()},
        summary["mean"], summary["std"], gallery.mean_image(train.images),
        out / "pixels.png", title=f"{data}: pixel values",
    )  # fmt: skip
    title = f"{data} train\nrandom images of each class, seed {seed}"
    gallery.plot_samples(train, out / "samples.png", count=examples, seed=seed, title=title)
    title = f"{data} train\nmean image of each class"
    gallery.plot_class_means(train, out / "class_means.png", title=title)
    before = train.images[_two_classes(train.labels, seed)]
    title = f"{data} train\naugmentations, {_DRAWS} draws each, seed {seed}"
    gallery.plot_augmentations(
        before, augmented(config, before, seed, say), out / "augmentations.png", title=title
    )
    names = ["class_counts", "pixels", "samples", "class_means", "augmentations"]
    (out / "duplicates.png").unlink(missing_ok=True)  # Of an earlier look at other data.
    if any(figures["count"] for figures in summary["duplicates"].values()):
        gallery.plot_duplicates(
            summary["duplicates"], arrays, out / "duplicates.png", title=f"{data}: duplicates"
        )
        names.append("duplicates")
    return [f"{name}.png" for name in names]


def _two_classes(labels: np.ndarray, seed: int) -> list[int]:
    """A random position, and one of another class where there is one."""
    order = np.random.RandomState(seed).permutation(len(labels))
    others = order[labels[order] != labels[order[0]]]
    return [int(part[0]) for part in (order, others) if len(part)]


def augmented(
    config: Mapping[str, Any],
    images: Images,
    seed: int,
    say: Callable[[str], None] = print,
    draws: int = _DRAWS,
) -> dict[str, Images]:
    """Every augmentation of `augment.AUGMENTS` with the options that the config has for it, and
    all of them in chain.

    Args:
      config: complete nested config; `augment.names` is not read.
      images: uint8 [N, H, W, C].
      seed: of the draws.
      say: told which augmentations do not suit the images, and are left out.
      draws: of each image, D.

    Returns:
      Name with options -> uint8 [N, D, H, W, C]. The last is the chain.
    """
    sections = {name: config["augment"][name] for name in augment_lib.AUGMENTS}
    key = jax.random.key(seed, impl="threefry2x32")
    repeated = np.repeat(images, draws, axis=0)
    visit = augment_lib.Visit(rows=np.arange(len(repeated)), epoch=np.int32(0), key=key)
    found, fitting = {}, []
    for name, options in sections.items():
        try:
            result = augment_lib.make_augment([name], **sections)(key, repeated, visit)
        except UsageError as error:
            say(f"{name} does not suit these images: {error}")
            continue
        lines = [name, *(f"{option} {value}" for option, value in options.items())]
        found["\n".join(lines)] = np.asarray(result)
        fitting.append(name)
    if len(fitting) > 1:
        chain = augment_lib.make_augment(fitting, **sections)
        found["all in\nchain"] = np.asarray(chain(key, repeated, visit))
    shape = (len(images), draws, *images.shape[1:])
    return {name: result.reshape(shape) for name, result in found.items()}
