"""A part of tests/kills.py: runs that are killed, or that meet a full disk, come to the same bytes."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from pathlib import Path

import kills

KILLS = Path(kills.__file__)


def test_a_part_of_the_kills():
    words = ("--kills", "2", "--seed", "3", "--only", "study", "--only", "generate", "--only", "fork")
    done = subprocess.run([sys.executable, str(KILLS), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 faults") == 3


def test_a_full_disk_while_studies_are_compared():
    done = subprocess.run(
        [sys.executable, str(KILLS), "--kills", "0", "--full", "--only", "compare"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "compare    0 faults" in done.stdout


def test_faults_are_seen(tmp_path, monkeypatch):
    """A program that leaves a file out where the disk is full, and one that does not go on from where it was."""
    fill = kills._fill

    def careless(at, log):
        def before():
            fill(at, log)()
            from sigmascope.studies import store

            whole = store._write

            def write(*what):
                with contextlib.suppress(OSError):
                    whole(*what)

            store._write = write

        return before

    kills.load()  # once, and not in every process that is forked
    found = kills.inputs(tmp_path, ["study"])
    monkeypatch.setattr(kills, "_fill", careless)
    faults = kills.full("study", found, tmp_path, 2)
    assert any("status 0" in x for x in faults)

    real = kills.forked
    calls = []

    def other(words, *rest, **more):
        calls.append(words)
        return real([*words, "--seed", str(len(calls))] if len(calls) == 1 else words, *rest, **more)

    monkeypatch.setattr(kills, "forked", other)
    assert any("other bytes" in x for x in kills.killed("study", found, tmp_path, 1, random.Random(0)))
