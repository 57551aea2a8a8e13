"""The confusion matrix as counts, CSV, text and plot."""

import csv
import itertools
import pathlib

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from cifar_cnn.checks import MachineError, UsageError
from cifar_cnn.report import figure
from cifar_cnn.report.confusion import (
    confusion_matrix,
    format_matrix,
    most_confused,
    plot,
    write_csv,
)

MATRIX = np.array([[5, 2, 0], [1, 7, 1], [0, 2, 3]])
NAMES = ["T-shirt/top", 'a "quoted", name', "dog"]


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_matrix_counts_true_by_predicted():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 5, (2, 400)).astype(np.uint8)
    expected = [[sum((labels == i) & (predicted == j)) for j in range(5)] for i in range(5)]
    got = confusion_matrix(labels, predicted, 5)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, expected)


def test_matrix_of_one_example_keeps_absent_classes_and_does_not_wrap_small_dtypes():
    got = confusion_matrix(np.array([99], np.int8), np.array([98], np.int8), 100)
    assert got.shape == (100, 100)
    assert got[99, 98] == 1 == got.sum()


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        ([0, 3], [0, 0], r"labels\[1\] is 3, expected 0 to 2"),
        ([0, 0], [0, -1], r"predicted\[1\] is -1"),
        ([0, 1], [0], r"predicted has shape \(1,\), expected \(2\)"),
        ([], [], "labels"),
    ],
)
def test_bad_labels_are_refused(labels, predicted, message):
    with pytest.raises(UsageError, match=message):
        confusion_matrix(np.array(labels), np.array(predicted), 3)


def test_csv_in_both_orientations(tmp_path):
    write_csv(MATRIX, NAMES, tmp_path / "new" / "true.csv")
    write_csv(MATRIX, NAMES, tmp_path / "predicted.csv", rows="predicted")
    assert read(tmp_path / "new" / "true.csv") == [
        ["true \\ predicted", *NAMES],
        [NAMES[0], "5", "2", "0"],
        [NAMES[1], "1", "7", "1"],
        [NAMES[2], "0", "2", "3"],
    ]
    assert read(tmp_path / "predicted.csv") == [
        ["predicted \\ true", *NAMES],
        [NAMES[0], "5", "1", "0"],
        [NAMES[1], "2", "7", "2"],
        [NAMES[2], "0", "1", "3"],
    ]
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["predicted.csv", "true.csv"]


def test_most_confused_is_sorted_and_leaves_out_hits_and_zeros():
    assert most_confused(MATRIX, list("abc")) == [
        ("a", "b", 2), ("c", "b", 2), ("b", "a", 1), ("b", "c", 1),
    ]  # fmt: skip
    assert most_confused(MATRIX, list("abc"), top=1) == [("a", "b", 2)]
    assert most_confused(np.diag([3, 4]), list("ab")) == []


def test_text_shows_every_count_in_line():
    lines = format_matrix(MATRIX, NAMES).splitlines()
    assert lines[0].split() == ["true", "\\", "predicted", "0", "1", "2"]
    assert len({len(line) for line in lines}) == 1
    assert [[int(x) for x in line.split()[-3:]] for line in lines[1:]] == MATRIX.tolist()
    assert lines[2].startswith('1 a "quoted", name')


def test_text_of_many_classes_lists_the_errors():
    matrix = np.diag(np.full(21, 9))
    assert "none" in format_matrix(matrix, [str(k) for k in range(21)])
    matrix[4, 7] = 3
    assert "3  4 -> 7" in format_matrix(matrix, [str(k) for k in range(21)])


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((3, 2), int), "confusion matrix has shape"),
        (np.zeros((2, 2), int), r"expected \(3, 3\)"),
        (MATRIX / 2, "expected counts"),
        (-MATRIX, "expected counts"),
    ],
)
def test_bad_matrix_is_refused(matrix, message, tmp_path):
    for refuse in (
        lambda: write_csv(matrix, NAMES, tmp_path / "m.csv"),
        lambda: plot(matrix, NAMES, tmp_path / "m.png"),
        lambda: format_matrix(matrix, NAMES),
        lambda: most_confused(matrix, NAMES),
    ):
        with pytest.raises(UsageError, match=message):
            refuse()
    assert not list(tmp_path.iterdir())


