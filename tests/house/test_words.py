"""Words that gave way to the field's: nowhere in the package, its tests, its documents; and names that say nothing."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

from conftest import ROOT
from words import EMPTY, OLD

QUOTED = re.compile(r"“[^”]*”|Latent Abstractions in|calls attributes \*latent abstractions\*")
"""The paper's own words, where they are quoted, and its title."""
_OLD = re.compile(rf"(?<![a-z])({'|'.join(OLD)})s?(?![a-z])", re.I)
_HERE = {Path(__file__).relative_to(ROOT).as_posix(), "tests/words.py"}


def of_text(text: str) -> list[str]:
    """The old words of a text, each with its line, and what it is called now."""
    found = []
    for n, line in enumerate(text.splitlines(), 1):
        for word in _OLD.findall(QUOTED.sub("", line)):
            found.append(f"line {n}: {word.lower()}: say {OLD[word.lower()]}")
    return found


def of_names(text: str) -> list[str]:
    """The empty names of a program: variables, arguments, attributes and functions, whole or as a part."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    names = [(t.start[0], t.string) for t in tokens if t.type == tokenize.NAME]
    return [f"line {n}: the name {name}" for n, name in names if name.strip("_") in EMPTY]


def files() -> list[str]:
    """All that is read by people."""
    of = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    of += [p for place in ("src", "tests", "benchmarks", "examples") for p in (ROOT / place).rglob("*.py")]
    return sorted(p.relative_to(ROOT).as_posix() for p in of if p.relative_to(ROOT).as_posix() not in _HERE)


@pytest.mark.parametrize("file", files())
def test_old_words_are_gone(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    off = of_text(text) + (of_names(text) if file.startswith("src/") else [])
    assert not off, f"{file}: {'; '.join(off[:10])}"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("def is_told(x): ...", 1), ('"""What the untold model knows."""', 1), ("x = 1  # of a Recogniser", 1),
        ("abstractions and guessers", 2), ("# the paper's “abstraction”", 0), ("a bold, unfolded recognition", 0),
        ("toldot = untoldable", 0), ("told_apart", 1),
    ],
)  # fmt: skip
def test_an_old_word_is_seen(text, count):
    assert len(of_text(text)) == count


def test_an_empty_name_is_seen():
    assert len(of_names("found = f(said=1)\nself._mine = whose\n")) == 4
    assert of_names("# what is said and found\nfoundation = 'mine'\n") == []
