"""No line of this project runs code, or starts a shell, that was made from data."""

import ast

import pytest

from tests.conftest import ROOT

# Modules that run what they read.
MODULES = {
    "cPickle", "cloudpickle", "code", "codeop", "dill", "joblib", "jsonpickle", "marshal", "pickle",
    "pty", "runpy", "shelve", "yaml",
}  # fmt: skip
BUILTINS = {"__import__", "compile", "eval", "exec", "input"}
# Of any module or object: starts a shell or another program by its name, unpacks archives to where
# they please, or leaves a moment in which another may take the name of a file.
METHODS = {
    "execl", "execv", "execve", "execvp", "extractall", "getoutput", "getstatusoutput", "mktemp",
    "popen", "spawnl", "spawnv", "spawnvp", "startfile", "system", "unpack_archive",
}  # fmt: skip
OPTIONS = {"shell": True, "allow_pickle": True, "weights_only": False}

FILES = sorted(
    path for folder in ("cifar_cnn", "configs", "scripts") for path in (ROOT / folder).rglob("*.py")
)


def dangers(source):
    """Every use of something above, in words."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (name for name in names if name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            yield from [node.module] if (node.module or "").split(".")[0] in MODULES else []
            yield from (alias.name for alias in node.names if alias.name in METHODS)
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            yield node.id
        elif isinstance(node, ast.Attribute) and node.attr in METHODS | MODULES:
            yield node.attr
        elif isinstance(node, ast.Call):
            for option in node.keywords:
                if option.arg in OPTIONS:
                    constant = isinstance(option.value, ast.Constant)
                    if not constant or option.value.value == OPTIONS[option.arg]:
                        yield f"{option.arg}="


def test_no_file_runs_data():
    found = {path: list(dangers(path.read_text(encoding="utf-8"))) for path in FILES}
    # Runs cifar_cnn.main, whatever it is given.
    assert found.pop(ROOT / "cifar_cnn" / "torture" / "faulty.py") == ["runpy"]
    # Reads bytes whose md5s are known, with its own `find_class`.
    unpickle = ROOT / "cifar_cnn" / "datasets" / "unpickle.py"
    assert found.pop(unpickle) == ["pickle"]
    assert "(pickle.Unpickler)" in unpickle.read_text(encoding="utf-8")
    assert unpickle.read_text(encoding="utf-8").count("pickle.") == 1
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "import numpy, pickle as p", "from pickle import loads", "import os, yaml",
        "eval(text)", "exec(text)", "f = eval", "__import__(name)", "os.system(text)",
        "from os import system", "os.popen(text)", "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=flag)", "np.load(path, allow_pickle=True)",
        "tar.extractall(folder)", "torch.load(path, weights_only=False)",
        "np.compat.pickle.load(file)",
    ],
)  # fmt: skip
def test_what_is_looked_for_is_found(line):
    assert list(dangers(line))


def test_what_is_harmless_is_not():
    assert not list(
        dangers("import pickletools, re\nre.compile(x)\nmodel.compile()\nnetwork.eval()")
    )
    assert not list(dangers("np.load(path, allow_pickle=False)\nsubprocess.run([x], shell=False)"))


def test_shell_scripts_quote_what_they_are_given():
    """No `eval`, and no unquoted argument that a shell would split or expand."""
    for path in (ROOT / "scripts").rglob("*.sh"):
        lines = [line.split("#")[0] for line in path.read_text(encoding="utf-8").splitlines()]
        text = "\n".join(lines)
        assert "eval " not in text, path
        for unquoted in (" $1", " $@", " $*", "=$1"):
            assert unquoted not in text, (path, unquoted)
