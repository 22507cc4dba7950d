"""No method that does something is overridden; a default of one ``return`` may be."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Protocol

import pytest
from torch import nn

import sigmascope

MODULES = sorted(m.name for m in pkgutil.walk_packages(sigmascope.__path__, "sigmascope."))


def function_of(attribute: object) -> Callable[..., object] | None:
    """The function behind an attribute of a class; None where it is no method or property."""
    if isinstance(attribute, (staticmethod, classmethod)):
        attribute = attribute.__func__
    if isinstance(attribute, property):
        attribute = attribute.fget
    if isinstance(attribute, cached_property):
        attribute = attribute.func
    return attribute if inspect.isfunction(attribute) else None


def is_default(function: Callable[..., object]) -> bool:
    """Whether a method only returns an expression: what holds where a class defines nothing else."""
    body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body  # type: ignore[attr-defined]
    return len([s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]) == 1 and (
        isinstance(body[-1], ast.Return)
    )


def overridden(cls: type, root: str = "sigmascope") -> Iterator[str]:
    """Methods and properties of a class that hide one of the package which is neither abstract nor a default.

    Names of the language's own protocols (``__init__`` and the like) are left aside: every class has them from
    ``object``.  So are classes of other libraries, whose methods are made to be overridden (``nn.Module.forward``).
    """
    for name, attribute in vars(cls).items():
        if function_of(attribute) is None or (name.startswith("__") and name.endswith("__")):
            continue
        bases = [b for b in cls.__mro__[1:] if b.__module__.partition(".")[0] == root and name in vars(b)]
        for base in bases:
            of = vars(base)[name]
            bare = getattr(of, "__isabstractmethod__", False) or getattr(base, "_is_protocol", False)
            method = function_of(of)
            if method is not None and not bare and not is_default(method):
                yield f"{cls.__module__}.{cls.__qualname__}.{name} overrides that of {base.__qualname__}"


@pytest.mark.parametrize("module", [m for m in MODULES if not m.endswith("__main__")])
def test_no_method_with_a_body_is_overridden(module):
    found = importlib.import_module(module)
    classes = [c for c in vars(found).values() if inspect.isclass(c) and c.__module__ == module]
    inner = [c for outer in classes for c in vars(outer).values() if inspect.isclass(c) and c.__module__ == module]
    faults = [fault for c in (*classes, *inner) for fault in overridden(c)]
    assert not faults, "; ".join(faults) + ": make the method abstract, and give each class its own"


class _Says(Protocol):
    def words(self) -> str:
        """What it says."""


class _Base(ABC):
    def __init__(self) -> None:
        self.said = ""

    @abstractmethod
    def bare(self) -> str:
        """To be given."""

    @property
    def size(self) -> int:
        size = len(self.said)
        return size

    @classmethod
    def made(cls) -> _Base:
        base = cls()
        return base

    def words(self) -> str:
        """Nothing, where a class says nothing else."""
        return ""


class _Good(_Base, _Says, nn.Module):
    def __init__(self) -> None:
        super().__init__()

    def bare(self) -> str:
        self.said = "x"
        return "x"

    def words(self) -> str:
        return "w"

    def forward(self) -> str:
        return "y"


class _Bad(_Good):
    def bare(self) -> str:
        return "z"

    @property
    def size(self) -> int:
        return 1

    @classmethod
    def made(cls) -> _Base:
        return cls()


def test_an_override_would_be_seen():
    root = __name__.partition(".")[0]
    assert not list(overridden(_Good, root))
    found = [fault.partition(" ")[0].rpartition(".")[2] for fault in overridden(_Bad, root)]
    assert found == ["bare", "size", "made"]
