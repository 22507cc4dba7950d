"""The numbers of a few small runs are those that are kept in gold.json, and a number that is another is noticed.

After a change that is meant to change numbers::

    python tests/gold.py record tests/gold.json --only fast --bare --portable
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

import gold
from conftest import ROOT
from fingerprints import Normal, difference, normalised, summary, tree_leaves, whole_difference
from gold_cases import CASES, FAST
from gold_inputs import MAKERS, REAL
from sigmascope.commands import COMMANDS

KEPT = ROOT / "tests" / "gold.json"
TOLERANCE = 1e-9  # CPUs differ in the order of their sums
X = np.random.default_rng(0).normal(size=40)


def test_numbers_are_those_that_are_kept():
    command = [sys.executable, str(ROOT / "tests" / "gold.py"), "compare", str(KEPT), "--portable"]
    done = subprocess.run([*command, "--tolerance", str(TOLERANCE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    count = int(re.match(r"0 of ([\d,]+) arrays", done.stdout)[1].replace(",", ""))
    assert count > 500
    assert f"in 0 of {len(FAST)} cases" in done.stdout


def kept(leaf):
    return json.loads(json.dumps(summary(leaf)))


def changed(at, by):
    return np.where(np.arange(X.size) == at, X * (1 + by), X)


@pytest.mark.parametrize(
    ("other", "within"),
    [
        (X, True), (X.copy(), True), (changed(0, 1e-13), True), (changed(0, 1e-7), False), (changed(17, 1e-7), False),
        (X[::-1], False), (X[[*range(20), 21, 20, *range(22, 40)]], False), (X.astype(np.float32), False),
        (X.reshape(4, 10), False), (np.where(X.max() <= X, np.nan, X), False), (np.where(X > 1, np.inf, X), False),
    ],
)  # fmt: skip
def test_what_is_another_array(other, within):
    exact = difference(kept(X), kept(other))
    assert (exact is None) == np.array_equal(X, other)
    assert (difference(kept(X), kept(other), TOLERANCE) is None) == within


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (np.array(3), np.array(4)), (np.arange(9), np.arange(9) + 1), (np.arange(9) > 4, np.arange(9) > 5),
        ("red", "green"), ("line\n" * 40, "line\n" * 39 + "lime\n"), (np.array(1.0), "1.0"), (X, "X"),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0])), (np.array([0.0, 2e-8]), np.array([0.0, 1e-8])),
    ],
)  # fmt: skip
def test_what_is_counted_or_said_is_exact(old, new):
    assert difference(kept(old), kept(new), TOLERANCE) is not None
    assert difference(kept(new), kept(old), TOLERANCE) is not None


def test_the_size_of_a_difference_is_named():
    size, said = whole_difference(X, changed(17, 1e-13))
    assert 0 < size < gold.ROUNDING
    assert said.startswith("1 of 40 values, by 9.99e-14 relative at (17,)")
    assert whole_difference(X, changed(3, 0.5))[0] == pytest.approx(1 / 3)
    assert whole_difference("a\nb", "a\nc") == (math.inf, "line 2 was 'b', is 'c'")
    assert whole_difference(np.array(0.0), np.array(-0.0))[0] == 0.0
    assert difference(kept(np.zeros(9)), kept(-np.zeros(9)))[0] == 0.0  # the bytes are others


def test_every_leaf_is_looked_at():
    leaves = {"a": X, "b": "text", "f.svg/axes/0/line 0": X}
    old = json.loads(json.dumps(gold.summaries({"case": leaves})))
    assert gold.differences(old, {"case": leaves}, {}) == []
    for key, leaf in {"a": X + 1, "b": "next", "f.svg/axes/0/line 0": -X, "new": X}.items():
        (off,) = gold.differences(old, {"case": leaves | {key: leaf}}, {"case:a": X})
        assert off[:2] == ("case", key)
    (gone,) = gold.differences(old, {"case": {k: leaves[k] for k in ("a", "f.svg/axes/0/line 0")}}, {})
    assert gone[1:] == ("b", math.inf, "is gone")
    assert gold.differences({}, {"case": leaves}, {})[0][3] == "is not recorded"
    bare = {"case": {k: old["case"][k] for k in "ab"}}
    assert gold.differences(bare, {"case": leaves}, {}) == []


def test_what_a_run_does_not_repeat_is_replaced():
    normal = Normal({"/tmp/x": "WORK", "/tmp/x/in": "IN"})
    assert normalised("a.txt", "/tmp/x/in/y of /tmp/x, 3.4 s, 0.3 nats", normal) == "IN/y of WORK, TIME s, 0.3 nats"
    assert normalised("a.txt", "hierarchy (v=4, m=2, s=2)", normal) == "hierarchy (v=4, m=2, s=2)"
    assert normalised("results.nc/@seconds", np.array(3.0), normal) == normalised("x/seconds", np.array(4.0), normal)
    assert normalised("x/items", np.array(3.0), normal) == 3.0
    found = dict(tree_leaves("j", {"a": [1, 2], "b": [1.0, None], "c": [{"d": True}], "e": ["x", "y"], "f": [[1], []]}))
    assert found["j/a"].dtype.kind == "i"
    assert np.array_equal(found["j/b"], [1.0, np.nan], equal_nan=True)
    assert (found["j/c/0/d"], found["j/e"], set(found)) == (
        True, "x\ny", {"j/a", "j/b", "j/c/0/d", "j/e", "j/f/0", "j/f/1"},
    )  # fmt: skip


def test_the_battery_names_every_command_once_what_it_reads_is_there():
    commands = set(COMMANDS) - {"doctor"}  # what it prints is of the machine
    assert {case.line.split()[0] for case in CASES.values() if not case.python} == commands
    place = {name: k for k, name in enumerate(CASES)}
    for name, case in CASES.items():
        assert all(place[n] < place[name] for n in case.needs()), name
        assert set(case.inputs()) <= {*MAKERS, *REAL}, name
    assert set(FAST) <= set(CASES)
    assert set(json.loads(KEPT.read_text(encoding="utf-8"))) == set(FAST)
    assert gold.wanted(["advise-keep"]) == ["study-blocks", "advise-keep"]
