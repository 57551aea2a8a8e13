"""Picture files as the uint8 arrays that networks take: any size, mode and orientation.

Pillow does the decoding. Only well-known raster formats are opened, a file that claims too many
pixels is refused from its header, and whatever goes wrong is one line that names the file.
"""

import contextlib
import dataclasses
import io
import logging
import mmap
import os
import pathlib
import stat
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from cifar_cnn import formats
from cifar_cnn.checks import UsageError, check_choice, printable
from cifar_cnn.formats import SUFFIXES

FITS = ("crop", "pad", "stretch")
MAX_PIXELS = 100_000_000
MAX_BYTES = 1_000_000_000
# A JPEG is decoded at a fraction of its size only where that leaves so many pixels for each one
# that is kept: enough that resampling decides what the small picture looks like.
_DRAFT_FACTOR = 8
# Pillow reports some faults of a file twice: as an error, and in a log that nobody asked for.
logging.getLogger("PIL").setLevel(logging.CRITICAL)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A picture file that is in memory.

    Attributes:
      content: its bytes.
      name: what it is called in messages.
    """

    content: bytes
    name: str


Source = str | os.PathLike | Encoded


class NotInstalledError(UsageError):
    """A picture that is whole, and of which a package that is not there could be read."""


def read_image(
    source: Source, *, image_shape: tuple[int, int, int], fit: str = "crop"
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
      source: the path of a PNG, JPEG, GIF, BMP, TIFF, WebP, PPM, ICO, AVIF or HEIC file, whatever
        its name, or such a file in memory.
      image_shape: (H, W, C), C being 1 (grey) or 3 (RGB).
      fit: what happens to another aspect ratio. 'crop' scales the picture to cover [H, W] and
        keeps the centre; 'pad' scales it to lie within [H, W] and fills up, centred, with the
        median colour of its own border; 'stretch' gives up the ratio.

    Returns:
      uint8 [H, W, C].

    Raises:
      UsageError: one line that names the file: it is not there, no regular file, empty, too
        large (`MAX_PIXELS`, `MAX_BYTES`), unreadable, no picture, or broken.
      NotInstalledError: it is HEIC, and pillow-heif is not there.
    """
    check_choice("fit", fit, FITS)
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise UsageError(
            f"images of {channels} channels cannot come from picture files, expected 1 (grey) or "
            "3 (RGB)"
        )
    mode, size = ("L" if channels == 1 else "RGB"), (width, height)
    with _explained(source):
        fitted = _fit(_decode(source, mode, _DRAFT_FACTOR * max(size)), size, fit)
    return np.array(fitted).reshape(height, width, channels)


def open_image(source: Source, *, channels: int) -> np.ndarray:
    """Reads a picture file at its own size, otherwise as `read_image` does.

    Args:
      source: as `read_image` takes it.
      channels: 1 (grey) or 3 (RGB).

    Returns:
      uint8 [H, W, C].

    Raises:
      UsageError: as `read_image` does.
    """
    with _explained(source):
        pixels = np.array(_decode(source, "L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _decode(source: Source, mode: str, enough: int | None = None) -> Image.Image:
    """The picture in its file, upright, as 'L' or 'RGB'; a JPEG may come reduced where a longer
    side of `enough` pixels remains. Whatever Pillow raises is for `_explained`."""
    _check_file(source)
    if formats.is_heic(_start(source)):
        formats.add_heic()
    file = io.BytesIO(source.content) if isinstance(source, Encoded) else source
    with Image.open(file, formats=formats.known()) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
        if image.format in ("JPEG", "MPO"):
            _check_scans(source)
        if enough is not None:
            image.draft(None, (enough, enough))
        with formats.quiet_libtiff() if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
        return _upright(_convert(image, mode), _orientation(image))


def _name(source: Source) -> str:
    return printable(source.name if isinstance(source, Encoded) else source)


def _start(source: Source) -> bytes:
    """The first bytes of a file, which tell its kind."""
    if isinstance(source, Encoded):
        return source.content[:64]
    with open(source, "rb") as file:
        return file.read(64)


def _check_scans(source: Source) -> None:
    """Raises UsageError for a JPEG that would take minutes, see `formats.has_too_many_scans`."""
    if isinstance(source, Encoded):
        bad = formats.has_too_many_scans(source.content)
    else:
        with (
            open(source, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            bad = formats.has_too_many_scans(content)
    if bad:
        raise UsageError(
            f"{_name(source)} is broken: a JPEG of more than {formats.MOST_SCANS} scans, where a "
            "dozen is usual"
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


def _check_file(source: Source) -> None:
    """Raises UsageError unless `source` is a regular file of a size that is not absurd."""
    name = _name(source)
    if isinstance(source, Encoded):
        size = len(source.content)
    else:
        about = os.stat(source)
        if stat.S_ISDIR(about.st_mode):
            raise UsageError(f"{name} is a folder, expected a picture file")
        if not stat.S_ISREG(about.st_mode):
            raise UsageError(f"{name} is a pipe, socket or device, expected a picture file")
        size = about.st_size
    if not size:
        raise UsageError(f"{name} is empty (0 bytes), expected a picture file")
    if size > MAX_BYTES:
        raise UsageError(
            f"{name} has {size:,} bytes, expected at most {MAX_BYTES:,}: make the picture smaller"
        )


@contextlib.contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Turns whatever goes wrong with a file into one UsageError, and keeps warnings quiet."""
    name = _name(source)
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
            start = _start(source)
            if formats.is_heic(start) and not formats.add_heic():
                raise NotInstalledError(
                    f"{name} is a HEIC picture, which takes the package pillow-heif: pip install "
                    "-e '.[heif]', or save the picture as JPEG"
                ) from error
            raise UsageError(
                f"{name} is {formats.kind(start)}, expected one of {', '.join(formats.known())}"
            ) from error
        except MemoryError as error:
            raise UsageError(f"{name} needs more memory than there is to be decoded") from error
        # Pillow's decoders raise nearly every type of exception for broken files (SyntaxError,
        # struct.error, OverflowError, ...), and the list grows with its versions.
        except Exception as error:
            of_system = isinstance(error, OSError) and error.errno
            reason = error.strerror if of_system else str(error).strip() or type(error).__name__
            what = "cannot be read" if of_system else "is broken or not complete"
            raise UsageError(f"{name} {what}: {printable(reason)[:120]}") from error


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
