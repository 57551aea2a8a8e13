"""Broken pictures by the hundred: python -m tests.mutations COUNT SEED FOLDER

Fills FOLDER/pictures with mutated files of every format under hostile names, and reads them as
scripts/predict.py, a folder of pictures and scripts/prepare_data.py --archive do, in a process
whose memory and files are limited. Prints one JSON line of what became of them.
"""

import collections
import io
import json
import os
import pathlib
import random
import resource
import struct
import sys
import time
import zlib

import numpy as np
from PIL import Image

from cifar_cnn import formats

# Mode, format and options of the whole files that are then broken.
KINDS = (
    ("RGB", "JPEG", {}), ("L", "JPEG", {"progressive": True}), ("CMYK", "JPEG", {}),
    ("RGB", "PNG", {}), ("P", "PNG", {}), ("I;16", "PNG", {}), ("RGBA", "PNG", {}),
    ("P", "GIF", {}), ("P", "GIF", {"frames": 2}), ("RGB", "BMP", {}), ("P", "BMP", {}),
    ("RGB", "TIFF", {}), ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    ("F", "TIFF", {"compression": "tiff_adobe_deflate"}), ("L", "TIFF", {"compression": "jpeg"}),
    ("1", "TIFF", {"compression": "group4"}), ("CMYK", "TIFF", {"compression": "packbits"}),
    ("RGB", "WEBP", {}), ("RGBA", "WEBP", {"lossless": True}), ("RGB", "WEBP", {"frames": 2}),
    ("RGB", "PPM", {}), ("RGB", "ICO", {}), ("RGB", "HEIF", {}), ("RGBA", "HEIF", {}),
)  # fmt: skip
SUFFIXES = {"HEIF": ".heic", "JPEG": ".jpg", "TIFF": ".tif"}
CLASSES = ("cat", "two\nlines \x1b[31m", "$x^$ {0} %s", "=1+1,\"'", os.fsdecode(b"caf\xe9"))
# Sizes at which programs have failed: largest of a type, one beyond, none at all.
SIZES = (0, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 100_000, 0x7FFFFFFF, 0xFFFFFFFF)


def whole_files() -> list[tuple[str, bytes]]:
    """(suffix, content) of one picture in every kind."""
    pixels = np.random.RandomState(0).randint(0, 256, (40, 40, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x112] = 6
    files = []
    has_heic = formats.add_heic()
    for mode, kind, given in KINDS:
        if kind == "HEIF" and not has_heic:
            continue
        options = dict(given)
        if mode == "I;16":
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        else:
            image = Image.fromarray(pixels).convert(mode)
        if options.pop("frames", 1) > 1:
            options |= {"save_all": True, "append_images": [image.rotate(90)]}
        if kind in ("JPEG", "PNG", "WEBP", "HEIF"):
            options["exif"] = exif.tobytes()
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append((SUFFIXES.get(kind, f".{kind.lower()}"), buffer.getvalue()))
    return files


def mutated(rng: random.Random, files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """(suffix, content) of one of the files, broken in one of many ways."""
    suffix, whole = rng.choice(files)
    content, length = bytearray(whole), len(whole)
    place = rng.randrange(length)
    match rng.choice(("bits", "head", "cut", "splice", "size", "insert", "zeros", "twice")):
        case "bits":
            for _ in range(rng.choice((1, 2, 8, 64))):
                content[rng.randrange(length)] ^= 1 << rng.randrange(8)
        case "head":
            for _ in range(rng.choice((1, 2, 6))):
                content[rng.randrange(min(length, 120))] = rng.choice((0, 1, 127, 128, 255))
        case "cut":
            del content[place:]
        case "splice":
            other = rng.choice(files)[1]
            start = rng.randrange(200)
            content[:start] = other[:start]
        case "size":
            for _ in range(rng.choice((1, 2, 3))):
                width = rng.choice((2, 4))
                at = rng.randrange(min(length, 400) - width)
                value = rng.choice(SIZES) % 256**width
                content[at : at + width] = value.to_bytes(width, rng.choice(("big", "little")))
        case "insert":
            content[place:place] = rng.randbytes(rng.choice((1, 4, 300)))
        case "zeros":
            content[place : place + 50] = bytes(len(content[place : place + 50]))
        case "twice":
            content[place:place] = content[place : place + rng.randrange(1, 200)]
    if content.startswith(b"\x89PNG") and rng.random() < 0.7:
        content = with_checksums(content)
    return suffix, bytes(content)


def with_checksums(content: bytearray) -> bytearray:
    """A PNG whose chunks have right checksums, so that what is wrong lies deeper."""
    fixed, place = content[:8], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        body = content[place + 4 : place + 8 + length]
        if len(body) < length + 4:
            break
        fixed += content[place : place + 4] + body + struct.pack(">I", zlib.crc32(bytes(body)))
        place += 12 + length
    return fixed + content[place:]


def fill(folder: pathlib.Path, count: int, seed: int) -> list[pathlib.Path]:
    """Writes the broken files, and a whole one in each class; returns the broken ones."""
    rng, files = random.Random(seed), whole_files()
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        (folder / name / "whole.png").write_bytes(files[3][1])
    paths = []
    for number in range(count):
        suffix, content = mutated(rng, files)
        odd = rng.choice(("", "\n", "\x1b]0;x\a", "$", os.fsdecode(b"\xff"), "n" * 150))
        paths.append(folder / rng.choice(CLASSES) / f"{number}{odd}{suffix}")
        paths[-1].write_bytes(content)
    return paths


def peak_megabytes() -> float:
    """The most memory that this process has had. (That of getrusage may be its parent's.)"""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(count: int, seed: int, folder: pathlib.Path) -> None:
    """Makes the files and reads them three times; prints the outcomes."""
    paths = fill(folder / "pictures", count, seed)
    from cifar_cnn import data, datasets, predict
    from cifar_cnn.checks import UsageError

    # Beyond what the libraries have taken: 2 GiB of address space, files of 64 MiB.
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (2 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20,) * 2)
    before = peak_megabytes()
    outcomes: collections.Counter[str] = collections.Counter()
    odd, slowest, last = [], 0.0, time.monotonic()
    for prediction in predict.classify_files(
        paths,
        lambda batch: np.full((len(batch), 3), 1 / 3, np.float32),
        image_shape=(32, 32, 3),
        fit="pad",
        invert=False,
        batch_size=1,
    ):
        outcomes["refused" if prediction.error else "read"] += 1
        slowest, last = max(slowest, time.monotonic() - last), time.monotonic()
        if prediction.error and not (
            prediction.error.isprintable() and len(prediction.error) < 600
        ):
            odd.append(prediction.error)
    said: list[str] = []
    opened = datasets.open_folder(
        folder / "pictures",
        image_shape=(8, 8, 1),
        fit="crop",
        cache_dir=folder / "cache",
        say=said.append,
    )
    arrays = data.load_arrays(opened, "train", folder / "cache", said.append)
    # The only pictures that it takes are pixels in an archive: none of these is one.
    for path in paths:
        try:
            datasets.prepare(None, data_dir=folder / "sets", archive=path, say=said.append)
        except UsageError as error:
            outcomes["no_archive"] += 1
            reason = str(error).replace(str(path), "")
            if not (reason.isprintable() and len(reason) < 300):
                odd.append(str(error))
    report = {
        **outcomes,
        "odd": odd + [line for line in said if not line.isprintable()],
        "slowest": slowest,
        "megabytes": peak_megabytes() - before,
        "arrays": len(arrays.labels),
        "classes": arrays.class_names,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3]))
