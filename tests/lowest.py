"""Prints the lowest version of each dependency that pyproject.toml declares, as pins for ``pip install``.

``make test-lowest`` installs them.  torch is the exception: its old releases exist only as builds of several gigabytes,
so it stays at the version of constraints.txt.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINNED = ("torch",)
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "beartype", "filterpy", "playwright", "ruff", "mypy")
"""What runs the tests, and does not belong to the package: at the versions of constraints.txt."""


def lowest(pyproject: str, constraints: str) -> list[str]:
    """The pins, from the texts of the two files.

    Raises: ValueError for a requirement that has no lower bound, or another form than ``name>=version``.
    """
    project = tomllib.loads(pyproject)["project"]
    wanted = [*project["dependencies"], *(w for extra in project["optional-dependencies"].values() for w in extra)]
    tested = dict(line.split("==") for line in constraints.splitlines() if "==" in line)
    pins = {}
    for requirement in wanted:
        if requirement.startswith("sigmascope["):
            continue
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", requirement)
        if match is None:
            raise ValueError(f"{requirement}: expected the form name>=version")
        name, version = match.groups()
        pins[name] = tested[name] if name in (*PINNED, *TOOLS) and name in tested else version
    return [f"{name}=={version}" for name, version in pins.items()]


if __name__ == "__main__":
    print("\n".join(lowest((ROOT / "pyproject.toml").read_text(), (ROOT / "constraints.txt").read_text())))
