"""The commands of docs/units.md are run as they stand, on schedulers as it describes them."""

from __future__ import annotations

import re
import shlex

import pytest

from conftest import ROOT
from reader import UNITS, scheduler_folder
from sigmascope.cli import main

PAGE = (ROOT / "docs" / "units.md").read_text(encoding="utf-8")
WORKED = re.findall(r"```sh\n(sigmascope translate .*?)\n```\n\n```text\n(.*?)\n```", PAGE, re.S)


def test_each_family_has_a_worked_line():
    assert len(WORKED) == PAGE.count("```sh") == len(UNITS)
    assert {re.search(r"diffusers:(\S+)", command)[1] for command, _ in WORKED} == set(UNITS)


@pytest.mark.parametrize(("command", "shown"), WORKED)
def test_worked_lines(command, shown, tmp_path, monkeypatch, capsys):
    name = re.search(r"diffusers:(\S+)", command)[1]
    scheduler_folder(name)(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out.rstrip() == shown
