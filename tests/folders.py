"""Folders of small pictures, and what is read from them."""

import numpy as np
from PIL import Image

from cifar_cnn import data, datasets


def picture(path, seed=0, size=(32, 32), colour=(90, 90, 90), mode="RGB"):
    """Saves a noisy picture of a colour; returns its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.RandomState(seed).randint(-35, 36, (*size, 3))
    pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return pixels


def fill(root, classes=("cat", "dog"), count=3):
    """Saves `count` small PNG pictures in each class folder; none is like another."""
    for name in classes:
        for i in range(count):
            picture(root / name / f"{i}.png", seed=hash((str(root), name, i)) % 2**32, size=(8, 8))
    return root


def opened(root, tmp_path, said=None, **options):
    options = {"image_shape": (8, 8, 3), "fit": "crop", **options}
    say = [].append if said is None else said.append
    return datasets.open_folder(root, cache_dir=tmp_path / "cache", say=say, **options)


def arrays_of(root, tmp_path, split="train", said=None, **options):
    builder = opened(root, tmp_path, said, **options)
    say = [].append if said is None else said.append
    return data.load_arrays(builder, split, tmp_path / "cache", say)
