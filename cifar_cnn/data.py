"""Images and labels as uint8 arrays: decoded once from TFDS into a cache, then memory-mapped.

One cache entry is a folder CACHE/arrays/NAME-VERSION-FINGERPRINT/SPLIT with `images.npy`,
`labels.npy` and `checksums.json`. It is written under a temporary name and renamed when complete,
and its checksums are compared at every start, so a damaged entry is noticed and made anew.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Iterator

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from cifar_cnn import checks
from cifar_cnn.checks import MachineError, UsageError, printable, shown
from cifar_cnn.files import publish, staging
from cifar_cnn.mesh import place


@dataclasses.dataclass(frozen=True)
class Arrays:
    """One split on the host.

    Attributes:
      images: uint8 [N, H, W, C], memory-mapped.
      labels: unsigned integers [N], memory-mapped.
      class_names: one name a class; the label is the position.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a run has to know of its data to be evaluated anywhere; kept in run.json.

    Attributes:
      name: TFDS name and version, such as 'cifar10/3.0.2'; 'folder:NAME' for your own pictures.
      fingerprint: of the prepared copy, see `fingerprint`.
      image_shape: (H, W, C).
      class_names: one name a class; the label is the position.
      mean, std: of each channel over the training part, as shares of 255.
      train_examples, validation_examples: sizes of the two parts; they divide the train split,
        but for a folder of pictures with its own val/.
    """

    name: str
    fingerprint: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_examples: int
    validation_examples: int

    @classmethod
    def from_json(cls, values: dict) -> "Facts":
        """The facts as `json.loads` gives them, with lists for tuples.

        Raises:
          UsageError: other keys than these, or values of another type or length.
        """
        try:
            facts = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
            facts._check()
        except (TypeError, AttributeError, UsageError) as error:
            raise UsageError(f"run.json does not say what the data is ({error})") from error
        names = tuple(printable(name) for name in facts.class_names)
        return dataclasses.replace(facts, name=printable(facts.name), class_names=names)

    def _check(self) -> None:
        """Raises UsageError for values of another type or length."""
        for key in ("image_shape", "class_names", "mean", "std"):
            if not isinstance(got := getattr(self, key), tuple) or not got:
                raise UsageError(f"{key} is {shown(got)}, expected a list")
        texts = (self.name, self.fingerprint, *self.class_names)
        if not all(isinstance(text, str) for text in texts):
            raise UsageError("name, fingerprint and class_names are not all text")
        checks.check_shape("image_shape", self.image_shape, (None, None, None))
        for side in self.image_shape:
            checks.check_int("image_shape", side, minimum=1, maximum=2**16)
        for key, bounds in (("mean", {"minimum": 0}), ("std", {"above": 0})):
            checks.check_shape(key, (len(getattr(self, key)),), self.image_shape[-1:])
            for number in getattr(self, key):
                checks.check_number(key, number, **bounds)
        for key, least in (("train_examples", 1), ("validation_examples", 0)):
            checks.check_int(key, getattr(self, key), minimum=least, maximum=2**31 - 1)


@flax.struct.dataclass
class Examples:
    """A part of a split on the device: whole arrays, and which rows of them belong to the part.

    Attributes:
      images: uint8 [N, H, W, C].
      labels: int32 [N].
      indices: int32 [n], the rows of this part; train and validation share the arrays.
    """

    images: jax.Array
    labels: jax.Array
    indices: jax.Array


def fingerprint(builder, *splits: str) -> str:
    """Eight hex digits that tell prepared copies apart, even of the same name and version.

    Args:
      builder: as `experiment.make_builder` gives it.
      splits: of a folder of pictures, what they hold; by default what training reads, so that a
        run goes on when test pictures are added. A prepared set is one piece.
    """
    if hasattr(builder, "fingerprint"):  # A folder of pictures.
        return builder.fingerprint(*(splits or ("train", "validation")))
    digest = hashlib.sha256()
    folder = pathlib.Path(builder.data_path)
    for path in sorted(folder.iterdir()):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        if path.suffix in (".json", ".txt") and path.is_file():
            digest.update(path.read_bytes())
    digest.update(getattr(builder, "read_as", "").encode())  # Of images of several sizes.
    return digest.hexdigest()[:8]


def load_arrays(
    builder, split: str, cache_dir: str | os.PathLike, say: Callable[[str], None] = print
) -> Arrays:
    """Returns a split of a prepared TFDS image-classification set as arrays.

    Args:
      builder: as `experiment.make_builder` gives it.
      split: 'train' or 'test'; 'validation' where a folder of pictures has it.
      cache_dir: where decoded arrays are kept.
      say: told in one line when a cache entry is made or replaced.

    Raises:
      UsageError: no such split, images of several sizes, labels out of range.
      MachineError: the prepared set or the cache cannot be read or written.
    """
    info = builder.info
    if split not in info.splits:
        raise UsageError(
            f"data set {info.name!r} has no split {split!r}, expected one of: "
            f"{', '.join(sorted(info.splits))}"
        )
    class_names = tuple(map(printable, info.features[info.supervised_keys[1]].names))
    name = re.sub(r"[^\w.+-]", "-", info.full_name, flags=re.ASCII)
    name = f"{name}-{fingerprint(builder, split)}"
    entry = pathlib.Path(cache_dir) / "arrays" / name / split
    try:
        if entry.exists():
            try:
                return Arrays(*_read_entry(entry, len(class_names)), class_names)
            # NumPy and json raise what they please on damaged bytes. A defect of this code is seen
            # when the new entry is read.
            except Exception as error:
                say(f"cache {printable(entry)} is damaged ({printable(error)[:200]}): made anew")
                _set_aside(entry)
        count = info.splits[split].num_examples
        say(f"decoding {info.name} {split}, {count:,} images, once into {printable(entry)}")
        _write_entry(entry, *_decode(builder, split))
        return Arrays(*_read_entry(entry, len(class_names)), class_names)
    except OSError as error:
        raise MachineError(
            f"cannot read or write the data cache {entry}: {error.strerror or error}; "
            "choose another folder with --config.run.cache_dir=DIR"
        ) from error


def _read_entry(entry: pathlib.Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Memory-maps a cache entry; raises an error of any type when it is damaged."""
    for name in ("checksums.json", "images.npy", "labels.npy"):
        if not (entry / name).is_file():  # Reading a pipe would wait for ever.
            raise ValueError(f"{name} is missing or no file")
    checksums = json.loads((entry / "checksums.json").read_text())
    images, labels = (
        np.lib.format.open_memmap(entry / f"{name}.npy", mode="r")  # Of plain arrays alone.
        for name in ("images", "labels")
    )
    for name, array in (("images", images), ("labels", labels)):
        if zlib.crc32(array) != checksums[name]:
            raise ValueError(f"{name}.npy does not match its checksum")
    # Whole files may still be those of another set or version.
    if images.ndim != 4 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"images {images.dtype} {images.shape} with labels {labels.shape} are no such set"
        )
    if not np.issubdtype(labels.dtype, np.unsignedinteger) or labels.max() >= num_classes:
        raise ValueError(f"labels are not 0 to {num_classes - 1}")
    return images, labels


