"""What a config's data is like, before there is any."""

from cifar_cnn import datasets
from cifar_cnn.checks import UsageError, check_int
from cifar_cnn.experiment.parts import Config, picture_folder, picture_shape


def describe_data(
    config: Config, image_shape: tuple[int, ...] | None = None, classes: int | None = None
) -> tuple[str, tuple[int, ...], int]:
    """Name, image shape (H, W, C) and number of classes of a config's data.

    They come from what TFDS knows of the set, which need not be prepared, or from the names of a
    folder's classes; nothing is downloaded.

    Args:
      image_shape, classes: taken instead of the data's own; with both, the data is not asked.

    Raises:
      UsageError: they cannot be known.
    """
    if classes is not None:
        check_int("classes", classes, minimum=2)
    section = config["data"]
    name = section["folder"] or section["name"]
    if image_shape is not None and classes is not None:
        return name, tuple(image_shape), classes
    try:
        if section["folder"]:
            shape = picture_shape(config)
            count = classes or len(datasets.read_layout(picture_folder(config)).class_names)
        else:
            shape, count = datasets.read_metadata(
                section["name"], data_dir=config["run"]["data_dir"] or None
            )
            shape = picture_shape(config) if None in shape else shape
    except UsageError as error:
        raise UsageError(
            f"{error}; or say what the images are like: --image_shape=32,32,3 --classes=10"
        ) from error
    return name, tuple(image_shape or shape), classes or count
