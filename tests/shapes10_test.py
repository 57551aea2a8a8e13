import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cifar_cnn import datasets
from cifar_cnn.datasets import drawing, shapes10

ROOT = pathlib.Path(__file__).parent.parent
# Of the pixels and labels of both splits. A change of the generator changes them; then raise
# Shapes10.VERSION, so that nobody reads the old images, and measure its figures anew.
DIGEST = "43cb8227995f8b32fb363b00068a8357287dfc607245e809f02ab0e6009d46fc"


@pytest.fixture(scope="module")
def splits():
    return {split: shapes10.draw_split(split) for split in ("train", "test")}


def digest(splits) -> str:
    sha256 = hashlib.sha256()
    for split in ("train", "test"):
        for array in splits[split]:
            sha256.update(np.ascontiguousarray(array).tobytes())
    return sha256.hexdigest()


def test_same_bytes_as_when_it_was_published(splits):
    assert digest(splits) == DIGEST


def test_same_bytes_without_vector_instructions():
    """Other processors run other code in numpy; what is drawn must not depend on it."""
    features = np._core._multiarray_umath.__cpu_features__
    enabled = [name for name in np._core._multiarray_umath.__cpu_dispatch__ if features[name]]
    program = (
        "import hashlib; from cifar_cnn.datasets import shapes10; "
        "print(hashlib.sha256(shapes10.draw_split('test')[0].tobytes()).hexdigest())"
    )
    plain = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(enabled)},
        capture_output=True,
        text=True,
        check=True,
    )
    images, _ = shapes10.draw_split("test")
    assert plain.stdout.strip() == hashlib.sha256(images.tobytes()).hexdigest()


@pytest.mark.parametrize(("split", "count"), [("train", 5_000), ("test", 1_000)])
def test_shapes_types_and_class_balance(splits, split, count):
    images, labels = splits[split]
    assert images.shape == (count, 32, 32, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(labels), [count // 10] * 10)


def test_no_image_occurs_twice(splits):
    hashes = {image.tobytes() for images, _ in splits.values() for image in images}
    assert len(hashes) == 6_000


def test_prepared_set_holds_the_drawn_images(splits, tmp_path):
    builder = datasets.make_builder("shapes10", data_dir="/nonexistent", cache_dir=tmp_path)
    assert tuple(builder.info.features["label"].names) == shapes10.CLASS_NAMES
    images, labels = splits["test"]
    drawn = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    source = builder.as_data_source("test")
    assert len(source) == len(drawn)
    for example in source:
        assert drawn[example["image"].tobytes()] == example["label"]


def test_pixels_alone_do_not_separate_the_classes(splits):
    """A linear classifier stays under 60 %, or the set would say nothing about convolutions."""
    train, test = (
        (images.reshape(len(images), -1).astype(np.float32), labels)
        for images, labels in splits.values()
    )
    mean, deviation = train[0].mean(axis=0), train[0].std(axis=0)
    # Stopped early, near the best of its test accuracies: this is no weak opponent.
    linear = LogisticRegression(C=1e-3, max_iter=25)
    with pytest.warns(match="failed to converge"):
        linear.fit((train[0] - mean) / deviation, train[1])
    accuracy = linear.score((test[0] - mean) / deviation, test[1])
    assert 0.2 < accuracy < 0.6


def square(side: float) -> np.ndarray:
    return np.array([[(-side, -side), (side, -side), (side, side), (-side, side)]])


def test_distance_to_a_polygon():
    x = np.array([[[0.0, 3.0, 5.0, 5.0]]])
    y = np.array([[[0.0, 1.0, 0.0, 6.0]]])
    distance = drawing.polygon(x, y, square(4.0))
    np.testing.assert_allclose(distance, [[[-4.0, -1.0, 1.0, np.hypot(1.0, 2.0)]]])


def test_distance_to_a_polygon_with_a_notch():
    arrow = np.array([[(-4.0, -4.0), (4.0, -4.0), (4.0, 4.0), (0.0, 0.0), (-4.0, 4.0)]])
    x, y = np.zeros((1, 1, 2)), np.array([[[2.0, -1.0]]])
    np.testing.assert_array_equal(drawing.polygon(x, y, arrow) > 0, [[[True, False]]])


def test_coverage_is_half_on_the_edge():
    np.testing.assert_array_equal(
        drawing.coverage(np.array([-9.0, -0.5, 0.0, 0.25, 0.5, 9.0])), [1, 1, 0.5, 0.25, 0, 0]
    )
