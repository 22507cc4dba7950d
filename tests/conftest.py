"""Shared fixtures.  Types and shapes of the package are checked while the tests run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook

install_import_hook("sigmascope", "typechecking.check")

# The same command gives the same numbers, also here.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


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
