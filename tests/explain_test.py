"""What a network sees, against the same network written out in NumPy."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from PIL import Image

from cifar_cnn import experiment, explain
from cifar_cnn.checks import UsageError
from cifar_cnn.data import Facts
from cifar_cnn.experiment import Trained, open_trained
from cifar_cnn.report import summary
from tests import commands
from tests.conftest import make_config

LAYERS = (
    "Conv_0", "Activation_0", "Pool_0", "Conv_1", "Activation_1", "Pool_1", "Flatten_0",
    "Dense_0", "Activation_2", "Dense_1",
)  # fmt: skip
SETTINGS = {"cpu_devices": 4}  # As conftest.py starts them.


@pytest.fixture(scope="module")
def net(trained):
    return open_trained(trained, settings=SETTINGS, say=lambda line: None)


@pytest.fixture(scope="module")
def examples(net):
    return net.examples("test", say=lambda line: None)


@pytest.fixture(scope="module")
def image(examples):
    return np.asarray(examples.images[5])


def untrained(overrides, image_shape=(12, 10, 1), classes=3):
    """A network with its initial parameters, as if it had been trained."""
    config = make_config({"model.plain.dense": (), "run.cpu_devices": 4, **overrides})
    facts = Facts(
        name="noise/1.0.0",
        fingerprint="00000000",
        image_shape=image_shape,
        class_names=tuple("abcdefgh"[:classes]),
        mean=(0.4, 0.5, 0.6)[: image_shape[-1]],
        std=(0.2, 0.25, 0.3)[: image_shape[-1]],
        train_examples=1000,
        validation_examples=0,
    )
    run = experiment.build(config, facts, experiment.start_devices(config))
    images = jnp.zeros((1, *image_shape))
    variables = run.model.init(jax.random.key(0), images, train=False)
    return Trained(None, config, facts, run, {"batch_stats": {}, **variables}, 0)


def noise(shape, seed=0):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def convolve(x, parameters):
    """[h, w, c] with a 3 x 3 kernel and zeros around, in float64."""
    kernel = np.asarray(parameters["kernel"], np.float64)
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    return np.einsum("hwcij,ijco->hwo", windows, kernel) + np.asarray(parameters["bias"])


def halve(x):
    h, w, c = x.shape
    return x.reshape(h // 2, 2, w // 2, 2, c).max(axis=(1, 3))


def dense(x, parameters):
    return x @ np.asarray(parameters["kernel"], np.float64) + np.asarray(parameters["bias"])


def by_hand(net, pixels):
    """Every layer's output for float pixels [H, W, 3] in grey levels."""
    params = net.variables["params"]
    x = (pixels.astype(np.float64) / 255 - net.facts.mean) / net.facts.std
    outputs = []
    for name in ("Conv_0", "Conv_1"):
        outputs += [x := convolve(x, params[name]), x := np.maximum(x, 0), x := halve(x)]
    outputs += [x := x.reshape(-1), x := dense(x, params["Dense_0"]), x := np.maximum(x, 0)]
    return [*outputs, dense(x, params["Dense_1"])]


def test_activations_equal_the_network_written_by_hand(net, image):
    layers = explain.activations(net, image)
    assert tuple(layer.name for layer in layers) == LAYERS
    for layer, expected in zip(layers, by_hand(net, image), strict=True):
        assert layer.value.dtype == np.float32
        np.testing.assert_allclose(
            layer.value, expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=layer.name
        )


def test_layers_are_those_of_the_summary_without_dropout(net, image):
    rows = summary.summarize(net.run.model, net.facts.image_shape)
    expected = [(r.name, r.kind, r.output_shape) for r in rows if r.kind != "Dropout"]
    layers = explain.activations(net, image)
    assert [(x.name, x.kind, x.value.shape) for x in layers] == expected


