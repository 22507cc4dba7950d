"""Which room may import which: the table of the design, held."""

from __future__ import annotations

import ast

import pytest

from conftest import ROOT

PACKAGE = ROOT / "src" / "sigmascope"
ALL = {"core", "errors", "noise", "data", "denoisers", "information", "onset", "rare", "studies", "report"}
ALL |= {"limits", "console"}
ALL |= {"adapters", "learn", "paths", "filtering", "checks", "sample", "ranks", "memorisation"}
MAY = {
    "errors": set(),
    "rare": set(),
    "console": {"errors"},
    "limits": {"errors"},
    "core": {"errors", "rare"},
    "ranks": {"errors"},
    "noise": {"core"},
    "paths": {"core"},
    "filtering": {"noise", "paths"},
    "checks": ALL,
    "data": {"core", "ranks"},
    "denoisers": {"core", "noise", "ranks"},
    "learn": {"core", "errors", "limits", "noise", "data", "ranks"},
    "adapters": {"core", "noise"},
    "sample": {"core", "noise", "paths", "filtering"},
    "information": {"core", "noise", "rare", "sample"},
    "onset": {"core", "noise"},
    "memorisation": {"core", "onset"},
    "report": {"core", "console", "onset"},
    "studies": ALL,
    "commands": {"errors"},
    "commands_models": {"commands"},
    "commands_prompts": set(),
    "dry_run": ALL,
    "runs": ALL | {"commands", "commands_models", "commands_prompts", "dry_run"},
    "cli": {"commands", "console", "errors", "ranks", "runs", "studies"},
    "__init__": ALL,
    "__main__": {"cli"},
}


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def imports(path):
    """Rooms of the package that a module imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module] if node.module != "sigmascope" else [f"sigmascope.{a.name}" for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            pytest.fail(f"{path.name} imports relatively")
        for name in names:
            if name.startswith("sigmascope."):
                yield name.split(".")[1]


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows(path):
    mine = room(path.relative_to(PACKAGE).parts)
    assert mine in MAY, f"{mine} is a new room: say in this table what it may import"
    found = {r for r in imports(path) if r != mine and not r.startswith("__")}
    assert found <= MAY[mine], f"{path.name} imports {sorted(found - MAY[mine])}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_the_table_would_catch_an_arrow(tmp_path):
    bad = tmp_path / "x.py"
    bad.write_text("from sigmascope.studies import runner\nimport sigmascope.report.page\n")
    assert set(imports(bad)) == {"studies", "report"}
