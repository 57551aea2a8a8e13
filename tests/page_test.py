"""The page of a run, in a browser: its numbers, its parts, and that it needs no network."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cifar_cnn.checks import UsageError
from cifar_cnn.evaluate import evaluate_run
from cifar_cnn.page import write_page
from cifar_cnn.report import intervals
from cifar_cnn.report.predictions import read_predictions_csv
from tests import commands, pages
from tests.pages import in_browser

SETTINGS = {"cpu_devices": 4}  # As conftest.py starts them.
HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    """Two runs, a picture with a hostile name, and the page of the first run."""
    base = tmp_path_factory.mktemp("page")
    for name in ("run", "other"):
        shutil.copytree(trained, base / name)
    commands.train(base / "worse", "--config.train.epochs=1")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    Image.fromarray(pixels).save(base / HOSTILE)
    out = commands.run(
        "scripts/report.py", f"--workdir={base}/run", f"--compare={base}/worse",
        f"--image={base / HOSTILE}", "--index=7",
    )  # fmt: skip
    assert f"written to {base}/run/report/index.html" in out
    return base


@pytest.fixture(scope="module")
def metrics(folder):
    (path,) = (folder / "run" / "eval").glob("test-*/metrics.json")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def browser():
    with pages.chromium() as chromium:
        yield chromium


@pytest.fixture
def page(browser, folder):
    with pages.opened(browser, folder / "run" / "report" / "index.html") as tab:
        yield tab


def test_page_is_one_file_of_bounded_size(folder):
    files = list((folder / "run" / "report").iterdir())
    assert [file.name for file in files] == ["index.html"]
    text = files[0].read_text()
    assert files[0].stat().st_size < 10e6
    for word in ('src="http', 'href="http', 'url("http', "<link", "@import"):
        assert word not in text
    assert HOSTILE not in text


def text_of(page, selector):
    return page.locator(selector).inner_text()


@in_browser
def test_head_says_what_metrics_json_says(page, metrics, folder):
    head = text_of(page, ".facts")
    low, high = metrics["accuracy_interval_95"]
    assert f"{metrics['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%})" in head
    assert metrics["data"] in head
    run = json.loads((folder / "run" / "run.json").read_text())
    assert run["devices"] in head
    assert f"step {metrics['step']}" in head
    page.locator("header summary").click()
    told = text_of(page, ".commands")
    assert "python -m cifar_cnn.main" in told
    assert f"--workdir={folder}/run" in told


@in_browser
def test_cells_of_the_matrix_count_and_show_their_images(page, metrics, folder):
    predictions = read_predictions_csv(
        next((folder / "run" / "eval").glob("test-*/predictions.csv"))
    )
    count = len(predictions.class_names)
    wanted = np.zeros((count, count), int)
    np.add.at(wanted, (predictions.labels, predictions.predicted), 1)

    def cells():
        texts = page.locator("#confusion-matrix tbody button").all_inner_texts()
        return np.array([float(text.replace(",", "")) for text in texts]).reshape(count, count)

    np.testing.assert_array_equal(cells(), wanted)
    page.select_option("#confusion-rows", "predicted")
    np.testing.assert_array_equal(cells(), wanted.T)
    page.select_option("#confusion-unit", "true")
    np.testing.assert_allclose(cells(), 100 * (wanted / wanted.sum(1, keepdims=True)).T, atol=0.051)
    page.select_option("#confusion-rows", "true")
    page.select_option("#confusion-unit", "predicted")
    shares = wanted / np.maximum(wanted.sum(0, keepdims=True), 1)
    np.testing.assert_allclose(cells(), 100 * shares, atol=0.051)

    errors = wanted - np.diag(np.diag(wanted))
    i, j = np.unravel_index(errors.argmax(), errors.shape)
    names = predictions.class_names
    first = page.locator("#confused button").first
    assert first.inner_text() == f"{names[i]} taken for {names[j]}: {errors[i, j]}"
    first.focus()
    page.keyboard.press("Enter")
    assert f"{names[i]} taken for {names[j]}: {errors[i, j]} of" in text_of(
        page, "#confusion-images h3"
    )
    shown = page.locator("#confusion-images .thumb").count()
    assert shown == min(errors[i, j], 12)
    label = page.locator("#confusion-images .thumb").first.get_attribute("aria-label")
    assert label.endswith(f"{names[i]}, taken for {names[j]}")


@in_browser
def test_table_of_classes_sorts_and_agrees_with_metrics_json(page, metrics):
    page.locator("#classes-table [data-key=recall]").click()
    rows = page.locator("#classes-table tbody tr").all_inner_texts()
    recalls = [
        row["recall"] for row in sorted(metrics["per_class"], key=lambda row: -row["recall"])
    ]
    assert [row.split("\t")[2] for row in rows] == [f"{100 * recall:.2f} %" for recall in recalls]
    assert f"{100 * metrics['misclassification_rate']:.2f} %" in text_of(page, "#misclassification")
    assert f"{100 * metrics['expected_calibration_error']:.2f} %" in text_of(
        page, "#calibration-words"
    )


@in_browser
def test_gallery_shows_the_surest_mistakes_and_filters_by_class(page, folder):
    predictions = read_predictions_csv(
        next((folder / "run" / "eval").glob("test-*/predictions.csv"))
    )
    sure = predictions.probabilities.max(axis=1)
    wrong = predictions.predicted != predictions.labels
    first = page.locator("#gallery-images .thumb").first.get_attribute("aria-label")
    assert f"example {predictions.indices[wrong][sure[wrong].argmax()]}:" in first
    page.select_option("#gallery-class", "3")
    own = wrong & (predictions.labels == 3)
    first = predictions.indices[own][np.argsort(-sure[own], kind="stable")][:3]
    labels = [
        one.get_attribute("aria-label") for one in page.locator("#gallery-images .thumb").all()
    ]
    assert len(labels) >= min(9, own.sum())
    for index, label in zip(first, labels, strict=False):
        assert f"example {index}: {predictions.class_names[3]}, taken for" in label
    page.select_option("#gallery-class", "")
    page.check("input[name=gallery][value=random]")
    assert page.locator("#gallery-images .thumb").count() == 150
    assert "150 images: at random" in text_of(page, "#gallery-words")


@in_browser
def test_a_click_on_a_feature_map_adds_up_to_its_value(page, folder):
    layers = pages.data_of(folder / "run" / "report" / "index.html")["network"]["layers"]
    assert page.locator("#network-subjects button").first.inner_text() == HOSTILE
    assert page.locator("#network-subjects button").nth(1).inner_text() == "test example 7"
    summed, named = set(), set()
    for item in page.locator("#network-layers li:has(canvas.choose)").all():
        number = int(item.get_attribute("data-layer"))
        rows = []
        for place in (3, 22):  # Pixels of the first map.
            item.locator("canvas.choose").click(position={"x": place, "y": place})
            assert text_of(page, "#network-detail h3").startswith(f"{layers[number]['name']}:")
            rows.append(page.locator("#network-detail [data-field=row]").input_value())
            value = float(page.locator("#network-value").get_attribute("data-value"))
            if layers[number]["window"]["what"] == "function":
                assert "relu(" in text_of(page, "#network-function")
                named.add(number)
                continue
            total = float(page.locator("#network-total").get_attribute("data-total"))
            assert total == pytest.approx(value, rel=5e-3, abs=5e-3)
            summed.add(number)
        assert rows[0] != rows[1]
    assert len(summed) == 4  # Two convolutions and two poolings.
    assert len(named) == 2
    page.locator("#network-detail [data-field=map]").fill("7")
    page.keyboard.press("Enter")
    assert page.locator("#network-detail [data-field=map]").input_value() == "7"


@in_browser
def test_grad_cam_and_other_images(page):
    canvas = page.locator("#network-head canvas")
    before = canvas.evaluate("node => node.toDataURL()")
    page.check("#grad-cam")
    assert canvas.evaluate("node => node.toDataURL()") != before
    page.locator("#network-subjects button").nth(1).click()
    assert page.locator("#network-subjects button").nth(1).get_attribute("aria-pressed") == "true"
    shares = page.locator("#network-probabilities .number").all_inner_texts()
    assert sum(float(share.split()[0]) for share in shares) == pytest.approx(100, abs=0.6)


@in_browser
def test_curves_follow_the_cursor(page, folder):
    chart = page.locator("#curves-charts svg").nth(1)
    chart.focus()
    page.keyboard.press("ArrowRight")
    lines = [json.loads(x) for x in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "validation_accuracy" in line][-1]["validation_accuracy"]
    assert f"run, validation: {100 * last:.2f} %" in text_of(
        page, "#curves-charts figure:nth-child(2) output"
    )


@in_browser
def test_comparison_says_the_difference_and_shows_who_changed_sides(page, folder, metrics):
    ours, theirs = (
        read_predictions_csv(next((folder / name / "eval").glob("test-*/predictions.csv")))
        for name in ("run", "worse")
    )
    right, there = (one.predicted == one.labels for one in (ours, theirs))
    by = 100 * (there.mean() - metrics["accuracy"])
    words = text_of(page, "#others .difference")
    sign = "\u2212" if by < 0 else "+"
    assert f"{sign}{abs(by):.2f} points" in words
    bounds = intervals.images_difference(right, there)["interval_95"]
    low, high = (f"{100 * b:+.2f}".replace("-", "\u2212") for b in bounds)
    assert f"interval {low} to {high}" in words
    name, recall, gained, lost, images = (
        page.locator("#others tbody tr").first.inner_text().split("\t")
    )
    own = ours.labels == ours.class_names.index(name)
    assert int(images) == own.sum()
    assert int(gained) == (own & there & ~right).sum()
    assert int(lost) == (own & right & ~there).sum()
    points = 100 * (int(gained) - int(lost)) / int(images)
    assert float(recall.replace("\u2212", "-")) == pytest.approx(points, abs=0.051)
    label = page.locator("#others .thumb").last.get_attribute("aria-label")
    (row,) = np.flatnonzero(ours.indices == int(label.split("example ")[1].split(":")[0]))
    assert right[row]
    assert not there[row]


@in_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_chosen_and_text_stands_out(page, theme):
    while theme not in page.locator("#theme").inner_text():
        page.locator("#theme").click()
    style = "getComputedStyle(document.body)"
    colours = page.evaluate(f"() => [{style}.color, {style}.backgroundColor]")
    assert contrast(*map(channels_of, [page] * 2, colours)) > 7
    page.select_option("#confusion-unit", "true")
    cells = page.locator("#confusion-matrix tbody button").evaluate_all(
        "all => all.map(one => getComputedStyle(one)).map(s => [s.color, s.backgroundColor])"
    )
    assert len({back for _, back in cells}) > 10
    assert (
        min(contrast(*map(channels_of, [page] * 2, pair)) for pair in set(map(tuple, cells))) >= 4.5
    )


def channels_of(page, colour):
    """Red, green and blue, 0 to 255, as the browser draws a colour of CSS."""
    return page.evaluate(
        """colour => {
          const context = new OffscreenCanvas(1, 1).getContext("2d");
          context.fillStyle = colour;
          context.fillRect(0, 0, 1, 1);
          return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        colour,
    )


