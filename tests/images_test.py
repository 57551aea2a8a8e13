"""Picture files of every kind against NumPy, Pillow and CIE's figures, and how they are listed."""

import os

import numpy as np
import pytest
from PIL import Image, features

from cifar_cnn import images
from cifar_cnn.checks import UsageError, printable
from tests.pictures import GREY, noise, read, save


def test_a_picture_of_the_right_size_keeps_its_bytes(tmp_path):
    colour, grey = noise(32, 32, 3), noise(32, 32)
    for name, options in {
        "a.png": {}, "a.bmp": {}, "a.tiff": {}, "a.ppm": {}, "a.webp": {"lossless": True},
    }.items():  # fmt: skip
        np.testing.assert_array_equal(read(save(tmp_path, colour, name, **options)), colour)
    np.testing.assert_array_equal(read(save(tmp_path, grey), GREY)[..., 0], grey)
    # Grey as three equal channels, and those as grey again.
    three = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_array_equal(read(save(tmp_path, grey)), three)
    np.testing.assert_array_equal(read(save(tmp_path, three), GREY)[..., 0], grey)
    opaque = np.dstack([colour, np.full((32, 32), 255, np.uint8)])
    np.testing.assert_array_equal(read(save(tmp_path, opaque)), colour)
    bits = noise(32, 32) > 127
    np.testing.assert_array_equal(read(save(tmp_path, bits), GREY)[..., 0], bits * 255)
    palette = Image.fromarray(colour).quantize(16)
    np.testing.assert_array_equal(
        read(save(tmp_path, palette, "a.gif")), np.asarray(palette.convert("RGB"))
    )


def test_the_name_says_nothing(tmp_path):
    colour = noise(32, 32, 3)
    path = save(tmp_path, colour, format="PNG", name="picture.jpg.txt")
    np.testing.assert_array_equal(read(path), colour)


def test_transparency_becomes_white(tmp_path):
    four = noise(32, 32, 4)
    alpha = four[..., 3:] / 255
    expected = four[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(read(save(tmp_path, four)) - expected).max() <= 1
    two = noise(32, 32, 2, seed=1)
    alpha = two[..., 1:] / 255
    expected = two[..., :1] * alpha + 255 * (1 - alpha)
    assert np.abs(read(save(tmp_path, Image.fromarray(two, "LA")), GREY) - expected).max() <= 1
    # One palette entry, and one grey level or colour, that stand for "nothing here".
    palette = Image.fromarray(noise(32, 32, 3)).quantize(8)
    hidden = np.asarray(palette) == 3
    for name in ("a.gif", "a.png"):
        got = read(save(tmp_path, palette, name, transparency=3))
        assert (got[hidden] == 255).all()
        np.testing.assert_array_equal(got[~hidden], np.asarray(palette.convert("RGB"))[~hidden])
    grey = noise(32, 32) // 64
    got = read(save(tmp_path, grey, transparency=2), GREY)[..., 0]
    np.testing.assert_array_equal(got, np.where(grey == 2, 255, grey))


def srgb_of(lightness, a, b):
    """CIE L*a*b* of white D50 as sRGB, 0 to 255: CIE 15, and Lindbloom's matrix (Bradford)."""
    y = (lightness + 16) / 116
    f = np.array([y + a / 500, y, y - b / 200])
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2) * [0.9642, 1, 0.8251]
    linear = xyz @ np.array(
        [[3.13386, -0.97877, 0.07195], [-1.61687, 1.91614, -0.22899], [-0.49061, 0.03345, 1.40524]]
    )
    return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def test_cmyk_and_lab_and_ycbcr(tmp_path):
    inks = noise(32, 32, 4).astype(float)
    expected = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    cmyk = Image.fromarray(inks.astype(np.uint8), "CMYK")
    assert np.abs(read(save(tmp_path, cmyk, "a.tif")) - expected).max() <= 1
    flat = Image.new("CMYK", (40, 40), (0, 255, 255, 0))
    assert np.abs(read(save(tmp_path, flat, "a.jpg")).astype(int) - [255, 0, 0]).max() <= 3
    for lab in ((128, 0, 0), (150, 20, 30), (120, 5, -20)):
        # As in a TIFF file, where L* has 255 steps and a* and b* are signed.
        content = bytes(value % 256 for value in lab) * (32 * 32)
        path = save(tmp_path, Image.frombytes("LAB", (32, 32), content), "lab.tif")
        assert np.abs(read(path).astype(int) - srgb_of(lab[0] / 2.55, *lab[1:])).max() <= 2
    ycbcr = Image.new("RGB", (32, 32), (200, 30, 90)).convert("YCbCr")
    got = read(save(tmp_path, ycbcr, "ycbcr.tif")).astype(int)
    assert np.abs(got - [200, 30, 90]).max() <= 3


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.linspace(0, 65535, 1024).reshape(32, 32).round().astype(np.uint16)
    expected = np.round(values / 257)
    for name in ("a.png", "a.tif", "a.pgm"):
        got = read(save(tmp_path, values, name), GREY)[..., 0]
        np.testing.assert_array_equal(got, expected)
    # A dark picture stays dark.
    assert read(save(tmp_path, values // 256), GREY).max() == 1
    np.testing.assert_array_equal(
        read(save(tmp_path, values))[..., 1], read(save(tmp_path, values), GREY)[..., 0]
    )


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.int32, 0, 255), (np.int32, 0, 65535), (np.int32, -1000, 2_000_000),
        (np.float32, 0, 1), (np.float32, 0, 255), (np.float32, 0, 65535), (np.float32, -7, 3e6),
    ],
)  # fmt: skip
def test_thirty_two_bits_are_scaled(tmp_path, dtype, low, high):
    values = np.linspace(low, high, 1024).reshape(32, 32).astype(dtype)
    got = read(save(tmp_path, values, "a.tif"), GREY)[..., 0].astype(int)
    expected = (values.astype(np.float64) - low) / (high - low) * 255
    assert np.abs(got - expected).max() <= 0.51


