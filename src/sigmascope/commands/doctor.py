"""The command ``doctor``."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from sigmascope._version import VERSION

__all__ = ["Command", "run", "self_check"]

_SIGMA = (3.0, 0.4)
_NATS = (0.0526716, 0.6759426)  # ln 2 - E ln(1 + exp(-2 (1 + sigma n) / sigma^2)), by quadrature
_DRAWS = 5000


@dataclass(frozen=True)
class Command:
    """Test the installation: versions, devices, caches, a short study.

    Prints what sigmascope runs on, and does a small exact study whose answer is known in closed form. Takes about ten
    seconds and needs no network. The exit status is 0 where all is well, and 1 where something is wrong.

    Try it: sigmascope doctor
    """


def run(command: Command) -> int:
    """Print the report.

    Returns: the exit status.
    """
    problems: list[str] = []
    for title, value, problem in _findings():
        print(f"{title:16} {value}", flush=True)
        problems += [problem] if problem else []
    print("\n".join(f"\nproblem: {problem}" for problem in problems) or "\nAll is well.")
    return 1 if problems else 0


def _findings() -> Iterator[tuple[str, str, str]]:
    """Each line of the report: its title, what is here, and what is wrong with it."""
    yield "sigmascope", f"{VERSION}, in {Path(__file__).parents[1]}", ""
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", ""
    yield from _packages()
    try:
        import torch
        from matplotlib import get_cachedir
    except ImportError as error:
        yield "imports", "failed", f"a package cannot be imported ({error}): install sigmascope again"
        return
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    yield "devices", ", ".join(["cpu", *(f"cuda:{k} ({name})" for k, name in enumerate(gpus))]), ""
    asked = os.environ.get("OMP_NUM_THREADS")
    limit = f", OMP_NUM_THREADS={asked}" if asked else ""
    yield "threads", f"{torch.get_num_threads()} of torch, {os.cpu_count()} processors{limit}", ""
    package = Path(__file__).parents[1]
    compiled = os.environ.get("NUMBA_CACHE_DIR") or (package if os.access(package, os.W_OK) else Path.home() / ".cache")
    yield _cache("numba", Path(compiled), "each run compiles again: set NUMBA_CACHE_DIR")
    yield _cache("matplotlib", Path(get_cachedir()), "each run looks for fonts again: set MPLCONFIGDIR")
    hub = os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")
    yield "hub", f"{hub} (used by models hub:OWNER/NAME alone)", ""
    yield "browser", "not needed: a page is one HTML file, for any browser", ""
    begun = time.monotonic()
    problem = self_check()
    yield "self-check", problem or f"ok ({time.monotonic() - begun:.1f} s)", problem


def _packages() -> Iterator[tuple[str, str, str]]:
    """Every package that sigmascope needs or can use, with its version."""
    for requirement in requires("sigmascope") or []:
        match = re.match(r"([\w.-]+)>=([\w.]+)(?:;extra==['\"](\w+)['\"])?", requirement.replace(" ", ""))
        extra = match[3] if match else "test"
        if match is None or extra in ("test", "docs"):
            continue
        name, least = match[1], match[2]
        try:
            here = version(name)
        except PackageNotFoundError:
            remedy = f"pip install '{f'sigmascope[{extra}]' if extra else name}'"
            yield name, f"not installed{f'; optional: {remedy}' if extra else ''}", "" if extra else f"{name}: {remedy}"
            continue
        old = _numbers(here) < _numbers(least)
        problem = f"{name} {here} is older than {least}: pip install '{name}>={least}'" if old else ""
        yield name, here, problem


def _numbers(text: str) -> tuple[int, ...]:
    """A version as numbers that can be compared."""
    return tuple(map(int, re.findall(r"\d+", text.partition("+")[0])[:3]))


def _cache(name: str, folder: Path, otherwise: str) -> tuple[str, str, str]:
    """The line of a folder that holds what later runs use again."""
    state = "writable" if os.access(folder, os.W_OK) else f"not writable: {otherwise}"
    return f"{name} cache", f"{folder} ({state})", ""


def self_check() -> str:
    """A small exact study against a closed form; what is wrong, or nothing."""
    try:
        import numpy as np

        from sigmascope.studies.options import Sampling
        from sigmascope.studies.study import study

        sampling = Sampling(draws=_DRAWS, levels=2, sigma_max=_SIGMA[0], sigma_min=_SIGMA[1])
        results = study(
            np.array([[-1.0], [1.0]]), labels={"sign": [0, 1]}, sampling=sampling, estimators="posterior", device="cpu"
        )
        for sigma, true in zip(_SIGMA, _NATS, strict=True):
            row = results.sel(attribute="sign", estimator="posterior").sel(sigma=sigma, method="nearest")
            value, error = float(row.information), float(row.stderr)
            if not abs(value - true) < 5.0 * error:
                return f"the information at sigma {sigma:g} is {value:.4f} ± {error:.4f} nats, but {true:.4f} is true"
    except Exception as error:  # whatever is wrong is the answer
        return f"a small study failed: {type(error).__name__}: {error}"
    return ""
