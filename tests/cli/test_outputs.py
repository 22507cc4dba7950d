"""What a run writes and prints survives a full disk, a kill inside a write, and outputs that are closed or narrow."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from diffusers import DDPMScheduler

from sigmascope.checks import Row, Verdict, header, table
from sigmascope.checks.rows import Outcome
from sigmascope.cli import main
from sigmascope.console import spelled
from sigmascope.report.sheets import Sheet, guarded
from sigmascope.studies import store
from sigmascope.studies.translating import translate

QUICK = ("--draws", "8", "--levels", "5")
STUDY = ("study", "DATA", *QUICK)
COMMANDS = {
    "study": STUDY,
    "generate": ("generate", "DATA", "--n", "2", "--steps", "4"),
    "fork": ("fork", "DATA", "--sampler", "sde", "--forks", "3", "--seeds", "2", "--steps", "4"),
    "train": (
        *("train", "DATA", "--network", "mlp", "--width", "8", "--depth", "1", "--steps", "8", "--warmup", "2"),
        *("--batch", "8", "--classifier-steps", "4", "--checkpoint-seconds", "0"),
    ),
}
POSITIONS = {"study": 7, "generate": 4, "fork": 3, "train": 8}  # writes inside of which a run is killed


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "good.npz"
    rng = np.random.default_rng(0)
    names = {"=1+2": np.arange(40) % 2, "b": np.array(["+x", "-1", "@y", "z"])[np.arange(40) % 4]}
    np.savez(path, images=rng.integers(0, 255, (40, 4, 4), dtype=np.uint8), **names)
    return path


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """A checkpoint at every step."""
    monkeypatch.setattr("sigmascope.studies.run.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("sigmascope.studies.following.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("sigmascope.studies.training.time.monotonic", lambda: 0.0)  # the card says how long it took
    for module in ("report.page", "studies.store", "studies.training"):
        monkeypatch.setattr(f"sigmascope.{module}.rendered", lambda figure, kind: kind.encode())  # drawing takes long


def command(name, good, out):
    return [*(str(good) if c == "DATA" else c for c in COMMANDS[name]), "--out", str(out)]


def test_a_figure_is_the_same_each_time(good, tmp_path, monkeypatch):
    monkeypatch.undo()
    for name in ("a", "b"):
        assert main(command("fork", good, tmp_path / name)) == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole(good, tmp_path_factory):
    """What each command writes, in one go: its files, and the names in the order in which they are written."""
    found = {}

    def of(name):
        if name not in found:
            out, order, real = tmp_path_factory.mktemp("whole") / name, [], store._write

            def noted(folder, file, writer):
                order.append(file)
                real(folder, file, writer)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(store, "_write", noted)
                assert main(command(name, good, out)) == 0
            found[name] = files(out), order
        return found[name]

    return of


def full(monkeypatch, at):
    """The write of this number meets a full disk: what it writes goes to /dev/full."""
    real, count = tempfile.mkstemp, [0]

    def mkstemp(**where):
        handle, path = real(**where)
        if Path(where["dir"]).name != "fonts":
            count[0] += 1
        if count[0] == at:
            os.unlink(path)
            os.symlink("/dev/full", path)
        return handle, path

    monkeypatch.setattr(store.tempfile, "mkstemp", mkstemp)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_at_every_file(name, good, whole, tmp_path, monkeypatch, capsys):
    """One line with the path, status 2; with space, the same command comes to the same bytes."""
    wanted, order = whole(name)
    out = tmp_path / "out"
    seen = set()
    for at, file in enumerate(order, 1):
        if file in seen and at > 4:
            continue  # a checkpoint is like the one before it
        seen.add(file)
        capsys.readouterr()
        with monkeypatch.context() as patch:
            full(patch, at)
            folder = out / str(at)
            assert main(command(name, good, folder)) == 2, file
        said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("sigmascope: ")]
        assert len(said) == 1
        assert said[0].startswith(f"sigmascope: {folder / file}: ")
        assert os.strerror(errno.ENOSPC) in said[0]
        assert not [p for p in folder.rglob(".part-*") if p.is_file()]
        assert main(command(name, good, folder)) == 0
        assert files(folder) == wanted


@pytest.mark.parametrize(("name", "at"), [(n, k) for n, most in POSITIONS.items() for k in range(1, most + 1)])
def test_a_kill_inside_a_write(name, at, good, whole, tmp_path, monkeypatch):
    """Between the opening of a file and its renaming; the run goes on to the same bytes."""
    wanted, order = whole(name)
    real, count = os.replace, [0]

    class Killed(BaseException):
        pass

    def replace(source, target):
        count[0] += 1
        if count[0] == 1 + (at - 1) * len(order) // POSITIONS[name]:
            left = Path(source).with_name(f".part-{2**22 + 1}-left{Path(source).suffix}")  # of a process that is gone
            left.write_bytes(Path(source).read_bytes()[:100])
            raise Killed
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            main(command(name, good, tmp_path / "out"))
    assert main(command(name, good, tmp_path / "out")) == 0
    assert files(tmp_path / "out") == wanted


_KILLER = """
import os, signal, sys
from sigmascope.cli import main
import sigmascope.studies.run as c
c.CHECKPOINT_SECONDS = 0.0
import sigmascope.report.page as page
page.rendered = lambda figure, kind: kind.encode()
real, left = os.replace, [int(sys.argv[1])]
def replace(source, target):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
main(sys.argv[2:])
"""


def test_sigkill_inside_a_write(good, whole, tmp_path):
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", _KILLER, "3", *command("study", good, out)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert [p for p in out.iterdir() if p.name.startswith(".part-")]
    assert main(command("study", good, out)) == 0
    assert files(out) == whole("study")[0]


_UNDRAWN = """
import sys, sigmascope.report.page as page
from sigmascope.cli import main
page.rendered = lambda figure, kind: kind.encode()
sys.exit(main())
"""
RUN = f'"{sys.executable}" -c "{_UNDRAWN}"'


def shell(line, **environment):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONIOENCODING"} | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(["bash", "-c", line], capture_output=True, env=env, timeout=300, check=False)


@pytest.mark.parametrize(
    ("end", "status", "out", "said"),
    [
        (">&-", 0, b"", b"Open"),
        ("2>&-", 0, b"attribute", b""),
        (">&- 2>&- <&-", 0, b"", b""),
        (">/dev/full", 2, b"", b"sigmascope: standard output: No space left on device"),
        ("2>/dev/full", 0, b"attribute", b""),
        ("| true; exit ${PIPESTATUS[0]}", 141, b"", b""),
        ("2>&1 | true; exit ${PIPESTATUS[0]}", 141, b"", b""),
    ],
)
def test_outputs_that_take_nothing_cost_no_study(good, tmp_path, end, status, out, said):
    folder = tmp_path / "out"
    if "| true" in end:  # the reader has left before the study begins
        end = end.replace("| true", "| (exec <&-; sleep 0)")
    done = shell(f'{RUN} study "{good}" {" ".join(QUICK)} --out "{folder}" {end}')
    assert done.returncode == status, done.stderr
    assert done.stdout.startswith(out)
    assert said in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert (folder / "report.html").exists()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_narrow_encodings(good, tmp_path, encoding):
    done = shell(f'{RUN} study "{good}" {" ".join(QUICK)} --out "{tmp_path / "o"}"', PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode(encoding).splitlines()
    sigma = "σ" if encoding == "utf-8" else "sigma"
    assert lines[0].startswith(f"attribute  {sigma} at 10 %")
    assert set(lines[1]) == {"─" if encoding == "utf-8" else "-"}
    assert all(row[lines[0].index(f"{sigma} at 50 %") - 1] == " " for row in lines[2:4])  # columns stay aligned
    assert (tmp_path / "o" / "report.html").exists()


class Narrow:
    """A standard output that has no Greek letters."""

    encoding = "ascii"


def test_tables_stay_aligned_where_signs_become_words(tmp_path, monkeypatch):
    """Widths are those of what is printed: of a level's units, and of what is measured beside what is demanded."""
    DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    index = {"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    row = Row("row", "statement", "reference", "system", "spoiled", lambda _: Outcome(0.0, 0.0))
    outcomes = [Outcome(0.5 * k, 2.0, 0.1 * (k < 2), 1.0, at_least=k == 1) for k in range(3)]

    def printed() -> tuple[list[str], list[str]]:
        checked = [header(), *(table(Verdict(row, o, 0.0)).splitlines()[0] for o in outcomes)]
        units = translate(str(tmp_path), "", "", 50).splitlines()
        return [spelled(line) for line in checked], [spelled(line) for line in units]

    wide = printed()[1]
    monkeypatch.setattr(sys, "stdout", Narrow())
    checked, units = printed()
    monkeypatch.undo()
    assert "".join(checked + units).isascii()
    assert len({len(line) for line in units}) == 1 == len({len(line) for line in wide})
    assert len(units[0]) > len(wide[0])
    assert len({line.index(" 2.0000") for line in checked[1:]}) == 1
    assert len({line.rindex("+/- 0.1") + 7 for line in checked[1:3]} | {checked[0].index("error") + 5}) == 1


def test_words_for_signs(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Narrow())
    assert spelled("σ ≥ 2 ± ½, π → ∞: é") == "sigma >= 2 +/- 1/2, pi -> inf: \\xe9"
    assert spelled("μ and Ω") == "mu and omega"


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "no_backend"])
def test_the_backend_of_a_notebook(good, tmp_path, backend):
    code = "import sys, sigmascope as s; ax = s.plot(s.study(sys.argv[1], sampling=s.Sampling(4, 4)))\n"
    code += "ax.figure.savefig(sys.argv[2])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(good), str(tmp_path / "x.png")], capture_output=True, text=True, check=False,
        env=os.environ | {"MPLBACKEND": backend},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+2", "'=1+2"), ("+x", "'+x"), ("-x", "'-x"), ("@y", "'@y"), ("\t=1", "'\t=1"), (" =1", "' =1"),
        ("＝1", "'＝1"),
        ("-1", "-1"), ("-0.5", "-0.5"), ("+3e-4", "+3e-4"), ("a=b", "a=b"), ("", ""), (-2.5, -2.5), (None, None),
    ],
)  # fmt: skip
def test_cells_are_no_formulas(cell, written):
    assert guarded(cell) == written


def test_names_in_tables_are_no_formulas(whole):
    for name in ("study", "generate", "fork"):
        tables = {n: b for n, b in whole(name)[0].items() if n.endswith(".csv")}
        assert tables
        for sheet in tables.values():
            for row in csv.reader(sheet.decode().splitlines()):
                for cell in row:
                    assert cell == guarded(cell)
    sheet = Sheet()
    sheet.writerow(["=cmd|' /C calc'!A0", -1.5])
    assert sheet.getvalue() == "'=cmd|' /C calc'!A0,-1.5\n"
