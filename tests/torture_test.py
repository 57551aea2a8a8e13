"""The short form of scripts/torture.py; and that it would notice what it is there for."""

import json
import os
import pathlib
import random
import shutil
import types

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
        "scripts/torture.py", "--faults=kill,signal,nan,second_signal,damage", "--tries=1",
        "--epochs=3", f"--out={out}",
    )  # fmt: skip
    return out, printed


def test_nothing_is_lost(tortured):
    out, printed = tortured
    result = json.loads((out / "torture.json").read_text())
    assert "PROBLEM" not in printed
    # A kill that misses its moment is one more.
    assert sum(row["tried"] for row in result["rows"]) >= 5
    for row in result["rows"]:
        assert row["problems"] == 0, row
        assert row["fault"] in printed
        assert row["most_repeated_steps"] <= INTERVAL
    signals = [trial for trial in result["trials"] if trial["fault"].startswith("SIG")]
    assert [trial["repeated"] for trial in signals] == [0]
    # A run that was killed or signalled has the unbroken one's bytes.
    assert (out / "bench/kill-0/run0/metrics.jsonl").read_bytes() == (
        out / "bench/unbroken/metrics.jsonl"
    ).read_bytes()


def _arrays_of(workdir):
    """The file of a checkpoint that holds its arrays."""
    return max(workdir.glob("checkpoints/75/state/**/d/*"), key=lambda path: path.stat().st_size)


def test_what_differs_is_found(tortured, tmp_path):
    bench = Bench(tortured[0] / "bench", 3)
    note = "checkpoints/75/note/metadata"
    changes = {
        "an array of a checkpoint": lambda w: damage.DAMAGES["a bit flipped"](
            _arrays_of(w), random.Random(0)
        ),
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
        resumed, out = 50, "resuming after step 50 of 500\ncompiling the training step"

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


def test_arrays_that_nobody_checks_would_be_a_problem(tortured, tmp_path, monkeypatch):
    """A run that takes its arrays for right, whatever they are."""
    bench = Bench(tortured[0] / "bench", 3)
    blind = types.SimpleNamespace(out="this run is finished", resumed=0)
    monkeypatch.setattr(Bench, "finish", lambda self, workdir: (self.differs(workdir), blind))
    rng = types.SimpleNamespace(randrange=lambda stop: stop // 2, choice=lambda files: files[-1])
    monkeypatch.setattr(damage, "DAMAGES", {"a bit flipped": damage.DAMAGES["a bit flipped"]})
    trial = next(damage.damage(bench, rng, tmp_path / "noticed", 1))
    assert trial.detail == str(_arrays_of(bench.reference).relative_to(bench.reference))
    assert "an array of a checkpoint differs" in trial.problem
    # Not even where they come out the same.
    monkeypatch.setattr(Bench, "finish", lambda self, workdir: ("", blind))
    trial = next(damage.damage(bench, rng, tmp_path / "unread", 1))
    assert "said False, moved False" in trial.problem


@pytest.mark.skipif(
    "CIFAR_CNN_TORTURE" not in os.environ, reason="set CIFAR_CNN_TORTURE=1: minutes"
)
def test_every_fault_is_tried_and_nothing_is_lost(tmp_path):
    printed = commands.run("scripts/torture.py", "--tries=1", "--epochs=8", f"--out={tmp_path}")
    assert "PROBLEM" not in printed
    rows = json.loads((tmp_path / "torture.json").read_text())["rows"]
    assert len(rows) >= len(harness.FAULTS)


def test_what_escapes_from_a_fault_is_a_problem_of_that_one(tmp_path, monkeypatch, capsys):
    def breaks(bench, rng, folder, tries):
        yield Trial("a fault")
        raise FileNotFoundError("where is it?")

    def works(bench, rng, folder, tries):
        yield Trial("another")

    monkeypatch.setattr(harness, "FAULTS", {"a": (breaks, 2), "b": (works, 1)})
    monkeypatch.setattr(harness, "prepare", lambda folder, epochs, say: Bench(folder, epochs))
    with pytest.raises(harness.MachineError, match="1 of 3 trials"):
        harness.torture(tmp_path)
    assert "FileNotFoundError: where is it?" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "torture.json").read_text())["trials"]) == 3


def test_an_interrupt_keeps_what_was_tried(tmp_path, monkeypatch):
    def interrupts(parts):
        for part in parts[:1]:
            part.result()
        raise KeyboardInterrupt

    def works(bench, rng, folder, tries):
        yield Trial("a fault")

    monkeypatch.setattr(harness, "FAULTS", {"a": (works, 1)})
    monkeypatch.setattr(harness, "prepare", lambda folder, epochs, say: Bench(folder, epochs))
    monkeypatch.setattr(harness.concurrent.futures, "wait", interrupts)
    with pytest.raises(KeyboardInterrupt):
        harness.torture(tmp_path)
    assert len(json.loads((tmp_path / "torture.json").read_text())["trials"]) == 1


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
