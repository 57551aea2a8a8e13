"""Charts and grids of a data set: what is on them, with few and many classes, grey and RGB."""

import itertools

import numpy as np
import pytest
from matplotlib.patches import StepPatch
from PIL import Image

from cifar_cnn.checks import MachineError
from cifar_cnn.data import Arrays
from cifar_cnn.report import exploration, gallery


@pytest.fixture
def drawn(monkeypatch):
    """Figures that were saved, to be asked what is on them."""
    figures = []
    for module in (exploration, gallery):
        save = module.save
        monkeypatch.setattr(
            module, "save", lambda figure, path, s=save: (figures.append(figure), s(figure, path))
        )
    return figures


def make_arrays(classes, channels=3, size=(8, 6), per_class=3):
    """Every image has the value of its row in its first pixel."""
    labels = np.tile(np.arange(classes), per_class)
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (len(labels), *size, channels)).astype(np.uint8)
    names = tuple(f"class with a long name {k}" for k in range(classes))
    return Arrays(images, labels, names)


@pytest.mark.parametrize("classes", [2, 100, 300])
def test_class_counts_are_legible_for_splits_of_different_size(classes, tmp_path, drawn):
    train = np.arange(classes) * 7 + 1000
    test = np.arange(classes) % 5
    names = [f"class with a long name {k}" for k in range(classes)]
    path = tmp_path / "counts.png"
    exploration.plot_class_counts({"train": train, "test": test}, names, path, title="t $x$")
    with Image.open(path) as picture:
        assert min(picture.size) > 300
    renderer = drawn[0].canvas.get_renderer()
    for axes, counts in zip(drawn[0].axes, (train, test), strict=True):
        assert [bar.get_width() for bar in axes.patches] == counts.tolist()
        if classes <= 100:
            assert [text.get_text() for text in axes.texts] == [
                f"{n:,}  ({n / counts.sum():.1%})" for n in counts
            ]
        ends = axes.transData.transform([(n, 0) for n in counts])[:, 0]
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        assert all(box.x0 > ends.max() for box in boxes)
        assert all(a.y0 >= b.y1 - 1 for a, b in itertools.pairwise(boxes))
    labels = [text.get_window_extent(renderer) for text in drawn[0].axes[0].get_yticklabels()]
    assert len(labels) == classes if classes <= 100 else len(labels) > 50
    assert all(a.y0 >= b.y1 - 1 for a, b in itertools.pairwise(labels))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_show_all_values_mean_and_deviation(channels, tmp_path, drawn):
    counts = np.random.RandomState(0).randint(50, 100, (channels, 256))
    counts[:, 0] = 90_000
    other = np.ones_like(counts)
    mean, std = [0.2, 0.5, 0.6][:channels], [0.1, 0.2, 0.3][:channels]
    exploration.plot_pixels(
        {"train": counts, "test": other}, mean, std, np.zeros((8, 6, channels), np.uint8),
        tmp_path / "pixels.png", title="t",
    )  # fmt: skip
    panels = drawn[0].axes
    assert len(panels) == channels + 1
    for c in range(channels):
        train, test = (p.get_data() for p in panels[c].patches if isinstance(p, StepPatch))
        shares = counts[c] / counts[c].sum()
        np.testing.assert_allclose(train.values, shares)
        np.testing.assert_allclose(test.values, 1 / 256)
        np.testing.assert_array_equal((train.edges[:-1] + train.edges[1:]) / 2, np.arange(256))
        assert list(panels[c].lines[0].get_xdata()) == [mean[c] * 255] * 2
        assert f"mean {mean[c]:.4f}" in panels[c].get_title()
        # The one value that would flatten all others is written instead.
        assert shares[1:].max() < panels[c].get_ylim()[1] < 2 * shares[1:].max()
        assert [text.get_text() for text in panels[c].texts] == [f"value 0: {shares[0]:.1%}"]


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_images_of_their_class_enlarged_without_change(channels, tmp_path, drawn):
    arrays = make_arrays(4, channels)
    gallery.plot_samples(arrays, tmp_path / "s.png", count=5, seed=0, title="t")
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(arrays.class_names)
    canvas = np.asarray(axes.images[0].get_array())
    scale = 112 // 8
    shown = []
    for label in range(4):
        for column in range(3):
            top, left = label * (8 * scale + 6), column * (6 * scale + 6)
            tile = canvas[top : top + 8 * scale, left : left + 6 * scale]
            small = tile[::scale, ::scale]
            np.testing.assert_array_equal(tile, np.kron(small, np.ones((scale, scale, 1))))
            equal = (arrays.images == small[..., :channels]).all(axis=(1, 2, 3))
            assert arrays.labels[equal].tolist() == [label]
            shown.append(int(equal.argmax()))
    assert sorted(shown) == list(range(12))  # No image twice.
    assert (canvas[:, 3 * (6 * scale + 6) :] == 255).all()  # No fourth image of a class.


