"""The table of runs: what it says of finished, interrupted, running and damaged ones."""

import json
import os
import shutil

import pytest

from cifar_cnn import lock
from cifar_cnn.checks import UsageError
from cifar_cnn.runs import list_runs
from tests import commands


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "a" / "finished")
    shutil.copytree(trained, tmp_path / "interrupted")
    steps = sorted(int(path.name) for path in (tmp_path / "interrupted/checkpoints").glob("[0-9]*"))
    shutil.rmtree(tmp_path / "interrupted" / "checkpoints" / str(steps[-1]))
    (tmp_path / "no_run").mkdir()
    return tmp_path


def test_states_epochs_and_scores(folder, trained, capsys):
    runs = {run["run"]: run for run in list_runs(folder)}
    assert runs.keys() == {"a/finished", "interrupted"}
    done, broken = runs["a/finished"], runs["interrupted"]
    assert (done["state"], done["epochs"], done["planned"]) == ("finished", 3, 3)
    assert (broken["state"], broken["epochs"]) == ("interrupted", 2)
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


def test_a_running_one_names_its_process(folder):
    with lock.held(folder / "interrupted"):
        runs = {run["run"]: run for run in list_runs(folder)}
        assert runs["interrupted"]["state"].startswith(f"running: process {os.getpid()} on ")
        assert runs["a/finished"]["state"] == "finished"
    assert {run["state"] for run in list_runs(folder)} == {"finished", "interrupted"}


def test_evaluations_are_shown_and_sorted(folder):
    commands.run("scripts/evaluate.py", f"--workdir={folder}/interrupted")
    runs = list_runs(folder, sort="test")
    assert [run["run"] for run in runs] == ["interrupted", "a/finished"]
    (path,) = (folder / "interrupted" / "eval").glob("test-*/metrics.json")
    assert runs[0]["test"] == json.loads(path.read_text())["accuracy"]
    out = commands.run("scripts/runs.py", str(folder), "--sort=test", "--json")
    assert json.loads(out) == runs


def test_damaged_runs_and_empty_folders_are_told(folder, capsys):
    (folder / "interrupted" / "config.json").write_text("{")
    runs = {run["run"]: run for run in list_runs(folder)}
    assert runs["interrupted"]["state"].startswith("cannot be read: ")
    assert list_runs(folder / "no_run") == []
    assert "no runs in" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"is no folder: name one"):
        list_runs(folder / "nowhere")
    with pytest.raises(UsageError, match=r"--sort is 'tests', .*did you mean 'test'"):
        list_runs(folder, sort="tests")
