"""Broken and malicious picture files: no crash, bounded memory, nothing written elsewhere.

CIFAR_CNN_MUTATIONS is how many mutated files there are; set, it also has the largest pictures read.
"""

import io
import json
import os
import struct
import time
import zlib

import pytest
from PIL import Image

from cifar_cnn import formats, images
from cifar_cnn.checks import UsageError
from tests import commands, mutations

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="memory is measured by Linux's /proc"
)
COUNT = int(os.environ.get("CIFAR_CNN_MUTATIONS", "1000"))


def test_mutated_pictures_are_read_or_refused_in_one_line(tmp_path):
    base, target = tmp_path / "base", tmp_path / "base" / "target"
    target.mkdir(parents=True)
    (base / "beside.txt").write_text("stays")
    # In an empty folder, so that a file written by a relative name would be seen, too.
    process = commands.start(
        "-m", "tests.mutations", str(COUNT), "5", str(target), cwd=base,
        env={"HOME": str(base), "TMPDIR": str(base)},
    )  # fmt: skip
    code, out, err = commands.finish(process)
    assert code == 0, err
    assert err == ""  # Not a line of a library's own.
    (line,) = out.splitlines()
    report = json.loads(line)
    assert report["odd"] == []
    assert report["read"] + report["refused"] == COUNT
    assert report["no_archive"] == COUNT
    # Both happen, or these are no mutations.
    assert min(report["read"], report["refused"]) > COUNT / 10
    # A whole picture in each class, and whatever else could be read.
    assert report["arrays"] == report["read"] + len(mutations.CLASSES)
    assert len(report["classes"]) == len(mutations.CLASSES)
    assert all(name.isprintable() for name in report["classes"])
    # Each picture has 1,600 pixels; a mutated header may claim some millions.
    assert report["megabytes"] < 500
    assert report["slowest"] < 20
    written = {path.name for path in base.iterdir()}
    assert written == {"beside.txt", "target"}
    assert {path.name for path in target.iterdir()} == {"pictures", "cache"}


def test_a_jpeg_of_thousands_of_scans_is_refused_at_once(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (4000, 4000)).save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    assert len(last) < 40
    path = tmp_path / "a.jpg"
    # Behind the end of the picture anything may stand, as the film that some cameras add.
    path.write_bytes(whole + b"\xff\xda\x00\x02" * 500)
    assert images.read_image(path, image_shape=(8, 8, 1)).max() == 0
    for content in (last * 5000, b"\xff\xfe\x00\x02" * 20_000):
        path.write_bytes(whole[:-2] + content + whole[-2:])
        begin = time.monotonic()
        with pytest.raises(UsageError, match=r"a\.jpg is broken: a JPEG of more than 100 scans"):
            images.read_image(path, image_shape=(8, 8, 1))
        assert time.monotonic() - begin < 2


def png(width, height, *chunks, colour=2, bits=8, rows=b""):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(**tags):
    """A TIFF of 32-bit values by tag number, 100 bytes of pixels behind them."""
    values = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 277: 1, 273: 300, 278: 64, 279: 4096}
    values |= {int(tag.strip("_")): value for tag, value in tags.items()}
    entries = b""
    for tag, value in sorted(values.items()):
        count, value = value if isinstance(value, tuple) else (1, value)
        entries += struct.pack("<HHII", tag, 4, count, value)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(values)) + entries + bytes(4500)


def icon(content):
    """An .ico that says 32 x 32 and holds another PNG."""
    entry = struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 32, len(content), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + content


def webp(width, height):
    """The header of an animated WebP with a canvas of that size, and one frame of 1 x 1."""
    buffer = io.BytesIO()
    first = Image.new("RGB", (1, 1))
    first.save(buffer, "WEBP", save_all=True, append_images=[Image.new("RGB", (1, 1), "red")])
    content = bytearray(buffer.getvalue())
    place = content.index(b"VP8X") + 12
    content[place : place + 3] = (width - 1).to_bytes(3, "little")
    content[place + 3 : place + 6] = (height - 1).to_bytes(3, "little")
    return bytes(content)


