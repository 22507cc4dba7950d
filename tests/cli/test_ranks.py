"""A study in several processes: the same numbers, a share of the data each, and an end in one line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

import sigmascope.distributed as distributed
from asked import study
from sigmascope.core import InputError
from sigmascope.data import load

WORKER = Path(__file__).with_name("ranks_worker.py")
QUICK = {"draws": 16, "levels": 6, "sigma_min": 0.05, "sigma_max": 20.0}
THREE_BLOCKS = QUICK | {"draws": 24, "estimators": "posterior"}
SAME = 1e-10  # sums of some thousand float64 terms near one, in another order
LARGE = 1 << 28  # bytes


def launch(*command: object, cores: int = 2) -> subprocess.CompletedProcess[str]:
    run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={cores}", *map(str, command)]
    one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *run], env=os.environ | one_thread, capture_output=True, text=True, timeout=120, check=False
    )


def images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    digit = rng.integers(0, 3, n)
    return (rng.integers(0, 150, (n, 6, 6)) + 50 * digit[:, None, None]).astype(np.uint8), digit


def fill(folder: Path) -> None:
    """The data files of all studies."""
    v, digit = images(6000, 0)
    v[7] = v[5000]  # copies in different shares, of different labels
    other = np.arange(6000) % 2
    np.savez_compressed(folder / "packed.npz", images=v, digit=digit, other=other)
    np.savez(folder / "stored.npz", images=v.astype(np.float32) / 255, digit=digit)
    np.savez_compressed(folder / "few.npz", images=v[:900], digit=digit[:900])  # the first rank has none
    bad = v.astype(np.float32)
    bad[4500, 2, 2] = np.nan
    np.savez_compressed(folder / "nan.npz", images=bad, digit=digit)
    flat = np.zeros((LARGE >> 14, 128, 128), np.uint8)
    flat[::100, 3, 3] = 9
    np.savez_compressed(folder / "large.npz", images=flat, half=np.arange(len(flat)) % 2)
    pictures(folder / "pictures.parquet", v[:2500], digit[:2500])
    lacking = np.where(np.arange(6000) % 7 == 0, np.nan, digit)
    np.savez_compressed(folder / "lacking.npz", images=v, digit=lacking)
    np.savez(folder / "missing_stored.npz", images=v, digit=lacking)
    pictures(folder / "missing.parquet", v[:2500], lacking[:2500])


def pictures(path: Path, v: np.ndarray, digit: np.ndarray) -> None:
    """Encoded pictures, one of which, in the last share, has colours."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = []
    for i, pixels in enumerate(v):
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert("RGB" if i == 2300 else "L").save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    pq.write_table(pa.table({"image": pa.array(rows), "digit": digit}), path, row_group_size=700)


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory):
    """Folder of all that two ranks have made, and what each said."""
    folder = tmp_path_factory.mktemp("ranks")
    fill(folder)
    done = launch(WORKER, "everything", folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, [json.loads((folder / f"said{i}.json").read_text()) for i in range(2)]


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same(a: xr.Dataset, b: xr.Dataset) -> None:
    assert a.attrs["data_fingerprint"] == b.attrs["data_fingerprint"]
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        if a[name].dtype.kind == "f":
            np.testing.assert_allclose(a[name].values, b[name].values, rtol=0, atol=SAME, err_msg=str(name))
        else:
            assert np.array_equal(a[name].values, b[name].values)


@pytest.mark.parametrize(
    ("name", "what", "options"),
    [
        ("exact", "packed.npz", {"estimators": ("posterior", "score_gap", "mmse_gap", "filter", "forks")}),
        ("stored", "stored.npz", {}),
        ("heldout", "packed.npz", {"law": "heldout"}),
        ("few", "few.npz", {"estimators": ("posterior", "score_gap", "filter")}),
        ("few_heldout", "few.npz", {"law": "heldout"}),
        ("parquet", "pictures.parquet", {}),
        ("missing", "lacking.npz", {}),
        ("missing_stored", "missing_stored.npz", {}),
        ("missing_pictures", "missing.parquet", {}),
        (
            "hierarchy",
            "hierarchy:v=4,m=2,s=2,L=2",
            {"estimators": ("posterior", "score_gap", "mmse_gap", "filter", "forks")},
        ),
    ],
)
def test_two_ranks_find_the_numbers_of_one_process(shared_run, one_thread, name, what, options):
    folder, _ = shared_run
    alone = study(what if name == "hierarchy" else str(folder / what), **(QUICK | options))
    with xr.open_dataset(folder / f"{name}.nc", engine="h5netcdf") as together:
        same(together, alone)


def test_each_rank_holds_its_share_alone(shared_run):
    folder, said = shared_run
    assert [s["resident"] for s in said] == [LARGE // 2, LARGE // 2]
    for s in said:  # beside its share a rank holds some blocks of 4 MiB on the way
        assert s["grown"] < 3 * LARGE // 4
    alone = load(str(folder / "large.npz"))
    assert [s["fingerprint"] for s in said] == [alone.fingerprint] * 2


def test_every_rank_can_take_items_of_another(shared_run):
    folder, said = shared_run
    items = torch.tensor([5999, 0, 2047, 2048, 0])
    alone = load(str(folder / "packed.npz")).source.take(items).flatten(1).double().sum(1).tolist()
    assert [s["taken"] for s in said] == [alone] * 2


def test_what_one_rank_cannot_use_is_said_on_all(shared_run):
    _, said = shared_run
    assert said[0]["nan.npz"] == said[1]["nan.npz"]
    assert "image 4500 holds a pixel that is not finite" in said[0]["nan.npz"]
    assert "there is no such file" in said[1]["missing.npz"]


def test_ranks_of_one_machine_share_its_memory(shared_run):
    _, said = shared_run
    for s in said:
        assert "needs 0.3 GB of memory and 0.2 GB is free" in s["large.npz"]


@pytest.mark.parametrize(("case", "steps"), [("own", [3, 7]), ("gone", [3, 8]), ("older", [3, 8])])
def test_each_rank_goes_on_from_its_own_checkpoint(shared_run, one_thread, case, steps):
    """Of 6 and 12 steps 3 and 5 were done: each rank is one tile into the second of three blocks.

    A rank whose checkpoint is gone, or is one of the first block, takes that block from the other, and begins the
    second anew.
    """
    folder, said = shared_run
    assert [s[f"{case} steps"] for s in said] == steps
    assert said[0][f"{case} left"] == []
    assert [s["pages"] for s in said] == [[1, 1, 1], []]  # the first rank writes them
    alone = study(str(folder / "packed.npz"), **THREE_BLOCKS)
    with xr.open_dataset(folder / case / "results.nc", engine="h5netcdf") as together:
        same(together, alone)


def test_a_checkpoint_of_another_number_of_processes(shared_run):
    folder, _ = shared_run
    with pytest.raises(InputError, match="had 2 processes: go on with torchrun --nproc-per-node 2, or delete"):
        study(str(folder / "packed.npz"), **THREE_BLOCKS, out=folder / "kept")


def test_a_killed_rank_ends_the_run_which_can_go_on(shared_run, one_thread, tmp_path):
    folder, _ = shared_run
    out = tmp_path / "out"
    options = [f"--{k.replace('_', '-')}={v}" for k, v in THREE_BLOCKS.items()]
    command = ["study", folder / "packed.npz", *options, "--out", out]
    start = time.monotonic()
    killed = launch(WORKER, "killed", folder, *command)
    assert killed.returncode != 0
    assert time.monotonic() - start < 40
    lines = [line for line in killed.stderr.splitlines() if "sigmascope: " in line]
    assert len(lines) == 1
    assert "a rank was lost" in lines[0]
    assert lines[0].endswith(f"the last checkpoint is in {out}; run the same command again to continue")
    assert " of 6 steps" in killed.stderr  # steps of the first rank, which shows its own
    assert "/12 [" not in killed.stderr
    assert "Traceback" not in killed.stderr.partition("torch/distributed/elastic")[0]
    assert (out / "checkpoint-1-of-2.npz").exists()
    again = launch(WORKER, "again", folder, *command)
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stdout.count("attribute ") == 1
    assert (out / "report.html").exists()
    assert not list(out.glob("checkpoint*"))
    with xr.open_dataset(out / "results.nc", engine="h5netcdf") as together:
        same(together, study(str(folder / "packed.npz"), **THREE_BLOCKS))


def test_bad_input_is_said_once(tmp_path):
    done = launch("-m", "sigmascope", "study", tmp_path / "none.npz", "--out", tmp_path / "out")
    assert done.returncode != 0
    assert done.stderr.count("there is no such file") == 1
    assert done.stderr.count("exitcode  : 2") == 2 or "exitcode: 2" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("n", [1, 2047, 2048, 2049, 6000, 480_000])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_shares_are_whole_units_and_nearly_equal(n, world):
    shares = [distributed.rows_of(n, r, world) for r in range(world)]
    assert [i for s in shares for i in (s.start, s.stop)][1:-1] == [i for s in shares[1:] for i in (s.start, s.start)]
    assert shares[0].start == 0
    assert shares[-1].stop == n
    assert all(s.start % distributed.UNIT == 0 for s in shares)
    assert max(map(len, shares)) - min(map(len, shares)) <= distributed.UNIT