def test_floats_that_are_no_numbers(tmp_path):
    values = np.full((32, 32), 0.5, np.float32)
    values[0], values[1], values[2], values[3] = np.nan, np.inf, -np.inf, 1
    got = read(save(tmp_path, values, "a.tif"), GREY)[..., 0]
    assert [row[0] for row in got[:5]] == [0, 255, 0, 255, 128]
    everything = save(tmp_path, np.full((4, 4), np.nan, np.float32), "b.tif")
    assert read(everything, GREY).max() == 0


UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_exif_orientation(tmp_path, orientation, name):
    stored = noise(20, 30, 3)
    exif = Image.Exif()
    exif[0x112] = orientation
    lossless = {"lossless": True} if name == "a.webp" else {}
    path = save(tmp_path, stored, name, exif=exif, **lossless)
    expected = UPRIGHT[orientation](stored)
    np.testing.assert_array_equal(read(path, expected.shape), expected)


def test_exif_of_a_large_jpeg_and_broken_exif(tmp_path):
    quadrants = np.kron(np.array([[10, 80], [150, 240]], np.uint8), np.ones((600, 900), np.uint8))
    exif = Image.Exif()
    exif[0x112] = 6
    got = read(save(tmp_path, quadrants, "a.jpg", exif=exif, quality=95), (30, 20, 1))
    corners = got[[[0, 0], [-1, -1]], [[0, -1], [0, -1]], 0].astype(int)
    assert np.abs(corners - [[150, 10], [240, 80]]).max() <= 2  # Turned clockwise.
    path = save(tmp_path, quadrants, "b.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95)
    assert read(path, GREY)[-1, -1, 0] > 230


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_the_first_of_many_pictures(tmp_path, name):
    first, *others = (Image.new("RGB", (32, 32), c) for c in ("red", "lime", "blue"))
    path = save(tmp_path, first, name, save_all=True, append_images=others)
    with Image.open(path) as image:
        assert image.n_frames == 3
    assert np.abs(read(path).astype(int) - [255, 0, 0]).max() <= 3


def test_icon_and_avif(tmp_path):
    red = Image.new("RGB", (64, 64), "red")
    np.testing.assert_array_equal(read(save(tmp_path, red, "a.ico"))[5, 5], [255, 0, 0])
    if features.check("avif"):
        assert np.abs(read(save(tmp_path, red, "a.avif")).astype(int) - [255, 0, 0]).max() <= 3


def test_listing(tmp_path):
    names = [
        "b/2.PNG", "b/10.jpeg", "a.gif", ".hidden.png", ".cache/1.png", "Thumbs.db", ".DS_Store",
        "__MACOSX/1.png", "notes.txt", "c/d/e.webp",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c" / "loop").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in images.list_images(tmp_path)]
    assert found == ["a.gif", "b/10.jpeg", "b/2.PNG", "c/d/e.webp"]
    assert tmp_path / "notes.txt" in images.list_files(tmp_path)
    for wrong in (tmp_path / "nothing", tmp_path / "a.gif"):
        with pytest.raises(UsageError, match=r"cannot be listed.*expected a folder"):
            images.list_images(wrong)


def test_names_are_safe_to_print():
    assert printable("a\x1b[31m\n\r\x9b\u202e.png") == r"a\x1b[31m\n\r\x9b\u202e.png"
    assert printable(os.fsdecode(b"caf\xe9 \xc3\xa9.png")) == r"caf\xe9 é.png"
