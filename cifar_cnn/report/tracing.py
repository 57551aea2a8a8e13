"""Which layers a model calls, in which order and on which shapes, without running it."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Path = tuple[str, ...]


@dataclasses.dataclass
class Call:
    """A module's call while the model is traced.

    Attributes:
      path: of the module in the model.
      leaf: whether it called no other module.
      parameters: as the call sees them: without the axis that nn.scan stacks them along.
      given, made: its first input and output while tracing; the same object where one layer's
        output goes straight into the next.
    """

    path: Path
    module: nn.Module
    leaf: bool = True
    parameters: int = 0
    given: jax.Array | None = None
    made: jax.Array | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first array it was given; () where there was none."""
        return () if self.given is None else self.given.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the first array it returned."""
        return self.made.shape


def trace(model: nn.Module, image_shape: tuple[int, ...]) -> tuple[list[Call], dict[str, Any]]:
    """Traces `model.init` on shapes: nothing is compiled and no array is made.

    Returns:
      The calls in the order in which they end, and the variables' shapes.
    """
    calls: list[Call] = []
    stack: list[Call] = []

    def record(method, args, kwargs, context):
        path = tuple(context.module.path)
        inside = stack[-1] if stack else None
        # A module's own helper methods and its super().__call__ are part of the call it is in.
        helper = inside is not None and inside.path == path
        if context.method_name == "setup" or helper:
            return method(*args, **kwargs)
        call = Call(path, context.module)
        stack.append(call)
        try:
            outputs = method(*args, **kwargs)
        finally:
            stack.pop()
        given, made = _arrays((args, kwargs)), _arrays(outputs)
        if not made:
            return outputs  # Not a layer: a method that configures, or that wraps another.
        for outer in stack:
            outer.leaf = outer.leaf and outer.path == path
        call.given, call.made = given[0] if given else None, made[0]
        params = context.module.variables.get("params", {})
        call.parameters = sum(value.size for value in jax.tree.leaves(params))
        calls.append(call)
        return outputs

    def init(key, images):
        with nn.intercept_methods(record):
            return model.init({"params": key, "dropout": key}, images, train=False)

    key = jax.eval_shape(lambda: jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return calls, nn.unbox(jax.eval_shape(init, key, images))


def _arrays(tree: Any) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
