"""The views of an image that a network trained with augmentations is averaged over at test time."""

from collections.abc import Callable, Sequence

import jax

from cifar_cnn.augment.chain import AUGMENTS
from cifar_cnn.augment.crop import pad
from cifar_cnn.augment.flip import mirror
from cifar_cnn.checks import UsageError, check_choice, check_int

View = Callable[[jax.Array], jax.Array]


def make_views(names: Sequence[str], *, shift: int) -> list[tuple[float, View]]:
    """Returns the views to average a network's predictions over at test time.

    A network is shown only what it was trained with: mirrored images if `names` has 'flip', images
    shifted by (-shift, -shift) and (shift, shift) pixels (border reflected) if it has 'crop'. The
    unshifted views weigh 1/2 together and each shift 1/4; a mirrored pair halves each of these.
    These are the views of airbench (Jordan 2024, arXiv:2404.00498).

    Args:
      names: the augmentations that the network was trained with.
      shift: pixels, from 1 to below the image's height and width.

    Returns:
      [(weight, images -> images), ...], the unchanged images first; weights sum to 1; images:
      uint8 or float32 [B, H, W, C], dtype and shape kept.

    Raises:
      UsageError: if `names` has neither 'flip' nor 'crop'; naming `eval.tta_shift`.
    """
    for name in names:
        check_choice("augment.names", name, AUGMENTS)
    check_int("eval.tta_shift", shift, minimum=1)
    if "flip" not in names and "crop" not in names:
        raise UsageError("--tta needs a network trained with flip or crop")
    views: list[tuple[float, View]] = [(1.0, lambda images: images)]
    if "crop" in names:
        views = [(0.5, views[0][1]), (0.25, _shifted(-shift)), (0.25, _shifted(shift))]
    if "flip" in names:
        views = [pair for view in views for pair in _with_mirror(*view)]
    return views


def _with_mirror(weight: float, view: View) -> list[tuple[float, View]]:
    """A view and its mirror image, at half the weight each."""
    return [(weight / 2, view), (weight / 2, lambda images: mirror(view(images)))]


def _shifted(offset: int) -> View:
    """Moves the content by `offset` pixels down and right (up and left if negative)."""
    padding = abs(offset)

    def view(images: jax.Array) -> jax.Array:
        padded = pad("eval.tta_shift", images, padding, "reflect")
        start = padding - offset
        rows, columns = (slice(start, start + size) for size in images.shape[1:3])
        return padded[:, rows, columns, :]

    return view
