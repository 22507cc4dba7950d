"""Which room may import which: the table of the design, held; and that no two files import each other in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from conftest import ROOT

PACKAGE = ROOT / "src" / "sigmascope"
WORDS = {
    "_version",
    "arguments",
    "attributes",
    "console",
    "core",
    "curves",
    "device",
    "distributed",
    "errors",
    "limits",
    "paths",
    "rare",
    "streams",
}
"""The ground floor."""
LAWS = WORDS | {"noise", "filtering", "exact", "sample", "data"}
"""What is known exactly, what draws from it, and what is read."""
MAY = {
    "_version": set(),
    "arguments": set(),
    "errors": set(),
    "rare": set(),
    "streams": set(),
    "console": {"errors"},
    "limits": {"errors"},
    "_late": set(),
    "attributes": {"errors"},
    "curves": {"rare"},
    "core": {"attributes", "curves", "errors", "streams"},
    "distributed": {"errors"},
    "device": {"distributed", "errors"},
    "paths": {"core"},
    "noise": {"core", "errors"},
    "filtering": {"noise", "paths"},
    "exact": {"_late", "core", "distributed", "noise"},
    "sample": {"core", "filtering", "noise", "paths", "streams"},
    "data": {"_late", "core", "distributed", "streams"},
    "learn": {"_late", "arguments", "core", "data", "distributed", "errors", "limits", "noise", "streams"},
    "adapters": {"_late", "core", "learn", "noise"},
    "information": LAWS - {"_version", "arguments", "console", "device", "filtering", "limits", "paths"}
    | {"_late", "learn"},
    "mutual": {"_late", "errors", "limits", "streams"},
    "analysis": {"_late", "core", "information", "limits", "noise", "rare"},
    "report": {"_late", "analysis", "console", "core", "information", "mutual"},
    "checks": LAWS - {"_version", "device", "distributed", "limits", "rare"} | {"information"},
    "studies": LAWS | {"_late", "adapters", "analysis", "information", "learn", "mutual", "report"},
    "reproduction": LAWS | {"_late", "analysis", "information", "learn", "report", "studies"},
    "commands": WORDS
    | {"_late", "adapters", "checks", "data", "information", "learn", "noise", "report", "reproduction", "studies"},
    "cli": {"_version", "commands", "console", "distributed", "errors", "studies"},
    "__init__": {"adapters", "_late", "_version", "analysis", "core", "data", "errors", "exact", "information"}
    | {"learn", "mutual", "studies"},
    "__main__": {"cli"},
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, modules: Mapping[str, Path] | None = None) -> Iterator[str]:
    """Modules of the package that a file imports, by their full name."""
    known = modules or {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.partition(".")[0] == "sigmascope")
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                pytest.fail(f"{path.name} imports relatively")
            if str(node.module).partition(".")[0] == "sigmascope":
                for a in node.names:
                    whole = f"{node.module}.{a.name}"
                    yield whole if whole in known else str(node.module)


FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    ".".join(("sigmascope", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): p for p in FILES
}


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Modules that can be reached from themselves: one circle for each that is found, walking down the arrows."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name not in done:
            for other in sorted(arrows.get(name, ())):
                walk(other, [*way, name])
            done.add(name)

    for name in sorted(arrows):
        walk(name, [])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows(path):
    mine = room(path)
    assert mine in MAY, f"{mine} is a new room: say in this table what it may import"
    names = set(imports(path, MODULES))
    assert "sigmascope" not in names, f"{path.name} imports the package's root"
    found = {n.split(".")[1] for n in names} - {mine}
    assert found <= MAY[mine], f"{path.name} imports {sorted(found - MAY[mine])}"


def test_no_room_may_import_all():
    assert all(len(MAY[r]) < len(MAY) - 4 for r in MAY)
    rooms = {r: {s for s in MAY[r] if s in MAY} for r in MAY}
    assert not circles(rooms)


def test_no_circle_of_files():
    arrows = {name: {n for n in imports(path, MODULES) if n != name} for name, path in MODULES.items()}
    found = circles(arrows)
    assert not found, "; ".join(" → ".join(c) for c in found)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_the_table_would_catch_an_arrow(tmp_path):
    bad = tmp_path / "x.py"
    bad.write_text(
        "from sigmascope.studies import results\nimport sigmascope.report.page\nfrom sigmascope import core\n"
    )
    assert set(imports(bad, MODULES)) == {"sigmascope.studies.results", "sigmascope.report.page", "sigmascope.core"}
    bad.write_text("from sigmascope import __version__\n")
    assert set(imports(bad, MODULES)) == {"sigmascope"}


def test_a_circle_would_be_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]
    assert not circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})
