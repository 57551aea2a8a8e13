"""Pictures of other sizes: cropped, padded and stretched, against Pillow."""

import numpy as np
import pytest
from PIL import Image

from cifar_cnn import images
from tests.pictures import GREY, noise, read, save


def test_a_large_jpeg_looks_the_same_as_if_it_were_decoded_whole(tmp_path):
    small = noise(8, 8, 3)
    large = Image.fromarray(small).resize((3000, 2400), Image.Resampling.BICUBIC)
    path = save(tmp_path, large, "a.jpg", quality=95)
    with Image.open(path) as image:
        whole = np.asarray(image.resize((32, 32), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(read(path, fit="stretch") - whole).max() <= 3


@pytest.mark.parametrize("size", [(100, 50), (50, 100), (64, 64), (36, 12)])
@pytest.mark.parametrize("shape", [(10, 10, 3), (10, 10, 1)])
def test_fits(tmp_path, size, shape):
    lanczos = Image.Resampling.LANCZOS
    # Smooth, so that where exactly a filter's window is cut makes no difference.
    image = Image.fromarray(noise(5, 5, 3)).resize(size, Image.Resampling.BICUBIC)
    path = save(tmp_path, image)
    if shape[-1] == 1:
        image = image.convert("L")
    width, height = size
    stretched = np.asarray(image.resize((10, 10), lanczos)).reshape(shape)
    np.testing.assert_array_equal(read(path, shape, "stretch"), stretched)

    scale = 10 / min(size)
    covering = image.resize((round(width * scale), round(height * scale)), lanczos)
    left, top = (covering.width - 10) // 2, (covering.height - 10) // 2
    cropped = np.asarray(covering.crop((left, top, left + 10, top + 10))).reshape(shape)
    assert np.abs(read(path, shape, "crop").astype(int) - cropped).max() <= 2

    scale = 10 / max(size)
    inner = np.asarray(image.resize((round(width * scale), round(height * scale)), lanczos))
    inner = inner.reshape(*inner.shape[:2], -1)
    top, left = (10 - inner.shape[0]) // 2, (10 - inner.shape[1]) // 2
    border = np.ones(inner.shape[:2], bool)
    border[1:-1, 1:-1] = False
    corners = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    edge = np.concatenate([inner[border], [inner[corner] for corner in corners]])
    expected = np.empty(shape, int)
    expected[:] = np.round(np.median(edge, axis=0))
    expected[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    np.testing.assert_array_equal(read(path, shape, "pad"), expected)


@pytest.mark.parametrize("size", [(101, 37), (37, 101), (20, 12), (33, 32)])
def test_the_crop_is_centred(tmp_path, size):
    half = Image.fromarray(noise(5, 5)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(half).astype(int)
    symmetric = ((pixels + pixels[::-1] + pixels[:, ::-1] + pixels[::-1, ::-1]) // 4).astype(
        np.uint8
    )
    got = read(save(tmp_path, symmetric), GREY).astype(int)
    assert np.ptp(got) > 20
    assert np.abs(got - got[:, ::-1]).max() <= 1
    assert np.abs(got - got[::-1]).max() <= 1


def test_padding_continues_the_paper(tmp_path):
    page = np.full((60, 20, 3), [250, 245, 235], np.uint8)
    page[20:40, 5:15] = 0
    page[50:, 8:12] = 0  # The drawing touches the border.
    got = read(save(tmp_path, page), fit="pad")
    assert (got[:, 0] == [250, 245, 235]).all()


@pytest.mark.parametrize("fit", images.FITS)
@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1), (2, 3)])
def test_extreme_sizes(tmp_path, size, fit):
    path = save(tmp_path, Image.new("RGB", size, (9, 200, 77)))
    assert (read(path, fit=fit) == [9, 200, 77]).all()


def test_shrinking_averages_and_does_not_alias(tmp_path):
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(read(save(tmp_path, board), GREY).astype(int) - 127.5).max() <= 2
