"""Functions stay short enough to be read: 60 lines and 15 branches at most, but where a comment says why."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from conftest import ROOT

LINES, BRANCHES = 60, 15
"""At most; lines of the docstring do not count."""
FILES = sorted((ROOT / "src" / "sigmascope").rglob("*.py"))
_REASON = re.compile(r"# long: \w+")
_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
_FORKS = ast.If | ast.IfExp | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler | ast.match_case


def long_functions(source: str) -> Iterator[tuple[str, int, int]]:
    """Functions over either number for which no reason is given: name, lines, branches.

    The reason stands as ``# long: ...`` on the line of ``def`` or above it.
    """
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _FUNCTION):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            around = [*lines[max(first - 2, 0) : first], *lines[node.lineno - 1 : node.body[0].lineno - 1]]
            found = length(node), branches(node)
            if (found[0] > LINES or found[1] > BRANCHES) and not any(_REASON.search(x) for x in around):
                yield node.name, *found


def length(node: _FUNCTION) -> int:
    """Lines from ``def`` on, less those of the docstring."""
    own = (node.end_lineno or 0) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is not None:
        own -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    return own


def branches(node: ast.AST) -> int:
    """McCabe's number, less one: where a run of the function, without those within it, can go one way or another."""
    found = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _FUNCTION | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(child, ast.comprehension):
            found += len(child.ifs)
        elif isinstance(child, ast.BoolOp):
            found += len(child.values) - 1
        elif isinstance(child, _FORKS):
            found += 1
        found += branches(child)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT / "src" / "sigmascope")))
def test_functions_can_be_read(path):
    assert not list(long_functions(path.read_text(encoding="utf-8")))


def test_a_long_function_would_be_seen():
    body = "\n".join(f"    x{i} = {i}" for i in range(LINES))
    assert [f[:2] for f in long_functions(f"def f():\n{body}\n")] == [("f", LINES + 1)]
    text = "\n".join(["A word."] * LINES)
    assert not list(long_functions(f'def f():\n    """{text}"""\n    return 1\n'))
    assert not list(long_functions(f"# long: one table\ndef f():\n{body}\n"))
    assert not list(long_functions(f"# long: one table\n@kept\ndef f():\n{body}\n"))
    assert not list(long_functions(f"def f():  # long: one table\n{body}\n"))
    assert list(long_functions(f"# long:\ndef f():\n{body}\n")), "a reason is a word at least"


def test_branches_are_counted():
    one = "def f(x, y):\n    if x and y or x:\n        return [a for a in x if a]\n    return 1 if y else 2\n"
    assert branches(ast.parse(one).body[0]) == 5
    inner = "def f(x):\n    def g():\n        if x:\n            return 1\n    for _ in x:\n        pass\n"
    assert branches(ast.parse(inner).body[0]) == 1
    many = "def f(x):\n" + "    if x:\n        pass\n" * (BRANCHES + 1)
    assert list(long_functions(many)) == [("f", 2 * BRANCHES + 3, BRANCHES + 1)]
