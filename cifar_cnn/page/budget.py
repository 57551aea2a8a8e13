"""What of a network's feature maps and kernels there is room for on a page.

A page shows every layer. Where it cannot hold all numbers, images give up their sums from the last
one on, then layers theirs; then there are fewer images, and fewer maps of each layer.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

MOST_VALUES = 4096  # Of a vector that are shown.
_SHOWN = (
    (64, 32, 16, 8),
    (4,),
)  # Maps of a layer: fewer images keep their sums before only 4 stay,
_FEWER = ((8, 4), (2, 1))  # Where no image keeps all sums: fewer images before only 2 maps stay.
_CHARACTERS = 8 / 3  # Of a float16 in base64.


@dataclasses.dataclass(frozen=True)
class Layer:
    """What is known of one call of a layer before any value is.

    Attributes:
      source: number of the layer whose output it was given; -1 for the normalised image, -2 for
        something that is computed between layers, such as the sum of two branches.
      given, made: shapes of its input and output for one image.
      window: what the page needs to compute one value again, None where it does not know how;
        'groups' is the number of parts that its maps are read in.
      note: why there is no window, where that is worth a word.
    """

    name: str
    kind: str
    source: int
    given: tuple[int, ...]
    made: tuple[int, ...]
    arithmetic: str
    window: Mapping[str, Any] | None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What goes onto the page.

    Attributes:
      shown: maps of each layer, at most.
      subjects: images, the first ones.
      followed: of these, the first ones, which keep all that the sums of `summed` read.
      summed: numbers of layers, among those whose sums need more than the maps that are shown.
      hidden: numbers of layers that show no map.
    """

    shown: int
    subjects: int
    followed: int = 1
    summed: frozenset[int] = frozenset()
    hidden: frozenset[int] = frozenset()


def fit(layers: Sequence[Layer], subjects: int, fixed: int, room: int) -> Plan:
    """The most that has room.

    Args:
      subjects: number of images.
      fixed: characters that an image takes beside its feature maps.
      room: characters of all images and kernels.
    """

    def fits(plan: Plan) -> bool:
        return _characters(layers, plan, fixed) <= room

    every = frozenset(number for number, layer in enumerate(layers) if _needs_more(layer))
    for several in _SHOWN:
        for followed, shown in itertools.product(range(subjects, 0, -1), several):
            if fits(plan := Plan(shown, subjects, followed, every)):
                return plan
    for several in _FEWER:
        for count, shown in itertools.product(range(subjects, 0, -1), several):
            if fits(plan := Plan(shown, count)):
                cost = {k: _characters(layers, _summing(plan, k), fixed) for k in every}
                for number in sorted(every, key=cost.get):
                    if fits(more := _summing(plan, number)):
                        plan = more
                return plan
    plan = Plan(1, 1)
    for number in sorted(range(len(layers)), key=lambda k: -math.prod(layers[k].made)):
        if not fits(plan) and len(layers[number].made) == 3:
            plan = dataclasses.replace(plan, hidden=plan.hidden | {number})
    return plan


def reads(layer: Layer, shown: int) -> int:
    """Maps of its input, from the first, that the shown maps of a layer are computed from."""
    groups = layer.window["groups"]
    parts = math.ceil(min(shown, layer.made[-1]) / (layer.made[-1] // groups))
    return parts * (layer.given[-1] // groups)


def kept(layers: Sequence[Layer], plan: Plan, number: int, *, followed: bool) -> int:
    """Maps that an image keeps of a layer, from the first; or values, of a vector."""
    made = layers[number].made
    if len(made) != 3:
        return min(made[-1], MOST_VALUES)
    if number in plan.hidden:
        return 0
    readers = [layers[k] for k in plan.summed if layers[k].source == number] if followed else []
    return max([min(plan.shown, made[-1]), *(reads(one, plan.shown) for one in readers)])


def keeps_given(layers: Sequence[Layer], plan: Plan, number: int) -> bool:
    """Whether images that are followed keep the layer's input, which no other layer has made."""
    return number in plan.summed and layers[number].source == -2


def is_summed(layers: Sequence[Layer], plan: Plan, number: int, *, image_kept: bool) -> bool:
    """Whether the page can compute the layer's values again, on the images that are followed.

    Args:
      image_kept: whether the normalised images are on the page.
    """
    layer = layers[number]
    if layer.window is None or plan.hidden & {number, layer.source}:
        return False
    if layer.source == -1 and not image_kept:
        return False
    return number in plan.summed or not _needs_more(layer)


def _needs_more(layer: Layer) -> bool:
    """Whether its sums need numbers that are there for nothing else."""
    return layer.window is not None and (layer.window["what"] == "conv" or layer.source == -2)


def _summing(plan: Plan, number: int) -> Plan:
    return dataclasses.replace(plan, summed=plan.summed | {number})


def _characters(layers: Sequence[Layer], plan: Plan, fixed: int) -> float:
    values = 0
    for place in range(plan.subjects):
        followed = place < plan.followed
        for number, layer in enumerate(layers):
            positions = math.prod(layer.made[:-1])
            values += positions * kept(layers, plan, number, followed=followed)
            if followed and keeps_given(layers, plan, number):
                values += math.prod(layer.given[:-1]) * reads(layer, plan.shown)
    for number in plan.summed:
        layer = layers[number]
        if layer.window["what"] == "conv":
            inputs = layer.given[-1] // layer.window["groups"]
            values += math.prod(layer.window["size"]) * inputs * min(plan.shown, layer.made[-1])
    return fixed * plan.subjects + _CHARACTERS * values