def heic(width, height):
    """A HEIC of 64 x 64 pixels whose header claims another size."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "HEIF")
    claims = struct.pack(">II", width, height)
    return buffer.getvalue().replace(struct.pack(">II", 64, 64), claims)


ZEROS = zlib.compress(bytes(100 << 20), 9)  # 100 MiB in 100 kB.
BOMBS = {
    "pixels.png": png(60_000, 60_000),
    "text.png": png(4, 4, (b"zTXt", b"a\0\0" + ZEROS), rows=bytes(13 * 4)),
    "profile.png": png(4, 4, (b"iCCP", b"a\0\0" + ZEROS), rows=bytes(13 * 4)),
    "rows.png": png(4, 4, rows=bytes(100 << 20)),
    "icon.ico": icon(png(30_000, 30_000)),
    "tile.tif": tiff(_322=1 << 30, _323=1 << 30, _324=300, _325=4096),
    "strip.tif": tiff(_256=9_999, _257=9_999, _278=0xFFFFFFFF, _279=0xFFFFFFFF),
    "count.tif": tiff(_273=(0x3FFFFFFF, 8), _279=(0x3FFFFFFF, 8)),
    "bits.tif": tiff(_258=(0x7FFFFFFF, 8)),
    "loop.tif": tiff(_34665=8, _330=8),
    "canvas.webp": webp(16_384, 16_383),
    "rle.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 1078, 40, 65_500, 65_500, 1, 8, 1,
                                   6, 0, 0, 256, 0) + bytes(1024) + b"\xff\0" * 3,
    "screen.gif": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\0;",
    "words.ppm": b"P3\n30000 30000\n255\n" + b"1 " * 1000,
}  # fmt: skip
if formats.add_heic():
    BOMBS |= {"canvas.heic": heic(20_000, 20_000), "sheet.heic": heic(9_999, 9_999)}
READ_ALL = """
import json, pathlib, resource, sys
from cifar_cnn import images
from cifar_cnn.checks import UsageError
from tests.mutations import peak_megabytes

resource.setrlimit(resource.RLIMIT_AS, (4 << 30,) * 2)
found = {}
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # Forget the peak.
    before = peak_megabytes()
    try:
        outcome = str(images.read_image(path, image_shape=(8, 8, 3)).shape)
    except UsageError as error:
        outcome = str(error)
    found[path.name] = outcome, peak_megabytes() - before
print(json.dumps(found))
"""


def test_small_files_that_claim_to_be_huge_take_little_memory(tmp_path):
    for name, content in BOMBS.items():
        assert len(content) < 200_000, name
        (tmp_path / name).write_bytes(content)
    found = json.loads(commands.run("-c", READ_ALL, str(tmp_path)))
    assert found.keys() == BOMBS.keys()
    for name, (outcome, megabytes) in found.items():
        assert outcome.isprintable(), name
        assert megabytes < 250, (name, outcome)
    for name in ("pixels.png", "icon.ico", "canvas.webp", "rle.bmp", "screen.gif", "words.ppm"):
        assert "expected at most 100,000,000 pixels" in found[name][0], found[name]
    if "canvas.heic" in BOMBS:
        assert "expected at most 100,000,000 pixels" in found["canvas.heic"][0]


@pytest.mark.skipif(
    "CIFAR_CNN_MUTATIONS" not in os.environ, reason="half a minute: set CIFAR_CNN_MUTATIONS=1000"
)
def test_the_largest_pictures_that_are_read_take_less_than_two_gigabytes(tmp_path):
    for name, colour, bits, samples in (
        ("rgb", 2, 8, 3), ("rgba", 6, 8, 4), ("grey16", 0, 16, 1), ("rgb16", 2, 16, 3),
    ):  # fmt: skip
        rows = bytes((1 + 10_000 * samples * bits // 8) * 10_000)
        (tmp_path / f"{name}.png").write_bytes(
            png(10_000, 10_000, colour=colour, bits=bits, rows=rows)
        )
    found = json.loads(commands.run("-c", READ_ALL, str(tmp_path)))
    assert {outcome for outcome, _ in found.values()} == {"(8, 8, 3)"}
    assert max(megabytes for _, megabytes in found.values()) < 2000
