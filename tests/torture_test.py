"""The short form of scripts/torture.py; and that it would notice what it is there for."""

import json
import pathlib
import random
import shutil

import pytest

from cifar_cnn.checks import UsageError
from cifar_cnn.torture import damage, harness, kills, running
from cifar_cnn.torture.running import INTERVAL, Bench, Trial
from tests import commands


@pytest.fixture(scope="module")
def tortured(tmp_path_factory):
    """The folder of a short run of the script, and what it printed."""
    out = tmp_path_factory.mktemp("torture")
    printed = commands.run(
        "scripts/torture.py", "--faults=kill,signal", "--tries=2", "--epochs=3",
        f"--out={out}",
    )  # fmt: skip
    return out, printed


def test_nothing_is_lost(tortured):
    out, printed = tortured
    result = json.loads((out / "torture.json").read_text())
    assert "PROBLEM" not in printed
    assert sum(row["tried"] for row in result["rows"]) == 4
    for row in result["rows"]:
        assert row["problems"] == 0, row
        assert row["fault"] in printed
        assert row["most_repeated_steps"] <= INTERVAL
    signals = [trial for trial in result["trials"] if trial["fault"].startswith("SIG")]
    assert [trial["repeated"] for trial in signals] == [0, 0]
    # A run that was killed or signalled has the unbroken one's bytes.
    assert (out / "bench/kill-0/run0/metrics.jsonl").read_bytes() == (
        out / "bench/unbroken/metrics.jsonl"
    ).read_bytes()


def test_what_differs_is_found(tortured, tmp_path):
    bench = Bench(tortured[0] / "bench", 3)
    note = "checkpoints/75/note/metadata"
    changes = {
        "metrics.jsonl": lambda w: (w / "metrics.jsonl").write_text("{}\n"),
        "the checksum of a parameter": lambda w: (w / note).write_text('{"checksums": {}}'),
        "the list of checkpoints": lambda w: shutil.rmtree(w / "checkpoints" / "50"),
    }
    assert bench.differs(bench.reference) == ""
    for number, (name, change) in enumerate(changes.items()):
        workdir = tmp_path / str(number)
        shutil.copytree(bench.reference, workdir)
        change(workdir)
        assert f"{name} differs" in bench.differs(workdir)


def test_steps_that_were_lost_are_found(tmp_path):
    class Resumed:
        resumed, out = 50, "resuming after step 50 of 500\ncompiling;"

    def problem(recorded, saved):
        return kills.judged(Trial("kill -9", ""), Resumed, recorded, saved)

    assert problem(50 + INTERVAL, 50) == Trial("kill -9", "", "", INTERVAL)
    assert "26 steps repeated" in problem(51 + INTERVAL, 50).problem
    assert "resumed after step 50, although 75 was saved" in problem(75, 75).problem


def test_a_damage_that_is_not_noticed_would_be_a_problem(tortured, tmp_path, monkeypatch):
    """A checkpoint whose damage goes unsaid: here, because it is taken away altogether."""
    bench = Bench(tortured[0] / "bench", 3)

    def vanish(path, rng):
        while not path.parent.name.isdecimal():
            path = path.parent
        shutil.rmtree(path.parent)

    monkeypatch.setattr(damage, "DAMAGES", {"gone": vanish})
    trial = next(damage.damage(bench, random.Random(0), tmp_path, 1))
    assert "said False, moved False" in trial.problem


def test_problems_are_told_and_are_the_exit_code(tmp_path, monkeypatch, capsys):
    def fails(bench, rng, folder, tries):
        yield Trial("a fault", "here", "it was lost", 3)
        yield Trial("another", skipped="not here")

    monkeypatch.setattr(harness, "FAULTS", {"a": (fails, 1)})
    monkeypatch.setattr(harness, "prepare", lambda folder, epochs, say: Bench(folder, epochs))
    with pytest.raises(harness.MachineError, match="1 of 2 trials did not end as they should"):
        harness.torture(tmp_path)
    out = capsys.readouterr().out
    assert "PROBLEM: a fault, here: it was lost" in out
    assert "1 WRONG" in out
    assert "skipped: not here" in out
    assert json.loads((tmp_path / "torture.json").read_text())["rows"][0]["problems"] == 1


def test_mistakes_are_told_before_anything_is_made(tmp_path):
    for options, words in (
        ({"faults": "kil"}, "did you mean 'kill'"),
        ({"faults": "kill,kill"}, "expected each name once"),
        ({"epochs": 2}, "--epochs is 2"),
        ({"jobs": 0}, "--jobs is 0"),
    ):
        with pytest.raises(UsageError, match=words):
            harness.torture(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_files_and_steps_are_read_as_they_stand(tmp_path):
    assert running.last_step(tmp_path) == 0
    (tmp_path / "timing.jsonl").write_text('{"step": 3}\n{"step": 4')
    assert running.last_step(tmp_path) == 3
    assert not running.is_saving(tmp_path)
    (tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir(parents=True)
    assert running.is_saving(tmp_path)
    assert running.files_of(tmp_path) == [pathlib.Path(tmp_path / "timing.jsonl")]
