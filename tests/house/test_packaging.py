"""The package as it is built: without a warning, with all that belongs to it; and it runs from another folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import numpy as np
import pytest

import lowest
from conftest import ROOT

LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "*.egg-info", "__pycache__", ".*_cache", "build", "dist")
NOTHING_TO_EXCLUDE = "warning: no previously-included files matching"
"""What setuptools prints where a fresh copy holds no compiled files that MANIFEST.in could leave out."""
BUILD = "import setuptools.build_meta as b; print(b.build_{kind}('dist'))"


def done(*command, **options):
    out = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    assert out.returncode == 0, out.stdout + out.stderr
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the sources, with a wheel and an sdist in its dist/."""
    folder = tmp_path_factory.mktemp("built") / "sources"
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
    for kind in ("sdist", "wheel"):
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        out = done(sys.executable, "-c", BUILD.format(kind=kind), cwd=folder, env=env)
        lines = [line for line in (out.stdout + out.stderr).splitlines() if re.search("warning|deprecat", line, re.I)]
        assert not [line for line in lines if not line.startswith(NOTHING_TO_EXCLUDE)]
    return folder


def test_the_wheel_holds_what_it_needs(built):
    (wheel,) = (built / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(n).decode() for n in names if n.endswith("METADATA"))
    package = ROOT / "src" / "sigmascope"
    sources = {p.relative_to(package.parent).as_posix() for p in package.rglob("*") if p.is_file()}
    assert {n for n in sources if "__pycache__" not in n} == {n for n in names if ".dist-info/" not in n}
    assert {"sigmascope/py.typed", "sigmascope/learn/bundled/model.safetensors"} <= names
    assert "License-Expression: MIT" in metadata
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_the_sdist_holds_tests_documents_and_changelog(built):
    (sdist,) = (built / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    for part in ("tests", "docs", "examples", "benchmarks"):
        here = {p.relative_to(ROOT).as_posix() for p in (ROOT / part).rglob("*") if p.is_file()}
        assert {n for n in here if "__pycache__" not in n and "_cache/" not in n} <= names
    assert {"CHANGELOG.md", "LICENSE", "README.md", "Makefile", "constraints.txt", "pyproject.toml"} <= names
    assert not [n for n in names if "__pycache__" in n]


def test_the_installed_package_runs_from_another_folder(built, tmp_path):
    (wheel,) = (built / "dist").glob("*.whl")
    python = tmp_path / "env" / "bin" / "python"
    done(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    home = done(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    # What it depends on is that of this environment; its own installation, if there is one, comes after the wheel's.
    (tmp_path / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.copy(tmp_path / "outer.pth", home)
    done(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")} | {"OMP_NUM_THREADS": "1"}
    program = python.with_name("sigmascope")
    assert done(program, "--version", cwd=tmp_path, env=env).stdout.startswith("sigmascope ")
    where = done(python, "-c", "import sigmascope as s; print(s.__file__, s.__version__)", cwd=tmp_path, env=env).stdout
    assert where.startswith(home)
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).random((12, 4, 4)), a=np.arange(12) % 2)
    study = ["study", "x.npz", "--draws", "8", "--levels", "6", "--out", "out"]
    done(program, *study, cwd=tmp_path, env=env)
    assert (tmp_path / "out" / "report.html").exists()
    data = done(python, "-m", "sigmascope", "study", "scenes", "--size", "16", "--model", "bundled", "--dry-run",
                "--draws", "2", cwd=tmp_path, env=env)  # fmt: skip
    assert "bundled" in data.stdout


def test_lowest_versions():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(line.split("==") for line in lowest.lowest(pyproject, constraints))
    tested = lowest.pinned(constraints)
    assert pins["torch"] == tested["torch"]
    assert pins["tyro"] == "0.9.15"
    assert "sigmascope[models]" not in pins
    for name, version in pins.items():
        assert numbers(version) <= numbers(tested[name]), name
    with pytest.raises(ValueError, match="expected the form name>=version"):
        lowest.lowest('[project]\ndependencies = ["numpy"]\noptional-dependencies = {}\n', "")


def numbers(version):
    return [int(x) for x in version.split(".")[:3]]
