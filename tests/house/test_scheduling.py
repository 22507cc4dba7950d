"""What runs first, what is fast, and that the tables name what is there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import scheduling
from conftest import ROOT


def test_the_longest_file_comes_first_and_a_new_one_is_not_left_to_the_end(monkeypatch):
    monkeypatch.setattr(scheduling, "seconds", lambda: {"a.py": 1.0, "b.py": 50.0, "c.py": 9.0})
    items = [SimpleNamespace(nodeid=x) for x in ("a.py::1", "c.py::2", "b.py::2", "new.py::1", "b.py::1")]
    scheduling.longest_first(items)
    assert [i.nodeid for i in items] == ["b.py::2", "b.py::1", "new.py::1", "c.py::2", "a.py::1"]


def test_what_is_fast(monkeypatch):
    monkeypatch.setattr(scheduling, "seconds", lambda: {"a.py": 1.0, "b.py": 50.0, "c.py": 50.0})
    monkeypatch.setattr(scheduling, "EACH_KIND", ("b.py::test_x", "d.py"))
    fast = ("a.py::test_y", "b.py::test_x", "b.py::test_x[case]", "d.py::test_y")
    assert all(map(scheduling.is_fast, fast))
    assert not any(map(scheduling.is_fast, ("b.py::test_y", "c.py::test_x", "new.py::test_x")))
    assert [f for f in ("a.py", "b.py", "c.py", "d.py") if scheduling.holds_fast(f)] == ["a.py", "b.py", "d.py"]


@pytest.mark.parametrize("name", scheduling.EACH_KIND)
def test_what_the_fast_ones_name_is_there(name):
    file, _, test = name.partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not test or f"def {test}(" in text


def test_times_add_up_by_file(tmp_path, monkeypatch):
    """Of files that are there; what was known of others stays."""
    monkeypatch.setattr(scheduling, "TABLE", tmp_path / "seconds.json")
    monkeypatch.setattr(scheduling, "seconds", lambda: {"tests/house/test_make.py": 3.0, "tests/gone.py": 1.0})
    clock = scheduling.Clock()
    for name, took in (("test_blank.py::a", 1.25), ("test_blank.py::b", 2.0)):
        clock.pytest_runtest_logreport(SimpleNamespace(nodeid=f"tests/house/{name}", duration=took))
    clock.pytest_sessionfinish()
    assert (tmp_path / "seconds.json").read_text(encoding="utf-8") == (
        '{\n "tests/house/test_blank.py": 3.2,\n "tests/house/test_make.py": 3.0\n}\n'
    )
