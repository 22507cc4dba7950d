"""The directive ``commands``: a section for every command of the program, read off its own ``--help``."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass, field
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from sigmascope.cli import main
from sigmascope.commands import COMMANDS

_EXAMPLE = re.compile(r"\s*(?:([A-Z][^:`]*): )?((?:sigmascope|torchrun|python|make) \S.*?)\s*")


@dataclass
class Box:
    """A box of the help: its title, what it says of itself, and its options with their texts."""

    title: str
    about: str = ""
    options: list[list[str]] = field(default_factory=list)


def help_of(command: str) -> str:
    """What ``sigmascope COMMAND --help`` prints."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([command, "--help"])
    printed.flush()
    printed.seek(0)
    return printed.read()


def boxes(text: str) -> list[Box]:
    """The boxes of a help.

    A line that begins at the left edge of its box names an option; its text follows on the same line after two spaces,
    or on the next ones.
    """
    found: list[Box] = []
    for line in text.splitlines():
        if title := re.fullmatch(r"╭─ (.*?) ─*╮", line):
            found.append(Box(title[1]))
        elif found and (inside := re.fullmatch(r"│ (.*?) *│", line)):
            _read(found[-1], inside[1])
    return found


def _read(box: Box, line: str) -> None:
    if set(line) == {"─"}:  # what stood above it is about the box
        box.about = " ".join(" ".join(option) for option in box.options).strip()
        box.options.clear()
    elif line.startswith(" ") and box.options:
        box.options[-1][1] = f"{box.options[-1][1]} {line.strip()}".strip()
    elif line:
        name, _, words = line.partition("  ")
        box.options.append([name, words.strip()])


def lines_of(command: str) -> list[str]:
    """The section of one command, as reStructuredText."""
    said = help_of(command)
    head = [" ".join(p.split()) for p in re.split(r"\n\s*\n", said.partition("╭")[0]) if p.strip()]
    usage, *paragraphs = head
    lines = [f".. _command-{command}:", "", command, "-" * len(command), ""]
    lines += [".. code-block:: text", "", f"   {usage.removeprefix('usage: ')}", ""]
    for paragraph in paragraphs:
        example = _EXAMPLE.fullmatch(paragraph)
        if example:
            lines += [f"{escaped(example[1] or 'For example')}:", "", ".. code-block:: sh", "", f"   {example[2]}", ""]
        else:
            lines += [escaped(paragraph), ""]
    lines += [f".. program:: sigmascope {command}", ""]
    for box in boxes(said):
        lines += [f".. rubric:: {box.title[:1].upper()}{box.title[1:]}", "", escaped(box.about), ""]
        for name, words in box.options:
            lines += [f".. option:: {name}", "", f"   {escaped(words)}", ""]
    return lines


def escaped(text: str) -> str:
    """Plain text for reStructuredText."""
    return re.sub(r"([\\*`_|])", r"\\\1", text)


class Commands(SphinxDirective):
    """``.. commands::``"""

    def run(self) -> list[nodes.Node]:
        lines = [line for command in COMMANDS for line in lines_of(command)]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Any) -> dict[str, bool]:
    """Make the directive known to sphinx."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
