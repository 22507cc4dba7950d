"""The site is built without a warning, and its inventory holds every public name and every option."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys

import pytest

import shown
from conftest import ROOT
from sigmascope.commands import COMMANDS

PACKAGES = sorted(p.stem for p in (ROOT / "docs" / "reference").glob("sigmascope*.rst"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    if importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("myst_parser") is None:
        pytest.skip("sphinx is not installed: pip install 'sigmascope[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(out / "trees")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(out / "html")], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


@pytest.fixture(scope="module")
def inventory(site):
    """The names of the site, by their kind."""
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as file:
        return {kind: set(names) for kind, names in InventoryFile.load(file, "", os.path.join).items()}


def test_every_public_name_is_described(inventory):
    names = {name for kind, of in inventory.items() if kind.startswith("py:") for name in of}
    public = {f"{package}.{n}" for package in PACKAGES for n in importlib.import_module(package).__all__}
    assert public <= names, sorted(public - names)
    assert len(public) > 150


def test_every_package_has_a_page():
    from pkgutil import walk_packages

    import sigmascope

    found = ["sigmascope"] + [m.name for m in walk_packages(sigmascope.__path__, "sigmascope.") if m.ispkg]
    public = [name for name in found if getattr(importlib.import_module(name), "__all__", ())]
    assert sorted([*public, "sigmascope.core"]) == PACKAGES


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_described(command, inventory):
    """As the help has it: the page is made from the help, by a reader of its own."""
    options = set(re.findall(r"^│ (?:-h, )?(--[a-z][a-z-]*)", shown.help_of(command), re.M))
    assert "--help" in options
    described = {name.removeprefix(f"sigmascope-{command}.") for name in inventory["std:cmdoption"]}
    assert options <= described, sorted(options - described)


def test_nothing_is_fetched_by_a_reader(site):
    """Pages load no script, style, picture or font from another host."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|link)\b[^>]*(?:src|href)=\"(?:https?:)?//[^\"]*\"", text), page.name


def test_a_formula_is_shown_as_one(site):
    assert "<math" in (site / "reference" / "sigmascope.html").read_text(encoding="utf-8")


def test_an_option_is_shown_with_its_type_and_its_text(site):
    """Without the marks of the command line, and without a type made of the words before a colon."""
    page = (site / "reference" / "sigmascope.html").read_text(encoding="utf-8")
    entry = page.partition('id="sigmascope.ForkOptions.forks"')[2].partition("</dd>")[0]
    text = " ".join(re.sub(r"<[^>]+>", "", entry).split())
    assert "forks: int = 0" in text
    assert "for the estimator forks: at least as many as the attribute has values." in text
    assert "stands for the default: 64; for a pipeline 16." in text
    assert "tyro" not in page


def test_docstrings_are_linked(site, monkeypatch):
    """An object is named where it is defined, or by its name alone, and described in another module."""
    page = (site / "reference" / "sigmascope.html").read_text(encoding="utf-8")
    for target in ("core.html#sigmascope.core.ItemSource", "data.html#sigmascope.data.from_array"):
        assert f'href="sigmascope.{target}"' in page or f'href="#sigmascope.{target.rpartition(".")[2]}"' in page
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    names = importlib.import_module("public_names")
    assert names.described("sigmascope.adapters.models.load_model") == "sigmascope.load_model"
    assert names.described("sigmascope.learn.neural.NeuralDenoiser.load") == "sigmascope.NeuralDenoiser.load"
    assert names.described("SamplesPosterior") == "sigmascope.core.SamplesPosterior"
    assert names.described("sigmascope.nothing.Of") == names.described("torch") == ""


def test_docstrings_are_read_as_they_are_written(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    docstrings = importlib.import_module("docstrings")
    lines = ["What.", "Returns: shape (rows,", "    more).", "Text.", ":math:`a` is so.", "Raises: InputError."]
    assert docstrings.fielded(lines) == [
        "What.", "", ":Returns: shape (rows,", "    more).", "", "Text.", ":math:`a` is so.", "", ":Raises: InputError."
    ]  # fmt: skip
    assert docstrings.fielded(["Errors: small.", "Valid when: so."]) == [":Errors: small.", ":Valid when: so."]
    assert docstrings.default_of("sigmascope.ForkOptions.forks") == (
        "``0`` stands for the default: 64; for a pipeline 16."
    )
    assert docstrings.default_of("sigmascope.Sampling.draws") == ""
    assert docstrings.escaped("(rows, *event) of ``*a`` and *this*") == r"(rows, \*event) of ``*a`` and *this*"
