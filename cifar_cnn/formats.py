"""Which picture formats are read, and what is particular to some of them."""

import contextlib
import importlib
import os
import re
from collections.abc import Iterator

from PIL import Image

SUFFIXES = (
    ".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
MOST_SCANS = 100
# Each has a signature of its own, and none starts another program (as EPS does).
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "AVIF", "HEIF")
# What people have instead, by how it starts.
_OTHERS = {
    b"%PDF": "a PDF",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML file, perhaps an SVG drawing",
    b"8BPS": "a Photoshop file",
    b"%!PS": "a PostScript file",
}
# How HEIC says what it is; the last two are those of AVIF, too.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
# Of a JPEG: in compressed data 0xFF is followed by 0 or by one of the eight restart markers.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_MOST_SEGMENTS = 10_000


def known() -> list[str]:
    """Pillow's names of the formats that are read here."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def is_heic(start: bytes) -> bool:
    """Whether a file that starts so says that it is HEIC (or some kinds of AVIF)."""
    return start[4:8] == b"ftyp" and start[8:12] in _HEIC


def add_heic() -> bool:
    """Lets Pillow read HEIC; returns whether it can, which takes the package pillow-heif."""
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        return False
    # The picture alone: not the small copy, the depths or the masks that lie in the file as well.
    heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return True


def kind(start: bytes) -> str:
    """What a file that starts so, and is no picture that can be read, looks like."""
    if is_heic(start):
        return "a HEIC picture that is broken"
    for signature, name in _OTHERS.items():
        if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(signature):
            return name
    return "not a picture, or broken from its beginning on"


def has_too_many_scans(content: bytes) -> bool:
    """Whether a JPEG goes over its picture again and again, where a dozen times is usual: a scan
    of 30 bytes takes a tenth of a second, and a file has room for millions.

    Args:
      content: the whole file, as bytes or as a memory map.
    """
    place = scans = 0
    for _ in range(_MOST_SEGMENTS):
        found = _JPEG_MARKER.search(content, place)
        if found is None or found[1] == b"\xd9":
            return False
        place = found.end()
        if found[1] not in (b"\x01", b"\xd8"):  # All others say how long they are.
            place += int.from_bytes(content[place : place + 2])
        scans += found[1] == b"\xda"
        if scans > MOST_SCANS:
            break
    return True


@contextlib.contextmanager
def quiet_libtiff() -> Iterator[None]:
    """Keeps what libtiff itself writes about a broken file, without its name, off the terminal."""
    terminal = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
