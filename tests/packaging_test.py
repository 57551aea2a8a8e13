"""What an installation brings: no TensorFlow, and every declared package pinned."""

import configparser
import re

from tests.conftest import ROOT


def name_of(requirement):
    return re.split(r"[<>=\[ ;]", requirement.strip())[0].lower().replace("_", "-")


def test_the_lock_file_pins_every_requirement_and_no_tensorflow():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = {name_of(x) for x in lines if "==" in x and not x.lstrip().startswith("#")}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    declared = setup["options"]["install_requires"] + setup["options.extras_require"]["dev"]
    missing = {name_of(x) for x in declared.split("\n") if x.strip()} - locked
    assert not missing
    assert "tensorflow" not in locked
    assert {"cuda", "tpu", "dev"} <= set(setup["options.extras_require"])
