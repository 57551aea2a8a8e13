"""Every module of the package, every config and every script can be imported on this Python."""

import importlib

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.every_python

FILES = [
    *sorted((ROOT / "cifar_cnn").rglob("*.py")),
    *sorted((ROOT / "configs").glob("*.py")),
    *sorted((ROOT / "scripts").glob("*.py")),  # Those in peers/ need the packages of [bench].
]
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_imported(name):
    importlib.import_module(name.removesuffix(".__init__"))
