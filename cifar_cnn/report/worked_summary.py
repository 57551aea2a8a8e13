"""A model's layers with the arithmetic of their shapes and parameters, and what layers overlook."""

import math
from collections.abc import Sequence
from typing import Any

from cifar_cnn.report import window as window_lib
from cifar_cnn.report.summary import LayerRow, fold_activations, format_totals, totals
from cifar_cnn.report.table import format_table

_HEAD = (
    "Layer", "Kind", "Output shape", "How it follows", "Parameters", "FLOPs", "Sees", "Step"
)  # fmt: skip
_LEGEND = (
    "Sees: pixels of the image (height x width) that one place of the output depends on, borders",
    "aside. Step: pixels of the image from one place to the next.",
)


def format_worked(rows: Sequence[LayerRow], title: str) -> str:
    """The table of `summarize` with every sum written out, totals, and notes below it."""
    body = [
        (
            row.name,
            row.label,
            str(row.output_shape),
            "\n".join(shape_sums(row)),
            parameter_sum(row),
            f"{row.flops:,}",
            _sees(row),
            _step(row),
        )
        for row in fold_activations(rows)
    ]
    table = format_table(_HEAD, body, left=5, framed=True)
    below = [f"note: {line}" for line in notes(rows)]
    return "\n".join([title, table, *format_totals(rows), *_LEGEND, *below])


def as_json(rows: Sequence[LayerRow]) -> dict[str, Any]:
    """What `format_worked` tells as plain values: 'layers', 'totals' and 'notes'.

    Layers carry 'name', 'kind', 'output_shape', 'shape_arithmetic' (height, then width; one sum
    for a flattened image), 'trainable', 'non_trainable', 'parameter_arithmetic', 'flops',
    'receptive_field' and 'jump' ([height, width] in pixels, null where there are none).
    """
    layers = []
    for row in fold_activations(rows):
        field = row.field
        layers.append(
            {
                "name": row.name,
                "kind": row.label,
                "input_shape": list(row.input_shape),
                "output_shape": list(row.output_shape),
                "shape_arithmetic": shape_sums(row, merged=False),
                "trainable": row.trainable,
                "non_trainable": row.non_trainable,
                "parameter_arithmetic": parameter_sum(row),
                "flops": row.flops,
                "receptive_field": field and [axis.size for axis in field],
                "jump": field and [float(axis.jump) for axis in field],
            }
        )
    return {"layers": layers, "totals": totals(rows), "notes": notes(rows)}


def shape_sums(row: LayerRow, *, merged: bool = True) -> list[str]:
    """How a layer's output size comes about.

    Args:
      merged: one sum where height and width have the same, and none where there is nothing to
        calculate; otherwise always both.

    Returns:
      Sums such as '(28 - 3)/1 + 1 = 26', of the height and the width; '5*5*64 = 1600' of a
      flattened image; [] for a layer that changes no shape.
    """
    if row.window is not None:
        high, wide = window_lib.arithmetic(row.window, row.input_shape[:2], row.output_shape[:2])
        if not merged:
            return [high, wide]
        return [high] if high == wide else [f"height {high}", f"width {wide}"]
    flat = len(row.input_shape) > 1 and row.output_shape == (math.prod(row.input_shape),)
    if flat:
        return [f"{'*'.join(map(str, row.input_shape))} = {row.output_shape[0]}"]
    return []


def parameter_sum(row: LayerRow) -> str:
    """How a layer's parameters are counted: '3*3*64*64 + 64 = 36,928', or '0'.

    Numbers that no gradient trains are on a line of their own.
    """
    if row.shared:
        return "shared"
    lines = [f"{row.terms} = {row.trainable:,}" if row.terms else "0"]
    if row.non_trainable_terms:
        lines.append(f"not trained: {row.non_trainable_terms} = {row.non_trainable:,}")
    return "\n".join(lines)


def notes(rows: Sequence[LayerRow]) -> list[str]:
    """Lines about layers that leave pixels unread, pad unevenly or overlap unevenly."""
    return [
        line
        for row in rows
        if row.window is not None
        for line in window_lib.notes(
            row.name, row.window, row.input_shape[:2], row.output_shape[:2]
        )
    ]


def _sees(row: LayerRow) -> str:
    if row.field is not None:
        return " x ".join(str(axis.size) for axis in row.field)
    return "all" if row.kind == "Dense" and len(row.output_shape) == 1 else ""


def _step(row: LayerRow) -> str:
    if row.field is None:
        return ""
    steps = [str(axis.jump) for axis in row.field]
    return steps[0] if steps[0] == steps[1] else " x ".join(steps)
