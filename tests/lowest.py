"""Prints the lowest version of each dependency that pyproject.toml declares, as pins for ``pip install``.

``make test-lowest`` installs them.  torch is the exception: its old releases exist only as builds of several gigabytes,
so it stays at the version of constraints.txt, as do the tools that run the tests and make the documents.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINNED = ("torch",)
TOOLS = ("test", "docs")
"""Extras that hold tools."""


def pinned(constraints: str) -> dict[str, str]:
    """The versions of constraints.txt by name, in lower case and with hyphens."""
    pairs = (line.split("==") for line in constraints.splitlines() if "==" in line)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def lowest(pyproject: str, constraints: str) -> list[str]:
    """The pins, from the texts of the two files.

    Raises: ValueError for a requirement of another form than ``name>=version``.
    """
    project = tomllib.loads(pyproject)["project"]
    tested = pinned(constraints)
    pins = {}
    for extra, requirements in {"": project["dependencies"], **project["optional-dependencies"]}.items():
        for requirement in requirements:
            match = re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement)
            if match is not None:
                name, version = match.groups()
                pins[name] = tested.get(name, version) if extra in TOOLS or name in PINNED else version
            elif not requirement.startswith("sigmascope["):
                raise ValueError(f"{requirement}: expected the form name>=version")
    return [f"{name}=={version}" for name, version in pins.items()]


if __name__ == "__main__":
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "constraints.txt")]
    print("\n".join(lowest(*texts)))
