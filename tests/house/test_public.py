"""Each subpackage says what is public: names that are there, and say what they are; the command line stays light."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import sigmascope

PACKAGES = ["sigmascope"] + [
    m.name for m in pkgutil.walk_packages(sigmascope.__path__, "sigmascope.") if m.ispkg and "bundled" not in m.name
]
HEAVY = {"torch", "numpy", "scipy", "numba", "sklearn", "xarray", "matplotlib", "diffusers", "transformers", "PIL"}


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_public_is_there_and_says_what_it_is(name):
    package = importlib.import_module(name)
    assert (package.__doc__ or "").strip(), f"{name} does not say what it is"
    public = getattr(package, "__all__", None)
    assert public is not None, f"{name} does not say what is public: give it __all__"
    assert len(set(public)) == len(public)
    assert set(public) <= set(dir(package))
    for each in public:
        found = getattr(package, each)
        assert not inspect.ismodule(found), f"{name}.{each} is a module, not what it holds"
        if inspect.isclass(found) or inspect.isfunction(found):
            assert inspect.getdoc(found), f"{name}.{each} has no docstring"
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_this_name'"):
        _ = package.nothing_of_this_name


MODULES = [
    m.name for m in pkgutil.walk_packages(sigmascope.__path__, "sigmascope.") if "bundled" not in m.name and not m.ispkg
]
FRONT = {"sigmascope.cli", "sigmascope.console", "sigmascope.arguments", "sigmascope._late", "sigmascope._version"}


def defined(source: str) -> set[str]:
    """The public classes and functions of a module."""
    return {
        n.name for n in ast.parse(source).body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name[0] != "_"
    }


@pytest.mark.parametrize("name", MODULES)
def test_a_module_lists_what_is_public(name):
    source = Path(importlib.util.find_spec(name).origin).read_text(encoding="utf-8")
    if "\n__all__ = " not in source:
        assert name not in FRONT
        assert not name.startswith("sigmascope.commands.")
        return
    listed = set(importlib.import_module(name).__all__)
    assert defined(source) <= listed
    assert not [n for n in listed if n[0] == "_" and not n.startswith("__")]


def test_help_is_printed_without_heavy_libraries():
    code = "import sys\nfrom sigmascope.cli import main\n"
    code += "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
    code += f"sys.exit(' '.join(sorted({HEAVY!r} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "study" in done.stdout
    assert done.returncode == 0 or not done.stderr.strip(), f"loaded for the help: {done.stderr}"
