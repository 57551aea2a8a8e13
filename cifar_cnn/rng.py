"""Random streams: every key is a pure function of (seed, stream name, step).

Nothing is split and carried along, so nothing has to be saved: a resumed run draws what the
unbroken run would have drawn. The streams of this project: "init", "order" (by epoch), "augment"
and "dropout" (by step).
"""

import zlib

import jax


def stream(key: jax.Array, name: str, step: int | jax.Array = 0) -> jax.Array:
    """Returns the key of stream `name` at `step`.

    Args:
      key: typed key (`jax.random.key(seed)`), shape [].
      name: stream name; hashed with CRC-32, which unlike `hash()` is the same in every process.
      step: non-negative int32, Python or traced.

    Returns:
      Typed key, shape [].
    """
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), step)
