"""The table of runs: what it says of finished, interrupted, running and damaged ones."""

import json
import os
import shutil

import pytest

from cifar_cnn import lock
from cifar_cnn.checks import UsageError
from cifar_cnn.runs import COLUMNS, list_runs
from tests import commands

# Another test may have made some.
_EVALUATIONS = shutil.ignore_patterns("eval")


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "a" / "finished", ignore=_EVALUATIONS)
    shutil.copytree(trained, tmp_path / "interrupted", ignore=_EVALUATIONS)
    steps = sorted(int(path.name) for path in (tmp_path / "interrupted/checkpoints").glob("[0-9]*"))
    shutil.rmtree(tmp_path / "interrupted" / "checkpoints" / str(steps[-1]))
    lines = (trained / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "interrupted" / "metrics.jsonl").write_text("".join(lines[:-2]))
    (tmp_path / "no_run").mkdir()
    return tmp_path


def test_states_epochs_and_scores(folder, trained, capsys):
    runs = {run["run"]: run for run in list_runs(folder)}
    assert runs.keys() == {"a/finished", "interrupted"}
    done, broken = runs["a/finished"], runs["interrupted"]
    assert (done["state"], done["epochs"], done["planned"]) == ("finished", 3, 3)
    assert (broken["state"], broken["epochs"]) == ("interrupted", 2)
    assert done["holder"] is None
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    best = max(line["validation_accuracy"] for line in lines if "validation_accuracy" in line)
    assert done["validation"] == best
    assert done["test"] is None
    assert done["config"] == "quickstart"
    assert done["data"].startswith("shapes10/")
    assert done["seconds"] > 0
    out = capsys.readouterr().out
    assert f"{100 * best:.2f} %" in out
    assert "3/3" in out
    assert "2/3" in out


def test_a_running_one_names_its_process(folder, capsys):
    with lock.held(folder / "interrupted"):
        runs = {run["run"]: run for run in list_runs(folder)}
        assert runs["interrupted"]["state"] == "running"
        assert runs["interrupted"]["holder"].startswith(f"process {os.getpid()} on ")
        assert runs["a/finished"]["state"] == "finished"
    assert f"running: process {os.getpid()} on " in capsys.readouterr().out
    assert {run["state"] for run in list_runs(folder)} == {"finished", "interrupted"}


def test_runs_beside_and_before_others_are_found(folder):
    """Below the directory of another run; and one that still prepares its data."""
    shutil.copytree(folder / "interrupted", folder / "a" / "finished" / "again")
    (folder / "a" / "finished" / "report" / "copy").mkdir(parents=True)
    for name in ("config.json", "run.json"):
        (folder / "a" / "finished" / "report" / "copy" / name).write_text("{}")
    with lock.held(folder / "no_run"):
        runs = {run["run"]: run for run in list_runs(folder)}
        assert runs.keys() == {"a/finished", "a/finished/again", "interrupted", "no_run"}
        assert runs["no_run"]["state"] == "running"
        assert runs["no_run"]["epochs"] is None
    assert "no_run" not in {run["run"] for run in list_runs(folder)}


def test_evaluations_are_shown_and_sorted(folder):
    commands.run("scripts/evaluate.py", f"--workdir={folder}/interrupted")
    runs = list_runs(folder, sort="test")
    assert [run["run"] for run in runs] == ["interrupted", "a/finished"]
    (path,) = (folder / "interrupted" / "eval").glob("test-*/metrics.json")
    assert runs[0]["test"] == json.loads(path.read_text())["accuracy"]
    out = commands.run("scripts/runs.py", str(folder), "--sort=test", "--json")
    assert json.loads(out) == runs
    path.write_text('{"tta": false, "accuracy": NaN}')
    assert {run["test"] for run in list_runs(folder, sort="test")} == {None}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"),
        ("config.json", "[" * 100_000),
        ("config.json", '{"train": {"epochs": "many"}, "model": {"name": "plain"}}'),
        ("config.json", '{"train": 5, "model": []}'),
        ("run.json", '{"format": 3, "name": [5], "data": [5]}'),
        ("run.json", '{"format": 3, "data": {"name": "x", "train_examples": 1e999}}'),
        ("metrics.jsonl", '{"step": 1, "epoch": "x"}\n'),
        ("metrics.jsonl", "[" * 100_000 + "\n"),
        ("metrics.jsonl", "5\n"),
        ("metrics.jsonl", '{"epoch": 1, "validation_accuracy": "high"}\n'),
        ("timing.jsonl", '{"seconds": NaN, "compiling": true}\n'),
        ("timing.jsonl", "{}\n"),
    ],
)
def test_one_odd_run_leaves_the_others_their_table(folder, capsys, name, text):
    (folder / "interrupted" / name).write_text(text)
    for sort in COLUMNS:
        runs = {run["run"]: run for run in list_runs(folder, sort=sort)}
        assert runs["interrupted"]["state"] == "unreadable"
        assert runs["a/finished"]["state"] == "finished"
    # The reason is there, and not the path of the directory.
    assert 0 < len(runs["interrupted"]["reason"]) <= 200
    assert str(folder) not in runs["interrupted"]["reason"]
    assert f"unreadable: {runs['interrupted']['reason']}" in capsys.readouterr().out


def test_empty_folders_and_wrong_columns_are_told(folder, capsys):
    assert list_runs(folder / "no_run") == []
    assert "no runs in" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"is no folder: name one"):
        list_runs(folder / "nowhere")
    with pytest.raises(UsageError, match=r"--sort is 'tests', .*did you mean 'test'"):
        list_runs(folder, sort="tests")
