"""Scalars as JSON lines, and the run directory's own files."""

import json

import pytest

from cifar_cnn import rundir
from cifar_cnn.checks import UsageError
from cifar_cnn.record import Scalars, read_scalars


def test_a_resumed_file_is_cut_back_to_its_step_and_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with Scalars(path, keep_to_step=0) as scalars:
        for step in (10, 20, 30):
            scalars.write(step, loss=1 / step)
    whole = path.read_bytes()
    # A kill in the middle of a line.
    path.write_bytes(whole[:-5])
    assert [line["step"] for line in read_scalars(path)] == [10, 20]
    with Scalars(path, keep_to_step=20) as scalars:
        scalars.write(30, loss=1 / 30)
    assert path.read_bytes() == whole
    with Scalars(path, keep_to_step=10):
        pass
    assert [line["step"] for line in read_scalars(path)] == [10]
    # Lines are there as soon as they are written.
    with Scalars(path, keep_to_step=0) as scalars:
        scalars.write(5, loss=0.5)
        assert read_scalars(path) == [{"step": 5, "loss": 0.5}]


@pytest.mark.parametrize(
    "damaged",
    [
        b'{"step": 20, "loss": 0.\xb2}', b'{"step": "20"}', b'{"step": true}', b'{"step": 2e1}',
        b'{"step": null}', b"20", b"[" * 100_000, b"", b"{\0\0", b'{"step": 20, \x85',
    ],
)  # fmt: skip
def test_a_damaged_line_is_cut_out_like_one_that_is_half_written(tmp_path, damaged):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 10}\n' + damaged + b'\n{"step": 30}\n{"step": 40}\n')
    with Scalars(path, keep_to_step=30) as scalars:
        assert scalars.last_step == 30
    assert path.read_bytes() == b'{"step": 10}\n{"step": 30}\n'


CONFIG = {"seed": 0, "model": {"filters": ((1, 2),)}, "run": {"cpu_devices": 1}}
DATA = {"name": "x/1.0.0", "class_names": ("a", "b"), "fingerprint": "0"}


def test_a_run_explains_itself_and_refuses_another(tmp_path):
    rundir.open_run(tmp_path, CONFIG, DATA, "2 cpu devices")
    about = rundir.read(tmp_path, "run.json")
    assert {"data", "versions", "commit", "devices"} <= set(about)
    assert {"jax", "flax", "optax", "numpy", "python", "cifar_cnn"} <= set(about["versions"])
    before = (tmp_path / "run.json").read_bytes()
    # Tuples and lists are one, and where a run computes may change.
    rundir.open_run(tmp_path, {**CONFIG, "run": {"cpu_devices": 8}}, DATA, "8 cpu devices")
    with pytest.raises(UsageError, match=r"another config \(seed: 0 there, 1 here\)"):
        rundir.check_same(tmp_path, {**CONFIG, "seed": 1})
    with pytest.raises(UsageError, match=r"model\.filters: \[\[1, 2\]\] there, \[\[3\]\] here"):
        rundir.check_same(tmp_path, {**CONFIG, "model": {"filters": ((3,),)}})
    with pytest.raises(UsageError, match=r"other data \(fingerprint: '0' there, '1' here\)"):
        rundir.open_run(tmp_path, CONFIG, {**DATA, "fingerprint": "1"}, "")
    assert (tmp_path / "run.json").read_bytes() == before
    for wrong in ({}, {"data": []}):
        (tmp_path / "run.json").write_text(json.dumps({"format": rundir.FORMAT, **wrong}))
        with pytest.raises(UsageError, match=r"run\.json does not say what the data is"):
            rundir.open_run(tmp_path, CONFIG, DATA, "")
    (tmp_path / "run.json").write_bytes(before)
    # So deep that Python reads it, and may not write it.
    deep = json.dumps(CONFIG).replace("[[1, 2]]", "[" * 900 + "]" * 900)
    (tmp_path / "config.json").write_text(deep)
    with pytest.raises(UsageError, match=r"config\.json cannot be read|another config") as caught:
        rundir.check_same(tmp_path, CONFIG)
    assert len(str(caught.value)) < 600
    (tmp_path / "config.json").write_text(json.dumps(CONFIG)[:-3])
    with pytest.raises(UsageError, match=r"config\.json cannot be read"):
        rundir.check_same(tmp_path, CONFIG)