def _write_entry(entry: pathlib.Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Writes a cache entry whole or not at all; an entry made meanwhile by another wins."""
    with staging(entry.parent) as folder:
        part = folder / entry.name
        part.mkdir()
        np.save(part / "images.npy", images)
        np.save(part / "labels.npy", labels)
        checksums = {"images": zlib.crc32(images), "labels": zlib.crc32(labels)}
        (part / "checksums.json").write_text(json.dumps(checksums))
        publish(part, entry)


def _set_aside(entry: pathlib.Path) -> None:
    """Removes a damaged entry in one step, so that nobody reads it half removed."""
    with staging(entry.parent) as folder, contextlib.suppress(FileNotFoundError):
        entry.rename(folder / entry.name)  # Unless another process was quicker.


@contextlib.contextmanager
def _explained(builder) -> Iterator[None]:
    """Turns what a prepared set raises for damaged records into one UsageError."""
    try:
        yield
    except (UsageError, MachineError, MemoryError):
        raise
    except Exception as error:  # Of ArrayRecord, protocol buffers, Pillow and TFDS.
        reason = printable((str(error) or type(error).__name__).splitlines()[0])[:120]
        raise UsageError(
            f"the data set in {builder.data_path} is damaged ({reason}): delete that directory and "
            "prepare it again"
        ) from error


def _decode(builder, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads and decodes every example: images uint8 [N, H, W, C], labels unsigned [N]."""
    image_key, label_key = builder.info.supervised_keys
    num_classes = builder.info.features[label_key].num_classes
    with _explained(builder):
        source = builder.as_data_source(split=split)
        first = np.asarray(source[0][image_key])
    images = np.empty((len(source), *first.shape), np.uint8)
    labels = np.empty(len(source), np.min_scalar_type(num_classes - 1))
    for i in range(len(source)):
        with _explained(builder):
            example = source[i]
        image, label = np.asarray(example[image_key]), int(example[label_key])
        if image.shape != first.shape or image.dtype != np.uint8:
            raise UsageError(
                f"data set {builder.info.name!r}: image {i} of {split} is {image.dtype} "
                f"{image.shape}, the first is {first.dtype} {first.shape}: expected uint8 images "
                "of one size"
            )
        if not 0 <= label < num_classes:
            raise UsageError(
                f"data set {builder.info.name!r}: example {i} of {split} has label {label}, "
                f"expected 0 to {num_classes - 1}"
            )
        images[i], labels[i] = image, label
    return images, labels


def hold_out(count: int, validation_size: int | float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divides the examples of the train split into a training and a validation part.

    Args:
      count: number of examples, N.
      validation_size: how many of them go to the validation part, less than N; or their share,
        above 0 and below 1, which is at least one example.
      seed: of the division alone, so that it stays the same while the run's seed varies.

    Returns:
      Sorted int32 indices of the training and of the validation part, together 0 .. N-1.

    Raises:
      UsageError: validation_size leaves nothing to train on.
    """
    if isinstance(validation_size, float):
        validation_size = max(round(validation_size * count), int(validation_size > 0))
    if validation_size >= count:
        raise UsageError(
            f"data.validation_size is {validation_size}, but the train split has {count} "
            f"examples: expected at most {count - 1}, or a share such as "
            "--config.data.validation_size=0.1"
        )
    # RandomState, because its stream is frozen by NumPy's compatibility policy; default_rng's
    # is not.
    order = np.random.RandomState(seed).permutation(count).astype(np.int32)
    return np.sort(order[validation_size:]), np.sort(order[:validation_size])


def channel_statistics(images: np.ndarray, indices: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, as shares of 255, over the given images.

    Args:
      images: uint8 [N, H, W, C].
      indices: int [n], rows to take.

    Returns:
      Two lists of C floats. The sums are exact integers, so the result does not depend on the
      order; a constant channel has the deviation of one grey level instead of zero.
    """
    total = np.zeros(images.shape[-1])
    squares = np.zeros(images.shape[-1])
    for chunk in np.array_split(indices, max(1, len(indices) // 1000)):
        # Sums of products up to 255^2 stay below 2^53, where float64 counts exactly.
        pixels = images[chunk].reshape(-1, images.shape[-1]).astype(np.float64)
        total += pixels.sum(axis=0)
        squares += np.einsum("nc,nc->c", pixels, pixels)
    count = len(indices) * images.shape[1] * images.shape[2]
    mean = total / count
    deviation = np.maximum(np.sqrt(np.maximum(squares / count - mean**2, 0.0)), 1.0)
    return (mean / 255).tolist(), (deviation / 255).tolist()


def to_device(arrays: Arrays, indices: np.ndarray, sharding: NamedSharding) -> Examples:
    """Places a part of a split on every device of `sharding` (replicated)."""
    return Examples(
        images=place(np.asarray(arrays.images), sharding),
        labels=place(np.asarray(arrays.labels, np.int32), sharding),
        indices=place(np.asarray(indices, np.int32), sharding),
    )


def epoch_order(key: jax.Array, indices: jax.Array) -> jax.Array:
    """The rows `indices` int32 [n] in the random order of one epoch; `key` is that epoch's."""
    return jax.random.permutation(key, indices, independent=False)


def take_batch(
    order: jax.Array, batch: int | jax.Array, batch_size: int, padded_size: int
) -> tuple[jax.Array, jax.Array]:
    """Rows of one batch, and which of them count.

    Args:
      order: int32 [n], rows in the order in which they are visited.
      batch: number of the batch within the pass, from 0; may be traced.
      batch_size: examples a batch, B.
      padded_size: rows a batch, B' >= B, that every device gets the same number of.

    Returns:
      rows int32 [B'] and mask bool [B'], False for the rows beyond B and beyond the last example.
    """
    within = jnp.arange(padded_size, dtype=jnp.int32)
    positions = batch * batch_size + within
    mask = (within < batch_size) & (positions < order.shape[0])
    return order[jnp.where(mask, positions, 0)], mask
