"""The scripts that make the environment, on machines with other Pythons, which scripts play.

A player answers as a Python does that is asked what it is, and makes an environment that holds only
itself. The scripts tested are the real ones, in a copy of the repository.
"""

import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PLAYER = """#!/usr/bin/env bash
version=VERSION minor=${version#3.} minor=${minor%.*}
case $1 in
    --version) echo "Python $version" ;;
    -c)
        case $2 in
            *jax.__version__*) echo "jax of $version" ;;
            *) [ "$minor" -ge "$3" ] && [ "$minor" -lt "$4" ] && echo "$version $0" ;;
        esac
        ;;
    -m)
        echo "$version $*" >> CALLS
        case $2 in
            venv)
                [ -z "${NO_VENV:-}" ] && rm -rf "$4" && mkdir -p "$4/bin" &&
                    touch "$4/pyvenv.cfg" && cp "$0" "$4/bin/python" && cp "$0" "$4/bin/ruff"
                ;;
            pip) exit "${PIP_CODE:-0}" ;;
            pytest) echo "7 passed in ${minor}.00s"; [ "${BROKEN:-}" != "$version" ] ;;
        esac
        ;;
esac
"""
SHIM = "#!/usr/bin/env bash\necho 'pyenv: python: command not found' >&2\nexit 127\n"
# Besides these, the machine has what a test adds.
TOOLS = (
    "awk", "bash", "cat", "cksum", "cp", "dirname", "env", "grep", "id", "ls", "mkdir", "mktemp",
    "rm", "sed", "sort", "tail", "tee", "touch", "uname",
)  # fmt: skip
NEWER = {
    "on the PATH": "bin/python3.13",
    "as python3": "bin/python3",
    "in pyenv": ".pyenv/versions/3.13.0/bin/python",
    "in uv": ".local/share/uv/python/cpython-3.13.0-linux-x86_64-gnu/bin/python",
}


