"""Kernels and filtering against SciPy, and the script on a user's picture."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cifar_cnn import filtering, filters
from cifar_cnn.checks import UsageError
from cifar_cnn.report import filtering as pictures
from tests import commands
from tests.conftest import ROOT

# What this project's paddings are called in SciPy; its 'reflect' repeats the edge pixel.
SCIPY_MODES = {"same": "constant", "reflect": "mirror", "edge": "nearest", "wrap": "grid-wrap"}


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (13, 18, 3), np.uint8)


def expected(image, kernel, padding, stride):
    """The response at every place by SciPy, then those places that a layer visits."""
    mode = SCIPY_MODES.get(padding, "constant")
    # Of an even kernel a layer's middle is the pixel before SciPy's.
    origin = [(k % 2) - 1 for k in kernel.shape]
    full = np.stack(
        [
            ndimage.correlate(channel.astype(float), kernel, mode=mode, origin=origin)
            for channel in np.moveaxis(image, -1, 0)
        ],
        axis=-1,
    )
    rows = []
    for n, k in zip(image.shape, kernel.shape, strict=False):
        # The window around place i begins at i - (k - 1) // 2.
        if padding == "valid":
            rows.append(np.arange(0, n - k + 1, stride) + (k - 1) // 2)
        else:
            count = -(-n // stride)
            before = max((count - 1) * stride + k - n, 0) // 2
            rows.append(np.arange(count) * stride - before + (k - 1) // 2)
    return full[np.ix_(*rows)]


@pytest.mark.parametrize("padding", filters.PADDINGS)
@pytest.mark.parametrize(("shape", "stride"), [((3, 3), 1), ((5, 5), 3), ((4, 3), 2)])
def test_filtering_equals_scipys_correlation(image, padding, shape, stride):
    # Not symmetric, so that a kernel turned round would be noticed.
    kernel = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    got = filters.filter_image(image, kernel, padding=padding, stride=stride)
    want = expected(image, kernel, padding, stride)
    assert got.shape == want.shape
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-3)
    rectified = filters.filter_image(image, kernel, padding=padding, stride=stride, relu=True)
    np.testing.assert_array_equal(rectified, np.maximum(got, 0))


def test_pooling_takes_the_maximum_or_the_mean_of_each_window(image):
    for kind, function in (("max", np.max), ("avg", np.mean)):
        got = filters.pool_image(image, kind, size=3, stride=2)
        want = [
            [
                function(image[i : i + 3, j : j + 3].astype(float), axis=(0, 1))
                for j in range(0, 16, 2)
            ]
            for i in range(0, 11, 2)
        ]
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("size", filters.SIZES)
def test_kernels_do_what_their_names_say(size):
    kernels = {name: filters.make_kernel(name, size) for name in filters.KERNELS}
    for name, kernel in kernels.items():
        assert kernel.shape == (size, size)
        assert kernel.dtype == np.float32
        total = 0 if name in ("edge", "laplacian", "sobel_x", "sobel_y") else 1
        assert kernel.sum() == pytest.approx(total, abs=1e-6), name
    # On a ramp the derivative is constant and the second derivative zero; on a paraboloid the
    # Laplacian is constant.
    y, x = np.mgrid[:9.0, :12.0][..., None]

    def response(name, picture):
        return np.asarray(filters.filter_image(picture, kernels[name], padding="valid"))

    slope = {3: 8, 5: 128}[size]
    np.testing.assert_allclose(response("sobel_x", 3 * x - 7 * y), 3 * slope, atol=1e-3)
    np.testing.assert_allclose(response("sobel_y", 3 * x - 7 * y), -7 * slope, atol=1e-3)
    np.testing.assert_allclose(response("laplacian", x - y), 0, atol=1e-3)
    curved = response("laplacian", x**2 + y**2)
    np.testing.assert_allclose(curved, {3: 4, 5: 256}[size], atol=1e-2)
    ramp = x + y
    inside = ramp[size // 2 : -(size // 2), size // 2 : -(size // 2)]
    np.testing.assert_allclose(response("gaussian", ramp), inside, atol=1e-5)
    assert (response("emboss", ramp) > inside).all()


def test_sobel_in_3x3_is_scipys(image):
    grey = image[..., :1]
    got = filters.filter_image(grey, filters.make_kernel("sobel_x"), padding="edge")
    want = ndimage.sobel(grey[..., 0].astype(float), axis=1, mode="nearest")
    np.testing.assert_allclose(got[..., 0], want, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sharpn", "did you mean 'sharpen'"),
        ("[[1,2],[3]]", "all of one length"),
        ("[1,2,3]", "rows of numbers"),
        ("[[]]", "rows of numbers"),
        ("[[1,NaN]]", "rows of numbers"),
        ('[["1"]]', "rows of numbers"),
        ("[[1,2]", "rows of numbers"),
        ("[" * 5000, "rows of numbers"),
    ],
)
def test_kernels_that_are_none_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        filters.make_kernel(text)


def test_a_kernel_can_be_written_as_json():
    np.testing.assert_array_equal(filters.make_kernel("[[0, -1.5, 1e1]]"), [[0, -1.5, 10]])
    with pytest.raises(UsageError, match="--size is 4"):
        filters.make_kernel("box", 4)


def test_arithmetic_gives_the_size_that_filtering_gives(image):
    for padding in filters.PADDINGS:
        for stride in (1, 3):
            got = filters.filter_image(image, np.ones((3, 5)), padding=padding, stride=stride)
            pads = filters.padding_amounts(image.shape[:2], (3, 5), stride, padding)
            for n, k, pad, size in zip(image.shape, (3, 5), pads, got.shape, strict=False):
                text = filters.arithmetic(n, k, stride, pad)
                formula, result = text.split(" = ")
                assert int(result) == size
                assert int(eval(formula, {"floor": np.floor})) == size
    assert filters.arithmetic(32, 3, 1) == "(32 - 3)/1 + 1 = 30"


def test_signed_results_are_shown_about_zero_and_pictures_are_clipped():
    values = np.linspace(-100, 400, 48).reshape(4, 4, 3)
    picture = pictures.as_shown(values, filters.make_kernel("sharpen"))
    np.testing.assert_array_equal(picture.picture, np.rint(values.clip(0, 255)))
    outside = np.mean((np.rint(values) < 0) | (np.rint(values) > 255))
    assert f"clipped ({outside:.1%} lie outside)" in picture.words
    signed = pictures.as_shown(values, filters.make_kernel("edge"))
    np.testing.assert_allclose(signed.picture, values.mean(-1))
    assert signed.colours["norm"](0) == 0.5
    rectified = pictures.as_shown(values.clip(0), filters.make_kernel("edge"))
    assert rectified.colours["norm"](0) == 0


def test_the_script_filters_a_picture_and_prints_the_arithmetic(tmp_path):
    y, x = np.mgrid[:600, :300]
    pixels = np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "my photo.png")
    out = commands.run(
        str(ROOT / "scripts" / "filter_image.py"), "my photo.png", "--kernel=sobel_x",
        "--size=5", "--padding=valid", "--stride=2", "--relu", "--pool=max", "--gray",
        cwd=tmp_path,
    )  # fmt: skip
    assert "reduced from 600 x 300 to 512 x 256 pixels" in out
    assert "height: floor((512 - 5)/2) + 1 = 254; width: floor((256 - 5)/2) + 1 = 126" in out
    assert "height: (254 - 2)/2 + 1 = 127; width: (126 - 2)/2 + 1 = 63" in out
    with Image.open(tmp_path / "my-photo-sobel_x.png") as page:
        assert min(page.size) > 400


def call(source, out, **changes):
    settings = {
        "kernel": "sharpen", "size": 3, "padding": "same", "stride": 1, "relu": False,
        "pool": None, "pool_size": 2, "pool_stride": None, "gray": False, "data_dir": None,
    }  # fmt: skip
    return filtering.filter_picture(str(source), out=out, **{**settings, **changes})


def test_an_image_of_a_data_set_and_every_kernel_on_one_page(cache, tmp_path, capsys):
    path = call("shapes10:3", tmp_path / "all.png", kernel="all", size=5)
    assert "train image 3" in capsys.readouterr().out
    with Image.open(path) as page:
        assert min(page.size) > 1000
    with pytest.raises(UsageError, match="expected 0 to 4999"):
        call("shapes10:5000", tmp_path / "none.png")


def test_a_picture_without_colours_has_one_channel(tmp_path, capsys):
    _, x = np.mgrid[:20, :30]
    Image.fromarray((8 * x).astype(np.uint8)).convert("RGB").save(tmp_path / "ramp.png")
    call(tmp_path / "ramp.png", tmp_path / "out.png", kernel="sobel_x")
    out = capsys.readouterr().out
    assert "shape (20, 30, 1), values 0 to 232" in out
    # At the right edge the zeros of the padding come after 224 and 232.
    assert "values -896.0 to 64.0" in out


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        ("nope.png", {}, "nope.png does not exist, expected a picture file"),
        ("grey.png", {"padding": "zero"}, "--padding is 'zero'"),
        ("grey.png", {"kernel": "all", "pool": "max"}, "--pool shows one kernel"),
        ("grey.png", {"pool": "min"}, "--pool is 'min'"),
        ("grey.png", {"pool": "max", "pool_size": 9}, "pool_size is 9"),
        ("grey.png", {"size": 5, "padding": "valid"}, "does not fit"),
        ("grey.png", {"stride": 0}, "stride is 0"),
        ("grey.png", {"out": "grey.png"}, "the picture itself"),
    ],
)
def test_mistakes_are_refused_and_nothing_is_written(source, changes, message, tmp_path):
    Image.new("L", (4, 6), 9).save(tmp_path / "grey.png")
    before = (tmp_path / "grey.png").read_bytes()
    out = tmp_path / changes.pop("out", "out.png")
    with pytest.raises(UsageError, match=message):
        call(tmp_path / source, out, **changes)
    assert {path.name for path in tmp_path.iterdir()} == {"grey.png"}
    assert (tmp_path / "grey.png").read_bytes() == before
