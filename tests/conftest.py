"""Shared fixtures.  Types and shapes of the package are checked while the tests run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

import blank
import scheduling
import typechecking

typechecking.install()

# The same command gives the same numbers, also here.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only files that are quick, and one study of each kind")
    parser.addoption("--store-seconds", action="store_true", help="write what each file takes to tests/seconds.json")


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # of xdist: the order is that of pytest_collection_modifyitems
    if config.getoption("--store-seconds") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(scheduling.Clock())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    file = collection_path
    if config.getoption("--fast") and file.is_file() and file.is_relative_to(ROOT):
        return None if scheduling.holds_fast(file.relative_to(ROOT).as_posix()) else True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--fast"):
        config.hook.pytest_deselected(items=[item for item in items if not scheduling.is_fast(item.nodeid)])
        items[:] = [item for item in items if scheduling.is_fast(item.nodeid)]
    if hasattr(config, "workerinput"):
        scheduling.longest_first(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    typechecking.next_test()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, object, object]:
    """What the tests of a file share is made without drawing its figures, in the files that say so."""
    with blank.undrawn_figures(request.scope == "module" and blank.shared(request.node.nodeid)):
        return (yield)


@pytest.fixture(autouse=True)
def figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures are blank in tests that ask for other things than what is drawn."""
    with blank.undrawn_figures(blank.blank(request.node.nodeid)):
        yield


def lacking(reason: str) -> None:
    """Skip for want of something; in CI nothing may be wanting."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, but {reason}")
    pytest.skip(reason)


@pytest.fixture
def shared() -> Path:
    """The folder of real data beside the checkout."""
    if not (SHARED / "data").is_dir():
        lacking(f"the real data are not at {SHARED}")
    return SHARED


@pytest.fixture
def chromium() -> str:
    """Path of a Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        lacking("no Chromium is installed (Debian: apt install chromium)")
    assert path is not None
    return path
