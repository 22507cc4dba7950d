"""A source of data is one record: one of a test's own is in the help, is predicted, studied and shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.data import Loader, LoadOptions, from_array, load, loaders

WORDS = "a .toy file with a number and a name a line"


def _read(data: str, wanted: LoadOptions):
    rows = [line.split() for line in Path(data).read_text(encoding="utf-8").splitlines()]
    if not all(len(row) == 2 for row in rows):
        raise InputError(f"{data}: a line does not hold a number and a name: correct it")
    numbers = np.array([float(number) for number, _ in rows], dtype=np.float32)
    named = {"side": [name for _, name in rows]}
    return from_array(numbers[:, None], named, name=Path(data).stem)


@pytest.fixture
def toy(tmp_path):
    """Two points, one of each name, so that the name is one binary symbol under noise."""
    loader = loaders.register(Loader(".toy", WORDS, _read, suffixes=(".toy",)))
    path = tmp_path / "two.toy"
    path.write_text("-1 left\n1 right\n", encoding="utf-8")
    yield path
    loaders.unregister(loader)


def test_a_loader_of_ones_own_is_studied(toy, tmp_path, capsys):
    out, options = tmp_path / "out", ["--draws", "64", "--levels", "6", "--sigma-max", "8", "--sigma-min", ".2"]
    assert main(["study", str(toy), *options, "--dry-run"]) == 0
    assert "side (2)" in capsys.readouterr().out
    assert main(["study", str(toy), *options, "--out", str(out)]) == 0
    found = xr.load_dataset(out / "results.nc", engine="h5netcdf").sel(attribute="side", estimator="posterior")
    assert found.information.values[-1] == pytest.approx(np.log(2), abs=1e-3)
    assert found.information.values[0] < 0.1
    assert str(toy.resolve()) in (out / "spec.toml").read_text(encoding="utf-8")
    assert "side" in (out / "report.html").read_text(encoding="utf-8")


def test_its_words_are_in_the_help_and_in_messages(toy, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    assert WORDS in " ".join(capsys.readouterr().out.replace("│", " ").split())
    with pytest.raises(InputError, match=r"an \.npz, \.parquet, 3D Shapes \.h5 or \.toy file, or a folder of pictures"):
        load(tmp_path / "nothing.toy")
    toy.write_text("1\n", encoding="utf-8")
    assert main(["study", str(toy), "--dry-run"]) == 2
    assert "does not hold a number and a name" in capsys.readouterr().err


def test_what_is_not_registered_is_not_read(tmp_path, capsys):
    path = tmp_path / "two.toy"
    path.write_text("-1 left\n1 right\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"files that end in '\.toy' are not read"):
        load(path)
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    assert ".toy" not in capsys.readouterr().out


def test_a_folder_and_a_word_of_ones_own(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "two.toy").write_text("-1 left\n1 right\n", encoding="utf-8")
    folder = Loader("a folder of a .toy", "…", lambda data, wanted: _read(f"{data}/two.toy", wanted),
                    holds=lambda path: (path / "two.toy").exists())  # fmt: skip
    word = Loader("coin", "…", lambda data, wanted: from_array(np.eye(2, dtype=np.float32), {"face": list("ht")}),
                  word="coin", settings=True)  # fmt: skip
    for loader in (folder, word):
        loaders.register(loader)
    try:
        assert load(tmp_path / "mine").attributes[0].values == ("left", "right")
        assert load("coin:fair=1").attributes[0].values == ("h", "t")
        (tmp_path / "mine" / "two.toy").unlink()
        with pytest.raises(InputError, match="no pictures are found"):
            load(tmp_path / "mine")
        with pytest.raises(InputError, match="--grain is a texture of the scenes"):
            load("coin", grain=True)
    finally:
        for loader in (folder, word):
            loaders.unregister(loader)
    with pytest.raises(ValueError, match="'scenes' is a loader already"):
        loaders.register(Loader("scenes", "…", _read))


def test_help_is_there_before_torch():
    said = "import sys\nfrom sigmascope.data import Loader, register\nfrom sigmascope.cli import main\n"
    said += f"register(Loader('.toy', {WORDS!r}, None, suffixes=('.toy',)))\n"
    said += "try:\n    main(['study', '--help'])\nexcept SystemExit:\n    pass\n"
    said += "sys.exit(sorted({'torch', 'numpy', 'scipy', 'numba', 'PIL'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a .toy file with a number" in done.stdout
