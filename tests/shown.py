"""What the documents show to be typed: commands, Python, options and names, each with the place where it stands."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from conftest import ROOT

PROGRAMS = {"sigmascope", "python", "python3", "torchrun", "make", "pip", "pytest", "ruff", "mypy"}
SHELLS, PYTHONS, OUTPUTS = {"sh", "bash", "shell", "console"}, {"python", "pycon"}, {"text"}


@dataclass(frozen=True)
class Shown:
    """Something that a document shows.

    Args:
        kind: ``command``, ``name`` (of a command, without more), ``option``, ``python`` or ``toml``.
        text: as it stands, continued lines joined.
        output: what the document shows beside it as its output.
        line: of the document.
    """

    kind: str
    text: str
    output: str = ""
    line: int = 0


def documents(root: Path = ROOT) -> dict[str, str]:
    """The pages that are held to what they show, by their path."""
    pages = [root / "README.md", root / "CONTRIBUTING.md", root / "SECURITY.md"]
    pages += [*sorted((root / "docs").rglob("*.md")), root / "benchmarks" / "README.md"]
    return {str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in pages}


def scripts(root: Path = ROOT) -> dict[str, Path]:
    """The programs of benchmarks/ and examples/, by their path; not the modules that they import."""
    found = [p for folder in ("benchmarks", "examples") for p in sorted((root / folder).glob("*.py"))]
    return {str(p.relative_to(root)): p for p in found if "__main__" in p.read_text(encoding="utf-8")}


def of_page(text: str) -> list[Shown]:
    """All that a page of Markdown shows, in its order."""
    found, prose = [], text
    for fence in re.finditer(r"^(\s*)```(\w*)[^\n]*\n(.*?)^\1```\s*$", text, re.M | re.S):
        indent, language, body = fence.groups()
        body = re.sub(f"^{indent}", "", body, flags=re.M)
        line = text[: fence.start()].count("\n") + 2
        prose = prose.replace(fence[0], re.sub(r"[^\n]", "", fence[0]), 1)
        if language in SHELLS:
            found += [Shown("command", c, o, line + k) for c, o, k in of_shell(body)]
        elif language in PYTHONS or language == "toml":
            found.append(Shown("toml" if language == "toml" else "python", body, "", line))
        elif language in OUTPUTS:
            last = found.pop()  # beside the command before it
            found.append(Shown(last.kind, last.text, body, last.line))
        else:
            raise AssertionError(f"line {line}: a block of {language or 'no language'}: say how it is to be tested")
    found += of_prose(prose)
    return sorted(found, key=lambda s: s.line)


def of_shell(body: str) -> Iterator[tuple[str, str, int]]:
    """Each line of a shell, with its output where the lines begin with a prompt, and where it stands in the block."""
    prompts = bool(re.search(r"^\$ ", body, re.M))
    lines = list(enumerate(body.splitlines()))
    while lines:
        at, line = lines.pop(0)
        if prompts and not line.startswith("$ "):
            raise AssertionError(f"{line!r}: output without a command before it")
        line = line.removeprefix("$ ")
        while _open(line) and lines:
            line = line.removesuffix("\\") + ("" if line.endswith("\\") else "\n") + lines.pop(0)[1].lstrip("> ")
        said = []
        while prompts and lines and not lines[0][1].startswith("$ "):
            said.append(lines.pop(0)[1])
        if bare := _without_comment(line):
            yield bare, "\n".join(said), at


def _open(line: str) -> bool:
    """Whether the shell would go on reading."""
    return line.endswith("\\") or _quoted(line, len(line))


def _quoted(line: str, place: int) -> bool:
    """Whether a place of a line is within quotes."""
    within = ""
    for i, c in enumerate(line[:place]):
        if c in "'\"" and within in ("", c) and line[i - 1 : i] != "\\":
            within = "" if within else c
    return bool(within)


def _without_comment(line: str) -> str:
    for mark in re.finditer(r"(?:^|(?<=\s))#", line):
        if not _quoted(line, mark.start()):
            return line[: mark.start()].strip()
    return " ".join(line.split()) if "\n" not in line else line.strip()


def of_prose(prose: str) -> Iterator[Shown]:
    """Inline code that is a command, the name of one, or options."""
    for code in re.finditer(r"(?<!`)(`+)(?!`)((?:(?!\n\s*\n).)+?)(?<!`)\1(?!`)", prose, re.S):
        text = " ".join(code[2].replace("\\|", "|").split())
        line = prose[: code.start()].count("\n") + 1
        words = text.split(" ")
        if Path(words[0]).name in PROGRAMS and len(words) > 1:
            named = words[0] == "sigmascope" and len(words) == 2 and text != "sigmascope check"
            yield Shown("name" if named else "command", text, "", line)
        elif words[0].startswith("--") or (len(words) > 1 and words[1].startswith("--")):
            yield Shown("option", text, "", line)


def of_help(said: str) -> list[Shown]:
    """Examples of a command's help: lines of their own, after a word or two and a colon.

    Raises: AssertionError for a command with options that stands anywhere else.
    """
    found = []
    for line in said.split("╭")[0].splitlines():
        example = re.fullmatch(r"\s*(?:[A-Z][^:`]*: )?((?:sigmascope|torchrun|python|make) \S.*?)\s*", line)
        if example:
            found.append(Shown("command", example[1]))
        elif not line.startswith("usage:") and (stray := re.search(r"(sigmascope|torchrun) \w+ [^.;]*--\w+", line)):
            raise AssertionError(f"{stray[0]!r}: give it a line of its own, after a colon, so that it can be tried")
    return found


@cache
def help_of(command: str) -> str:
    """What ``sigmascope COMMAND --help`` prints."""
    from sigmascope.cli import main

    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    said.flush()
    said.seek(0)
    return said.read()


def docstring(path: Path) -> str:
    """That of a program."""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def usages(path: Path) -> list[str]:
    """How a program's docstring says that it is called, each in one line."""
    found: list[str] = []
    for line in docstring(path).splitlines():
        if line.startswith("    python "):
            found.append(line.strip())
        elif line.startswith("        ") and found:
            found[-1] += f" {line.strip()}"
    return found


def of_script(path: Path) -> list[Shown]:
    """The whole commands of a program's docstring; one with brackets shows its form alone."""
    return [Shown("command", line) for line in usages(path) if "[" not in line]


def options_of(path: Path) -> set[str]:
    """The options that a program takes."""
    return set(re.findall(r"add_argument\(\s*\"(--[a-z-]+)", path.read_text(encoding="utf-8")))


def is_there(full: str) -> bool:
    """Whether a name with dots stands for something."""
    parts = full.split(".")
    for k in range(len(parts), 0, -1):
        with contextlib.suppress(ImportError):
            found: Any = importlib.import_module(".".join(parts[:k]))
            for part in parts[k:]:
                found = getattr(found, part, None)
            return found is not None
    return False
