"""The comparison of runs: two real networks, taken from two checkpoints of the tiny run."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from cifar_cnn import compare
from cifar_cnn.checks import UsageError
from cifar_cnn.evaluate import evaluate_run
from cifar_cnn.report import groups
from tests import commands

SCRIPT = "scripts/compare_runs.py"


def edit(path, change):
    """Changes a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def copy(source, target, *, step=None, seed=0, dense_dropout=0.1):
    """A run like `source`, but for its seed and dropout, with the checkpoint `step` alone."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("eval"))

    def change(config):
        config["seed"] = seed
        config["model"]["plain"]["dense_dropout"] = dense_dropout

    edit(target / "config.json", change)
    for checkpoint in (target / "checkpoints").iterdir() if step else ():
        if checkpoint.name != str(step):
            shutil.rmtree(checkpoint)
    return target


def compared(*workdirs, **options):
    """`compare_runs` as the script calls it."""
    arguments = {"split": "test", "which": "best", "out": None, "settings": {}, **options}
    return compare.compare_runs(workdirs, evaluate=evaluate_run, **arguments)


def predictions(workdir):
    """Rows of the only predictions.csv of a run."""
    (path,) = workdir.glob("eval/test-*/predictions.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def pair(trained, tmp_path_factory):
    """Runs 'a' and 'b', evaluated by their comparison; and that."""
    folder = tmp_path_factory.mktemp("pair")
    a = copy(trained, folder / "a", step=135)
    b = copy(trained, folder / "b", step=90, dense_dropout=0.5)
    return a, b, compared(a, b)


def test_figures_equal_those_recomputed_from_the_predictions(pair):
    a, b, comparison = pair
    assert json.loads((a.parent / "comparison" / "comparison.json").read_text()) == json.loads(
        json.dumps(comparison)
    )
    rows = [predictions(a), predictions(b)]
    right = [np.array([row["correct"] == "1" for row in run]) for run in rows]
    (difference,) = comparison["differences"]
    assert difference["labels"] == ["dense_dropout=0.1", "dense_dropout=0.5"]
    images = difference["images"]
    table = [[(x & y).sum() for y in (right[1], ~right[1])] for x in (right[0], ~right[0])]
    got = [
        [images["both_right"], images["only_first"]],
        [images["only_second"], images["both_wrong"]],
    ]
    assert got == table
    assert images["difference"] == pytest.approx(right[1].mean() - right[0].mean())
    discordant = table[0][1] + table[1][0]
    assert images["mcnemar_p"] == pytest.approx(stats.binomtest(table[0][1], discordant).pvalue)
    assert difference["welch"] is difference["paired"] is None

    with (a.parent / "comparison" / "a-vs-b.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == discordant
    by_index = [{row["index"]: row for row in run} for run in rows]
    for row in listed:
        of_a, of_b = (run[row["index"]] for run in by_index)
        assert row["true"] == of_a["true"] == of_b["true"]
        assert (row["predicted_a"], row["p_a"]) == (of_a["predicted"], of_a["probability"])
        assert (row["predicted_b"], row["p_b"]) == (of_b["predicted"], of_b["probability"])
        assert {of_a["correct"], of_b["correct"]} == {"0", "1"}


def test_runs_are_described_by_their_files(pair):
    a, _, comparison = pair
    lines = [json.loads(x) for x in (a / "metrics.jsonl").read_text().splitlines()]
    timing = [json.loads(x) for x in (a / "timing.jsonl").read_text().splitlines()]
    # Windows of 20, 20 and 5 steps.
    last = [x["train_accuracy"] for x in lines if x["epoch"] > 2 and "train_accuracy" in x]
    run, other = comparison["runs"]
    assert run["train_accuracy"] == pytest.approx(np.dot(last, [20, 20, 5]) / 45)
    assert run["best_validation_accuracy"] == max(x.get("validation_accuracy", 0) for x in lines)
    assert run["seconds"] == pytest.approx(sum(x["seconds"] for x in timing))
    assert run["compiling_seconds"] == timing[0]["seconds"]
    assert (run["epochs"], run["planned_epochs"], run["parameters"]) == (3, 3, 136_874)
    assert (run["step"], other["step"]) == (135, 90)
    assert comparison["groups"][1]["config_differences"] == {
        "model.plain.dense_dropout": (0.1, 0.5)
    }
    for name in ("curves.png", "a-vs-b.png"):
        with Image.open(a.parent / "comparison" / name) as picture:
            assert min(picture.size) > 600


def test_the_script_uses_the_evaluations_that_are_there(pair, tmp_path):
    a, b, comparison = pair
    before = {path: path.stat().st_mtime_ns for run in (a, b) for path in run.rglob("*")}
    out = commands.run(SCRIPT, str(a), str(b), f"--out={tmp_path}/out")
    assert before == {path: path.stat().st_mtime_ns for run in (a, b) for path in run.rglob("*")}
    assert "evaluated now" not in out
    assert "does not cover the variation between seeds" in out
    assert f"{comparison['runs'][1]['accuracy']:.2%}" in out
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == json.loads(
        (a.parent / "comparison" / "comparison.json").read_text()
    )


def test_runs_that_differ_only_in_seed_are_one_group(pair, tmp_path):
    a, b, _ = pair
    accuracies = {}
    for name, source in (("small", a), ("large", b)):
        for seed in (0, 1):
            run = tmp_path / f"{name}-{seed}"
            shutil.copytree(source, run)
            edit(run / "config.json", lambda config, seed=seed: config.update(seed=seed))
            edit(run / "config.json", lambda config: config["run"].update(platform="cpu"))
            (path,) = run.glob("eval/*/metrics.json")
            edit(path, lambda m, seed=seed: m.update(accuracy=m["accuracy"] - 0.01 * seed**2))
            accuracies[run.name] = json.loads(path.read_text())["accuracy"]
    # The second recipe varies differently, or Welch's interval would be the paired one's limit.
    (path,) = (tmp_path / "large-1").glob("eval/*/metrics.json")
    edit(path, lambda m: m.update(accuracy=m["accuracy"] - 0.03))
    accuracies["large-1"] -= 0.03
    order = ["small-0", "large-1", "small-1", "large-0"]
    comparison = compared(*(tmp_path / name for name in order))
    assert [group["runs"] for group in comparison["groups"]] == [
        ["small-0", "small-1"],
        ["large-1", "large-0"],
    ]
    small = [accuracies["small-0"], accuracies["small-1"]]
    large = [accuracies["large-0"], accuracies["large-1"]]
    statistics = comparison["groups"][1]["accuracy"]
    assert statistics["mean"] == pytest.approx(np.mean(large))
    assert statistics["std"] == pytest.approx(np.std(large, ddof=1))
    (difference,) = comparison["differences"]
    welch = stats.ttest_ind(large, small, equal_var=False).confidence_interval()
    paired = stats.ttest_rel(large, small).confidence_interval()
    assert difference["welch"]["interval_95"] == pytest.approx([welch.low, welch.high])
    assert difference["paired"]["interval_95"] == pytest.approx([paired.low, paired.high])

    comparison = compared(*(tmp_path / name for name in ["small-0", "large-0", "large-1"]))
    assert comparison["differences"][0]["welch"] is None
    comparison = compared(tmp_path / "small-0", tmp_path / "small-1")
    assert len(comparison["groups"]) == 1
    assert comparison["differences"][0]["names"] == ["small-0", "small-1"]


def test_one_seed_twice_is_no_second_sample(pair, tmp_path):
    a, _, _ = pair
    again = tmp_path / "again"
    shutil.copytree(a, again)
    comparison = compared(a, again)
    assert [group["label"] for group in comparison["groups"]] == ["a", "again"]
    assert comparison["differences"][0]["images"]["mcnemar_p"] == 1


def test_other_data_is_compared_in_table_and_curves_alone(pair, tmp_path, capsys):
    a, b, _ = pair
    other = tmp_path / "other"
    shutil.copytree(b, other)
    edit(other / "run.json", lambda run: run["data"].update(name="shapes11/1.0.0"))
    comparison = compared(a, other, out=tmp_path / "out")
    (difference,) = comparison["differences"]
    assert difference["images"] is None
    assert "data sets differ (shapes10/1.0.0 and shapes11/1.0.0)" in difference["refused"]
    assert "not computed, because their data sets differ" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"comparison.json", "curves.png"}


def test_mistakes_are_told_before_anything_is_written(pair, tmp_path):
    a, b, _ = pair
    broken, stopped, spoilt = (tmp_path / name for name in ("broken", "stopped", "spoilt"))
    for run in (broken, stopped, spoilt):
        shutil.copytree(b, run)
    (broken / "metrics.jsonl").write_text("\x00\x00\n")
    shutil.rmtree(stopped / "checkpoints")
    (path,) = spoilt.glob("eval/*/predictions.csv")
    path.write_text("index\n")
    cases = [
        ([a], "expected at least two"),
        ([a, a.parent / "." / "a"], "given twice"),
        ([a, tmp_path], "is not a run directory"),
        ([a, broken], "metrics.jsonl is damaged"),
        ([a, stopped], "no checkpoint in"),
        ([a, spoilt], "evaluated anew"),
    ]
    for workdirs, words in cases:
        with pytest.raises(UsageError, match=words) as caught:
            compared(*workdirs, out=tmp_path / "out")
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="expected one of: test, validation"):
        compared(a, b, split="train", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def make_group(workdir, recipe, seeds, facts):
    return [
        groups.Run(f"{workdir}-{seed}", None, {"seed": seed}, recipe, facts, 1, None, (0, 0), {})
        for seed in seeds
    ]


def test_labels_are_short_and_tell_groups_apart(pair):
    from cifar_cnn.data import Facts

    facts = Facts.from_json(json.loads((pair[0] / "run.json").read_text())["data"])
    one = {"model.plain.padding": "SAME", "augment.crop.padding": 4, "train.epochs": 3}

    def labels(*recipes):
        runs = [r for k, recipe in enumerate(recipes) for r in make_group(k, recipe, (0, 5), facts)]
        got = groups.group_runs(runs)
        assert all(len(group.runs) == 2 for group in got)
        return [group.label for group in got]

    assert labels(one, {**one, "train.epochs": 5}) == ["train.epochs=3", "train.epochs=5"]
    assert labels(one, {**one, "model.plain.padding": "VALID"}) == [
        "plain.padding=SAME",
        "plain.padding=VALID",
    ]
    assert labels(one, {**one, "new.key": list(range(40))}) == ["0", "1"]
    assert labels(one) == ["0"]
