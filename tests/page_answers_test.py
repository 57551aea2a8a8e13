"""Pages of few, many and very many classes; which images they show; commands and curves."""

import dataclasses
import json

import numpy as np
import pytest

from cifar_cnn import rundir
from cifar_cnn.checks import UsageError
from cifar_cnn.page import choice, facts
from cifar_cnn.page.sprite import Sprite
from tests import pages


@pytest.fixture(scope="module")
def browser():
    with pages.chromium() as chromium:
        yield chromium


def focused(tab):
    return tab.evaluate("document.activeElement.getAttribute('data-cell')")


@pages.in_browser
def test_hundred_classes_have_one_tab_stop_and_images_of_hits(browser, tmp_path):
    predictions = pages.write(tmp_path / "index.html", classes=100, count=3000)
    with pages.opened(browser, tmp_path / "index.html") as tab:
        assert tab.locator("#confusion-matrix [tabindex='0']").count() == 1
        tab.locator("#confusion-rows").focus()
        tab.keyboard.press("Tab")
        assert focused(tab) == "0,0"
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("Enter")
        assert focused(tab) == "1,1"
        assert tab.locator("#confusion-matrix [aria-pressed=true]").count() == 1
        hits = int(((predictions.labels == 1) & (predictions.predicted == 1)).sum())
        heading = tab.locator("#confusion-images h3").inner_text()
        assert heading.startswith(f"class 1, recognised: {hits} of")
        assert tab.locator("#confusion-images .thumb").count() > 0
        tab.keyboard.press("Shift+Tab")
        tab.keyboard.press("Tab")
        assert focused(tab) == "1,1"
        pair = tab.locator("#confused button").nth(2)
        pair.focus()
        tab.keyboard.press("Enter")
        assert tab.evaluate("document.activeElement.textContent") == pair.inner_text()


@pages.in_browser
def test_very_many_classes_have_pairs_instead_of_a_matrix(browser, tmp_path):
    pages.write(tmp_path / "index.html", classes=300, count=2000)
    assert (tmp_path / "index.html").stat().st_size < 2e6
    with pages.opened(browser, tmp_path / "index.html") as tab:
        assert tab.locator("#confusion-matrix button").count() == 0
        assert "300 classes" in tab.locator("#confusion-matrix").inner_text()
        assert tab.locator("#confused button").count() == 60
        tab.locator("#confused button").first.click()
        assert tab.locator("#confusion-images .thumb").count() > 0


@pages.in_browser
def test_large_images_lie_beside_one_another(browser, tmp_path):
    pages.write(tmp_path / "index.html", image_shape=(80, 160, 3), count=100)
    with pages.opened(browser, tmp_path / "index.html") as tab:
        card = tab.locator("#gallery-images .card").first.bounding_box()
        thumb = tab.locator("#gallery-images .thumb").first.bounding_box()
        assert thumb["width"] <= card["width"]
        assert thumb["width"] == pytest.approx(2 * thumb["height"], abs=0.1)


def test_the_gallery_begins_with_the_surest_of_all_and_samples_plainly():
    predictions, _ = pages.predictions_of(10, 2000)
    sure = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    images = np.zeros((2000, 4, 4, 3), np.uint8)
    shown = choice.gallery(predictions, Sprite(images))
    surest = wrong[np.argsort(-sure[wrong])]
    assert shown["mistakes"][: choice.FIRST] == surest[: choice.FIRST].tolist()
    for label in range(10):
        own = [row for row in surest.tolist() if predictions.labels[row] == label]
        found = [row for row in shown["mistakes"] if predictions.labels[row] == label]
        assert len(found) >= 9
        assert found == own[: len(found)]
    # A sample that depends on no label has the shares of the split.
    other = dataclasses.replace(predictions, labels=predictions.labels[::-1].copy())
    assert choice.gallery(other, Sprite(images))["random"] == shown["random"]


def test_commands_make_the_same_again(tmp_path):
    command = ["python", "-m", "cifar_cnn.main", "--config=c.py", "--workdir", "runs/x", "--seed=1"]
    about = {"format": rundir.FORMAT, "command": command}
    (tmp_path / "run.json").write_text(json.dumps(about))
    told = dict(
        facts.commands(
            tmp_path, split="validation", checkpoint="90", tta=True, fit="pad",
            settings={"data_dir": "my data"}, compare=["b"], image=["dog\udcff.png"], index=[7],
        )
    )  # fmt: skip
    again = "python -m cifar_cnn.main --config=c.py --seed=1 --workdir="
    assert told["Train the same again"] == f"{again}NEW"
    assert told["Go on where it stopped"] == f"{again}{tmp_path}"
    flags = f"--workdir={tmp_path} --split=validation --checkpoint=90 --tta '--data_dir=my data'"
    assert told["Evaluate it"] == f"python scripts/evaluate.py {flags}"
    page = (
        f"python scripts/report.py {flags} --fit=pad --compare=b '--image=dog\\udcff.png' --index=7"
    )
    assert told["Make this page"] == page.replace("\\udcff", "\\xff")


def test_curves_of_a_run_that_diverged_and_of_a_damaged_one(tmp_path):
    line = {"step": 1, "epoch": 1.0, "train_accuracy": 0.5, "learning_rate": 0.1}
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({**line, "train_loss": float("nan")}) + "\n")
    assert facts.curves(tmp_path, "a")["train"] == [[1.0, None, 0.5, 0.1]]
    for damaged in ("nonsense\n", '{"train_loss": 1}\n', '{"train_loss": []}\n', "5\n"):
        path.write_text(damaged)
        with pytest.raises(UsageError, match="damaged"):
            facts.curves(tmp_path, "a")