def test_logits_are_those_of_the_evaluation(net, examples):
    _, expected = net.run.evaluate(net.variables, examples)
    for index in (0, 5, 999):
        logits, layers = explain.logits_and_activations(net, np.asarray(examples.images[index]))
        np.testing.assert_allclose(logits, expected[index], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(layers[-1].value, logits)


def test_grad_cam_equals_that_of_the_network_cut_in_two(net, image):
    class_index = 7
    params = net.variables["params"]
    features = jnp.asarray(by_hand(net, image)[4], jnp.float32)

    def head(features):
        h, w, c = features.shape
        x = features.reshape(h // 2, 2, w // 2, 2, c).max(axis=(1, 3)).reshape(-1)
        for name in ("Dense_0", "Dense_1"):
            x = x @ params[name]["kernel"] + params[name]["bias"]
            x = jnp.maximum(x, 0) if name == "Dense_0" else x
        return x[class_index]

    weights = jax.grad(head)(features).mean(axis=(0, 1))
    cam = np.maximum((features * weights.reshape(1, 1, -1)).sum(axis=-1), 0)
    expected = Image.fromarray(np.asarray(cam)).resize((32, 32), Image.Resampling.BILINEAR)
    got = explain.grad_cam(net, image, class_index, "Activation_1")
    assert got.shape == (32, 32)
    assert got.max() > 0
    np.testing.assert_allclose(got, np.asarray(expected), rtol=0, atol=1e-5 * got.max())


def test_saliency_equals_differences_of_the_network_written_by_hand(net, image):
    got = explain.saliency(net, image, 3)
    assert got.shape == (32, 32)
    pixels = image.astype(np.float64)
    for row, column in [(0, 0), (16, 16), np.unravel_index(got.argmax(), got.shape)]:
        slopes = []
        for channel in range(3):
            step = np.zeros_like(pixels)
            step[row, column, channel] = 1e-5
            above, below = by_hand(net, pixels + step)[-1], by_hand(net, pixels - step)[-1]
            slopes.append(abs(above - below)[3] / 2e-5)
        assert got[row, column] == pytest.approx(max(slopes), rel=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_linear_network_sees_its_weights(channels):
    net = untrained({"model.plain.filters": ()}, (12, 10, channels))
    image = noise((12, 10, channels))
    layers = explain.activations(net, image)
    assert [layer.kind for layer in layers] == ["Flatten", "Dense"]
    assert explain.spatial_layers(layers) == {}
    assert explain.default_layer(net, layers) is None
    layer, weights = explain.first_kernels(net, layers)
    matrix = np.asarray(net.variables["params"]["Dense_0"]["kernel"])
    assert layer.name == "Dense_0"
    assert weights.shape == (12, 10, channels, 3)
    # Pixel (row, column, channel) is input (row * 10 + column) * channels + channel.
    assert weights[7, 4, channels - 1, 2] == matrix[(7 * 10 + 4) * channels + channels - 1, 2]
    slopes = np.abs(matrix[:, 1].reshape(12, 10, channels)) / (255 * np.asarray(net.facts.std))
    np.testing.assert_allclose(explain.saliency(net, image, 1), slopes.max(axis=-1), rtol=1e-5)


def test_other_convolutions():
    net = untrained(
        {
            "model.plain.conv": ("separable", "transposed"),
            "model.plain.stride": (1, 2),
            "model.plain.pool": ("max", "none"),
            "model.plain.filters": ((6,), (5,)),
            "model.plain.batch_norm": True,
        },
        (12, 10, 3),
    )
    image = noise((12, 10, 3))
    layers = explain.activations(net, image)
    kinds = [layer.kind for layer in layers]
    assert kinds == [
        "Conv", "Conv", "BatchNorm", "Activation", "Pool", "TransposedConv", "BatchNorm",
        "Activation", "Flatten", "Dense",
    ]  # fmt: skip
    assert layers[7].value.shape == (12, 10, 5)
    assert explain.default_layer(net, layers) == layers[7].name == "Activation_1"
    assert explain.first_kernels(net, layers)[1].shape == (3, 3, 1, 3)
    heat = explain.grad_cam(net, image, 1, "Pool_0")
    assert heat.shape == (12, 10)
    assert heat.min() >= 0


def test_a_file_is_explained(trained, net, image, tmp_path):
    path, out = tmp_path / "a picture.png", tmp_path / "out"
    large = np.repeat(np.repeat(image, 9, axis=0), 9, axis=1)
    Image.fromarray(np.pad(large, ((0, 0), (30, 30), (0, 0)))).save(path)
    names = net.facts.class_names
    told = commands.run(
        "scripts/explain.py", f"--workdir={trained}", f"--image={path}", f"--out={out}",
        f"--class_name={names[3]}", "--maps=8", "--fit=stretch",
    )  # fmt: skip
    pages = [f"{n:02d}_{name.split('_')[0].lower()}.png" for n, name in enumerate(LAYERS, 1)]
    others = ["input", "kernels", "overview", "probabilities", "grad_cam", "saliency"]
    assert {p.name for p in out.iterdir()} == {
        "explanation.json", *pages, *(f"{name}.png" for name in others),
    }  # fmt: skip
    for picture in out.glob("*.png"):
        with Image.open(picture) as opened:
            assert 500 < opened.width < 2500
            assert 300 < opened.height < 3500
    explanation = json.loads((out / "explanation.json").read_text())
    assert explanation["size"] == [288, 348]
    assert explanation["true"] is None
    assert sum(explanation["probabilities"].values()) == pytest.approx(1)
    assert [layer["name"] for layer in explanation["layers"]] == list(LAYERS)
    assert explanation["predicted"] in told
    assert explanation["grad_cam"]["layer"] == "Activation_1"
    assert names[3] in explanation["grad_cam"]["classes"]


def test_an_example_is_explained_as_the_evaluation_sees_it(trained, net, examples, tmp_path):
    got = explain.explain_run(trained, index=5, out=tmp_path / "out", maps=1, settings=SETTINGS)
    _, logits = net.run.evaluate(net.variables, examples)
    names = net.facts.class_names
    expected = scipy.special.softmax(np.asarray(logits[5], np.float64))
    assert list(got["probabilities"]) == list(names)
    np.testing.assert_allclose(list(got["probabilities"].values()), expected, atol=1e-5)
    assert got["predicted"] == names[expected.argmax()]
    assert got["true"] == names[int(examples.labels[5])]
    outputs = by_hand(net, np.asarray(examples.images[5]))
    for layer, value in zip(got["layers"], outputs, strict=True):
        assert layer["shape"] == list(value.shape)
        assert layer["max"] == pytest.approx(value.max(), rel=1e-4)
        assert layer["zeros"] == pytest.approx((value == 0).mean(), abs=1e-3)


def test_a_dense_network_is_explained_without_grad_cam(monkeypatch, tmp_path, capsys):
    net = untrained({"model.plain.filters": (), "model.plain.dense": (20,)}, (12, 10, 3))
    monkeypatch.setattr(experiment, "open_trained", lambda *args, **options: net)
    picture, out = tmp_path / "犬 é.png", tmp_path / "out"
    Image.fromarray(noise((40, 60, 3))).save(picture)
    got = explain.explain_run(tmp_path, image=picture, out=out)
    assert got["grad_cam"] is None
    assert "no Grad-CAM: this network has no feature maps" in capsys.readouterr().out
    written = {path.name for path in out.iterdir()}
    assert {"kernels.png", "saliency.png", "03_activation.png"} <= written
    assert "grad_cam.png" not in written
    with pytest.raises(UsageError, match="has no feature maps"):
        explain.explain_run(tmp_path, image=picture, out=out, layer="Dense_0")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "neither of --image and --index given, expected one of them"),
        ({"index": 1, "image": "a.png"}, "both of --image and --index given"),
        ({"index": -1}, "--index is -1, expected an integer from 0 to 999"),
        ({"index": 1000}, "--index is 1000, expected an integer from 0 to 999"),
        ({"index": 1, "maps": 0}, "--maps is 0, expected an integer from 1 to 64"),
        ({"index": 1, "fit": "cover"}, "--fit is 'cover', expected one of: crop, pad, stretch"),
        ({"index": 1, "class_name": "circl"}, "did you mean 'circle'"),
        ({"index": 1, "layer": "Conv_2"}, "Activation_0, Activation_1, Conv_0, Conv_1, Pool_0"),
        ({"index": 1, "layer": "Dense_0"}, "--layer is 'Dense_0', expected one of"),
        ({"image": "broken.png"}, "broken.png"),
        ({"image": "nowhere.png"}, "nowhere.png does not exist"),
    ],
)
def test_mistakes_are_told_and_write_nothing(trained, tmp_path, options, told):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    if "image" in options:
        options = {**options, "image": tmp_path / options["image"]}
    out = tmp_path / "out"
    with pytest.raises(UsageError) as caught:
        explain.explain_run(trained, out=out, settings=SETTINGS, **options)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not out.exists()
