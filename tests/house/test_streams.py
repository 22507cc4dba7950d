"""Every stream of a seed is named once: what is drawn stands in ``sigmascope.streams``, never as a number at a call."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from conftest import ROOT
from sigmascope.streams import Alone, NoiseOf, SeedOf, Use, seed_of

FILES = sorted((ROOT / "src" / "sigmascope").rglob("*.py"))
DRAWING = {"generator", "Streams", "SeedSequence"}


def bare(source: str) -> Iterator[str]:
    """Calls whose stream is named by a number, or whose first word is a constant of the file that stands for one."""
    tree = ast.parse(source)
    numbers = set()
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                both = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                pairs = zip(target.elts, node.value.elts, strict=False) if both else [(target, node.value)]
                numbers |= {t.id for t, value in pairs if isinstance(t, ast.Name) and _is_number(value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in DRAWING:
            words = [w for a in (*node.args[1:2], *(k.value for k in node.keywords)) for w in _words(a)]
            if _called(node) == "generator":
                words = list(node.args[1:])
            first = words[:1]
            if any(_is_number(w) for w in words) or any(isinstance(w, ast.Name) and w.id in numbers for w in first):
                yield ast.unparse(node)
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Add | ast.BitXor)
            and "seed" in ast.unparse(node.left)
        ):
            shift = node.right
            if any(isinstance(n, ast.Constant) and isinstance(n.value, int) for n in ast.walk(shift)):
                yield ast.unparse(node)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _words(node: ast.expr) -> list[ast.expr]:
    """The words of a key, or of the key of a row where the keys of all rows are written as a list."""
    if isinstance(node, ast.ListComp):
        return _words(node.elt)
    if isinstance(node, ast.List):
        return [w for row in node.elts for w in _words(row)]
    return list(node.elts) if isinstance(node, ast.Tuple) else []


def _is_number(node: ast.expr) -> bool:
    """A number, or a sum or a power of numbers."""
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) and _is_number(node.right)
    return isinstance(node, ast.Constant) and type(node.value) is int


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT / "src" / "sigmascope")))
def test_streams_are_named(path):
    if path.name == "streams.py":
        return
    assert not list(bare(path.read_text(encoding="utf-8")))


def test_a_number_would_be_seen():
    assert list(bare("generator(seed, 7)"))
    assert list(bare("generator(seed, Use.GAPS, 3)"))
    assert list(bare("_A, _B = 7, 8\ngenerator(seed, _A, i)"))
    assert list(bare("x = Streams(seed, [(1, i) for i in y], event)"))
    assert list(bare("x = Streams(seed, [(Use.ROWS, i), (2, i)], event)"))
    assert list(bare("np.random.SeedSequence(seed, spawn_key=(3,))"))
    assert list(bare("draw(spec.seed + (1 << 32))"))
    assert not list(bare("_A = 7\ngenerator(seed, Use.GAPS, _A, i)\ngenerator(seed, i)\nStreams(seed, rows(2), event)"))


@pytest.mark.parametrize("words", [Use, NoiseOf, Alone, SeedOf])
def test_no_number_is_given_twice(words):
    assert len(words) == len({int(w) for w in words.__members__.values()}) == len(words.__members__)


def test_a_further_seed_is_no_seed_of_a_run():
    assert {seed_of(use, 5) % (1 << 32) for use in SeedOf} == {5}
    assert len({seed_of(use, 5) for use in SeedOf} | {5}) == len(SeedOf) + 1
