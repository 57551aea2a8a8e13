"""PNG bytes for TFDS: its Image feature encodes arrays with TensorFlow, but takes a file as is."""

import io

import numpy as np
from PIL import Image


def encode_png(image: np.ndarray) -> io.BytesIO:
    """Encodes an image losslessly.

    Args:
        image: uint8 [H, W, 3] (RGB) or [H, W, 1] (grey).

    Returns:
        A file object at its start, as `tfds.features.Image` accepts.
    """
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, format="png")
    png.seek(0)
    return png
