"""What a stranger meets first: the help, the version, the doctor, typing errors, a reader that leaves."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest

import sigmascope
from sigmascope.cli import main
from sigmascope.commands import COMMANDS, PURPOSES, advise, description, doctor, overview
from words import OLD


def printed(capsys, *args, status=0) -> str:
    try:
        done = main(list(args))
    except SystemExit as stop:
        done = int(stop.code or 0)
    out = capsys.readouterr()
    assert done == status, out.err
    return out.out


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_help_has_a_line_for_each_command(capsys, option):
    text = printed(capsys, option)
    assert text == overview() + "\n"
    for name in COMMANDS:
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
        assert line.endswith(description(name).splitlines()[0])
        assert len(line) <= 80
    assert all(f"\n{purpose}:\n" in text for purpose in PURPOSES)
    assert len(text.splitlines()) < 30


def test_the_version(capsys):
    version = importlib.metadata.version("sigmascope")
    assert printed(capsys, "--version") == printed(capsys, "-V") == f"sigmascope {version}\n"
    assert sigmascope.__version__ == version


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_can_be_read(capsys, name):
    text = printed(capsys, name, "--help")
    assert text.startswith(f"usage: sigmascope {name}")
    assert f"Try it: sigmascope {name}" in text
    assert all(
        len(line) <= 80 for line in text.splitlines() if not re.match(r"[\w ]+: (sigmascope|torchrun)|usage", line)
    )
    assert "(default: False)" not in text
    summary, empty, *_ = [*description(name).splitlines(), ""]
    assert summary[-1] in ".?"
    assert not empty
    assert not re.search(rf"\b({'|'.join(OLD)})\b", description(name))


def test_options_of_advice_are_in_groups(capsys):
    text = printed(capsys, "advise", "--help")
    assert all(f"─ {title} options ─" in text for title in ("attribute", "sampler", "output"))
    assert "─ level options ─" in printed(capsys, "translate", "--help")


PROGRAM = [sys.executable, "-m", "sigmascope"]


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["study", "--help"], ["advise", "--help"]])
def test_a_reader_that_leaves_is_no_error(args):
    """The pipe is closed before anything is written to it, or after the first line."""
    for read in (0, 1):
        running = subprocess.Popen([*PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if read:
            assert running.stdout.readline()
        running.stdout.close()
        error = running.stderr.read()
        running.stderr.close()
        assert running.wait(timeout=60) in (0, 141)
        assert error == b""


def test_as_a_module():
    done = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"sigmascope {sigmascope.__version__}\n"


def test_the_doctor_finds_nothing(capsys):
    text = printed(capsys, "doctor")
    assert "\nAll is well." in text
    for title in ("Python", "torch", "devices", "threads", "numba cache", "browser", "self-check"):
        assert re.search(rf"^{title} +\S", text, re.M), title
    assert "pytest" not in text


def test_the_doctor_finds_a_wrong_number(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_NATS", (doctor._NATS[0], doctor._NATS[1] + 0.02))
    text = printed(capsys, "doctor", status=1)
    assert "\nproblem: the information at sigma 0.4 is 0.6" in text
    assert "All is well" not in text


def test_the_doctor_finds_a_study_that_fails_and_packages(capsys, monkeypatch):
    def fails(*args, **options):
        raise RuntimeError("no kernel")

    monkeypatch.setattr("sigmascope.studies.study.study", fails)
    wanted = [
        "torch>=2.4",
        "nothing-here>=1",
        "numpy>=99",
        'absent-too>=2; extra == "models"',
        'pytest>=8; extra == "test"',
    ]
    monkeypatch.setattr(doctor, "requires", lambda _: wanted)
    text = printed(capsys, "doctor", status=1)
    assert "problem: a small study failed: RuntimeError: no kernel" in text
    assert "problem: nothing-here: pip install 'nothing-here'" in text
    assert re.search(r"problem: numpy [\d.]+ is older than 99: pip install 'numpy>=99'", text)
    assert re.search(r"^absent-too +not installed; optional: pip install 'sigmascope\[models\]'$", text, re.M)
    assert text.count("problem: ") == 3


def test_the_closed_form_of_the_doctor():
    import numpy as np

    x, w = np.polynomial.hermite_e.hermegauss(200)
    for sigma, nats in zip(doctor._SIGMA, doctor._NATS, strict=True):
        lost = (w * np.logaddexp(0, -2 * (1 + sigma * x) / sigma**2)).sum() / w.sum()
        assert nats == pytest.approx(np.log(2) - lost, abs=1e-6)


def test_the_table_of_advice():
    from sigmascope.analysis.onset import Quantity
    from sigmascope.studies.advice_kinds import Advice

    def given(kind, name, high, low=None, law="noised images", **more):
        return Advice(
            kind, name, "f", "words", Quantity(high, high, high), low and Quantity(low, low, low), law=law, **more
        )

    advice = [
        given("guidance_interval", "shape", 5.7, 0.737),
        given("sdedit_strength", "shape", 0.887),
        given("guidance_interval", "hue", 21.0),
        Advice("left_out", "hue", "", "no sdedit strength, since ...", law="noised images", reason="..."),
        Advice("sampling_steps", "", "", "put the levels", law="noised images"),
    ]
    head, _, shape, hue, *notes = advise.as_table(advice).splitlines()
    assert head.split("  ")[0] == "attribute"
    assert re.fullmatch(r"shape +5\.70 and 0\.737 +0\.887", shape)
    assert re.fullmatch(r"hue +21\.0 and the end +–", hue)
    assert "All advice holds for noised images." in notes
    assert "A dash stands where none can be given; --words prints why." in notes
    unit = {
        "step": 3,
        "steps": 20,
        "percent": 10.0,
        "timestep": 900.0,
        "step_sigma": 1.0,
        "sigma": 1.0,
        "strength": 0.6,
    }
    advice = [
        given(
            "guidance_interval",
            "shape",
            5.7,
            0.7,
            law="the model's path",
            units={"high": unit, "low": unit | {"step": 9}},
        ),
        given("sdedit_strength", "shape", 0.9, units={"high": unit}),
    ]
    head, _, shape, *notes = advise.as_table(advice).splitlines()
    assert "guide between (a)" in head
    assert "edit from at most (b)" in head
    assert re.fullmatch(r"shape +steps 3 to 9 +strength 0\.6", shape)
    assert "Advice marked (a) holds for the model's path." in notes
    assert "Steps are those of a run of 20." in notes
    assert advise.as_table([]) == "nothing can be advised"


def test_words_and_json_exclude_each_other(capsys, tmp_path):
    assert main(["advise", str(tmp_path), "--words", "--json"]) == 2
    assert "pass one of them" in capsys.readouterr().err
