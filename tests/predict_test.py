"""Predictions of picture files against those of the evaluation, and what people get to read."""

import csv
import dataclasses
import json
import os
import pathlib
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from PIL import Image

from cifar_cnn import data, datasets, experiment, predict
from cifar_cnn import mesh as mesh_lib
from cifar_cnn.checks import MachineError, UsageError
from cifar_cnn.evaluate import evaluate_run
from tests import commands

SCRIPT = "scripts/predict.py"


@pytest.fixture(scope="module")
def opened(trained):
    return experiment.open_trained(trained)


@pytest.fixture(scope="module")
def test_split(opened, cache):
    """Images uint8 [1000, 32, 32, 3] of the embedded set."""
    builder = datasets.make_builder("shapes10", data_dir=None, cache_dir=str(cache))
    return np.asarray(data.load_arrays(builder, "test", cache).images)


@pytest.fixture(scope="module")
def pictures(test_split, tmp_path_factory):
    """The first 12 of them as PNG files."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{i:02}.png" for i in range(12)]
    for path, image in zip(paths, test_split, strict=False):
        Image.fromarray(image).save(path)
    return paths


def grey_network(mean=0.1, traces=None):
    """Stands in for a run on 28 x 28 grey digits: the logits are multiples of mean brightness."""
    facts = data.Facts(
        "digits/1", "0" * 8, (28, 28, 1), ("zero", "one", "two"), (mean,), (0.25,), 10, 0
    )

    def apply(variables, x, train):
        assert train is False
        if traces is not None:
            traces.append(x.shape)
        return x.mean(axis=(1, 2, 3))[:, None] * variables["params"][None, :]

    run = types.SimpleNamespace(
        mesh=mesh_lib.make_mesh(jax.devices()[:4]), model=types.SimpleNamespace(apply=apply)
    )
    variables = {"params": jnp.array([0.0, 1.0, 3.0]), "batch_stats": {}}
    config = {"data": {"fit": "crop"}}
    return experiment.Trained(pathlib.Path("digits"), config, facts, run, variables, 7)


def test_pictures_give_the_same_as_the_evaluation(trained, opened, pictures, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    evaluate_run(copy, split="test", which="best", tta=False, rows="true", settings={})
    (table,) = copy.glob("eval/test-*/predictions.csv")
    with table.open(newline="") as file:
        rows = {int(row["index"]): row for row in csv.DictReader(file)}
    names = opened.facts.class_names
    expected = [[float(rows[i][f"p_{name}"]) for name in names] for i in range(len(pictures))]
    # 5 a time: two whole batches and a part of one.
    found = list(
        predict.classify_files(
            pictures,
            predict.make_predictor(opened, 5),
            image_shape=opened.facts.image_shape,
            fit="crop",
            invert=False,
            batch_size=5,
        )
    )
    assert [prediction.path for prediction in found] == pictures
    np.testing.assert_allclose([p.probabilities for p in found], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 6, 8, 17])
def test_one_program_serves_any_number_of_images(count):
    traces = []
    predictor = predict.make_predictor(grey_network(traces=traces), 6)
    batch = np.random.RandomState(0).randint(0, 256, (count, 28, 28, 1)).astype(np.uint8)
    level = ((batch / 255 - 0.1) / 0.25).mean(axis=(1, 2, 3))
    expected = scipy.special.softmax(level[:, None] * [0.0, 1.0, 3.0], axis=1)
    for _ in range(2):
        found = predictor(batch)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected.reshape(count, 3), rtol=1e-5)
    # 6 rows are 8 on four devices; traced once, whatever the count.
    assert traces == ([(8, 28, 28, 1)] if count else [])


def test_images_of_another_shape_and_broken_networks_are_refused():
    network = grey_network()
    with pytest.raises(UsageError, match=r"expected \(any, 28, 28, 1\)"):
        predict.make_predictor(network)(np.zeros((2, 32, 32, 3), np.uint8))
    broken = {"params": jnp.array([0.0, jnp.nan, 1.0]), "batch_stats": {}}
    network = dataclasses.replace(network, variables=broken)
    with pytest.raises(UsageError, match="not finite"):
        predict.make_predictor(network)(np.zeros((2, 28, 28, 1), np.uint8))


def test_one_json_document_with_the_errors_in_it(trained, pictures, tmp_path, capsys):
    missing = tmp_path / "missing.png"
    with pytest.raises(MachineError, match="1 of 4 files could not be read"):
        predict.predict_files(
            trained, [pictures[0], missing, pictures[1], pictures[0]], as_json=True, top=2
        )
    out, err = capsys.readouterr()
    document = json.loads(out)
    first, bad, second, again = document["predictions"]
    assert first == again
    assert [first["file"], second["file"]] == [str(pictures[0]), str(pictures[1])]
    assert bad == {
        "file": str(missing),
        "error": f"{missing} does not exist, expected a picture file",
    }
    assert f"error: {bad['error']}\n" in err
    assert document["class_names"][first["label"]] == first["class"]
    best, next_best = first["top"]
    assert best["class"] == first["class"]
    assert best["probability"] >= next_best["probability"]
    assert "checkpoint of step" in err


def test_unsure_is_below_the_threshold_and_top_stops_at_all_classes(
    trained, opened, pictures, capsys, monkeypatch
):
    # Opened once and not three times, to save seconds.
    monkeypatch.setattr(experiment, "open_trained", lambda *_, **__: opened)
    predict.predict_files(trained, pictures, as_json=True, top=99, unsure_below=0.6)
    document = json.loads(capsys.readouterr().out)
    entries = document["predictions"]
    assert all(len(entry["top"]) == 10 for entry in entries)
    for entry in entries:
        assert entry["unsure"] == (entry["probability"] < 0.6)
        assert sum(row["probability"] for row in entry["top"]) == pytest.approx(1, abs=1e-5)
    predict.predict_files(trained, pictures[:3], unsure_below=1)
    out = capsys.readouterr().out
    assert out.count("(unsure)") == 3
    assert "note: 3 of 3 unsure (no class reaches 1)" in out
    predict.predict_files(trained, pictures[:3], unsure_below=0)
    assert "unsure" not in capsys.readouterr().out


def test_a_folder_comes_after_the_files(trained, pictures, tmp_path, capsys):
    (tmp_path / "sub").mkdir()
    for name in ("b.PNG", "sub/a.png"):
        shutil.copy(pictures[0], tmp_path / name)
    (tmp_path / "notes.txt").touch()
    predict.predict_files(trained, [pictures[5]], folder=tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"1 file of another kind in {tmp_path} is passed over"
    named = [line.split(" -> ")[0] for line in lines if " -> " in line]
    assert named == [str(pictures[5]), str(tmp_path / "b.PNG"), str(tmp_path / "sub" / "a.png")]


def test_inverted_pictures_are_inverted_back(opened, pictures, tmp_path):
    negatives = []
    for path in pictures[:4]:
        with Image.open(path) as image:
            Image.fromarray(255 - np.asarray(image)).save(tmp_path / path.name)
        negatives.append(tmp_path / path.name)
    predictor = predict.make_predictor(opened, 5)
    options = {"image_shape": (32, 32, 3), "fit": "crop", "batch_size": 5}
    plain = predict.classify_files(pictures[:4], predictor, invert=False, **options)
    inverted = predict.classify_files(negatives, predictor, invert=True, **options)
    for one, other in zip(plain, inverted, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


@pytest.mark.parametrize(
    ("mean", "paper", "invert", "note"),
    [
        (0.13, 250, False, "light border, but digits/1 is dark (mean 0.13): try with"),
        (0.13, 250, True, None),
        (0.13, 5, False, None),
        (0.13, 5, True, "light border, but digits/1 is dark (mean 0.13): try without"),
        (0.87, 5, False, "dark border, but digits/1 is light (mean 0.87): try with"),
        (0.87, 250, False, None),
        (0.5, 250, False, None),
    ],
)  # fmt: skip
def test_ink_on_paper_is_noticed(mean, paper, invert, note, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(experiment, "open_trained", lambda *_, **__: grey_network(mean))
    digit = np.full((60, 60), paper, np.uint8)
    digit[15:45, 25:35] = 255 - paper
    Image.fromarray(digit).convert("RGB").save(tmp_path / "a.jpg")
    files = [tmp_path / "a.jpg"] * 2
    predict.predict_files(pathlib.Path("digits"), files, invert=invert, unsure_below=0)
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert notes == ([f"note: 2 of 2 have a {note} --invert"] if note else [])


def test_mistakes_are_told_before_anything_is_opened(tmp_path):
    nowhere, picture = tmp_path / "nowhere", [tmp_path / "a.png"]
    cases = {
        "no picture is named": {"files": []},
        "holds no pictures": {"files": [], "folder": tmp_path},
        "cannot be listed": {"files": picture, "folder": nowhere},
        "--top is 0": {"files": picture, "top": 0},
        "--batch_size is 0": {"files": picture, "batch_size": 0},
        "--unsure_below is 50": {"files": picture, "unsure_below": 50},
        "--fit is 'cut'": {"files": picture, "fit": "cut"},
        "is not a run directory": {"files": picture},
    }
    for words, arguments in cases.items():
        with pytest.raises(UsageError, match=words):
            predict.predict_files(nowhere, **arguments)


def test_the_command(trained, pictures, tmp_path):
    name = os.fsdecode(b"a\x1b[31m\n\xff \xc3\xa9.png")
    shutil.copy(pictures[0], tmp_path / name)
    (tmp_path / "text.png").write_text("no picture")
    workdir, ascii_only = f"--workdir={trained}", {"env": {"PYTHONIOENCODING": "ascii"}}
    mixed = commands.start(
        SCRIPT, str(pictures[0]), workdir, str(tmp_path / "text.png"), "--top=1",
        str(tmp_path / name), **ascii_only,
    )  # fmt: skip
    nothing = commands.start(SCRIPT, workdir)
    code, out, err = commands.finish(mixed)
    assert code == 1
    about, first, second, *_ = out.splitlines()
    assert "trained on shapes10" in about
    assert first.startswith(f"{pictures[0]} -> ")
    safe = rf"{tmp_path}/a\x1b[31m\n\xff \xe9.png"
    assert second.replace(safe, str(pictures[0])) == first
    assert err.splitlines() == [
        f"error: {tmp_path}/text.png is not a picture, or broken from its beginning on, expected "
        + err.splitlines()[0].partition(", expected ")[2],
        "error: 1 of 3 files could not be read, see above",
    ]
    code, out, err = commands.finish(nothing)
    assert (code, out) == (2, "")
    assert err == "error: no picture is named: give picture files, or --folder=DIR\n"