def test_unknown_orientation_is_refused(tmp_path):
    with pytest.raises(UsageError, match="rows is 'ture', expected one of: predicted, true"):
        write_csv(MATRIX, NAMES, tmp_path / "m.csv", rows="ture")
    with pytest.raises(UsageError, match="did you mean 'true'"):
        plot(MATRIX, NAMES, tmp_path / "m.png", rows="ture")


def test_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=r"cannot write .*m\.csv"):
        write_csv(MATRIX, NAMES, tmp_path / "file" / "m.csv")


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.png"
    plot(MATRIX, NAMES, path)
    before = path.read_bytes()

    def fail(self, file, **_):
        pathlib.Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(MachineError, match="No space left"):
        plot(MATRIX, NAMES, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.png"]


@pytest.fixture
def drawn(monkeypatch):
    """Figures that `plot` made, to be asked what is on them."""
    figures = []

    class Kept(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            figures.append(self)

    monkeypatch.setattr(figure, "Figure", Kept)
    return figures


def test_plot_shows_counts_and_shares_of_the_true_class_in_both_orientations(tmp_path, drawn):
    matrix = np.array([[3, 1, 0], [0, 0, 0], [0, 1, 2999]])
    for rows in ("true", "predicted"):
        plot(matrix, ["cat", "$x", "dog"], tmp_path / "m.png", rows=rows, title="t $ t")
    by_true, by_predicted = ([text.get_text() for text in f.axes[0].texts] for f in drawn)
    assert by_true == [
        "3\n75.0%", "1\n25.0%", "0\n0.0%",
        "0\n-", "0\n-", "0\n-",
        "0\n0.0%", "1\n<0.1%", "2,999\n>99.9%",
    ]  # fmt: skip
    assert by_predicted == np.array(by_true).reshape(3, 3).T.ravel().tolist()
    labels = [(f.axes[0].get_ylabel(), f.axes[0].get_xlabel().split("\n")[0]) for f in drawn]
    assert labels == [("true class", "predicted class"), ("predicted class", "true class")]
    assert all("without examples" in f.axes[0].get_xlabel() for f in drawn)
    assert all(f.axes[1].get_ylabel() == "share of the true class's examples" for f in drawn)
    assert [t.get_text() for t in drawn[0].axes[0].get_yticklabels()] == ["cat", "$x", "dog"]


def test_plot_text_stands_out_from_its_cell(tmp_path, drawn):
    plot(np.array([[95, 5], [40, 60]]), ["a", "b"], tmp_path / "m.png")
    colours = [text.get_color() for text in drawn[0].axes[0].texts]
    assert colours[:2] == ["white", "black"]


@pytest.mark.parametrize("classes", [2, 10, 20, 21, 100, 300])
def test_plot_has_no_touching_labels_and_no_text_outside_its_cell(classes, tmp_path, drawn):
    matrix = np.full((classes, classes), 12_345 if classes <= 20 else 1)
    matrix[1] = 0
    plot(matrix, [f"class_with_a_long_name_{k}" for k in range(classes)], tmp_path / "m.png")
    assert matplotlib.image.imread(tmp_path / "m.png").shape[0] > 300
    axes = drawn[0].axes[0]
    renderer = drawn[0].canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    assert len(boxes) > min(classes, 60) - 1
    tops = sorted((box.y0, box.y1) for box in boxes)
    assert all(low[1] <= high[0] for low, high in itertools.pairwise(tops))
    cell = axes.get_window_extent(renderer).width / classes
    for text in axes.texts:
        box = text.get_window_extent(renderer)
        assert max(box.width, box.height) < cell
    assert len(axes.texts) == (classes**2 if classes <= 20 else 0)


def test_plot_numbers_names_its_font_cannot_draw(tmp_path, drawn):
    plot(MATRIX, ["猫", "犬", "two\nlines " + "x" * 40], tmp_path / "m.png")
    labels = [text.get_text() for text in drawn[0].axes[0].get_xticklabels()]
    assert labels == ["class 0", "class 1", "two lines xxxx…xxxxxxxxx"]
