"""HEIC, as iPhones write it: read where pillow-heif is there, one line where it is not."""

import io
import sys
import types

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from cifar_cnn import filtering, formats, images
from cifar_cnn.checks import UsageError
from cifar_cnn.explain.subject import open_file
from tests.folders import arrays_of, fill
from tests.pictures import read, refusal

CORNERS = {"red": (230, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 230), "grey": (90,) * 3}


def heic(path, size=(64, 96), mode="RGB", orientation=None, **options):
    """Saves a picture of four colours: red and green above, blue and grey below."""
    height, width = size
    colours = np.array(list(CORNERS.values()), np.uint8).reshape(2, 2, 3)
    pixels = colours.repeat(height // 2, axis=0).repeat(width // 2, axis=1)
    if orientation is not None:
        exif = Image.Exif()
        exif[0x112] = orientation
        options["exif"] = exif.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels).convert(mode)).save(buffer, **options)
    path.write_bytes(buffer.getvalue())
    return path


def corners(image):
    """The nearest colours above left, above right, below left, below right."""
    found = (image[2, 2], image[2, -3], image[-3, 2], image[-3, -3])
    values = np.array(list(CORNERS.values()))
    return [
        list(CORNERS)[np.abs(values - pixel.astype(int)).sum(axis=1).argmin()] for pixel in found
    ]


@pytest.fixture
def without(monkeypatch):
    """As if pillow-heif were not installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)


def test_it_is_read_as_any_other_picture(tmp_path):
    path = heic(tmp_path / "IMG_0001.HEIC")
    assert corners(read(path)) == list(CORNERS)
    assert images.open_image(path, channels=3).shape == (64, 96, 3)
    grey = read(path, (32, 32, 1))
    assert grey[-3, 2, 0] < grey[2, -3, 0]  # Blue is darker than green.
    assert images.list_images(tmp_path) == [path]
    hidden = path.rename(tmp_path / "export.jpg")
    assert corners(read(hidden)) == list(CORNERS)
    encoded = images.Encoded(hidden.read_bytes(), "a")
    np.testing.assert_array_equal(images.read_image(encoded, image_shape=(32, 32, 3)), read(hidden))


def test_transparent_is_white(tmp_path):
    image = Image.new("RGBA", (32, 32), (200, 0, 0, 0))
    pillow_heif.from_pillow(image).save(tmp_path / "a.heic")
    assert read(tmp_path / "a.heic").min() > 240


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, ["red", "green", "blue", "grey"]), (3, ["grey", "blue", "green", "red"]),
        (6, ["blue", "red", "grey", "green"]), (8, ["green", "grey", "red", "blue"]),
        (2, ["green", "red", "grey", "blue"]),
    ],
)  # fmt: skip
def test_it_is_upright(tmp_path, orientation, expected):
    path = heic(tmp_path / "a.heic", orientation=orientation)
    turned = orientation in (6, 8)
    assert corners(read(path)) == expected
    assert images.open_image(path, channels=3).shape[:2] == ((96, 64) if turned else (64, 96))
    subject = open_file(
        types.SimpleNamespace(facts=types.SimpleNamespace(image_shape=(32, 32, 3))), path, "crop"
    )
    assert subject.given_size == ((96, 64) if turned else (64, 96))
    assert corners(subject.given) == expected


def test_a_folder_and_the_tools_take_it(tmp_path):
    root = fill(tmp_path / "pictures")
    heic(root / "cat" / "phone.heic")
    arrays = arrays_of(root, tmp_path)
    assert len(arrays.labels) == 7
    assert corners(arrays.images[3]) == list(CORNERS)
    _, image = filtering.read_source(str(root / "cat/phone.heic"), gray=False, data_dir=None)
    assert corners(image) == list(CORNERS)


def test_a_broken_one_is_one_line(tmp_path):
    path = heic(tmp_path / "a.heic")
    content = path.read_bytes()
    for length in (40, 300, len(content) - 5):
        path.write_bytes(content[:length])
        assert "broken" in refusal(path)


def test_too_many_pixels_are_refused_from_the_header(tmp_path, monkeypatch):
    path = heic(tmp_path / "a.heic")
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 96 - 1)
    assert "is too large (96 x 64 pixels)" in refusal(path)
    monkeypatch.undo()
    # A header that claims fewer is not believed.
    size = (96).to_bytes(4, "big") + (64).to_bytes(4, "big")
    content = path.read_bytes()
    assert content.count(size) == 1
    path.write_bytes(content.replace(size, (8).to_bytes(4, "big") * 2))
    assert "is broken or not complete" in refusal(path)


def test_without_the_package_one_line_says_what_to_install(tmp_path, without):
    path = heic(tmp_path / "pictures" / "cat" / "phone.heic")
    assert not formats.add_heic()
    message = refusal(path)
    assert "phone.heic is a HEIC picture" in message
    assert "pip install -e '.[heif]'" in message
    # A folder does not leave it out: what a run learns from must not depend on a package.
    with pytest.raises(UsageError, match=r"phone.heic is a HEIC picture.*'\.\[heif\]'"):
        arrays_of(fill(tmp_path / "pictures"), tmp_path)
    assert not list((tmp_path / "cache").rglob("*.npy"))
    assert read(tmp_path / "pictures/cat/0.png").any()
