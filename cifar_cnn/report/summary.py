"""A table of a model's layers: output shapes, parameters and FLOPs, without running it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from cifar_cnn.checks import check_int, check_shape

Path = tuple[str, ...]


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
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    trainable: int
    non_trainable: int
    size_bytes: int
    flops: int
    shared: bool = False


@dataclasses.dataclass
class _Call:
    """A module's call while the model is traced."""

    path: Path
    module: nn.Module
    leaf: bool = True
    parameters: int = 0  # As the call sees them: without the axis that nn.scan stacks them along.
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()


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
    calls: list[_Call] = []
    variables = nn.unbox(_trace(model, tuple(image_shape), calls))

    owned: dict[Path, list[tuple[Path, Any]]] = {}
    paths = {(), *(call.path for call in calls)}
    for path, value in traverse_util.flatten_dict(variables).items():
        owner = path[1:-1]  # Without the collection and the variable's own name.
        while owner not in paths:  # A variable may itself be a tree.
            owner = owner[:-1]
        owned.setdefault(owner, []).append((path, value))

    rows, seen = [], set()
    for call in calls:
        own, again = owned.get(call.path, []), call.path in seen
        # nn.scan traces its body twice, which is no second call: its parameters are stacked.
        stacked = call.parameters != sum(v.size for path, v in own if path[0] == "params")
        if (call.leaf and not (again and stacked)) or (own and not again):
            rows.append(_row(call, own, shared=bool(own) and again))
            seen.add(call.path)
    return rows


def totals(rows: Sequence[LayerRow]) -> dict[str, int]:
    """Sums over rows: parameters (trainable, non_trainable), size_bytes, flops per image."""
    keys = ("trainable", "non_trainable", "size_bytes", "flops")
    sums = {key: sum(getattr(row, key) for row in rows) for key in keys}
    return {"parameters": sums["trainable"] + sums["non_trainable"], **sums}


def format_summary(rows: Sequence[LayerRow], title: str) -> str:
    """The table as plain text, with the totals below."""
    head = ("Layer", "Kind", "Output shape", "Trainable", "Non-trainable", "FLOPs")
    body = [
        (
            row.name,
            row.kind,
            str(row.output_shape),
            "shared" if row.shared else f"{row.trainable:,}",
            "shared" if row.shared else f"{row.non_trainable:,}",
            f"{row.flops:,}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]

    def text(line: tuple[str, ...]) -> str:
        words = (f"{cell:<{width}}" for cell, width in zip(line[:3], widths[:3], strict=True))
        numbers = (f"{cell:>{width}}" for cell, width in zip(line[3:], widths[3:], strict=True))
        return "  ".join([*words, *numbers]).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    total = totals(rows)
    return "\n".join(
        [
            title,
            rule,
            text(head),
            rule,
            *map(text, body),
            rule,
            f"Parameters:     {total['parameters']:,} ({_size(total['size_bytes'])})",
            f"Trainable:      {total['trainable']:,}",
            f"Non-trainable:  {total['non_trainable']:,}",
            f"FLOPs / image:  {total['flops']:,} (forward; 2 x multiply-adds of Conv and Dense)",
        ]
    )


def _trace(model: nn.Module, image_shape: tuple[int, ...], calls: list[_Call]) -> dict[str, Any]:
    """Traces `model.init` on shapes, appends each module's call to `calls` as it ends, and
    returns the variables' shapes."""
    stack: list[_Call] = []

    def record(method, args, kwargs, context):
        path = tuple(context.module.path)
        inside = stack[-1] if stack else None
        # A module's own helper methods and its super().__call__ are part of the call it is in.
        helper = inside is not None and inside.path == path
        if context.method_name == "setup" or helper:
            return method(*args, **kwargs)
        call = _Call(path, context.module)
        stack.append(call)
        try:
            outputs = method(*args, **kwargs)
        finally:
            stack.pop()
        given, made = _shapes((args, kwargs)), _shapes(outputs)
        if not made:
            return outputs  # Not a layer: a method that configures, or that wraps another.
        for outer in stack:
            outer.leaf = outer.leaf and outer.path == path
        call.input_shape, call.output_shape = given[0] if given else (), made[0]
        params = context.module.variables.get("params", {})
        call.parameters = sum(value.size for value in jax.tree.leaves(params))
        calls.append(call)
        return outputs

    def init(key, images):
        with nn.intercept_methods(record):
            return model.init({"params": key, "dropout": key}, images, train=False)

    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(init, key, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))


def _shapes(tree: Any) -> list[tuple[int, ...]]:
    """Shapes of the arrays in a tree."""
    return [leaf.shape for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]


def _row(call: _Call, own: list[tuple[Path, Any]], *, shared: bool) -> LayerRow:
    """The row of a call whose module owns the variables `own`, counted unless `shared`."""
    counted = [] if shared else own
    trainable = sum(value.size for path, value in counted if path[0] == "params")
    kernel = sum(value.size for path, value in own if path[-1] == "kernel") if call.leaf else 0
    return LayerRow(
        name="/".join(call.path) or type(call.module).__name__,
        kind=type(call.module).__name__,
        output_shape=call.output_shape[1:],
        trainable=trainable,
        non_trainable=sum(value.size for _, value in counted) - trainable,
        size_bytes=sum(value.size * value.dtype.itemsize for _, value in counted),
        flops=2 * kernel * _positions(call),
        shared=shared,
    )


def _positions(call: _Call) -> int:
    """At how many places of one image the kernel of a layer is applied."""
    if isinstance(call.module, nn.ConvLocal):
        return 1  # Its kernel holds the weights of every position.
    if isinstance(call.module, nn.ConvTranspose):
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
