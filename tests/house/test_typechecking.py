"""Types and shapes are checked while the tests run: in the first calls of every test, and of nested functions too."""

from __future__ import annotations

import importlib
import sys

import jaxtyping
import numpy as np
import pytest

import typechecking

MODULE = """
from __future__ import annotations
import numpy as np
from jaxtyping import Float

def plain(x: Float[np.ndarray, "n"]) -> float:
    return x.sum() if len(x) < 5 else "many"

def outer(y: object) -> float:
    def inner(x: int) -> float:
        return 1.0
    return inner(y)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "checked_here.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with jaxtyping.install_import_hook("checked_here", "typechecking.check"):
        yield importlib.import_module("checked_here")
    del sys.modules["checked_here"]


def test_what_is_wrong_is_seen_in_the_first_calls(module):
    with pytest.raises(jaxtyping.TypeCheckError):
        module.plain(np.zeros((2, 2)))
    with pytest.raises(jaxtyping.TypeCheckError):
        module.plain(np.zeros(9))
    with pytest.raises(jaxtyping.TypeCheckError):
        module.outer("one")


def test_every_test_checks_again(module):
    for _ in range(typechecking.CALLS + 1):
        module.plain(np.zeros(2))
    assert module.plain(np.zeros(9)) == "many"  # no longer looked at
    for _ in range(typechecking.MADE + 1):
        module.outer(1)
    assert module.outer("one") == 1.0
    typechecking.next_test()
    with pytest.raises(jaxtyping.TypeCheckError):
        module.plain(np.zeros(9))
    with pytest.raises(jaxtyping.TypeCheckError):
        module.outer("one")


def test_the_package_is_checked():
    from sigmascope.noise import sigma_grid

    with pytest.raises(jaxtyping.TypeCheckError):
        sigma_grid("90", 0.01, 5)
