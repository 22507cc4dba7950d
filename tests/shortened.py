"""Commands of the documents, run as they stand; of dear ones the text is read as ever, and the work is small."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sigmascope.data.scenes as scenes_module
from conftest import ROOT
from reader import Folder
from sigmascope import cli
from sigmascope.commands import COMMANDS
from sigmascope.studies.options import changed, flat

ITEMS = 1500
"""Scenes in place of 480,000: each value of each attribute is among them."""
_SHELL = set("|&;<>$`(){}*?~!\n")


@dataclass(frozen=True)
class How:
    """How a command is run.

    Args:
        why: it is not run whole; empty: it is.
        sizes: upper limits of numbers among the options, and what other options are set to, once they are read.
        patch: what of the program is made small.
    """

    why: str = ""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    patch: Callable[[pytest.MonkeyPatch, types.ModuleType | None], None] | None = None


@dataclass(frozen=True)
class Done:
    """What a command has left: its status and what it printed."""

    status: int
    out: str
    said: str = ""


def few_scenes(patch: pytest.MonkeyPatch) -> None:
    """Let the scenes be some of the scenes."""
    whole = scenes_module.ScenesSource

    def some(n: int) -> torch.Tensor:
        return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:ITEMS].sort().values

    class Some(whole):  # type: ignore[misc, valid-type]
        def __len__(self) -> int:
            return ITEMS

        def read(self, start: int, stop: int) -> torch.Tensor:
            return self.take(torch.arange(start, stop))

        def take(self, items: torch.Tensor) -> torch.Tensor:
            return super().take(some(super().__len__())[items])

    def of_some(encode: Any) -> Any:
        def encoded(columns: dict[str, np.ndarray], n: int, *rest: Any, **more: Any) -> Any:
            kept = some(n).numpy()
            return encode({k: c[kept] for k, c in columns.items()}, ITEMS, *rest, **more)

        return encoded

    patch.setattr(scenes_module, "ScenesSource", Some)
    for name in ("encode", "encode_reals"):
        patch.setattr(scenes_module, name, of_some(getattr(scenes_module, name)))


def smaller(given: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """What of the options changes: whole numbers above a limit (0 means as many as are needed), the rest as it is."""
    found = {}
    for name, most in sizes.items():
        old = given[name]
        whole = isinstance(most, int) and isinstance(old, int) and not isinstance(most, bool)
        found[name] = (min(old, most) or most) if whole else most
    return found


def run(text: str, folder: Folder, how: How) -> Done:
    """Run a line of a shell in a folder."""
    folder.provide(text)
    parts = list(shlex.shlex(text, posix=True, punctuation_chars=True))
    if _SHELL & set("".join(re.sub(r"'[^']*'|\"[^\"]*\"", "", text))):
        return _of_shell(parts, text, folder, how)
    return _one(shlex.split(text), folder, how)


def _of_shell(parts: list[str], text: str, folder: Folder, how: How) -> Done:
    """A line with a sign of the shell: output into a file, one command after another; all else is the shell's."""
    if "&&" in parts:
        first, rest = text.split("&&", 1)
        done = run(first.strip(), folder, how)
        return done if done.status else run(rest.strip(), folder, how)
    line = re.fullmatch(r"([^|&;<>$`(){}*?~!\n]+)> *(\S+)", text)
    if line is None:
        return _process(["bash", "-c", text], folder)
    done = _one(shlex.split(line[1]), folder, how)
    (folder.path / line[2]).write_text(done.out, encoding="utf-8")
    return done


def _one(words: list[str], folder: Folder, how: How) -> Done:
    program, *rest = words
    if program == "sigmascope":
        return _sigmascope(rest, folder, how)
    if program == "python" and rest[0].endswith(".py"):
        return _script(rest, folder, how)
    if program == "make":
        return _make(words, folder, how)
    if program == "pytest":
        with _within(folder, how) as (patch, *_):
            if how.patch:
                how.patch(patch, None)
            return _process(words, folder)
    if program == "torchrun" and how.why:  # one process in place of several
        from torch.distributed.run import parse_args

        options = parse_args(rest)
        assert options.module
        assert options.training_script == "sigmascope"
        return _sigmascope(options.training_script_args, folder, how)
    return _process(words, folder)


