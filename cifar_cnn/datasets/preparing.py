"""Prepares data sets as TFDS would, without TensorFlow."""

import contextlib
import io
import os
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

import tensorflow_datasets as tfds

from cifar_cnn.checks import MachineError, UsageError, printable
from cifar_cnn.datasets import archive as archive_lib
from cifar_cnn.datasets import cifar, download, mirrors, mnist, names
from cifar_cnn.datasets.faults import faults_in_one_line
from cifar_cnn.datasets.features import check_image_classification
from cifar_cnn.datasets.shapes10 import Shapes10
from cifar_cnn.files import publish, staging

# The names in `names.KNOWN`.
_WITHOUT_TENSORFLOW = {
    builder_class.name: builder_class
    for builder_class in (
        cifar.Cifar10,
        cifar.Cifar100,
        mnist.EMNIST,
        mnist.FashionMNIST,
        mnist.KMNIST,
        mnist.MNIST,
        Shapes10,
    )
}


def prepare(
    name: str | None,
    *,
    data_dir: str | None,
    archive: str | os.PathLike | None = None,
    say: Callable[[str], None] = print,
) -> pathlib.Path:
    """Makes a data set readable with `make_builder`, or with plain TFDS.

    Args:
        name: such as 'cifar10' or 'emnist/letters'; None takes what `archive` holds.
        data_dir: TFDS data directory; None or '' for TFDS's default.
        archive: a CIFAR archive on disk, instead of a download.
        say: receives one line about each thing that happens.

    Returns:
        The folder of the prepared set. One that is there already stays as it is.

    Raises:
        UsageError: unknown name, unusable archive, or a set that needs TensorFlow.
        MachineError: the disk or the network failed. Nothing half-made is left.
    """
    say = _aloud(say)
    root = names.default_data_dir(data_dir)
    contents = None
    if archive is not None:
        contents = _read_archive(archive, name, say)
        name = name or contents.name
    elif name is None:
        raise UsageError("give --name=NAME (such as cifar10) or --archive=PATH of a CIFAR file")

    resolved = names.resolve(name, root)
    target = resolved.folder(root)
    if names.is_prepared(target):
        say(f"{resolved} is already prepared in {target}")
        return target
    if target.exists():
        raise UsageError(
            f"{target} is there, but holds no prepared data set: move it away and try again"
        )
    with faults_in_one_line(resolved, root), staging(root) as workshop:
        if contents is None and resolved.dataset in names.CIFAR:
            contents = _download_cifar(resolved.dataset, workshop, pathlib.Path(root), say)
        builder = _make_builder(resolved, workshop, contents, say)
        _generate(builder, resolved, workshop, pathlib.Path(root), say)
        _check_whole(builder)
        if not publish(pathlib.Path(builder.data_dir), target):
            say("another process prepared it meanwhile")
    sizes = ", ".join(f"{s.num_examples:,} {n}" for n, s in builder.info.splits.items())
    say(f"{resolved} is prepared in {target}: {sizes} examples")
    return target


def _read_archive(
    archive: str | os.PathLike, name: str | None, say: Callable[[str], None]
) -> archive_lib.Contents:
    """Reads an archive, which has to hold the set `name`, if that is given."""
    if name is not None and name.split(":")[0] not in names.CIFAR:
        raise UsageError(f"--archive is for {' and '.join(names.CIFAR)}, but --name is {name!r}")
    say(f"reading {printable(archive)}")
    contents = archive_lib.read(archive, say)
    if name is not None and name.split(":")[0] != contents.name:
        raise UsageError(f"--name is {name!r}, but {archive} holds {contents.name}")
    return contents


def _download_cifar(
    dataset: str, workshop: pathlib.Path, root: pathlib.Path, say: Callable[[str], None]
) -> archive_lib.Contents:
    """Reads the archive that has sources, from `root`/downloads, where it stays."""
    flavour = next(f for f in archive_lib.FLAVOURS if f.name == dataset and f.sources)
    return archive_lib.read(mirrors.fetch(flavour, workshop, root / "downloads", say), say)


def _aloud(say: Callable[[str], None]) -> Callable[[str], None]:
    """Lets `say` print while TFDS's own output is discarded."""
    stdout = sys.stdout

    def aloud(line: str) -> None:
        with contextlib.redirect_stdout(stdout):
            say(line)

    return aloud


def _make_builder(
    resolved: names.Name,
    workshop: pathlib.Path,
    contents: archive_lib.Contents | None,
    say: Callable[[str], None],
) -> tfds.core.DatasetBuilder:
    builder_class = _WITHOUT_TENSORFLOW.get(resolved.dataset)
    if builder_class is None:
        builder_class = _with_all_checksums(resolved.builder_class)
    builder = builder_class(data_dir=workshop, config=resolved.config)
    check_image_classification(builder)
    if resolved.dataset in names.CIFAR:
        builder.contents = contents
    elif resolved.dataset not in _WITHOUT_TENSORFLOW:
        say(f"{resolved} is prepared by TFDS's own code, which may need TensorFlow at the end")
    elif resolved.dataset != Shapes10.name:
        say(f"downloading {resolved}")
    return builder


def _with_all_checksums(builder_class: Any) -> type[tfds.core.DatasetBuilder]:
    """A TFDS class that does not look for its own checksums, which takes a package that may be
    missing: TFDS's table of all sets has them too."""
    own = {key: getattr(builder_class, key) for key in ("name", "pkg_dir_path", "__module__")}
    return types.new_class(
        builder_class.__name__,
        (builder_class,),
        {"skip_registration": True},
        lambda namespace: namespace.update(own, url_infos=None),
    )


def _generate(
    builder: tfds.core.DatasetBuilder,
    resolved: names.Name,
    workshop: pathlib.Path,
    root: pathlib.Path,
    say: Callable[[str], None],
) -> None:
    """Downloads and writes the set under `workshop`; whole downloads go to `root`/downloads."""
    terminal = sys.stderr.isatty()
    tfds.display_progress_bar(terminal)
    downloads = workshop / "downloads"
    _link_files(root / "downloads", downloads)
    try:
        # TFDS prints names of temporary directories, and banners about TensorFlow.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            download.bounded_downloads(say, report=not terminal),
        ):
            builder.download_and_prepare(
                download_dir=downloads,
                download_config=tfds.download.DownloadConfig(
                    manual_dir=root / "downloads" / "manual", try_download_gcs=False
                ),
                file_format="array_record",
            )
    finally:
        _keep_files(downloads, root / "downloads")


def _link_files(source: pathlib.Path, target: pathlib.Path) -> None:
    """Lets TFDS find the downloads of earlier runs."""
    for path in _whole_files(source):
        link = target / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())


def _keep_files(source: pathlib.Path, target: pathlib.Path) -> None:
    """Moves whole downloads, which may have taken an hour, to where the next run finds them."""
    for path in _whole_files(source):
        if not path.is_symlink():
            kept = target / path.relative_to(source)
            kept.parent.mkdir(parents=True, exist_ok=True)
            path.replace(kept)


def _whole_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files in a download directory of TFDS that are not under way."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(
            ".tmp." in part or part.startswith("incomplete.")
            for part in path.relative_to(folder).parts
        )
    ]


def _check_whole(builder: tfds.core.DatasetBuilder) -> None:
    """Raises MachineError unless as many records can be read as were written."""
    for split, info in builder.info.splits.items():
        readable = len(builder.as_data_source(split))
        if readable != info.num_examples:
            raise MachineError(f"{split} has {readable} records of {info.num_examples} on disk")