def test_of_many_classes_the_grid_shows_twenty_and_says_so(tmp_path, drawn):
    gallery.plot_samples(make_arrays(100), tmp_path / "s.png", count=2, seed=0, title="t")
    axes = drawn[0].axes[0]
    assert "20 of the 100 classes" in axes.get_title()
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert len(set(labels)) == 20
    assert labels[0].endswith(" 0")
    assert labels[-1].endswith("99")


def test_class_means_are_those_of_numpy_and_a_class_without_images_is_empty(tmp_path, drawn):
    arrays = make_arrays(3, 1, size=(56, 56), per_class=4)
    arrays = Arrays(arrays.images[arrays.labels < 2], arrays.labels[arrays.labels < 2], "abc")
    gallery.plot_class_means(arrays, tmp_path / "m.png", title="t")
    axes = drawn[0].axes[0]
    canvas = np.asarray(axes.images[0].get_array())
    for label in range(2):
        expected = np.rint(arrays.images[arrays.labels == label].mean(axis=0))
        tile = canvas[:112:2, label * 118 :][:, :112:2]
        np.testing.assert_array_equal(tile[..., :1], expected)
    assert (canvas[:112, 236:] == 255).all()
    assert [text.get_text() for text in axes.texts] == ["a", "b", "c"]


def test_captions_do_not_touch(tmp_path, drawn):
    arrays = make_arrays(100, size=(4, 4), per_class=1)
    pairs = [{"first": 12_345 % 100, "second": k, "labels": [7, k]} for k in range(10)]
    found = {"train": {"pairs": pairs}, "train_test": {"pairs": []}}
    gallery.plot_class_means(arrays, tmp_path / "m.png", title="t")
    gallery.plot_duplicates(found, {"train": arrays}, tmp_path / "d.png", title="t")
    for figure, count in zip(drawn, (100, 10), strict=True):
        renderer = figure.canvas.get_renderer()
        boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
        assert len(boxes) == count
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert "train 45:\nclass with a long name 7\ntrain 3:" in drawn[1].axes[0].texts[3].get_text()


def test_large_images_are_reduced(tmp_path):
    arrays = make_arrays(2, size=(300, 500), per_class=2)
    gallery.plot_samples(arrays, tmp_path / "s.png", count=2, seed=0, title="t")
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.size[0] < 900


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=r"cannot write .*s\.png"):
        gallery.plot_samples(
            make_arrays(2), tmp_path / "file" / "s.png", count=1, seed=0, title="t"
        )


def test_notes_are_about_what_is_unusual():
    def split(*counts, **figures):
        return {"class_counts": counts, "blank": 0, "left_out": 0, "maximum": 255, **figures}

    def notes(**splits):
        return exploration.notes(
            {"splits": splits, "class_names": ["cat", "dog"], "duplicates": {}}
        )

    assert notes(train=split(50, 50), test=split(10, 10)) == []
    assert "train has no image of: dog" in notes(train=split(9, 0), test=split(5, 0))[0]
    assert "largest has 3.0 times" in notes(train=split(60, 20), test=split(30, 10))[0]
    assert "most in cat: 50.0% and 40.0%" in notes(train=split(5, 5), test=split(40, 60))[-1]
    assert notes(train=split(5, 5)) == ["there is no test split"]
    assert "was it scaled" in notes(train=split(5, 5, maximum=1), test=split(5, 5))[0]
