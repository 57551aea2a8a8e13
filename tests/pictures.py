"""Saves picture files, and reads them as a data set does."""

import numpy as np
import pytest
from PIL import Image

from cifar_cnn import images
from cifar_cnn.checks import UsageError

RGB, GREY = (32, 32, 3), (32, 32, 1)


def noise(*shape, seed=0):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def save(folder, array_or_image, name="a.png", **options):
    image = array_or_image
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(folder / name, **options)
    return folder / name


def read(path, shape=RGB, fit="crop"):
    image = images.read_image(path, image_shape=shape, fit=fit)
    assert image.dtype == np.uint8
    assert image.shape == shape
    assert image.flags.writeable
    return image


def refusal(path, **options):
    with pytest.raises(UsageError) as caught:
        read(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text
