"""From the name of a data set to its TFDS class and its place on disk."""

import dataclasses
import difflib
import os
import pathlib
import re
from typing import Any

import tensorflow_datasets as tfds

from cifar_cnn.checks import UsageError, shown
from cifar_cnn.datasets.shapes10 import Shapes10

# Those that `prepare` generates without TensorFlow.
KNOWN = ("cifar10", "cifar100", "emnist", "fashion_mnist", "kmnist", "mnist", "shapes10")
# Those that come as an archive which people have on disk.
CIFAR = ("cifar10", "cifar100")

_LONGEST = 200  # TFDS's own are shorter; file systems take 255 bytes.
_NAME = re.compile(
    r"(?P<dataset>[a-z]\w*)(/(?P<config>\w[\w.+-]*))?(:(?P<version>\d+\.\d+\.\d+))?", re.ASCII
)


@dataclasses.dataclass(frozen=True)
class Name:
    """A data set that exists in TFDS or on disk.

    Attributes:
        dataset: as in 'cifar10'.
        config: as in 'letters' of 'emnist/letters'; None if it has none.
        version: as in '3.0.2'.
        builder_class: of this version; None where only files are known.
    """

    dataset: str
    config: str | None
    version: str
    builder_class: type[tfds.core.DatasetBuilder] | None

    def __str__(self) -> str:
        return "/".join(part for part in (self.dataset, self.config) if part)

    def folder(self, root: str | os.PathLike) -> pathlib.Path:
        """Returns where the prepared set lies under a TFDS data directory."""
        return pathlib.Path(root, *filter(None, (self.dataset, self.config, self.version)))


def default_data_dir(data_dir: str | None) -> str:
    """Returns `data_dir`, or TFDS's own default for None and ''."""
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return os.path.expanduser(data_dir)


def is_prepared(folder: pathlib.Path) -> bool:
    """Whether a folder holds a prepared set: TFDS renames it there when it is whole."""
    return os.path.isfile(folder / "dataset_info.json")


def resolve(name: str, root: str | os.PathLike) -> Name:
    """Finds a data set by its name, as TFDS would.

    Args:
        name: 'cifar10', 'cifar10:3.0.2' or 'emnist/letters'.
        root: a TFDS data directory, whose sets TFDS need not know.

    Raises:
        UsageError: malformed or unknown; lists the names that work.
    """
    match = _NAME.fullmatch(name) if isinstance(name, str) and len(name) <= _LONGEST else None
    if match is None:
        raise _unknown(name)
    dataset, config, version = match["dataset"], match["config"], match["version"]
    builder_class, code_version = _builder_class(dataset), None
    if builder_class is not None:
        config, code_version = _config_and_version(builder_class, config)
        version = version or code_version
        if version != code_version:
            builder_class = None
    on_disk = versions_on_disk(root, dataset, config)
    if builder_class is None and version is None:
        version = on_disk[-1] if on_disk else None
    if builder_class is None and version not in on_disk:
        if code_version is None:
            raise _unknown(name)
        raise UsageError(
            f"data set {dataset!r} has no version {version} in {root}, expected "
            f"{' or '.join(sorted({code_version, *on_disk}))}"
        )
    return Name(dataset, config, version, builder_class)


def versions_on_disk(root: str | os.PathLike, dataset: str, config: str | None) -> list[str]:
    """Returns the prepared versions of a set, oldest first."""
    folder = pathlib.Path(root, *filter(None, (dataset, config)))
    found = [
        path.parent.name
        for path in folder.glob("*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    ]
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def _builder_class(dataset: str) -> type[tfds.core.DatasetBuilder] | None:
    if dataset == Shapes10.name:
        return Shapes10
    try:
        return tfds.builder_cls(dataset)
    except ValueError:  # TFDS's DatasetNotFoundError.
        return None
    except ImportError as error:
        raise UsageError(
            f"the code of data set {dataset!r} needs {error.name}, which is not installed: install "
            f"it, or choose one of: {', '.join(KNOWN)}"
        ) from error


def _config_and_version(builder_class: Any, config: str | None) -> tuple[str | None, str]:
    """Returns the config, the default one for None, and the version that the code makes."""
    configs = builder_class.builder_configs
    if config is None and configs:
        config = builder_class.DEFAULT_BUILDER_CONFIG_NAME or next(iter(configs))
    if config is not None and config not in configs:
        expected = f"one of: {', '.join(sorted(configs))}" if configs else "none: it has no configs"
        raise UsageError(
            f"data set {builder_class.name!r} has no config {config!r}, expected {expected}"
        )
    version = configs[config].version if config else None
    return config, str(version or builder_class.VERSION)


def _unknown(name: Any) -> UsageError:
    near = difflib.get_close_matches(str(name)[:_LONGEST].lower(), KNOWN, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return UsageError(
        f"unknown data set {shown(name)}, expected one of: {', '.join(KNOWN)}, or any TFDS "
        f"image-classification set prepared as array_record{hint}"
    )