def _process(words: list[str], folder: Folder) -> Done:
    """A process of its own; programs are those of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if shutil.which(words[0], path=path) is None:
        return Done(127, "", f"{words[0]}: command not found")
    source = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PATH": path}
    words = [shutil.which(words[0], path=path) or words[0], *words[1:]]
    done = subprocess.run(words, cwd=folder.path, env=environment, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def _within(folder: Folder, how: How) -> Iterator[tuple[pytest.MonkeyPatch, io.TextIOWrapper, io.TextIOWrapper]]:
    """The reader's folder as the working folder, and what is printed there."""
    out, said = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        patch.chdir(folder.path)
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield patch, out, said


def _printed(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


def _sigmascope(words: list[str], folder: Folder, how: How) -> Done:
    """``sigmascope`` in this process, by its real parser."""
    with _within(folder, how) as (patch, out, said):
        for module in COMMANDS.values():

            def small(command: Any, handler: Any = module.run) -> int:
                known = flat(command)
                if known.get("data", "scenes") != "scenes":
                    known.pop("size")  # other data have their own
                sizes = {k: v for k, v in how.sizes.items() if k in known}
                if known.get("like"):
                    sizes.pop("target_stderr", None)  # the other study's draws say how many calls
                return int(handler(changed(command, **smaller(known, sizes))))

            patch.setattr(module, "run", small)
        if how.patch:
            how.patch(patch, None)
        try:
            status = cli.main(words)
        except SystemExit as stop:  # --help
            status = int(stop.code or 0)
        return Done(status, _printed(out), _printed(said))


def _script(words: list[str], folder: Folder, how: How) -> Done:
    """A program of benchmarks/ or examples/ in this process."""
    path = folder.path / words[0]
    if not path.exists():
        return Done(2, "", f"{words[0]}: No such file")
    with _within(folder, how) as (patch, out, said):
        patch.setattr(sys, "argv", words)
        patch.syspath_prepend(str(path.parent))
        of = importlib.util.spec_from_file_location(f"shown_{path.stem}", path)
        assert of is not None
        assert of.loader is not None
        module = importlib.util.module_from_spec(of)
        patch.setitem(sys.modules, of.name, module)
        of.loader.exec_module(module)
        read = argparse.ArgumentParser.parse_args

        def small(self: argparse.ArgumentParser, *given: Any, **more: Any) -> argparse.Namespace:
            found = read(self, *given, **more)
            sizes = {k: v for k, v in how.sizes.items() if hasattr(found, k)}
            return argparse.Namespace(**(vars(found) | smaller(vars(found), sizes)))

        patch.setattr(argparse.ArgumentParser, "parse_args", small)
        if how.patch:
            how.patch(patch, module)
        try:
            status = int(module.main() or 0)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            print(stop.code, file=sys.stderr)
        return Done(status, _printed(out), _printed(said))


def _make(words: list[str], folder: Folder, how: How) -> Done:
    """The real make, on an environment whose programs note what they are asked; then that, as it was asked."""
    bin_, noted = folder.path / ".venv" / "bin", folder.path / ".venv" / "noted"
    bin_.mkdir(parents=True, exist_ok=True)
    for name in ("python", "sigmascope", "ruff", "mypy"):
        (bin_ / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "{noted}"\n')
        (bin_ / name).chmod(0o755)
    for name in (".installed", ".tested", ".documented"):
        (folder.path / ".venv" / name).touch()
    noted.unlink(missing_ok=True)
    unmade = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}  # the tests may run under make
    made = subprocess.run(words, cwd=folder.path, env=unmade, capture_output=True, text=True, check=False)
    done = Done(made.returncode, made.stdout, made.stderr)
    for line in noted.read_text().splitlines() if noted.exists() else ():
        asked = shlex.split(line)
        if asked[0] in ("ruff", "mypy") or asked[:3] in (["python", "-m", "pytest"], ["python", "-m", "sphinx"]):
            continue  # the suite itself, its style and types, and the site: each has a test of its own
        if not done.status:
            done = _one(asked, folder, how)
    return done
