"""Prints a config's network layer by layer, with the arithmetic of its shapes and parameters."""

import json
from collections.abc import Mapping
from typing import Any

from cifar_cnn import experiment
from cifar_cnn.checks import UsageError
from cifar_cnn.report.summary import summarize
from cifar_cnn.report.worked_summary import as_json, format_worked


def describe_network(
    config: Mapping[str, Any],
    name: str,
    *,
    image_shape: str | None = None,
    classes: int | None = None,
    machine_readable: bool = False,
) -> None:
    """Prints the network of a config; nothing is compiled, downloaded or written.

    Args:
      config: complete and checked.
      name: of the config, for the title.
      image_shape: 'H,W,C', if not that of the config's data.
      classes: their number, likewise.
      machine_readable: whether to print JSON, see `report.worked_summary.as_json`.

    Raises:
      UsageError: a network that does not fit the images, data that nothing is known of.
    """
    given = None if image_shape is None else _parse_shape(image_shape)
    data, shape, count = experiment.describe_data(config, given, classes)
    rows = summarize(experiment.make_network(config, count), shape)
    if machine_readable:
        about = {"config": name, "data": data, "image_shape": list(shape), "classes": count}
        print(json.dumps({**about, **as_json(rows)}, indent=2))
    else:
        size = " x ".join(map(str, shape))
        print(format_worked(rows, f"{name}: {data}, images {size}, {count} classes"))


def _parse_shape(text: str) -> tuple[int, int, int]:
    try:
        height, width, channels = (int(size) for size in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--image_shape is {text!r}, expected height, width and channels such as 28,28,1"
        ) from error
    return height, width, channels