class Machine:
    """A home directory with the folder bin/ as the whole PATH, and a copy of the repository."""

    def __init__(self, home: pathlib.Path):
        self.home, self.repo, self.calls = home, home / "repo", home / "calls"
        (home / "bin").mkdir()
        for tool in TOOLS:
            (home / "bin" / tool).symlink_to(shutil.which(tool))
        (self.repo / "scripts").mkdir(parents=True)
        for name in ("setup.cfg", "requirements.lock", *ROOT.glob("scripts/*.sh"), ".ci"):
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, self.repo / source.relative_to(ROOT))

    def add(self, path: str, text: str) -> str:
        """Adds a program to the home directory."""
        program = self.home / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.unlink(missing_ok=True)  # It may be a link to the real one.
        program.write_text(text)
        program.chmod(0o755)
        return str(program)

    def python(self, path: str, version: str) -> str:
        """Adds a Python of this version to the home directory."""
        text = PLAYER.replace("VERSION", version).replace("CALLS", str(self.calls))
        return self.add(path, text)

    def run(self, script: str = "scripts/setup.sh", **variables: str):
        """Runs a script of the repository; returns its exit code, stdout and stderr."""
        done = subprocess.run(
            ["bash", self.repo / script],
            env={"PATH": str(self.home / "bin"), "HOME": str(self.home), **variables},
            capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def installed(self, venv: str = ".venv") -> str:
        """The version of the Python in an environment that is complete."""
        assert (self.repo / venv / "installed").exists()
        player = (self.repo / venv / "bin" / "python").read_text()
        return player.split("version=")[1].split()[0]


@pytest.fixture
def machine(tmp_path):
    """A machine without any Python."""
    return Machine(tmp_path)


def is_refused(done):
    """Whether a script ended with exit code 2 and one line; returns that line."""
    code, out, err = done
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("path", NEWER.values(), ids=NEWER)
def test_a_newer_python_is_found(machine, path):
    machine.python("bin/python3.11", "3.11.7")
    python = machine.python(path, "3.13.0")
    code, out, err = machine.run()
    assert (code, err) == (0, "")
    assert out == f"Python 3.13.0 ({python}): installing into .venv (about a minute and 1 GB)\n"
    assert machine.installed() == "3.13.0"
    pip = [line for line in machine.calls.read_text().splitlines() if " -m pip install " in line]
    assert [line.split()[-2:] for line in pip] == [["-r", "requirements.lock"], ["-e", "."]]


def test_folders_that_variables_name_are_searched(machine):
    machine.python("a/versions/3.12.4/bin/python", "3.12.4")
    machine.python("b/cpython-3.13.1-linux-x86_64-gnu/bin/python", "3.13.1")
    found = machine.run(
        "scripts/pythons.sh",
        PYENV_ROOT=f"{machine.home}/a", UV_PYTHON_INSTALL_DIR=f"{machine.home}/b",
    )[1]  # fmt: skip
    assert [line.split()[0] for line in found.splitlines()] == ["3.13.1", "3.12.4"]


def test_pythons_are_sorted_as_versions_with_one_of_each(machine):
    for version in ("3.9.20", "3.12.3", "3.13.2", "3.13.10", "3.15.0"):
        machine.python(f".pyenv/versions/{version}/bin/python", version)
    first = machine.python("bin/python3", "3.12.3")  # The same is in pyenv, too.
    found = machine.run("scripts/pythons.sh")[1].splitlines()
    newest = machine.home / ".pyenv/versions/3.13.10/bin/python"
    assert found == [f"3.13.10 {newest}", f"3.12.3 {first}"]


@pytest.mark.parametrize("text", [SHIM, "#!/bin/sh\n"], ids=["command not found", "says nothing"])
def test_what_does_not_start_is_no_python(machine, text):
    machine.add("bin/python3.14", text)
    machine.add("bin/python3", text)
    machine.python("bin/python3.12", "3.12.1")
    assert machine.run()[0] == 0
    assert machine.installed() == "3.12.1"


def test_the_question_is_one_that_a_real_python_answers(machine):
    code, out, err = machine.run("scripts/pythons.sh", PYTHON=sys.executable)
    assert (code, err) == (0, "")
    # The one that an environment is made of stays when that environment is made anew.
    assert out == "{}.{}.{} {}\n".format(*sys.version_info[:3], sys._base_executable)


@pytest.mark.parametrize(("missing", "code"), [("venv", 2), ("ensurepip", 2), ("nothing", 0)])
def test_a_python_that_makes_no_environments_does_not_fit(machine, missing, code):
    hidden = f"import sys; sys.modules['{missing}'] = None; exec(sys.argv.pop(1))"
    call = f'#!/bin/sh\nexec {sys.executable} -c "{hidden}" "$2" "$3" "$4"\n'
    done = machine.run("scripts/pythons.sh", PYTHON=machine.add("python", call))
    assert done[0] == code
    if code:
        assert "python3-venv" in is_refused(done)


def test_python_comes_before_all(machine):
    machine.python("bin/python3.13", "3.13.0")
    machine.python("bin/python3.12", "3.12.1")
    other = machine.python("a folder/python", "3.12.9")
    assert machine.run(PYTHON=other)[1].startswith(f"Python 3.12.9 ({other}): ")
    assert machine.installed() == "3.12.9"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("python3.10", "Python 3.10.4"),
        ("python3.14", "command not found"),
        ("nosuch", "not found"),
        ("mute", "does not start"),
    ],
)
def test_a_python_that_was_asked_for_is_never_replaced(machine, name, said):
    machine.python("bin/python3.13", "3.13.0")
    machine.python("bin/python3.10", "3.10.4")
    machine.add("bin/python3.14", SHIM)
    machine.add("bin/mute", "#!/bin/sh\n")
    line = is_refused(machine.run(PYTHON=name))
    assert f"PYTHON={name} " in line
    assert said in line
    assert not (machine.repo / ".venv").exists()


def test_no_python_that_fits_is_one_line_with_what_to_do(machine):
    machine.python("bin/python3", "3.10.4")
    line = is_refused(machine.run())
    for remedy in ("apt-get install", "brew install", "uv python install", "pyenv install"):
        assert remedy in line


@pytest.mark.parametrize(
    ("system", "cpu", "said"),
    [
        ("MINGW64_NT-10.0-22631", "x86_64", "WSL"),
        ("MSYS_NT-10.0-22631", "x86_64", "WSL"),
        ("CYGWIN_NT-10.0-22631", "x86_64", "WSL"),
        ("Darwin", "x86_64", "Intel Macs"),
        ("Darwin", "arm64", None),
        ("Linux", "aarch64", None),
    ],
)
def test_machines_without_wheels_are_told_why(machine, system, cpu, said):
    machine.add("bin/uname", f'#!/bin/sh\n[ "$1" = -m ] && echo {cpu} || echo {system}\n')
    machine.python("bin/python3", "3.13.0")
    if said:
        line = is_refused(machine.run())
        assert said in line
        assert "wheels" in line
    else:
        assert machine.run()[0] == 0