def contrast(a, b):
    """Ratio of luminances as WCAG 2 defines it."""
    values = []
    for colour in (a, b):
        parts = [x / 255 / 12.92 if x <= 10 else ((x / 255 + 0.055) / 1.055) ** 2.4 for x in colour]
        values.append(0.05 + 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2])
    return max(values) / min(values)


@in_browser
def test_every_picture_has_words(page):
    assert (
        page.locator("canvas:not([aria-label]), svg:not([aria-label]):not([aria-hidden])").count()
        == 0
    )
    assert page.locator(".thumb:not([aria-label])").count() == 0


def test_mistakes_are_told(folder, tmp_path):
    def refused(*flags):
        code, _, err = commands.finish(commands.start("scripts/report.py", *flags))
        assert code == 2
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    assert "not a run directory" in refused(f"--workdir={tmp_path}")
    (tmp_path / "text.png").write_text("no picture")
    assert "text.png" in refused(f"--workdir={folder}/run", f"--image={tmp_path}/text.png")


def test_runs_are_checked_before_one_is_evaluated(folder, tmp_path):
    def refused(*others, **options):
        with pytest.raises(UsageError) as error:
            write_page(folder / "run", evaluate=None, others=others, split="validation", **options)
        return str(error.value)

    assert "given twice" in refused(folder / "run")
    assert "not a run directory" in refused(folder / "worse", tmp_path)
    shutil.copytree(folder / "worse", tmp_path / "run")
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    about["data"]["name"] = "folder:dogs"
    (tmp_path / "run" / "run.json").write_text(json.dumps(about))
    assert "folder:dogs" in refused(tmp_path / "run")
    assert "at most 6" in refused(indices=range(7))


def test_a_run_without_mistakes_on_validation(folder):
    """The page of a network that is always right has no mistakes to show."""
    run = folder / "other"
    evaluate_run(run, split="validation", which="best", tta=False, rows="true", settings=SETTINGS)
    (path,) = (run / "eval").glob("validation-*/predictions.csv")
    lines = path.read_text().splitlines()
    head, rows = lines[0], [line.split(",") for line in lines[1:]]
    for row in rows:
        row[3], row[4], row[5] = row[1], row[2], "1"
    path.write_text("\n".join([head, *(",".join(row) for row in rows)]) + "\n")
    index = int(rows[3][0])
    data = pages.data_of(
        write_page(run, evaluate=None, split="validation", indices=[index], settings=SETTINGS)
    )
    assert data["answers"]["confused"] == []
    assert data["answers"]["gallery"]["mistakes"] == []
    assert data["split"] == "validation"
    assert np.sum(data["answers"]["matrix"]) == len(rows)
    followed = data["network"]["subjects"][0]
    assert followed["name"] == f"validation example {index}"
    assert followed["true"] == int(rows[3][1])
