"""Receptive fields: which pixels of the image one number of a feature map depends on.

Exact for every mixture of strides, dilations, poolings and transposed convolutions (Araujo,
Norris & Sim 2019 give the closed form without the last): the pixels are counted, along one axis,
on an image without borders.
"""

import dataclasses
import fractions
import math

from cifar_cnn.report.window import Window


@dataclasses.dataclass(frozen=True)
class Field:
    """The pixels of one axis of the image that the places of a feature map see.

    Attributes:
      seen: of places 0, 1, ... len(seen) - 1; the others repeat them.
      shift: place p + len(seen) sees what place p sees, so many pixels further on.
    """

    seen: tuple[frozenset[int], ...] = (frozenset({0}),)
    shift: int = 1

    @property
    def size(self) -> int:
        """Pixels from the first to the last that one place sees, at the place that sees most."""
        return max(max(pixels) - min(pixels) + 1 if pixels else 0 for pixels in self.seen)

    @property
    def jump(self) -> fractions.Fraction:
        """Pixels of the image from one place to the next: the product of the strides so far."""
        return fractions.Fraction(self.shift, len(self.seen))

    def of(self, place: int) -> set[int]:
        """Pixels that a place sees."""
        around, phase = divmod(place, len(self.seen))
        return {pixel + around * self.shift for pixel in self.seen[phase]}


def through(field: Field, window: Window, axis: int) -> Field:
    """The field after one more layer.

    Args:
      field: of the layer's input.
      window: of the layer.
      axis: 0 for height, 1 for width.
    """
    stride, step, low = window.stride[axis], window.dilation[axis], window.pads[axis][0]
    taps = [step * a - low for a in range(window.kernel[axis])]
    period = len(field.seen)
    if window.transposed:
        # Place o gets input i where stride * i + dilation * tap - low = o.
        places = [
            [(o - tap) // stride for tap in taps if (o - tap) % stride == 0]
            for o in range(period * stride)
        ]
        shift = field.shift
    else:
        new_period = period // math.gcd(period, stride)
        places = [[o * stride + tap for tap in taps] for o in range(new_period)]
        shift = field.shift * (new_period * stride // period)
    seen = [frozenset().union(*(field.of(place) for place in around)) for around in places]
    return Field(tuple(seen), shift)