@pytest.mark.parametrize(("version", "notes"), [("3.11.2", 1), ("3.12.1", 0)])
def test_on_3_11_a_newer_python_is_recommended(machine, version, notes):
    machine.python("bin/python3", version)
    assert machine.run()[1].count("newer, faster jax") == notes


def test_an_environment_is_kept_until_another_one_is_asked_for(machine):
    machine.python("bin/python3.13", "3.13.0")
    machine.python("bin/python3.12", "3.12.1")
    assert "3.12.1" in machine.run(PYTHON="python3.12")[1]
    left = machine.repo / ".venv" / "left"
    left.touch()
    assert machine.run() == machine.run(PYTHON="python3.12") == (0, "", "")
    assert left.exists()
    assert "3.13.0" in machine.run(PYTHON="python3.13")[1]
    assert machine.installed() == "3.13.0"
    assert not left.exists()


@pytest.mark.parametrize("name", ["requirements.lock", "setup.cfg"])
def test_changed_requirements_make_it_anew(machine, name):
    machine.python("bin/python3.13", "3.13.0")
    machine.run()
    assert machine.run() == (0, "", "")
    with open(machine.repo / name, "a") as file:
        file.write("\n# changed\n")
    assert "installing" in machine.run()[1]


def test_a_half_made_environment_is_made_anew(machine):
    machine.python("bin/python3", "3.13.0")
    assert machine.run(PIP_CODE="1")[0] != 0
    left = machine.repo / ".venv" / "left"
    left.touch()
    assert "installing" in machine.run()[1]
    assert machine.installed() == "3.13.0"
    assert not left.exists()


def test_a_folder_that_is_no_environment_is_left_alone(machine):
    machine.python("bin/python3", "3.13.0")
    (machine.repo / "mine").mkdir()
    (machine.repo / "mine" / "thesis.tex").touch()
    assert "mine holds files" in is_refused(machine.run(VENV="mine"))
    assert (machine.repo / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize("script", ["quickstart.sh", "test.sh"])
def test_both_commands_use_the_environment_that_is_named(machine, script):
    machine.python("bin/python3", "3.12.1")
    assert machine.run(f"scripts/{script}", VENV="other")[0] == 0
    assert machine.installed("other") == "3.12.1"
    assert not (machine.repo / ".venv").exists()


@pytest.mark.parametrize("broken", ["3.13.0", "3.12.1", None])
def test_ci_tries_every_python_and_says_so(machine, broken):
    machine.python("bin/python3.13", "3.13.0")
    machine.python("bin/python3.12", "3.12.1")
    machine.python("bin/python3.11", "3.11.7")
    code, out, _ = machine.run(".ci/run", BROKEN=broken or "")
    assert code == (1 if broken else 0)
    assert out.splitlines()[-6:] == [
        "Python 3.11.7, jax jax of 3.11.7, tests for every Python:",
        "7 passed in 11.00s",
        "Python 3.12.1, jax jax of 3.12.1, tests for every Python:",
        "7 passed in 12.00s",
        "Python 3.13.0, jax jax of 3.13.0, all tests:",
        "7 passed in 13.00s",
    ]
    pytest_calls = [x for x in machine.calls.read_text().splitlines() if " -m pytest " in x]
    assert [("-m every_python" in x, x.split()[0]) for x in pytest_calls] == [
        (False, "3.13.0"), (True, "3.12.1"), (True, "3.11.7"),
    ]  # fmt: skip


@pytest.mark.parametrize("fault", ["NO_VENV", "PIP_CODE"])
def test_ci_goes_on_where_an_installation_fails(machine, fault):
    machine.python("bin/python3.13", "3.13.0")
    machine.python("bin/python3.12", "3.12.1")
    code, out, _ = machine.run(".ci/run", **{fault: "1"})
    assert code == 1
    assert out.count("failed before any test") == 2
