"""Opens prepared data sets."""

import os
import pathlib
from collections.abc import Callable

import tensorflow_datasets as tfds

from cifar_cnn.checks import UsageError
from cifar_cnn.datasets import names
from cifar_cnn.datasets.features import check_image_classification, open_prepared
from cifar_cnn.datasets.preparing import prepare
from cifar_cnn.datasets.shapes10 import Shapes10


def make_builder(
    name: str,
    *,
    data_dir: str | None,
    cache_dir: str | os.PathLike,
    say: Callable[[str], None] = print,
) -> tfds.core.DatasetBuilder:
    """Opens a prepared data set; never downloads.

    Args:
        name: such as 'cifar10', 'cifar10:3.0.2' or 'emnist/letters'. The embedded 'shapes10' is
            made on first use, in `cache_dir`.
        data_dir: TFDS data directory; None or '' for TFDS's default.
        cache_dir: a directory that may be written.
        say: told in one line when shapes10 is made.

    Returns:
        A builder whose `as_data_source(split)` yields images and labels.

    Raises:
        UsageError: unknown, not prepared, damaged, in TFRecord format, or not for image
            classification.
        MachineError: shapes10 cannot be written.
    """
    root = names.default_data_dir(data_dir)
    resolved = names.resolve(name, root)
    if resolved.builder_class is Shapes10 and not names.is_prepared(resolved.folder(root)):
        root = os.path.join(os.path.expanduser(cache_dir), "tensorflow_datasets")
        folder = resolved.folder(root)
        if not names.is_prepared(folder):
            say(f"making the embedded data set shapes10, once, in {folder}")
            prepare(resolved.dataset, data_dir=root, say=lambda line: None)
    if not names.is_prepared(resolved.folder(root)):
        raise _not_prepared(resolved, root)
    builder = _open(resolved, root)
    check_image_classification(builder)
    return builder


def _open(resolved: names.Name, root: str) -> tfds.core.DatasetBuilder:
    folder = resolved.folder(root)
    try:
        if resolved.builder_class is None:
            builder = open_prepared(folder)
        else:
            # TFDS's class knows class names that a directory may lack.
            builder = resolved.builder_class(data_dir=root, config=resolved.config)
        files = [pathlib.Path(f) for s in builder.info.splits.values() for f in s.filepaths]
    except UsageError:
        raise
    except Exception as error:  # TFDS parses JSON, protocol buffers and feature classes here.
        raise UsageError(
            f"the data set in {folder} is damaged ({type(error).__name__}): delete that directory "
            "and prepare it again"
        ) from error
    file_format = builder.info.file_format.file_suffix
    if file_format != "array_record":
        raise UsageError(
            f"the data set in {folder} is in {file_format} format, which needs TensorFlow: prepare "
            f"it as array_record in another directory, with python scripts/prepare_data.py "
            f"--name={resolved} --data_dir=DIR"
        )
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UsageError(
            f"the data set in {folder} lacks {missing[0]}: delete that directory and prepare it "
            "again"
        )
    return builder


def _not_prepared(resolved: names.Name, root: str) -> UsageError:
    where = "" if root == names.default_data_dir(None) else f" --data_dir={root}"
    remedies = [f"python scripts/prepare_data.py --name={resolved}{where}"]
    if resolved.dataset in names.CIFAR:
        archive = resolved.dataset.replace("cifar", "cifar-") + "-python.tar.gz"
        remedies.append(
            f"python scripts/prepare_data.py --archive={archive}{where} if that is on disk"
        )
    remedies.append("train with --config=configs/quickstart.py, which needs no download")
    others = names.versions_on_disk(root, resolved.dataset, resolved.config)
    there = ""
    if others:
        there = f" (there is version {', '.join(others)}: name it as in {resolved}:{others[-1]})"
    return UsageError(
        f"data set {str(resolved)!r} is not prepared: {resolved.folder(root)} is missing"
        f"{there}; either {', or '.join(remedies)}"
    )
