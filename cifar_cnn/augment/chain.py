"""Augmentations by name, one after the other."""

import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from cifar_cnn.augment.crop import crop
from cifar_cnn.augment.cutout import cutout
from cifar_cnn.augment.flip import flip
from cifar_cnn.augment.visit import Augment, Visit
from cifar_cnn.checks import UsageError, check_choice, check_shape

# Beyond, it is a mistake that would take minutes to compile.
_MOST_NAMES = 32

AUGMENTS: dict[str, Callable[..., Augment]] = {"flip": flip, "crop": crop, "cutout": cutout}


def make_augment(names: Sequence[str], **sections: Mapping[str, Any]) -> Augment:
    """Chains augmentations by name.

    Args:
      names: keys of `AUGMENTS`, applied in this order. Empty: images pass unchanged. A repeated
        name is applied again with draws of its own.
      **sections: options per name, e.g. `crop={'padding': 4, 'mode': 'reflect'}`. Each of `names`
        needs its section; sections of other names are not read.

    Returns:
      (key, images, visit) -> images; images: uint8 or float32 [B, H, W, C], dtype and shape kept.
      The draws of one augmentation are the same whatever others stand in `names`. The visit may
      be left out where no flip alternates.

    Raises:
      UsageError: naming `augment.names`, `augment.<name>` or one of its keys.
    """
    for name in sections:
        check_choice("section of augment", name, AUGMENTS)
    if len(names) > _MOST_NAMES:
        raise UsageError(f"augment.names has {len(names)} names, expected {_MOST_NAMES} at most")
    chain = []
    for position, name in enumerate(names):
        check_choice("augment.names", name, AUGMENTS)
        options = dict(sections.get(name, {}))
        known = inspect.signature(AUGMENTS[name]).parameters
        if options.keys() != known.keys():
            got = ", ".join(sorted(options)) or "no keys"
            raise UsageError(f"augment.{name} has {got}, expected: {', '.join(sorted(known))}")
        occurrence = list(names[:position]).count(name)
        # Not Python's hash, which differs between processes.
        stream = zlib.crc32(f"{name}:{occurrence}".encode())
        chain.append((stream, AUGMENTS[name](**options)))

    def apply(key: jax.Array, images: jax.Array, visit: Visit | None = None) -> jax.Array:
        check_shape("images", images.shape, (None,) * 4)
        for stream, augment in chain:
            own = visit
            if visit is not None:
                own = visit._replace(key=jax.random.fold_in(visit.key, stream))
            images = augment(jax.random.fold_in(key, stream), images, own)
        return images

    return apply
