"""The network on a page: every kind of layer, in a browser by the keyboard, and what has room."""

import json
import math
import types

import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn.page import budget
from cifar_cnn.page.network import MOST_CHARACTERS, Subject, network
from tests import families, pages

# A plain network with all kinds of convolutions, strides, gaps, groups, and both poolings.
MIXED = {
    "filters": ((8,), (8,), (16,), (8,), (4,)),
    "conv": ("standard", "standard", "depthwise", "separable", "transposed"),
    "stride": (2, 1, 1, 1, 2),
    "dilation": (1, 2, 1, 1, 1),
    "groups": (1, 2, 1, 1, 1),
    "padding": ("VALID", "SAME", "SAME", "SAME", "SAME"),
    "pool": ("none", "avg", "none", "max", "none"),
    "batch_norm": True,
    "dense": (),
}


def looked_into(model, image_shape, subjects, **options):
    """A network with random weights on random images."""
    rng = np.random.default_rng(0)
    channels = image_shape[-1]
    trained = types.SimpleNamespace(
        run=types.SimpleNamespace(model=model),
        variables={"batch_stats": {}, **families.drawn(model, jnp.zeros((1, *image_shape)))},
        facts=types.SimpleNamespace(mean=(120.0,) * channels, std=(60.0,) * channels),
    )
    images = [rng.integers(0, 256, image_shape, np.uint8) for _ in range(subjects)]
    named = [Subject(image, f"image {k}", k) for k, image in enumerate(images)]
    return network(trained, named, **options)


@pytest.fixture(scope="module")
def browser():
    with pages.chromium() as chromium:
        yield chromium


def follow_every_value(tab, layers):
    """Presses every button with the keyboard; the names of the layers whose values were summed, and
    of those whose function was named."""
    summed, named = [], []
    for button in tab.locator("#network-layers .follow").all():
        number = int(button.locator("xpath=..").get_attribute("data-layer"))
        button.focus()
        tab.keyboard.press("Enter")
        name = layers[number]["name"]
        assert tab.locator("#network-detail h3").inner_text().startswith(f"{name}:")
        if layers[number]["window"]["what"] == "function":
            assert layers[number]["kind"] in tab.locator("#network-function").inner_text()
            named.append(name)
            continue
        for _ in range(2):  # The first map, and then the last, of another group.
            value = float(tab.locator("#network-value").get_attribute("data-value"))
            total = float(tab.locator("#network-total").get_attribute("data-total"))
            assert total == pytest.approx(value, rel=5e-3, abs=5e-3), name
            tab.locator("#network-detail [data-field=map]").fill(str(layers[number]["shown"] - 1))
            tab.keyboard.press("Enter")
        summed.append(name)
    return summed, named


@pages.in_browser
def test_sums_of_every_kind_of_layer_by_keyboard(browser, tmp_path):
    seen = looked_into(families.make("plain", **MIXED), (28, 28, 1), 1)
    names = ["</script><script>alert(1)</script>", "<!--<script>", *map(str, range(8))]
    pages.write(tmp_path / "index.html", network=seen, names=names, image_shape=(28, 28, 1))
    with pages.opened(browser, tmp_path / "index.html") as tab:
        summed, named = follow_every_value(tab, seen["layers"])
        assert len(summed) == 7  # Five convolutions and two poolings.
        assert len(named) == 5  # Activations.
        (last,) = [k for k, layer in enumerate(seen["layers"]) if "Transposed" in layer["kind"]]
        words = tab.locator(f"#network-layers [data-layer='{last}'] .note").inner_text()
        assert "transposed" in words
        assert tab.locator("#network-probabilities span").first.inner_text() in names


@pages.in_browser
def test_where_room_is_short_the_first_image_keeps_its_sums(browser, tmp_path):
    room = 405_000  # For both images, but not for all sums of the second.
    seen = looked_into(families.small("resnet"), (32, 32, 3), 2, room=room)
    assert len(json.dumps(seen)) <= room
    pages.write(tmp_path / "index.html", network=seen)
    with pages.opened(browser, tmp_path / "index.html") as tab:
        summed, _ = follow_every_value(tab, seen["layers"])
        assert len(summed) == 8  # The stem, two in each of three blocks, and a shortcut.
        tab.locator("#network-subjects button").nth(1).focus()
        tab.keyboard.press("Enter")
        assert tab.evaluate("document.activeElement.textContent") == "image 1"
        assert len(follow_every_value(tab, seen["layers"])[0]) < 8
        assert "first images only" in tab.locator("#network-layers").inner_text()


@pytest.mark.parametrize("side", [32, 224, 1024])
@pytest.mark.parametrize("room", [MOST_CHARACTERS, 200_000])
def test_no_network_takes_more_than_its_room(side, room):
    """17 convolutions on images of any size; the vector behind them, too."""
    conv = {"what": "conv", "groups": 1, "size": [3, 3]}
    shapes = [(side, side, 3), *[(side, side, 64)] * 9, *[(side // 2, side // 2, 512)] * 8]
    layers = [budget.Layer(str(k), "Conv", k - 1, *shapes[k : k + 2], "", conv) for k in range(17)]
    layers.append(
        budget.Layer("flat", "Flatten", 16, shapes[-1], (math.prod(shapes[-1]),), "", None)
    )
    plan = budget.fit(layers, 3, 20_000, room)
    values = sum(
        math.prod(layer.made[:-1])
        * budget.kept(layers, plan, number, followed=place < plan.followed)
        for place in range(plan.subjects)
        for number, layer in enumerate(layers)
    )
    assert 8 / 3 * values + 20_000 * plan.subjects <= room
    complete = [budget.is_summed(layers, plan, k, image_kept=True) for k in range(17)]
    if side == 32 and room == MOST_CHARACTERS:
        assert all(complete)
        assert plan.subjects == 3
    else:
        assert not all(complete)
