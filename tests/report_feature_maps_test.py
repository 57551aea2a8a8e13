"""Pages of feature maps and vectors, the overview, kernels and bars: what is drawn, and sizes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cifar_cnn import layers
from cifar_cnn.report import attention, feature_maps, kernels, overview, probabilities
from cifar_cnn.report.arithmetic import arithmetic
from cifar_cnn.report.feature_maps import LayerOutput


def layer(value, name="Conv_0", kind="Conv"):
    return LayerOutput(np.asarray(value, np.float32), name, kind, (8, 8, 3), "3 x 3")


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def area(picture, colour):
    """Number of pixels of one colour."""
    return int((np.abs(picture - np.asarray(colour)).sum(axis=-1) <= 6).sum())


def test_statistics_count_zeros_and_maps_that_are_dead():
    value = np.zeros((2, 3, 4))
    value[..., 1] = 1.5
    value[0, 0, 3] = -3
    got = feature_maps.statistics(layer(value))
    assert (got["min"], got["max"], got["mean"]) == (-3, 1.5, pytest.approx(6 / 24))
    assert got["zeros"] == pytest.approx(17 / 24)
    assert got["zero_maps"] == 2
    assert feature_maps.statistics(layer(np.zeros(5)))["zero_maps"] is None


@pytest.mark.parametrize("count", [1, 21, 97, 128, 4099, 4608])
def test_a_folded_vector_reads_row_by_row(count):
    vector = np.arange(count, dtype=np.float32)
    grid = feature_maps.fold(vector)
    flat = grid.ravel()
    np.testing.assert_array_equal(flat[:count], vector)
    assert np.isnan(flat[count:]).all()
    assert len(flat) - count < grid.shape[1]
    assert count < 10 or 0.4 < grid.shape[1] / grid.shape[0] < 9


def test_signs_have_their_colours_and_only_the_first_maps_are_drawn(tmp_path):
    value = np.zeros((6, 6, 5))
    value[..., 0], value[..., 1], value[..., 2] = 2.0, -2.0, 2.0
    path = tmp_path / "maps.png"
    feature_maps.plot(layer(value), path, title="maps", maps=2)
    red, blue = (103, 0, 31), (5, 48, 97)  # Ends of ColorBrewer's RdBu.
    two = pixels(path)
    feature_maps.plot(layer(value), path, title="maps", maps=5)
    five = pixels(path)
    assert area(two, red) == pytest.approx(area(two, blue), rel=0.02)
    assert area(five, red) == pytest.approx(2 * area(five, blue), rel=0.02)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (32, 32, 64), (4, 40, 3), (40, 4, 70), (7, 9), (1,), (20,), (21,), (4099,)]
)
def test_pages_of_any_shape_have_a_bounded_size(tmp_path, shape):
    value = np.random.RandomState(0).randn(*shape)
    path = tmp_path / "page.png"
    feature_maps.plot(layer(value), path, title="a long title of a page " * 5, maps=64)
    height, width, _ = pixels(path).shape
    assert 300 < width < 1500
    assert 150 < height < 1900


def test_bars_name_the_classes_whatever_they_are_called(tmp_path):
    names = ["$x$", "犬", "a name that is far too long for a plot of this size", ""]
    for page, given in [("logits", names), ("numbers", ())]:
        path = tmp_path / f"{page}.png"
        feature_maps.plot(layer([3, -1, 0, 2]), path, title="t", maps=4, class_names=given)
        assert pixels(path).shape[1] > 700
    assert (tmp_path / "logits.png").read_bytes() != (tmp_path / "numbers.png").read_bytes()


def test_many_classes_show_the_top_and_the_true_one():
    shares = np.random.RandomState(0).dirichlet(np.ones(100))
    order = np.argsort(shares)[::-1]
    assert probabilities.choose(shares) == order[:10].tolist()
    assert probabilities.choose(shares, int(order[3])) == order[:10].tolist()
    assert probabilities.choose(shares, int(order[60])) == [*order[:10].tolist(), order[60]]
    assert probabilities.choose(shares[:20]) == list(range(20))


def test_a_bar_is_as_long_as_its_probability(tmp_path):
    path = tmp_path / "bars.png"
    blue = (0, 114, 178)
    lengths = []
    for share in (1.0, 0.75):
        probabilities.plot(np.array([share, 1 - share]), ["a", "b"], path, title="t")
        rows = (np.abs(pixels(path) - np.asarray(blue)).sum(axis=-1) <= 6).sum(axis=1)
        lengths.append(rows.max())
    assert lengths[1] / lengths[0] == pytest.approx(0.75, abs=0.01)


def test_the_overview_of_a_deep_network_is_bounded(tmp_path):
    image = np.zeros((8, 8, 1), np.uint8)
    deep = [layer(np.ones((8, 8, 2)), f"Conv_{n}") for n in range(60)] + [layer(np.ones(300))]
    shares = np.full(100, 0.01)
    names = [f"class {k}" for k in range(100)]
    path = tmp_path / "overview.png"
    overview.plot(image, deep, shares, names, path, title="deep", label=50)
    height, width, _ = pixels(path).shape
    assert width < 1800
    assert height < 6000


def test_a_colour_kernel_of_zeros_is_grey_and_heat_may_be_zero(tmp_path):
    weights = np.zeros((3, 3, 3, 2))
    weights[..., 0, 1] = 1.0
    kernels.plot(weights, tmp_path / "kernels.png", title="kernels")
    picture = pixels(tmp_path / "kernels.png")
    grey, red = area(picture, (127, 127, 127)), area(picture, (255, 127, 127))
    assert grey == pytest.approx(red, rel=0.02)
    assert grey > 10000
    attention.plot(
        np.zeros((6, 9, 1), np.uint8), [("none", np.zeros((6, 9)))], tmp_path / "heat.png",
        title="t", scale="s",
    )  # fmt: skip
    assert pixels(tmp_path / "heat.png").shape[1] > 700


@pytest.mark.parametrize(
    ("module", "size", "expected"),
    [
        (layers.Conv(8, (3, 3), padding="VALID"), 28, "(28 - 3)/1 + 1 = 26; 3*3*3*8 + 8 = 224"),
        (layers.Conv(8, (3, 3), strides=2, padding="VALID"), 28, "floor((28 - 3)/2) + 1 = 13"),
        (layers.Conv(8, (3, 3), strides=2), 27, "Conv 3x3, stride 2, SAME: ceil(27/2) = 14"),
        (layers.Conv(8, (3, 3), kernel_dilation=2, padding="VALID"), 28, "(28 - 5)/1 + 1 = 24"),
        (nn.Conv(8, (3, 3), use_bias=False), 28, "ceil(28/1) = 28; 3*3*3*8 = 216 parameters"),
        (layers.TransposedConv(4, (3, 3), (2, 2)), 14, "SAME: 14*2 = 28"),
        (layers.TransposedConv(4, (3, 3), (2, 2), "VALID"), 14, "(14 - 1)*2 + 3 = 29"),
        (layers.Pool("avg", 2, 2), 26, "Avg pool 2x2, VALID: (26 - 2)/2 + 1 = 13"),
        (layers.Flatten(), 5, "5*5*3 = 75"),
        (nn.Dense(8), 5, "3*8 + 8 = 32 parameters"),
        (nn.Conv(8, (3, 3), padding=[(0, 1), (0, 1)]), 28, "(28 + 0 + 1 - 3)/1 + 1 = 27"),
        (nn.LayerNorm(), 5, ""),
    ],
)
def test_the_arithmetic_is_that_of_the_layer(module, size, expected):
    image = jnp.zeros((1, size, size, 3))
    made, variables = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), image))
    got = arithmetic(module, image.shape[1:], made.shape[1:], variables.get("params", {}))
    assert expected in got
    assert bool(expected) == bool(got)
