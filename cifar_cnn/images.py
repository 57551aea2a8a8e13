"""Picture files as the uint8 arrays that networks take: any size, mode and orientation.

Pillow does the decoding. Only well-known raster formats are opened, a file that claims too many
pixels is refused from its header, and whatever goes wrong is one line that names the file.
"""

import contextlib
import logging
import mmap
import os
import pathlib
import re
import stat
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from cifar_cnn.checks import UsageError, check_choice, printable

FITS = ("crop", "pad", "stretch")
MAX_PIXELS = 100_000_000
MAX_BYTES = 1_000_000_000
SUFFIXES = (
    ".apng", ".avif", ".bmp", ".gif", ".ico", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm",
    ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
# Each has a signature of its own, and none starts another program (as EPS does).
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "AVIF")
# What people have instead, by how it starts.
_OTHERS = {
    b"%PDF": "a PDF",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML file, perhaps an SVG drawing",
    b"8BPS": "a Photoshop file",
    b"%!PS": "a PostScript file",
}
# A JPEG is decoded at a fraction of its size only where that leaves so many pixels for each one
# that is kept: enough that resampling decides what the small picture looks like.
_DRAFT_FACTOR = 8
# Of a JPEG: in compressed data 0xFF is followed by 0 or by one of the eight restart markers.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_MOST_SCANS = 100
_MOST_SEGMENTS = 10_000
# Pillow reports some faults of a file twice: as an error, and in a log that nobody asked for.
logging.getLogger("PIL").setLevel(logging.CRITICAL)


def read_image(
    path: str | os.PathLike, *, image_shape: tuple[int, int, int], fit: str = "crop"
) -> np.ndarray:
    """Reads a picture file in the shape that a network takes.

    The EXIF orientation is applied. Of an animation or a file of several pages the first picture
    counts. What is transparent becomes white, as on the page that most such pictures are made for;
    the colours stored under full transparency are arbitrary. Grey is the luma of ITU-R 601. Grey
    values of more than 8 bits are scaled from their whole range, see `_to_8_bits`; colour profiles
    are not applied. Sizes change by Lanczos resampling over all source pixels (no aliasing); a
    picture that has the size already keeps its bytes.

    Not for several threads at once: Python's warnings, and libtiff's, are silenced meanwhile.

    Args:
      path: of a PNG, JPEG, GIF, BMP, TIFF, WebP, PPM, ICO or AVIF file, whatever its name.
      image_shape: (H, W, C), C being 1 (grey) or 3 (RGB).
      fit: what happens to another aspect ratio. 'crop' scales the picture to cover [H, W] and
        keeps the centre; 'pad' scales it to lie within [H, W] and fills up, centred, with the
        median colour of its own border; 'stretch' gives up the ratio.

    Returns:
      uint8 [H, W, C].

    Raises:
      UsageError: one line that names the file: it is not there, no regular file, empty, too
        large (`MAX_PIXELS`, `MAX_BYTES`), unreadable, no picture, or broken.
    """
    check_choice("fit", fit, FITS)
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise UsageError(
            f"images of {channels} channels cannot come from picture files, expected 1 (grey) or "
            "3 (RGB)"
        )
    mode, size = ("L" if channels == 1 else "RGB"), (width, height)
    with _explained(path):
        fitted = _fit(_decode(path, mode, _DRAFT_FACTOR * max(size)), size, fit)
    return np.array(fitted).reshape(height, width, channels)


