"""Pages of runs that nobody trained, and a browser to look at pages in."""

import contextlib
import json
import shutil

import numpy as np
import pytest

from cifar_cnn.page.answers import answers, rows
from cifar_cnn.page.network import packed
from cifar_cnn.page.sprite import Sprite, png_url
from cifar_cnn.page.writing import render
from cifar_cnn.report.classification import classification_metrics
from cifar_cnn.report.predictions import Predictions

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
in_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: apt-get install chromium, or any that is on the PATH"
)


@contextlib.contextmanager
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api")
    with (
        sync_api.sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        yield browser


@contextlib.contextmanager
def opened(browser, path):
    """A page from disk, without any network; at the end nothing may have complained, and no other
    file may have been asked for."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.goto(path.as_uri())
    yield tab
    assert said == []
    assert [url[:60] for url in asked if not url.startswith("data:")] == [path.as_uri()[:60]]
    context.close()


def data_of(path):
    """What the program of a page is given."""
    return json.loads(path.read_text().split('id="data">')[1].split("</script>")[0])


def predictions_of(classes, count, seed=0):
    """Random predictions, about two thirds of them right, with their logits."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += np.where(rng.random(count) < 2 / 3, 9, 0)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = tuple(f"class {k}" for k in range(classes))
    return Predictions(np.arange(count), labels, logits.argmax(axis=1), shares, names), logits


def a_network(classes):
    """A network of one dense layer, as the page is given it."""
    layer = {
        "name": "head", "kind": "Dense", "source": -1, "input": [8, 8, 3], "shape": [classes],
        "arithmetic": "", "shown": 0, "window": None, "reads": 0, "note": "",
    }  # fmt: skip
    subject = {
        "name": "an image", "true": None, "predicted": 0, "probabilities": [1 / classes] * classes,
        "picture": png_url(np.zeros((8, 8, 3), np.uint8)), "input": None,
        "layers": [{"values": packed(np.ones(classes)), "channels": classes, "given": None}],
        "grad_cam": {"layer": None, "classes": [0], "size": None, "heats": None},
    }  # fmt: skip
    return {"layers": [layer], "subjects": [subject]}


def write(path, classes=10, network=None, names=None, count=600, image_shape=(8, 8, 3)):
    """Writes a page with random answers; returns their predictions."""
    predictions, logits = predictions_of(classes, count)
    metrics = classification_metrics(logits, predictions.labels, predictions.class_names)
    images = np.random.default_rng(0).integers(0, 256, (count, *image_shape), np.uint8)
    sprite = Sprite(images)
    given = answers(predictions, metrics, sprite)
    used = [
        k for part in (given["cells"], given["gallery"]) for some in part.values() for k in some
    ]
    page = {
        "classes": names or list(predictions.class_names),
        "data": "random",
        "split": "test",
        "metrics": {key: metrics[key] for key in ("examples", "correct")},
        "answers": given,
        "rows": rows(predictions, sprite, used),
        "curves": [],
        "network": network or a_network(classes),
        "others": [],
        "sprite": sprite.as_json(),
    }
    path.write_text(render(page, title="random", head=[], commands=[]))
    return predictions
