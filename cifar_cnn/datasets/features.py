"""What this project can train on: images with one class label each."""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from cifar_cnn.checks import UsageError, shown


def open_prepared(folder: str | os.PathLike) -> tfds.core.DatasetBuilder:
    """Opens a prepared set of which TFDS knows the files alone.

    Raises:
      UsageError: its features are not TFDS's own. TFDS imports every module that they name, and
        the files may come from anyone.
      Exception: of any type, if the files are damaged.
    """
    path = pathlib.Path(folder, "features.json")
    if path.exists():
        for name in _class_names(json.loads(path.read_text(encoding="utf-8"))):
            if not name.startswith("tensorflow_datasets."):
                raise UsageError(
                    f"{path} names the class {shown(name)}, expected TFDS's own features "
                    "(tensorflow_datasets...): prepare the data set again from a source you trust"
                )
    return tfds.builder_from_directory(folder)


def check_image_classification(builder: tfds.core.DatasetBuilder) -> None:
    """Raises UsageError unless the supervised keys of a set are an image and a class label."""
    info = builder.info
    keys = info.supervised_keys
    features = dict(info.features.items())
    expected = (tfds.features.Image, tfds.features.ClassLabel)
    if isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys):
        kinds = tuple(type(features.get(key)) for key in keys)
        if kinds == expected:
            return
        got = " and ".join(
            f"{key} ({kind.__name__})" for key, kind in zip(keys, kinds, strict=True)
        )
    else:
        got = "no such pair"
    raise UsageError(
        f"data set {info.name!r} is not for image classification: it has {got}, expected an Image "
        "and a ClassLabel as supervised keys"
    )


def _class_names(value: Any) -> Iterator[str]:
    """The Python classes that features.json names, in TFDS's formats of all years."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:  # Some features keep theirs as JSON within a text.
            value = json.loads(value)
        except ValueError:
            return
    if isinstance(value, dict):
        names = [value.get(key) for key in ("pythonClassName", "python_class_name")]
        if "content" in value:
            names.append(value.get("type"))
        yield from (name for name in names if isinstance(name, str))
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _class_names(item)
