"""What this project can train on: images with one class label each."""

import tensorflow_datasets as tfds

from cifar_cnn.checks import UsageError


def check_image_classification(builder: tfds.core.DatasetBuilder) -> None:
    """Raises UsageError unless the supervised keys of a set are an image and a class label."""
    info = builder.info
    keys = info.supervised_keys
    features = dict(info.features.items())
    expected = (tfds.features.Image, tfds.features.ClassLabel)
    if isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys):
        kinds = tuple(type(features.get(key)) for key in keys)
        if kinds == expected:
            return
        got = " and ".join(
            f"{key} ({kind.__name__})" for key, kind in zip(keys, kinds, strict=True)
        )
    else:
        got = "no such pair"
    raise UsageError(
        f"data set {info.name!r} is not for image classification: it has {got}, expected an Image "
        "and a ClassLabel as supervised keys"
    )
