"""Names of files and classes made to harm: terminals, spreadsheets, plots and paths stay whole."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from cifar_cnn import data, datasets, evaluate, experiment, explore, predict, train
from cifar_cnn.checks import UsageError
from configs import default
from tests.conftest import make_config

LATIN = os.fsdecode(b"caf\xe9")
CLASSES = ("=1+1|cmd", "$\\frac{x$", "two\nlines\x1b[31m", "q\"uo'te,;\t", LATIN, "\u202etxt.exe")
SHOWN = tuple(
    sorted(("=1+1|cmd", "$\\frac{x$", r"two\nlines\x1b[31m", "q\"uo'te,;\\t", r"caf\xe9",
            r"\u202etxt.exe"))
)  # fmt: skip


def fill(root, names=CLASSES, count=8):
    rng = np.random.RandomState(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.randint(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}\x1b]0;title\a$.png")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network trained for an epoch on classes with such names, in folders with such names."""
    base = tmp_path_factory.mktemp("names") / "=base\x1b[1m$"
    root = fill(base / "pictures" / "train").parent
    shutil.copytree(root / "train", root / "test")
    (root / "test" / CLASSES[0] / "broken\n\x1b[2J.png").write_text("no picture")
    config = make_config(
        {
            "data.folder": str(root), "data.image_size": 8, "data.validation_size": 0,
            "model.plain.filters": ((4,), (4,)), "model.plain.dense": (),
            "model.plain.dense_dropout": 0.0, "train.epochs": 1, "train.batch_size": 16,
            "run.cache_dir": str(base / "cache"), "run.cpu_devices": 1,
        }
    )  # fmt: skip
    experiment.check(config, default.get_config().to_dict())
    train.train_and_evaluate(config, base / "run")
    return base / "run", root


def clean(text):
    """Whether every line of an output can be shown on a terminal."""
    return all(line.isprintable() for line in text.splitlines()) and "\r" not in text


def test_reports_of_such_classes(run, capsys):
    workdir, _ = run
    evaluate.evaluate_run(
        workdir, split="test", which="latest", tta=False, rows="true", settings={}
    )
    out = capsys.readouterr().out
    assert clean(out), [line for line in out.splitlines() if not line.isprintable()]
    assert all(name in out for name in SHOWN)
    (folder,) = (workdir / "eval").iterdir()
    for path in folder.rglob("*"):
        assert path.resolve().is_relative_to(workdir.resolve())
    assert json.loads((folder / "metrics.json").read_text())["class_names"] == list(SHOWN)
    tables = list(folder.glob("*.csv"))
    assert len(tables) >= 2
    for path in tables:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert len({len(row) for row in rows}) == 1
        cells = [cell for row in rows for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]
        assert any("'=1+1|cmd" in cell for cell in cells)
        assert all(cell.isprintable() for cell in cells)
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            image.load()


def test_predictions_of_such_files(run, capsys):
    workdir, root = run
    with pytest.raises(Exception, match="1 of 49 files could not be read"):
        predict.predict_files(workdir, [], folder=root / "test", which="latest")
    out, err = capsys.readouterr()
    assert clean(out)
    assert clean(err)
    assert err.count("\n") == 1
    assert len([line for line in out.splitlines() if " -> " in line]) == 48
    predict.predict_files(
        workdir, sorted((root / "test" / LATIN).iterdir())[:2], which="latest", as_json=True
    )
    document = json.loads(capsys.readouterr().out)
    assert [os.path.exists(entry["file"]) for entry in document["predictions"]] == [True, True]


def test_exploring_such_a_folder(run, tmp_path, capsys):
    _, root = run
    section = {"data.folder": str(root), "data.image_size": 8}
    config = make_config({**section, "run.cache_dir": str(tmp_path / "cache")})
    explore.explore(config, tmp_path / "out", seed=0, examples=2)
    out = capsys.readouterr().out
    assert clean(out), [line for line in out.splitlines() if not line.isprintable()]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} >= {".png"}


