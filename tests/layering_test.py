"""A file imports only from lower floors."""

import ast

import pytest

from tests.conftest import ROOT

# The floor of every module of the package; files of one folder may import one another.
FLOORS = {
    0: {"abort", "backend", "checks", "formats", "machine", "versions"},
    1: {
        "files", "hosts", "images", "layers", "leftovers", "lock", "mesh", "rng", "signals",
        "window",
    },
    2: {
        "augment", "checkpoint", "cli", "data", "datasets", "events", "filters", "losses",
        "metrics", "models", "optim", "peers", "progress", "record", "rundir", "state",
    },
    3: {"report", "steps"},
    4: {"experiment"},
    5: {
        "compare", "describe", "evaluate", "explain", "explore", "filtering", "flags", "launch",
        "predict", "runs", "scaling", "seeds", "shift", "train",
    },
    6: {"benchmark", "main", "page", "torture"},
}  # fmt: skip
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}


def unit(path):
    """'data' for cifar_cnn/data.py, 'models' for cifar_cnn/models/plain.py."""
    parts = path.relative_to(ROOT / "cifar_cnn").with_suffix("").parts
    return parts[0]


def imported(tree):
    """Names of the package's units that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] in ("configs", "scripts", "tests"):
                yield parts[0]
            if parts[0] == "cifar_cnn" and len(parts) > 1 and parts[1] != "__version__":
                yield parts[1]


FILES = sorted(p for p in (ROOT / "cifar_cnn").rglob("*.py") if unit(p) != "__init__")


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])
def test_imports_come_from_lower_floors(path):
    own = FLOOR_OF[unit(path)]
    for name in imported(ast.parse(path.read_text())):
        if name == unit(path):
            continue
        if name == "configs":
            assert unit(path) in ("flags", "main"), "only main.py and flags.py know the configs"
            continue
        assert FLOOR_OF[name] < own, f"{path.name} on floor {own} imports {name}"


def test_nothing_imports_main_but_scripts_and_tests():
    for path in FILES:
        assert "main" not in imported(ast.parse(path.read_text()))


def test_no_file_is_long():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 350, path
