"""Pickles in CIFAR's archives: old and new protocols, and malformed and malicious ones refused."""

import os
import pickle

import numpy as np
import pytest

from cifar_cnn.datasets import archive
from tests import cifar_archives
from tests.cifar_archives import (
    CIFAR10_NAMES,
    flavour,
    one_error,
    python2_pickle,
    run,
    synthetic_files,
    write_tar,
)

small_archives = cifar_archives.small_archives  # For every test here.
publish = cifar_archives.publish


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_meta_in_protocol_0_and_pickles_of_python_3(protocol, publish, tmp_path):
    layout = flavour("cifar-10-python")
    members = synthetic_files(layout, dump=lambda value: pickle.dumps(value, protocol=protocol))
    names = "".join(f"S'{n}'\na" for n in CIFAR10_NAMES)
    members[f"{layout.folder}/batches.meta"] = f"(dS'label_names'\n(l{names}s.".encode()
    contents = archive.read(write_tar(tmp_path / "a.tar.gz", publish(members)))
    assert contents.label_names == {"label": CIFAR10_NAMES}
    expected = archive.read(write_tar(tmp_path / "b.tar.gz", publish(synthetic_files(layout))))
    np.testing.assert_array_equal(contents.splits["train"][0], expected.splits["train"][0])


class Malicious:
    def __reduce__(self):
        return os.system, ("echo ran > $EVIDENCE",)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("member", ["batches.meta", "data_batch_3"])
def test_malicious_pickle_is_refused_and_does_not_run(
    member, known, publish, tmp_path, capsys, monkeypatch
):
    evidence = tmp_path / "evidence"
    monkeypatch.setenv("EVIDENCE", str(evidence))
    layout = flavour("cifar-10-python")
    members = synthetic_files(layout)
    members[f"{layout.folder}/{member}"] = pickle.dumps(Malicious(), protocol=2)
    path = write_tar(tmp_path / "a.tar.gz", publish(members) if known else members)
    assert run(f"--archive={path}", f"--data_dir={tmp_path / 'data'}") == 2
    message = one_error(capsys)
    if known:
        assert f"{member} names posix.system, which no CIFAR file does" in message
    else:
        assert "is not the published file" in message
        assert "give the binary version" in message
    assert not evidence.exists()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02.",
        b"garbage",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": np.zeros((12, 3072))}, protocol=2),
        pickle.dumps({"data": np.zeros((12, 3072)), "labels": [0] * 12}, protocol=2),
        pickle.dumps({"data": np.zeros((12, 3072), object), "labels": [0] * 12}, protocol=2),
        pickle.dumps({"data": np.array([print])}, protocol=2),
        python2_pickle({b"data": np.zeros((3, 3072), np.uint8), b"labels": [0] * 3}),
        python2_pickle({b"data": np.zeros((12, 3072), np.uint8), b"labels": [0] * 11}),
        python2_pickle({b"data": np.zeros((12, 3072), np.uint8), b"labels": [b"x"] * 12}),
        python2_pickle({b"data": np.zeros((12, 3072), np.uint8), b"labels": [0] * 11 + [10]}),
        python2_pickle({b"data": np.zeros((12, 3072), np.uint8), b"labels": [-1] * 12}),
        python2_pickle({b"labels": [0] * 12}),
        python2_pickle({b"data": np.zeros((12, 3072), np.uint8)})[:-500],
    ],
)
def test_malformed_pickle_is_one_line(data, publish, tmp_path, capsys):
    layout = flavour("cifar-10-python")
    members = synthetic_files(layout) | {f"{layout.folder}/data_batch_2": data}
    path = write_tar(tmp_path / "a.tar.gz", publish(members))
    assert run(f"--archive={path}", f"--data_dir={tmp_path / 'data'}") == 2
    message = one_error(capsys)
    assert "data_batch_2" in message
    assert "get the file again" in message
