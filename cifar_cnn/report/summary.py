"""A table of a model's layers: output shapes, parameters and FLOPs, without running it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from flax import traverse_util

from cifar_cnn.checks import check_int, check_shape
from cifar_cnn.layers import TransposedConv
from cifar_cnn.report.receptive import Field, through
from cifar_cnn.report.table import format_table
from cifar_cnn.report.tracing import Call, Path, trace
from cifar_cnn.report.window import Window, label, window_of


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One call of one layer.

    Attributes:
      name: path of the module in the model, as `block/conv`.
      kind: class of the module.
      output_shape: shape of its (first) output for one image, without the batch axis.
      trainable: parameters.
      non_trainable: numbers in other collections, such as the averages of BatchNorm.
      size_bytes: memory of both.
      flops: 2 x multiply-adds of its kernel on one image.
      shared: True when an earlier row counts this module's parameters.
      label: what the layer is, in a few words: 'Conv 3x3, stride 2'.
      input_shape: of its first input, without the batch axis.
      chained: whether that input is what the row above returned.
      window: how it moves over its input; None where it has no window.
      field: what one place of its output sees of the image, (height, width); None where that is
        not known or there is no place any more.
      terms: how its parameters are counted: '3*3*64*64 + 64'.
      non_trainable_terms: likewise.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    trainable: int
    non_trainable: int
    size_bytes: int
    flops: int
    shared: bool = False
    label: str = ""
    input_shape: tuple[int, ...] = ()
    chained: bool = False
    window: Window | None = None
    field: tuple[Field, Field] | None = None
    terms: str = ""
    non_trainable_terms: str = ""


def summarize(model: nn.Module, image_shape: Sequence[int]) -> list[LayerRow]:
    """Lists the layers of a model in the order of their calls.

    A layer is a module that calls no other module. A module that does, but owns variables itself
    (a learned scale, say), has a row for these, placed where its call ends. So the rows' counts
    add up to all variables of the model. The model is traced on shapes: nothing is compiled and
    no array is made.

    FLOPs are those of kernels: 2 * positions * kernel size, where a kernel is applied at each
    position of the output (Conv, grouped or not, and Dense; each position of the input for
    ConvTranspose): multiplications and additions both count, padded borders count in full. Not
    counted: bias, normalisation, activations, pooling, products of two activations (attention),
    and the repeats of an `nn.scan` that shares one kernel.

    Args:
      model: linen module called as `model(images, train=...)`, images float32 [B, H, W, C].
      image_shape: (H, W, C).

    Raises:
      UsageError: if image_shape is not three positive integers.
    """
    check_shape("image_shape (height, width, channels)", image_shape, (None, None, None))
    for size in image_shape:
        check_int("image_shape", size, minimum=1)
    calls, variables = trace(model, tuple(image_shape))

    owned: dict[Path, list[tuple[Path, Any]]] = {}
    paths = {(), *(call.path for call in calls)}
    for path, value in traverse_util.flatten_dict(variables).items():
        owner = path[1:-1]  # Without the collection and the variable's own name.
        while owner not in paths:  # A variable may itself be a tree.
            owner = owner[:-1]
        owned.setdefault(owner, []).append((path, value))

    rows, seen, above = [], set(), None
    fields = _fields(calls)
    for call in calls:
        own, again = owned.get(call.path, []), call.path in seen
        # nn.scan traces its body twice, which is no second call: its parameters are stacked.
        stacked = call.parameters != sum(v.size for path, v in own if path[0] == "params")
        if (call.leaf and not (again and stacked)) or (own and not again):
            row = _row(call, own, shared=bool(own) and again)
            chained = above is not None and call.given is above
            field = fields.get(id(call.made)) if call.leaf else None
            rows.append(dataclasses.replace(row, chained=chained, field=field))
            seen.add(call.path)
            above = call.made
    return rows


def totals(rows: Sequence[LayerRow]) -> dict[str, int]:
    """Sums over rows: parameters (trainable, non_trainable), size_bytes, flops per image."""
    keys = ("trainable", "non_trainable", "size_bytes", "flops")
    sums = {key: sum(getattr(row, key) for row in rows) for key in keys}
    return {"parameters": sums["trainable"] + sums["non_trainable"], **sums}


def fold_activations(rows: Sequence[LayerRow]) -> list[LayerRow]:
    """The rows with an activation named in the row of the layer that feeds it, as in Keras."""
    folded: list[LayerRow] = []
    for row in rows:
        if row.kind == "Activation" and row.chained and folded:
            words = f"{folded[-1].label}, {row.label}"
            folded[-1] = dataclasses.replace(folded[-1], label=words)
        else:
            folded.append(row)
    return folded


def format_summary(rows: Sequence[LayerRow], title: str) -> str:
    """The table as plain text, with the totals below."""
    head = ("Layer", "Kind", "Output shape", "Trainable", "Non-trainable", "FLOPs")
    body = [
        (
            row.name,
            row.label or row.kind,
            str(row.output_shape),
            "shared" if row.shared else f"{row.trainable:,}",
            "shared" if row.shared else f"{row.non_trainable:,}",
            f"{row.flops:,}",
        )
        for row in fold_activations(rows)
    ]
    table = format_table(head, body, left=3, framed=True)
    return "\n".join([title, table, *format_totals(rows)])


def format_totals(rows: Sequence[LayerRow]) -> list[str]:
    """The lines below a table."""
    total = totals(rows)
    return [
        f"Parameters:     {total['parameters']:,} ({_size(total['size_bytes'])})",
        f"Trainable:      {total['trainable']:,}",
        f"Non-trainable:  {total['non_trainable']:,}",
        f"FLOPs / image:  {total['flops']:,} (forward; 2 x multiply-adds of Conv and Dense)",
    ]


def _fields(calls: Sequence[Call]) -> dict[int, tuple[Field, Field]]:
    """What every layer's output sees of the image, by the id of that output.

    Followed from layer to layer; what is computed between them (a sum of two branches, a mean)
    has no entry, nor has anything after it.
    """
    fields: dict[int, tuple[Field, Field]] = {}
    for call in calls:
        if not call.leaf or call.given is None:
            continue
        before = fields.get(id(call.given)) if fields else (Field(), Field())
        window = window_of(call.module, call.input_shape[1:-1])
        same = call.input_shape[1:-1] == call.output_shape[1:-1] and len(call.output_shape) == 4
        if before is not None and window is not None:
            fields[id(call.made)] = tuple(through(before[i], window, i) for i in (0, 1))
        elif before is not None and same:
            fields[id(call.made)] = before
    return fields


def _row(call: Call, own: list[tuple[Path, Any]], *, shared: bool) -> LayerRow:
    """The row of a call whose module owns the variables `own`, counted unless `shared`."""
    counted = [] if shared else own
    trainable = sum(value.size for path, value in counted if path[0] == "params")
    kernel = sum(value.size for path, value in own if path[-1] == "kernel") if call.leaf else 0
    window = window_of(call.module, call.input_shape[1:-1]) if call.leaf else None
    channels = call.input_shape[-1] if call.input_shape else 0
    groups = getattr(call.module, "feature_group_count", 1)
    grouped = f"({channels}/{groups})" if 1 < groups < channels else ""
    return LayerRow(
        name="/".join(call.path) or type(call.module).__name__,
        kind=type(call.module).__name__,
        output_shape=call.output_shape[1:],
        trainable=trainable,
        non_trainable=sum(value.size for _, value in counted) - trainable,
        size_bytes=sum(value.size * value.dtype.itemsize for _, value in counted),
        flops=2 * kernel * _positions(call),
        shared=shared,
        label=label(call.module, window, channels),
        input_shape=call.input_shape[1:],
        window=window,
        terms=_terms([item for item in counted if item[0][0] == "params"], grouped),
        non_trainable_terms=_terms([item for item in counted if item[0][0] != "params"], ""),
    )


def _terms(variables: list[tuple[Path, Any]], grouped: str) -> str:
    """'3*3*64*64 + 64': the shapes of variables, kernels first.

    Args:
      grouped: stands for the input channels of a kernel where it sees only some.
    """
    terms = []
    for path, value in sorted(variables, key=lambda item: (item[0][-1] != "kernel", item[0])):
        factors = [str(size) for size in value.shape] or ["1"]
        if grouped and path[-1] == "kernel" and len(factors) > 1:
            factors[-2] = grouped
        terms.append("*".join(factors))
    return " + ".join(terms)


def _positions(call: Call) -> int:
    """At how many places of one image the kernel of a layer is applied."""
    if isinstance(call.module, nn.ConvLocal):
        return 1  # Its kernel holds the weights of every position.
    if isinstance(call.module, nn.ConvTranspose | TransposedConv):
        return math.prod(call.input_shape[1:-1])
    if isinstance(call.module, nn.DenseGeneral):
        features = call.module.features
        width = features if isinstance(features, int) else math.prod(features)
        return math.prod(call.output_shape[1:]) // width
    return math.prod(call.output_shape[1:-1])


def _size(count: int) -> str:
    """Bytes in the largest binary unit that keeps the number at 1 or more."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"
