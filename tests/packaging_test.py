"""What an installation brings: every declared package pinned on every Python, and no TensorFlow."""

import configparser
import re

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
EXTRAS = SETUP["options.extras_require"]
ALLOWED = SpecifierSet(SETUP["options"]["python_requires"])
PYTHONS = [f"3.{minor}" for minor in range(100) if f"3.{minor}" in ALLOWED]
# Lock -> the extras that it holds beside the package's own requirements.
LOCKS = {"requirements.lock": ["dev"], "requirements-accelerators.lock": ["cuda", "tpu"]}


def requirements(text):
    lines = (line.split(" #")[0].strip() for line in text.split("\n"))
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def declared(extras):
    """What setup.cfg asks for; an extra may name another one of this package."""
    found = requirements(SETUP["options"]["install_requires"])
    for extra in extras:
        for requirement in requirements(EXTRAS[extra]):
            own = canonicalize_name(requirement.name) == canonicalize_name(
                SETUP["metadata"]["name"]
            )
            found += declared(requirement.extras) if own else [requirement]
    return found


def pins(lock, python):
    """Name -> version of what a lock installs with this Python on Linux."""
    system = {"python_version": python, "python_full_version": f"{python}.0",
              "sys_platform": "linux"}  # fmt: skip
    found = {}
    for line in requirements((ROOT / lock).read_text()):
        if line.marker is None or line.marker.evaluate(system):
            name = canonicalize_name(line.name)
            assert name not in found, f"{name} is pinned twice"
            (pin,) = line.specifier
            assert pin.operator == "==", line
            found[name] = pin.version
    return found


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_all_that_is_declared_and_no_tensorflow(lock, python):
    locked = pins(lock, python)
    for requirement in declared(LOCKS[lock]):
        version = locked.get(canonicalize_name(requirement.name), "none")
        assert version != "none", f"{requirement} is not in {lock}"
        assert requirement.specifier.contains(version), f"{lock} has {version} for {requirement}"
    assert "tensorflow" not in locked


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_agree(python):
    plain, accelerated = (pins(lock, python) for lock in LOCKS)
    shared = plain.keys() & accelerated.keys()
    assert "jaxlib" in shared
    assert {name: plain[name] for name in shared} == {name: accelerated[name] for name in shared}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_says_the_command_that_makes_it(lock):
    command = (ROOT / lock).read_text().splitlines()[1]
    assert command.startswith("#    uv pip compile setup.cfg ")
    assert re.findall(r"--extra (\S+)", command) == LOCKS[lock]
    assert f" --python-version {PYTHONS[0]} " in command
    assert command.endswith(f" -o {lock}")


def test_the_workflow_runs_both_commands_on_every_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == PYTHONS
    assert {one["python"] for one in job["strategy"]["matrix"]["include"]} <= set(PYTHONS)
    commands = [step["run"] for step in job["steps"] if "run" in step]
    readme = (ROOT / "README.md").read_text()
    section = readme.split("\n## Two commands\n")[1].split("```bash\n")[1].split("```")[0]
    assert commands == [line.split("#")[0].strip() for line in section.splitlines()]
