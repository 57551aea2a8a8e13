"""Picture files of every kind against NumPy, Pillow and CIE's figures, and broken ones."""

import os
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

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


def test_a_large_jpeg_looks_the_same_as_if_it_were_decoded_whole(tmp_path):
    small = noise(8, 8, 3)
    large = Image.fromarray(small).resize((3000, 2400), Image.Resampling.BICUBIC)
    path = save(tmp_path, large, "a.jpg", quality=95)
    with Image.open(path) as image:
        whole = np.asarray(image.resize((32, 32), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(read(path, fit="stretch") - whole).max() <= 3


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


def png_header(width, height):
    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


CONTENTS = {
    "empty.png": (b"", "is empty (0 bytes)"),
    # One pixel row above the limit: Pillow itself would only warn.
    "big.png": (png_header(10_001, 10_000), "expected at most 100,000,000 pixels"),
    "bomb.png": (png_header(60_000, 60_000), "expected at most 100,000,000 pixels"),
    "bomb.gif": (
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\0;",
        "expected at most 100,000,000 pixels",
    ),
    "bomb.ppm": (b"P6 99999 99999 255\n", "expected at most 100,000,000 pixels"),
    "short.png": (png_header(100, 100), "is broken or not complete"),
    "text.png": (b"hello, this is no picture\n", "is not a picture"),
    "one.png": (b"\x89", "is not a picture"),
    "a.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing"),
    "b.svg": (b'\xef\xbb\xbf\n<?xml version="1.0"?><svg/>', "is an XML file, perhaps an SVG"),
    "a.pdf": (b"%PDF-1.7\n", "is a PDF"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is a PostScript file"),
    "a.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture"),
    "zeros.jpg": (bytes(1000), "is not a picture"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_files_that_are_no_pictures(tmp_path, name):
    content, words = CONTENTS[name]
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.tif", "a.webp", "a.ppm"])
def test_truncated_files(tmp_path, name):
    path = save(tmp_path, noise(40, 40, 3), name)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "is broken or not complete" in refusal(path)
    path.write_bytes(content[:3])
    refusal(path)


def test_a_library_adds_no_lines_of_its_own(tmp_path, capfd):
    path = save(tmp_path, noise(40, 40, 3), "a.tif", compression="tiff_adobe_deflate")
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    refusal(path)
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


def test_what_is_not_a_file(tmp_path):
    assert "does not exist" in refusal(tmp_path / "missing.png")
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert "is a pipe, socket or device" in refusal(tmp_path / "pipe.png")
    assert "is a pipe, socket or device" in refusal(pathlib.Path("/dev/zero"))
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing")
    assert "does not exist" in refusal(tmp_path / "dangling.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "cannot be read" in refusal(tmp_path / "loop.png")
    assert "cannot be read" in refusal(tmp_path / ("n" * 300))
    assert "cannot be read" in refusal(save(tmp_path, noise(9, 9, 3)) / "below.png")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    assert "expected at most 1,000,000,000" in refusal(tmp_path / "large.png")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = save(tmp_path, noise(9, 9, 3))
    path.chmod(0)
    if os.geteuid() == 0:  # Who may read everything.

        def deny(*arguments, **options):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Image, "open", deny)
    assert "a.png cannot be read: Permission denied" in refusal(path)


def test_no_memory_is_told(tmp_path, monkeypatch):
    path = save(tmp_path, noise(9, 9, 3))

    def exhausted(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(images, "_fit", exhausted)
    assert "more memory" in refusal(path)


def test_arguments(tmp_path):
    path = save(tmp_path, noise(9, 9, 3))
    with pytest.raises(UsageError, match="did you mean 'crop'"):
        read(path, fit="corp")
    with pytest.raises(UsageError, match="images of 13 channels"):
        read(path, (32, 32, 13))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.tif", "a.webp"])
def test_damaged_bytes_give_a_picture_or_one_line(tmp_path, name):
    random = np.random.RandomState(0)
    path = save(tmp_path, noise(24, 24, 3), name, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    content = np.frombuffer(path.read_bytes(), np.uint8)
    outcomes = set()
    for _ in range(60):
        damaged = content.copy()
        # Half of them near the beginning, where headers are.
        within = random.choice([64, len(content)])
        places = random.randint(0, within, random.randint(1, 9))
        damaged[places] = random.randint(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        try:
            outcomes.add(read(path).shape)
        except UsageError as error:
            outcomes.add(str(error).split()[0])
    assert outcomes <= {RGB, str(path)}
    assert str(path) in outcomes


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
    assert images.printable("a\x1b[31m\n\r\x9b\u202e.png") == r"a\x1b[31m\n\r\x9b\u202e.png"
    assert images.printable(os.fsdecode(b"caf\xe9 \xc3\xa9.png")) == r"caf\xe9 é.png"