def test_a_run_directory_of_another_hand(run, tmp_path):
    """run.json is a file like any other: what it says is shown, and not obeyed."""
    workdir, _ = run
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    about = json.loads((copy / "run.json").read_text())
    about["data"]["class_names"] = ["\x1b[31m", "b", "c", "d", "e", "f"]
    about["data"]["name"] = "a\nb"
    facts = about["data"]
    shown = data.Facts.from_json(facts)
    assert shown.class_names[0] == r"\x1b[31m"
    assert shown.name == r"a\nb"
    for wrong in (
        {}, [], None, {**facts, "more": 1}, {**facts, "class_names": 5},
        {**facts, "class_names": [1, 2]}, {**facts, "class_names": []}, {**facts, "name": 3},
        {**facts, "image_shape": [32, 32, "3"]}, {**facts, "image_shape": [32, 32]},
        {**facts, "image_shape": [0, 32, 3]}, {**facts, "mean": [0.5] * 5},
        {**facts, "std": [0.2, 0.2, 0]}, {**facts, "std": [0.2, None, 0.2]},
        {**facts, "train_examples": "many"}, {**facts, "validation_examples": -1},
    ):  # fmt: skip
        (copy / "run.json").write_text(json.dumps({**about, "data": wrong}))
        with pytest.raises(UsageError, match=r"run\.json does not say what the data is") as caught:
            experiment.open_trained(copy)
        assert len(str(caught.value)) < 300


def test_a_config_of_another_hand(run, tmp_path):
    workdir, _ = run
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    for text in ("[]", "3", "null", '"x"', "[" * 100_000, "\xff"):
        (copy / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(UsageError) as caught:
            experiment.open_trained(copy)
        assert "\n" not in str(caught.value)
    config = json.loads((workdir / "config.json").read_text())
    family = config["model"]["plain"]
    for wrong in (
        {}, {"run": []}, {**config, "run": []}, {**config, "run": {}}, {**config, "model": 5},
        {**config, "model": {**config["model"], "name": 5}},
        {**config, "model": {"name": "plain", "dtype": "float32", "precision": "default"}},
        {**config, "model": {**config["model"], "plain": {**family, "more": 1}}},
        {**config, "model": {**config["model"], "plain": {**family, "filters": {"a": [4]}}}},
        {**config, "train": {**config["train"], "batch_size": "16"}},
        {**config, "optim": {**config["optim"], "lr_mults": [[["x"]]]}},
        {**config, "augment": {**config["augment"], "names": [["flip"]]}},
        {**config, "checkpoint": None}, {**config, "run": {**config["run"], "cache_dir": [1]}},
    ):  # fmt: skip
        (copy / "config.json").write_text(json.dumps(wrong))
        with pytest.raises(
            UsageError, match=r"config\.json is no config of this version"
        ) as caught:
            experiment.open_trained(copy, settings={"cpu_devices": 1})
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    # A run from before a network or an optimiser was added has no section for it.
    del config["model"]["wide_resnet"], config["optim"]["muon"], config["augment"]["cutout"]
    (copy / "config.json").write_text(json.dumps(config))
    assert experiment.open_trained(copy, "latest", say=[].append).config == config


def test_folders_deeper_than_a_path_is_long(tmp_path):
    root = fill(tmp_path / "pictures", ("a", "b"), 1)
    here = os.getcwd()
    try:
        os.chdir(root / "a")
        for _ in range(30):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
    finally:
        os.chdir(here)
    said = []
    datasets.open_folder(
        root, image_shape=(8, 8, 3), fit="crop", cache_dir=tmp_path / "cache", say=said.append
    )
    (note,) = [line for line in said if "not used" in line]
    assert note.endswith("d (cannot be opened: too deep?)")
    assert len(note) < 500
    shutil.rmtree(root)


def test_links_out_of_a_folder_and_back(tmp_path):
    """Links are followed once; nothing is written where they lead."""
    root = fill(tmp_path / "pictures", ("a", "b"), 2)
    outside = fill(tmp_path / "outside", ("x",), 2)
    before = {path: path.stat().st_mtime_ns for path in outside.rglob("*")}
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "out").symlink_to(outside)
    (root / "c").symlink_to(root / "c")
    opened = datasets.open_folder(
        root, image_shape=(8, 8, 3), fit="crop", cache_dir=tmp_path / "cache", say=[].append
    )
    arrays = data.load_arrays(opened, "train", tmp_path / "cache", [].append)
    assert arrays.class_names == ("a", "b")
    assert len(arrays.labels) < 20
    assert before == {path: path.stat().st_mtime_ns for path in outside.rglob("*")}
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "outside", "cache"}
