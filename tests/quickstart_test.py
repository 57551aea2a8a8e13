"""The claims about the embedded set's network, on the quickstart's own config."""

import json

import pytest

from tests import commands
from tests.conftest import ROOT

pytestmark = pytest.mark.every_python


def test_the_quickstart_network_leaves_a_linear_one_behind(tmp_path):
    # Two epochs of the eight; a linear classifier ends at 43 %, see shapes10_test.
    commands.run(
        "-m",
        "cifar_cnn.main",
        f"--config={ROOT}/configs/quickstart.py",
        f"--workdir={tmp_path}",
        "--config.train.epochs=2",
    )
    commands.run("scripts/evaluate.py", f"--workdir={tmp_path}")
    (report,) = (tmp_path / "eval").glob("test-*/metrics.json")
    assert json.loads(report.read_text())["accuracy"] > 0.5
