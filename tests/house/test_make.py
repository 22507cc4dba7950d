"""The Makefile says in one line what is wanting; workflows and hooks run what it runs."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess

import pytest

from conftest import ROOT


def make(folder, python):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return subprocess.run(
        ["make", "install", f"PYTHON={python}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},  # the tests may run under make
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            'case "$2" in *version_info*) exit 1;; *platform*) echo 3.9.2;; esac',
            "3.9.2: Python 3.11 or newer is needed",
        ),
        ('case "$2" in *ensurepip*) exit 1;; esac', "has no venv module: install it"),
    ],
)
def test_python_that_will_not_do(tmp_path, script, words):
    fake = tmp_path / "python9"
    fake.write_text(f"#!/bin/sh\n{script}\nexit 0\n")
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    done = make(tmp_path, fake)
    assert done.returncode != 0
    assert words in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
    assert not (tmp_path / ".venv").exists()


def test_no_python_at_all(tmp_path):
    done = make(tmp_path, tmp_path / "nothing")
    assert done.returncode != 0
    assert "is not found: install Python 3.11 or newer" in done.stdout


def test_workflows_run_targets_that_exist():
    """On each Python that the package is for; the hooks before a commit are those of `make lint`."""
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]
    asked = {step["run"] for job in jobs.values() for step in job["steps"] if step.get("run", "").startswith("make ")}
    assert {"make test", "make lint", "make docs"} <= asked
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert {line.split()[1] for line in asked} <= targets
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert [hook["entry"].split("/")[-1] for hook in hooks] == ["ruff check", "ruff format --check", "mypy"]
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(form.read_text(encoding="utf-8"))


def test_docs_are_built_without_warnings():
    assert "sphinx -W --keep-going" in (ROOT / "Makefile").read_text(encoding="utf-8")