def open_image(path: str | os.PathLike, *, channels: int) -> np.ndarray:
    """Reads a picture file at its own size, otherwise as `read_image` does.

    Args:
      path: as `read_image` takes it.
      channels: 1 (grey) or 3 (RGB).

    Returns:
      uint8 [H, W, C].

    Raises:
      UsageError: as `read_image` does.
    """
    with _explained(path):
        pixels = np.array(_decode(path, "L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _decode(path: str | os.PathLike, mode: str, enough: int | None = None) -> Image.Image:
    """The picture in its file, upright, as 'L' or 'RGB'; a JPEG may come reduced where a longer
    side of `enough` pixels remains. Whatever Pillow raises is for `_explained`."""
    _check_file(path)
    with Image.open(path, formats=_formats()) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
        if image.format in ("JPEG", "MPO"):
            _check_scans(path)
        if enough is not None:
            image.draft(None, (enough, enough))
        with _quiet_libtiff() if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
        return _upright(_convert(image, mode), _orientation(image))


def _check_scans(path: str | os.PathLike) -> None:
    """Raises UsageError for a JPEG that goes over its picture again and again: a scan of 30 bytes
    takes a tenth of a second, and a file has room for millions."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = scans = 0
        for _ in range(_MOST_SEGMENTS):
            found = _JPEG_MARKER.search(content, place)
            if found is None or found[1] == b"\xd9":
                return
            place = found.end()
            if found[1] not in (b"\x01", b"\xd8"):  # All others say how long they are.
                place += int.from_bytes(content[place : place + 2])
            scans += found[1] == b"\xda"
            if scans > _MOST_SCANS:
                break
    raise UsageError(
        f"{printable(path)} is broken: a JPEG of more than {_MOST_SCANS} scans, where a dozen is "
        "usual"
    )


def list_files(folder: str | os.PathLike) -> list[pathlib.Path]:
    """All files below a folder, sorted, without what is hidden or a system's own.

    Folders that are symbolic links are not followed, so that no loop is.

    Raises:
      UsageError: the folder is not there, not a folder, or cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UsageError(
            f"{printable(error.filename)} cannot be listed: {error.strerror}; expected a folder of "
            "pictures"
        )

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not is_system_file(name)]
        found += [pathlib.Path(parent, name) for name in names if not is_system_file(name)]
    return sorted(found)


def list_images(folder: str | os.PathLike) -> list[pathlib.Path]:
    """The files of `list_files` with one of the suffixes SUFFIXES, in capitals or not."""
    return [path for path in list_files(folder) if path.suffix.lower() in SUFFIXES]


def border_colour(image: np.ndarray) -> np.ndarray:
    """The median colour uint8 [C] of the outermost pixels of uint8 [H, W, C]: the paper around a
    drawing, even where the drawing touches it."""
    edges = (image[0], image[-1], image[:, 0], image[:, -1])
    return np.median(np.concatenate(edges), axis=0).round().astype(np.uint8)


def is_system_file(name: str) -> bool:
    """Whether a file or folder is one that people do not see as theirs."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini", "__MACOSX")


def _formats() -> list[str]:
    """Those of _FORMATS that this Pillow knows."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _check_file(path: str | os.PathLike) -> None:
    """Raises UsageError unless `path` is a regular file of a size that is not absurd."""
    name, about = printable(path), os.stat(path)
    if stat.S_ISDIR(about.st_mode):
        raise UsageError(f"{name} is a folder, expected a picture file")
    if not stat.S_ISREG(about.st_mode):
        raise UsageError(f"{name} is a pipe, socket or device, expected a picture file")
    if not about.st_size:
        raise UsageError(f"{name} is empty (0 bytes), expected a picture file")
    if about.st_size > MAX_BYTES:
        raise UsageError(
            f"{name} has {about.st_size:,} bytes, expected at most {MAX_BYTES:,}: make the picture "
            "smaller"
        )


@contextlib.contextmanager
def _explained(path: str | os.PathLike) -> Iterator[None]:
    """Turns whatever goes wrong with a file into one UsageError, and keeps warnings quiet."""
    name = printable(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except UsageError:
            raise
        except FileNotFoundError as error:
            raise UsageError(f"{name} does not exist, expected a picture file") from error
        except Image.DecompressionBombError as error:
            raise UsageError(
                f"{name} is too large ({error}), expected at most {MAX_PIXELS:,} pixels: make the "
                "picture smaller"
            ) from error
        except UnidentifiedImageError as error:
            raise UsageError(
                f"{name} is {_kind(path)}, expected one of {', '.join(_formats())}"
            ) from error
        except MemoryError as error:
            raise UsageError(f"{name} needs more memory than there is to be decoded") from error
        # Pillow's decoders raise nearly every type of exception for broken files (SyntaxError,
        # struct.error, OverflowError, ...), and the list grows with its versions.
        except Exception as error:
            of_system = isinstance(error, OSError) and error.errno
            reason = error.strerror if of_system else str(error) or type(error).__name__
            what = "cannot be read" if of_system else "is broken or not complete"
            raise UsageError(f"{name} {what}: {printable(reason)[:120]}") from error


@contextlib.contextmanager
def _quiet_libtiff() -> Iterator[None]:
    """Keeps what libtiff itself writes about a broken file, without its name, off the terminal."""
    terminal = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _kind(path: str | os.PathLike) -> str:
    """What a file that is no picture looks like."""
    with open(path, "rb") as file:
        start = file.read(64)
    if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypheim", b"ftypmif1"):
        return "a HEIC picture, which has to be saved as JPEG first"
    for signature, kind in _OTHERS.items():
        if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(signature):
            return kind
    return "not a picture, or broken from its beginning on"


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8, of a decoded picture; 1 where there is none."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Of any type, as in `_explained`; viewers show such a picture, too.
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as it was seen. ImageOps.exif_transpose would also write the EXIF data anew, and
    fail where these are odd."""
    turn = Image.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """The picture as 'L' or 'RGB', on white where it is transparent."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_8_bits(np.asarray(image), image.mode, image.format))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(image, mask=image.getchannel("A"))
        image = page
    elif image.mode == "LAB":  # Pillow itself converts it only through a colour profile.
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    elif image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return image.convert(mode)


def _to_8_bits(values: np.ndarray, mode: str, file_format: str | None) -> np.ndarray:
    """Grey values of 16 or 32 bits as uint8, dark staying dark and nothing clipped.

    16-bit files use 0 to 65535. A file of 32-bit integers or floats does not say its range:
    it is the first of 0 to 1 (floats only), 0 to 255 and 0 to 65535 that holds all values, or
    else from the smallest to the largest value. NaN is black.
    """
    values = values.astype(np.float32)
    finite = np.isfinite(values)
    low = float(values.min(where=finite, initial=np.inf))
    high = float(values.max(where=finite, initial=-np.inf))
    if mode.startswith("I;16") or file_format in ("PNG", "PPM"):
        known = (65535,)
    else:
        known = (1, 255, 65535) if mode == "F" else (255, 65535)
    for top in known:
        if low >= 0 and high <= top:
            low, high = 0.0, float(top)
            break
    # In place, because a large picture is hundreds of megabytes here.
    values -= low
    values *= 255 / max(high - low, 1e-30)
    np.nan_to_num(values, copy=False, nan=0, posinf=255, neginf=0)
    return np.rint(values.clip(0, 255, out=values), out=values).astype(np.uint8)


def _fit(image: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    """Brings the picture to `size` (width, height) in one resampling; see `read_image`."""
    filtering = Image.Resampling.LANCZOS
    if fit == "stretch" or image.size == size:
        return image.resize(size, filtering)
    if fit == "crop":
        return ImageOps.fit(image, size, filtering)
    scale = min(size[0] / image.width, size[1] / image.height)
    # At least one pixel, which ImageOps.pad does not give a line of 1 x 5000.
    inner = tuple(max(1, round(side * scale)) for side in image.size)
    small = image.resize(inner, filtering)
    colour = border_colour(np.asarray(small).reshape(inner[1], inner[0], -1))
    page = Image.new(image.mode, size, tuple(colour.tolist()))
    page.paste(small, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return page
