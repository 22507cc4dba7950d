"""The directive ``public-names``: an entry for every name in ``__all__`` of a package, from its docstring.

An object that several packages export is described once, in the package with the shortest name; the others refer to it.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import sys
from functools import cache
from typing import Any

from docutils import nodes
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

import sigmascope

_KINDS = {"exception": "Errors and warnings", "class": "Classes", "function": "Functions", "data": "Constants"}


MODULES = ("sigmascope.core",)
"""Modules that have a page of their own, although they are no packages."""


def packages() -> list[str]:
    """The package, its public subpackages and the modules with a page, by their full names."""
    found = pkgutil.walk_packages(sigmascope.__path__, "sigmascope.")
    names = [m.name for m in found if m.ispkg and "bundled" not in m.name]
    public = [n for n in names if getattr(importlib.import_module(n), "__all__", ())]
    return ["sigmascope", *sorted([*MODULES, *public])]


@cache
def homes() -> dict[int, str]:
    """Where each class and function is described, by the identity of the object."""
    first: dict[int, str] = {}
    for package in sorted(packages(), key=lambda name: (name.count("."), name)):
        module = importlib.import_module(package)
        for name in module.__all__:
            if kind_of(getattr(module, name)) != "data":
                first.setdefault(id(getattr(module, name)), f"{package}.{name}")
    return first


def kind_of(thing: Any) -> str:
    """The word of autodoc for an object."""
    if inspect.isclass(thing):
        return "exception" if issubclass(thing, BaseException) else "class"
    return "function" if inspect.isroutine(thing) else "data"


def entry(package: str, name: str) -> list[str]:
    """The lines of reStructuredText that describe one name, within the package's ``py:module``."""
    thing = getattr(importlib.import_module(package), name)
    kind, full = kind_of(thing), f"{package}.{name}"
    home = homes().get(id(thing), full)
    if home != full:
        return [f".. py:{kind}:: {name}", "", f"   The same as :py:obj:`{home}`.", ""]
    if kind == "data":
        return [f".. py:data:: {name}", "", *(f"   {line}" for line in words_of(name, thing)), ""]
    members = ["   :members:", *inherited(thing)] if kind in ("class", "exception") else []
    return [f".. auto{kind}:: {full}", *members, ""]


def inherited(thing: type) -> list[str]:
    """The option by which a class shows the members of those of its bases that are described nowhere else."""
    bases = thing.__mro__[1:]
    elsewhere = [b for b in bases if id(b) in homes() or not b.__module__.startswith("sigmascope")]
    return [f"   :inherited-members: {','.join(b.__name__ for b in elsewhere)}"] if len(elsewhere) < len(bases) else []


def words_of(name: str, thing: Any) -> list[str]:
    """The docstring below a constant, in the module that defines it."""
    for module in [m for key, m in sorted(sys.modules.items()) if key.startswith("sigmascope")]:
        if getattr(module, "__dict__", {}).get(name) is thing:
            with contextlib.suppress(PycodeError):
                if words := ModuleAnalyzer.for_module(module.__name__).find_attr_docs().get(("", name)):
                    return list(words)
    return []


def described(target: str) -> str:
    """Where an object is described that a docstring names by its module, by its class or by its name alone.

    Returns: the full name of the entry; empty for what is not public.
    """
    name, _, member = target.rpartition(".")
    for owner, rest in ((target, ""), (name, f".{member}")):
        with contextlib.suppress(ImportError, AttributeError, ValueError):
            module, _, last = owner.rpartition(".")
            home = homes().get(id(getattr(importlib.import_module(module), last)))
            if home is not None:
                return home + rest
    return by_name().get(target, "") or (f"{by_name()[name]}.{member}" if name in by_name() else "")


@cache
def by_name() -> dict[str, str]:
    """The full name of each public object whose last name no other has."""
    last = [full.rpartition(".")[2] for full in homes().values()]
    return {n: full for n, full in zip(last, homes().values(), strict=True) if last.count(n) == 1}


def _resolve(app: Any, env: Any, node: Any, text: nodes.Node) -> nodes.Node | None:
    """A link for a name that the domain does not find, as docstrings name objects where they are defined."""
    target = described(node.get("reftarget", "")) if node.get("refdomain") == "py" else ""
    if not target:
        return None
    domain = env.get_domain("py")
    found: nodes.Node | None = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, text)
    return found


class PublicNames(SphinxDirective):
    """``.. public-names:: PACKAGE``"""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = self.arguments[0]
        module = importlib.import_module(package)
        lines = [f".. py:module:: {package}", "", *inspect.cleandoc(module.__doc__ or "").splitlines(), ""]
        for kind, title in _KINDS.items():
            names = sorted((n for n in module.__all__ if kind_of(getattr(module, n)) == kind), key=str.lower)
            if names:
                lines += [f".. rubric:: {title}", ""]
            for name in names:
                lines += entry(package, name)
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Any) -> dict[str, bool]:
    """Make the directive known to sphinx."""
    app.add_directive("public-names", PublicNames)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
