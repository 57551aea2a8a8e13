"""Damaged checkpoints: found by their checksums, passed over, kept, and never silently used."""

import json
import shutil

import jax
import numpy as np
import pytest

from cifar_cnn import checkpoint, mesh
from cifar_cnn.checks import MachineError, UsageError
from tests import commands


@pytest.fixture
def workdir(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def abstract(workdir):
    """Shapes of the tiny network's state, by the config that the run directory holds."""
    from cifar_cnn import experiment, rundir
    from cifar_cnn.data import Facts

    facts = Facts.from_json(rundir.read(workdir, "run.json")["data"])
    devices = mesh.make_mesh(jax.devices()[:3])
    return experiment.build(rundir.read(workdir, "config.json"), facts, devices).abstract_state


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def data_file(workdir, step):
    files = (workdir / "checkpoints" / str(step) / "state").rglob("d/*")
    return max(files, key=lambda path: path.stat().st_size)


DAMAGE = {
    "byte flipped": lambda w: flip_bit(data_file(w, 135)),
    "truncated": lambda w: data_file(w, 135).write_bytes(data_file(w, 135).read_bytes()[:1000]),
    "file missing": lambda w: data_file(w, 135).unlink(),
    "note missing": lambda w: shutil.rmtree(w / "checkpoints" / "135" / "note"),
    "note changed": lambda w: (w / "checkpoints" / "135" / "note" / "metadata").write_text("{}"),
    "empty directory": lambda w: (
        shutil.rmtree(w / "checkpoints" / "135"), (w / "checkpoints" / "135").mkdir()
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_newest_intact_checkpoint_is_used_and_the_loss_is_said(workdir, damage):
    DAMAGE[damage](workdir)
    said = []
    state, _ = checkpoint.restore_newest(workdir, abstract(workdir), said.append)
    assert int(state.step) == 90
    assert len(said) == 1
    assert "checkpoints/135 is damaged" in said[0]
    assert "falling back" in said[0]
    assert checkpoint.steps(workdir)[-1] == 90
    assert (workdir / "damaged-checkpoints" / "135.0").is_dir()


def test_a_run_goes_on_from_the_one_before_to_the_same_end(workdir, trained):
    flip_bit(data_file(workdir, 135))
    out = commands.train(workdir, "--config.train.epochs=3")
    assert "checkpoints/135 is damaged" in out
    assert "resuming after step 90" in out
    for name in ("metrics.jsonl", "checkpoints/135/note/metadata"):
        assert (workdir / name).read_bytes() == (trained / name).read_bytes()


OLDER_DAMAGE = {
    "metrics cut short": lambda step: (step / "metrics" / "metrics").write_text('{"valid'),
    "metrics changed": lambda step: (step / "metrics" / "metrics").write_text("{}"),
    "description missing": lambda step: (step / "_CHECKPOINT_METADATA").unlink(),
    "note empty": lambda step: (step / "note" / "metadata").write_text(""),
    "metrics too deep": lambda step: (step / "metrics" / "metrics").write_text("[" * 100_000),
}


@pytest.mark.parametrize("damage", OLDER_DAMAGE)
def test_a_damaged_older_checkpoint_does_not_keep_the_run_from_saving(workdir, damage):
    """Orbax reads these files of every checkpoint before it saves another one."""
    OLDER_DAMAGE[damage](workdir / "checkpoints" / "90")
    said = []
    state, records = checkpoint.restore_newest(workdir, abstract(workdir), said.append)
    assert (int(state.step), records) == (135, {})
    assert len(said) == 1
    assert "checkpoints/90 is damaged" in said[0]
    assert (workdir / "damaged-checkpoints" / "90.0").is_dir()
    with checkpoint.saving(workdir, keep_latest=2, keep_best=1) as save:
        save(state.replace(step=state.step + 1), None, {})
    assert {135, 136} <= set(checkpoint.steps(workdir))


def test_records_of_an_open_window_come_back_and_are_checked(workdir):
    state, _ = checkpoint.restore_newest(workdir, abstract(workdir))
    kept = {"loss": [0.1, 1 / 3], "correct": [1.0, 2.0], "count": [2.0, 2.0]}
    with checkpoint.saving(workdir, keep_latest=2, keep_best=1) as save:
        save(state.replace(step=state.step + 2), None, kept)
    _, records = checkpoint.restore_newest(workdir, abstract(workdir))
    assert records == kept
    note = workdir / "checkpoints" / "137" / "note" / "metadata"
    note.write_text(note.read_text().replace("[0.1,", "[0.2,"))
    said = []
    state, records = checkpoint.restore_newest(workdir, abstract(workdir), said.append)
    assert (int(state.step), records) == (135, {})
    assert "does not match its checksum" in said[0]


def test_a_checkpoint_without_records_is_of_an_earlier_version(workdir):
    path = workdir / "checkpoints" / "135" / "note" / "metadata"
    note = json.loads(path.read_text())
    del note["records"], note["checksums"]["records"]
    path.write_text(json.dumps(note))
    said = []
    state, records = checkpoint.restore_newest(workdir, abstract(workdir), said.append)
    assert (int(state.step), records, said) == (135, {}, [])


def test_checkpoints_of_interruptions_do_not_push_out_those_that_are_due(workdir):
    state, _ = checkpoint.restore_newest(workdir, abstract(workdir))
    before = checkpoint.steps(workdir)

    def kept_after(*steps):
        with checkpoint.saving(
            workdir, keep_latest=2, keep_best=1, is_due=lambda step: step % 45 == 0
        ) as save:
            for step in steps:
                save(state.replace(step=np.int32(step)), None, {})
        return checkpoint.steps(workdir)

    assert kept_after(140, 150, 160) == [*before, 160]
    best = [step for step in before if step not in (90, 135)]
    assert kept_after(180) == [*best, 135, 180]


def test_a_run_whose_config_is_gone_is_not_taken_for_a_new_one(workdir):
    (workdir / "config.json").unlink()
    code, _, err = commands.finish(
        commands.start("-m", "cifar_cnn.main", *commands.TINY, f"--workdir={workdir}")
    )
    assert code == 2
    assert "has checkpoints, but its config.json is gone" in err


def test_none_intact_is_an_error_and_nothing_is_deleted(workdir):
    known = checkpoint.steps(workdir)
    for step in known:
        flip_bit(data_file(workdir, step))
    with pytest.raises(MachineError, match=f"none of the {len(known)} checkpoints"):
        checkpoint.restore_newest(workdir, abstract(workdir), lambda line: None)
    assert checkpoint.steps(workdir) == known
    code, _, err = commands.finish(
        commands.start("-m", "cifar_cnn.main", *commands.TINY, f"--workdir={workdir}",
                       "--config.train.epochs=3")
    )  # fmt: skip
    assert code == 1
    assert err.count("\n") == 1
    assert "nothing was deleted" in err
    assert checkpoint.steps(workdir) == known


def test_a_half_written_checkpoint_is_not_one(workdir):
    folder = workdir / "checkpoints"
    shutil.copytree(folder / "135", folder / "180.orbax-checkpoint-tmp")
    assert checkpoint.steps(workdir)[-1] == 135
    assert int(checkpoint.restore_newest(workdir, abstract(workdir))[0].step) == 135


def test_latest_two_and_best_are_kept(workdir):
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    scores = {x["step"]: x["validation_accuracy"] for x in lines if "validation_accuracy" in x}
    best = max(scores, key=lambda step: (scores[step], step))
    assert set(checkpoint.steps(workdir)) == {90, 135, best}
    assert checkpoint.choose(workdir, "best") == best
    assert checkpoint.choose(workdir, "latest") == 135
    assert checkpoint.choose(workdir, "90") == 90
    with pytest.raises(UsageError, match="expected best, latest or one of"):
        checkpoint.choose(workdir, "91")


def test_checksums_see_every_leaf_and_every_bit():
    tree = {"a": np.zeros((2, 3), np.float32), "b": [np.int32(1)]}
    first = checkpoint.checksums(tree)
    assert len(first) == 2
    tree["a"].view(np.uint8)[0, 5] = 1
    assert checkpoint.checksums(tree) != first


def test_a_disk_that_takes_no_more_is_one_line_and_exit_code_1(trained, tmp_path):
    # The cache of data and programs is warm (`trained`); files may not grow beyond 100 kB.
    limited = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "runpy.run_module('cifar_cnn.main', run_name='__main__', alter_sys=True)"
    )
    process = commands.start(
        "-c", limited, *commands.TINY, f"--workdir={tmp_path}/run", "--config.train.epochs=3"
    )
    code, _, err = commands.finish(process)
    assert code == 1
    assert err.startswith("error: cannot save a checkpoint")
    assert err.count("\n") == 1, err
    assert not checkpoint.steps(tmp_path / "run")
    # With room again, the same command makes what it would have made.
    commands.train(tmp_path / "run", "--config.train.epochs=3")
    for name in ("metrics.jsonl", "checkpoints/135/note/metadata"):
        assert (tmp_path / "run" / name).read_bytes() == (trained / name).read_bytes()


def test_a_save_replaces_its_step_and_a_kill_meanwhile_loses_nothing(workdir):
    state, _ = checkpoint.restore_newest(workdir, abstract(workdir))
    folder, replaced = workdir / "checkpoints" / "135", workdir / "replaced-checkpoint"
    scores = {"validation_loss": 1.0, "validation_accuracy": 0.5}
    with checkpoint.saving(workdir, keep_latest=2, keep_best=1) as save:
        save(state, scores, {})
    assert checkpoint.validation_accuracy(workdir, 135) == 0.5
    assert not replaced.exists()
    # A kill before the new one was there, and one after that.
    replaced.mkdir()
    folder.rename(replaced / "135")
    for _ in range(2):
        state, _ = checkpoint.restore_newest(workdir, abstract(workdir))
        assert int(state.step) == 135
        assert not replaced.exists()
        shutil.copytree(workdir / "checkpoints" / "90", replaced / "135")
