"""Runs on your own pictures: trained, evaluated, known again when moved; parts and keys."""

import csv
import json
import pathlib
import runpy
import shutil

import jax
import numpy as np
import pytest

from cifar_cnn import cli, evaluate, experiment, mesh, seeds, train
from cifar_cnn.checks import UsageError
from cifar_cnn.explain import explain_run
from configs import default
from tests import commands
from tests.conftest import make_config
from tests.folders import fill, picture

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
FORMATS = ("jpg", "png", "gif", "webp", "BMP", "jpeg", "tif")


def folder_config(root, tmp_path, **overrides):
    return make_config(
        {
            "data.folder": str(root), "data.image_size": 8, "data.validation_size": 0.25,
            "train.batch_size": 4, "run.cache_dir": str(tmp_path / "cache"),
            **overrides,
        }
    )  # fmt: skip


def load(config, said=None):
    experiment.check(config, default.get_config().to_dict())
    say = [].append if said is None else said.append
    return experiment.load_training(config, mesh.make_mesh(jax.devices()[:2]), say)


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A run on pictures of three colours, in all formats, sizes and modes, some files broken."""
    base = tmp_path_factory.mktemp("own")
    root = base / "my pictures"
    for split, count in (("train", 50), ("test", 20)):
        for name, colour in COLOURS.items():
            for i in range(count):
                suffix = FORMATS[i % len(FORMATS)]
                size = ((32, 32), (20, 47), (90, 64))[i % 3]
                mode = "P" if suffix == "gif" else "RGB"
                seed = len(split) * 1000 + i
                picture(root / split / name / f"{i}.{suffix}", seed, size, colour, mode)
    whole = (root / "train/red/0.jpg").read_bytes()
    (root / "train/red/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train/red/empty.png").touch()
    (root / "train/green/page.png").write_text("<html>")
    (root / "train/green/notes.txt").write_text("not a picture")
    (root / "train/green/Thumbs.db").write_text("of the system")
    flags = (
        "--config.data.folder=my pictures", "--config.data.validation_size=0.2",
        "--config.data.image_size=16", "--config.model.plain.filters=((16,),)",
        "--config.augment.names=()", "--config.run.cpu_devices=1",
        "--config.train.batch_size=20", "--config.train.epochs=4",
    )  # fmt: skip
    out = commands.train("run", *flags, cwd=base)
    return root, base / "run", out


def test_the_command_trains_on_a_folder_and_leaves_out_what_is_broken(own_run):
    root, workdir, out = own_run
    assert "note: 3 of 153 files of train left out, as they cannot be read: " in out
    for name in ("green/page.png", "red/cut.jpg", "red/empty.png"):
        assert name in out.split("left out, as")[1].splitlines()[0]
    assert "not used, as they are no pictures (1): train/green/notes.txt\n" in out
    assert "Thumbs.db" not in out
    reasons = pathlib.Path(out.split("reasons in ")[1].splitlines()[0]).read_text().splitlines()
    assert [line.split(" is ")[0].split("/")[-1] for line in reasons] == [
        "page.png", "cut.jpg", "empty.png",
    ]  # fmt: skip
    facts = json.loads((workdir / "run.json").read_text())["data"]
    assert facts["name"] == "folder:my pictures"
    assert facts["class_names"] == ["blue", "green", "red"]
    assert (facts["train_examples"], facts["validation_examples"]) == (120, 30)
    # A relative path in the command, so that the run can be used from anywhere.
    config = json.loads((workdir / "config.json").read_text())
    assert config["data"]["folder"] == str(root)


def test_evaluation_needs_only_the_run_directory(own_run, tmp_path, monkeypatch, capsys):
    _, workdir, _ = own_run
    monkeypatch.chdir(tmp_path)
    evaluate.evaluate_run(workdir, split="test", which="best", tta=False, rows="true", settings={})
    out = capsys.readouterr().out
    assert "trained on folder:my pictures\n" in out
    folder = pathlib.Path(out.split("written to ")[1].strip())
    report = json.loads((folder / "metrics.json").read_text())
    assert report["examples"] == 60
    assert report["class_names"] == ["blue", "green", "red"]
    assert report["data"] == "folder:my pictures"
    assert report["accuracy"] > 0.8
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"p_blue", "p_green", "p_red"} <= rows[0].keys()


def test_a_moved_folder_is_named_and_is_the_same_data(own_run, tmp_path):
    root, workdir, _ = own_run
    moved = tmp_path / "my pictures"
    shutil.copytree(root, moved, copy_function=shutil.copyfile)  # Other times of change.
    settings = {"data_dir": str(moved)}
    trained = experiment.open_trained(workdir, settings=settings, say=[].append)
    said = []
    assert len(trained.examples("validation", said.append).indices) == 30
    assert not [line for line in said if "not those" in line]
    # The test pictures may change, those that were trained on may not.
    (moved / "test/red/0.jpg").unlink()
    assert len(trained.examples("test").indices) == 59
    (moved / "train/red/0.jpg").unlink()
    with pytest.raises(UsageError, match=r"not those that this run saw.*--split=test"):
        trained.examples("validation")
    trained.examples("test", said.append)
    assert "are not those that this run saw; the test pictures count as they are" in said[-1]
    config = {**trained.config, "run": {**trained.config["run"], "data_dir": str(moved)}}
    before = (workdir / "run.json").read_bytes()
    with pytest.raises(UsageError, match=r"was trained on other data \(fingerprint: ") as caught:
        train.train_and_evaluate(config, workdir)
    assert "\n" not in str(caught.value)
    assert (workdir / "run.json").read_bytes() == before
    shutil.rmtree(moved)
    with pytest.raises(UsageError, match=r"does not exist: give data.folder its path.*--data_dir"):
        trained.examples("test")


def test_val_and_test_folders_are_the_parts(tmp_path):
    root = tmp_path / "pictures"
    fill(root / "Train", count=8)
    fill(root / "valid", count=2)
    fill(root / "test", ("dog",), count=2)
    said = []
    config = folder_config(root, tmp_path, **{"data.validation_size": 5000})
    facts, part, validation = load(config, said)
    assert (facts.train_examples, facts.validation_examples) == (16, 4)
    assert validation.images.shape == (4, 8, 8, 3)
    assert len(part.indices) == 16
    assert [line for line in said if "data.validation_size is not read" in line]
    assert f"note: {root}/test has no picture of cat" in said
    mean = np.asarray(part.images).astype(np.float64).mean((0, 1, 2)) / 255
    np.testing.assert_allclose(facts.mean, mean, rtol=1e-9)
    devices = mesh.make_mesh(jax.devices()[:2])
    for split, labels in (
        ("validation", [0, 0, 1, 1]),
        ("test", [1, 1]),
        ("train", [0] * 8 + [1] * 8),
    ):
        examples = experiment.load_evaluation(config, facts, split, devices, [].append)
        np.testing.assert_array_equal(np.asarray(examples.labels)[examples.indices], labels)


def test_without_test_pictures_one_line_says_what_to_do(tmp_path):
    root = fill(tmp_path / "flat")
    config = folder_config(root, tmp_path)
    facts, part, validation = load(config)
    assert (len(part.indices), len(validation.indices)) == (4, 2)
    devices = mesh.make_mesh(jax.devices()[:2])
    with pytest.raises(UsageError, match=r"has no test pictures: .*--split=validation, or move"):
        experiment.load_evaluation(config, facts, "test", devices, print)
    held_out = experiment.load_evaluation(config, facts, "validation", devices, [].append)
    np.testing.assert_array_equal(held_out.indices, validation.indices)
    # That advice: the class folders go into train/ as they are, and the run still knows them.
    for name in ("cat", "dog"):
        (root / "train").mkdir(exist_ok=True)
        (root / name).rename(root / "train" / name)
    fill(root / "test", count=1)
    said = []
    test = experiment.load_evaluation(config, facts, "test", devices, said.append)
    assert len(test.indices) == 2
    assert not [line for line in said if "not those" in line]


def test_too_few_pictures_for_the_usual_validation_part(tmp_path):
    root = fill(tmp_path / "pictures")
    with pytest.raises(UsageError, match=r"5000, but the train.*--config.data.validation_size=0.1"):
        load(folder_config(root, tmp_path, **{"data.validation_size": 5000}))
    with pytest.raises(UsageError, match=r"train.batch_size is 100, expected at most the 4 exam"):
        load(folder_config(root, tmp_path, **{"train.batch_size": 100}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.image_size": 64}, "data.image_size is 64, but nothing reads it .*are 32 x 32 x 3"),
        ({"data.channels": 1}, "data.channels is 1, but nothing reads it"),
        ({"data.fit": "pad"}, "data.fit is 'pad', but nothing reads it"),
        ({"data.folder": "x", "data.fit": "fill"}, "data.fit is 'fill', expected one of: crop"),
        ({"data.folder": "x", "data.channels": 2}, r"data.channels is 2, expected 3 \(RGB\) or 1"),
        ({"data.folder": "x", "data.image_size": 0}, "data.image_size is 0, expected an integer"),
        ({"data.folder": "x", "data.image_size": (8, 8, 3)}, r"expected pixels or \(height, wid"),
        ({"data.validation_size": 1.5}, "data.validation_size is 1.5, expected an integer number"),
        ({"data.validation_size": "10%"}, "data.validation_size is '10%', expected an integer"),
        ({"data.validation_size": True}, "data.validation_size is True, expected"),
        ({"data.validation_size": -1}, "data.validation_size is -1, expected"),
    ],
)
def test_keys_of_a_folder_are_checked(overrides, message):
    with pytest.raises(UsageError, match=message):
        experiment.check(make_config(overrides), default.get_config().to_dict())


@pytest.fixture(scope="module")
def without_test(tmp_path_factory):
    """Two runs on class folders that nobody has divided."""
    base = tmp_path_factory.mktemp("flat")
    fill(base / "pictures", count=30)
    flags = (
        "--config.data.folder=pictures", "--config.data.validation_size=0.2",
        "--config.data.image_size=8", "--config.model.plain.filters=((4,),)",
        "--config.model.plain.dense=()", "--config.model.plain.dense_dropout=0.0",
        "--config.augment.names=()", "--config.run.cpu_devices=1",
        "--config.train.batch_size=24", "--config.train.epochs=1",
    )  # fmt: skip
    commands.train("a-0", *flags, cwd=base)
    shutil.copytree(base / "a-0", base / "b")
    held_out = experiment.load_training(*_opened(base / "a-0"), [].append)[2]
    return base, np.asarray(held_out.indices)


def _opened(workdir):
    trained = experiment.open_trained(workdir, "latest", say=[].append)
    return trained.config, trained.run.mesh


SCRIPTS = {
    "evaluate": ("--workdir={}/a-0",),
    "report": ("--workdir={0}/a-0", "--compare={0}/b"),
    "compare_runs": ("{0}/a-0", "{0}/b"),
    "shift_test": ("--workdir={}/a-0", "--reach=1", "--step=1", "--max_angle=5"),
    "explain": ("--workdir={}/a-0", "--index={1}"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_without_test_pictures_the_scripts_take_validation_and_say_so(
    name, without_test, monkeypatch, capsys
):
    base, held_out = without_test
    script = runpy.run_path(str(commands.ROOT / "scripts" / f"{name}.py"))
    flags = [flag.format(base, held_out[0]) for flag in SCRIPTS[name]]

    def ended(*more):
        monkeypatch.setattr("sys.argv", [name, *flags, *more])
        code = cli.run(script["main"])
        return code, *capsys.readouterr()

    code, out, err = ended()
    assert (code, err) == (0, "")
    said = "note: folder:pictures has no test split, so this is about the validation split"
    assert out.count(said) == 1
    if name == "report":
        page = (base / "a-0" / "report" / "index.html").read_text()
        assert "validation split, as there is no test split, 12 images" in page
    # What is asked for is obeyed or refused.
    if name in ("explain", "report"):
        code, out, err = ended("--split=validation")
        assert (code, err) == (0, "")
        assert said not in out
    code, _, err = ended("--split=test")
    assert code == 2
    assert err.count("\n") == 1
    assert "has no test pictures" in err


def test_an_index_that_is_trained_on_is_no_example_of_validation(without_test):
    base, held_out = without_test
    trained_on = next(index for index in range(60) if index not in held_out)
    with pytest.raises(UsageError, match=rf"--index is {trained_on}, which is no example of the"):
        explain_run(base / "a-0", index=trained_on)


def test_seeds_are_told_of_validation_where_there_is_no_test(without_test, monkeypatch, capsys):
    base, _ = without_test
    config = json.loads((base / "a-0" / "config.json").read_text())
    monkeypatch.setattr(seeds, "_run", lambda command, what: None)  # Trained and evaluated already.
    evaluate.evaluate_run(
        base / "a-0", split="validation", which="best", tta=False, rows="true", settings={}
    )
    result = seeds.train_seeds(
        "configs/a.py", seeds=1, first_seed=config["seed"], workdir=base, split=None,
        which="best", tta=False, overrides=(),
    )  # fmt: skip
    assert result["split"] == "validation"
    assert "has no test split" in capsys.readouterr().out
