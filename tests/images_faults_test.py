"""Files that are no pictures, broken ones, those that cannot be read, and wrong arguments."""

import os
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cifar_cnn import images
from cifar_cnn.checks import UsageError
from tests.pictures import RGB, noise, read, refusal, save


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
