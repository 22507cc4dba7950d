"""Damaged inputs of every reader, always the same ones: each ends in one line or in success."""

from __future__ import annotations

import os
import subprocess
import sys

from conftest import ROOT

RUNS, SEED = 60, 0


def test_damaged_inputs():
    """In a process of its own: it parts in two for every run."""
    command = [sys.executable, str(ROOT / "tests" / "fuzz.py"), "--runs", str(RUNS), "--seed", str(SEED)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout
    assert f"{RUNS} runs in" in done.stderr
    assert "0 of them ended badly" in done.stderr


def test_what_it_would_find():
    """Commands that raise, hang, end by a signal or print two lines are distinguished."""
    script = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import fuzz
import sigmascope.cli as cli
import sigmascope.studies.study

def odd(arguments):
    if arguments == ["raise"]:
        raise ZeroDivisionError
    if arguments == ["hang"]:
        time.sleep(60)
    if arguments == ["kill"]:
        os.kill(os.getpid(), signal.SIGSEGV)
    if arguments == ["much"]:
        bytearray(1 << 31)
    print("sigmascope: one", file=sys.stderr)
    if arguments == ["two"]:
        print("two", file=sys.stderr)
    return 2

cli.main = odd
for way in ("raise", "hang", "kill", "much", "two", "good"):
    print(way, fuzz.run([way], seconds=2.0, extra=1 << 30).strip().splitlines()[-1:])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT / "tests")], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == [
        "raise ['ZeroDivisionError']",
        "hang ['it did not end within 2 s']",
        "kill ['it was ended by signal 11']",
        "much ['MemoryError']",
        "two ['two']",
        "good []",
    ]
