"""What TFDS knows of a data set without its data."""

import contextlib
import io

from cifar_cnn.checks import UsageError, printable
from cifar_cnn.datasets import names
from cifar_cnn.datasets.features import check_image_classification, open_prepared


def read_metadata(name: str, *, data_dir: str | None) -> tuple[tuple[int, ...], int]:
    """Image shape and number of classes of a data set, which need not be prepared.

    Args:
        name: as `make_builder` takes it.
        data_dir: TFDS data directory; None or '' for TFDS's default.

    Returns:
        (H, W, C), with None for what differs between images, and the number of classes.

    Raises:
        UsageError: unknown, not for image classification, or of no known number of classes.
    """
    root = names.default_data_dir(data_dir)
    resolved = names.resolve(name, root)
    quiet = io.StringIO()  # For TFDS's banners about TensorFlow.
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            if resolved.builder_class is None:
                builder = open_prepared(resolved.folder(root))
            else:
                builder = resolved.builder_class(data_dir=root, config=resolved.config)
    except UsageError:
        raise
    except Exception as error:  # TFDS runs the set's own code here.
        reason = printable(str(error) or type(error).__name__)[:120]
        raise UsageError(f"TFDS cannot describe data set {str(resolved)!r} ({reason})") from error
    check_image_classification(builder)
    image, label = (builder.info.features[key] for key in builder.info.supervised_keys)
    if label.num_classes is None:
        raise UsageError(f"TFDS does not say the classes of data set {str(resolved)!r}")
    return tuple(image.shape), label.num_classes
