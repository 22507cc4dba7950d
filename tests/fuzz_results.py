"""Bent specifications, results and options: every run ends in a status and at most one line, without a traceback.

    python tests/fuzz_results.py --runs 500 --seed 1

A kind of input is registered by one line: ``@bent("name")`` over a function from a random generator and a folder to a
command.  A run that raises, says more than a line, takes longer than 10 s (of the processor) or 2 GB more than before
is printed with its number, by which ``--only`` repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from sigmascope.cli import main

SECONDS, BYTES = 10.0, 2_000_000_000
Command = list[str]
KINDS: dict[str, Callable[[np.random.Generator, Path], Command]] = {}


def bent(name: str) -> Callable[[Callable[[np.random.Generator, Path], Command]], Callable]:
    """Register a kind of bent input."""

    def register(make: Callable[[np.random.Generator, Path], Command]) -> Callable:
        KINDS[name] = make
        return make

    return register


def prepare(folder: Path) -> None:
    """A data file and two small studies of it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 4, 4), dtype=np.uint8)
    np.savez(folder / "data.npz", images=images, a=np.arange(40) % 2, b=np.arange(40) % 3)
    for name, seed in (("one", "0"), ("two", "1")):
        quick = ["--draws", "8", "--levels", "5", "--seed", seed]
        assert said(["study", str(folder / "data.npz"), *quick, "--out", str(folder / name)])[0] == 0


def said(command: Command) -> tuple[int, str, str]:
    """Status, output and errors of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(command)
        except SystemExit as stop:
            status = int(stop.code or 0)
    return status, out.getvalue(), err.getvalue()


_LITERALS = (
    *("nan", "inf", "-inf", "1e400", "1" + "0" * 30, "-1", "0", "true", '""', '"x\\u0000y"', "[]", "{}", "1979-05-27"),
    *('"' + "y" * 500 + '"', "[" * 200 + "]" * 200, "[1, 2]", '["a", "a"]', "1.5", '"scenes"', "9" * 5000, "'''\n'''"),
)
_WORDS = (
    *("nan", "inf", "-inf", "1e400", "1" + "0" * 30, "-1", "0", "", "x", "a", "heldout", "posterior", "1.5", "a,a"),
    *("𝔘", "a:bins=0", "a+b", "../..", "scenes ", "-", "--", "9" * 5000, "\udcff", "forks", "=", "a=b", "10**30", "2"),
)


@bent("spec.toml")
def spec(rng: np.random.Generator, folder: Path) -> Command:
    lines = (folder / "one" / "spec.toml").read_text(encoding="utf-8").splitlines()
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(lines)))
        key, equal, _ = lines[at].partition(" = ")
        way = rng.integers(6)
        if way < 3 and equal:
            lines[at] = f"{key} = {_LITERALS[rng.integers(len(_LITERALS))]}"
        elif way == 3:
            del lines[at]
            lines = lines or [""]
        elif way == 4:
            lines.insert(at, lines[int(rng.integers(len(lines)))])
        else:
            lines[at] = lines[at][: rng.integers(len(lines[at]) + 1)] + "".join(map(chr, rng.integers(1, 300, 3)))
    text = "\n".join(lines) if rng.random() > 0.02 else "x = " + "[" * 100_000
    path = folder / "bent.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return ["study", "--spec", str(path), "--out", str(folder / "new"), "--dry-run"]


def _bend(rng: np.random.Generator, ds: xr.Dataset) -> xr.Dataset:
    names = sorted(map(str, ds.variables))
    name = names[rng.integers(len(names))]
    v = ds[name]
    way = rng.integers(10)
    if way == 0:
        return ds.drop_vars(name)
    if way == 1 and v.ndim > 1:
        return ds.assign({name: v.transpose(*v.dims[::-1])})
    if way == 2:
        return ds.assign({name: (v.dims, v.values.astype(str))})
    if way == 3 and v.ndim:
        return ds.isel({v.dims[0]: slice(0, int(rng.integers(0, 3)))})
    if way == 4 and v.dtype.kind == "f" and v.ndim and v.size:
        bad = v.values.copy()
        bad.flat[int(rng.integers(bad.size))] = (np.nan, np.inf, -np.inf, -1.0, 0.0, 1e300)[rng.integers(6)]
        return ds.assign_coords({name: (v.dims, bad)}) if name in ds.coords else ds.assign({name: (v.dims, bad)})
    if way == 5 and v.ndim:
        return ds.rename_dims({v.dims[0]: "other"}) if v.dims[0] not in ds.coords else ds.drop_vars(v.dims[0])
    if way == 6 and v.ndim:
        order = rng.permutation(v.sizes[v.dims[0]])
        return ds.isel({v.dims[0]: order})
    if way == 7:
        attrs = dict(ds.attrs)
        key = sorted(attrs)[rng.integers(len(attrs))]
        attrs[key] = (-1, 2.5, "x", "y" * 100_000, [1.0, 2.0], np.nan)[rng.integers(6)]
        return ds.drop_attrs(deep=False).assign_attrs(attrs)
    if way == 8:
        key = sorted(ds.attrs)[rng.integers(len(ds.attrs))]
        return ds.drop_attrs(deep=False).assign_attrs({k: x for k, x in ds.attrs.items() if k != key})
    kinds = [k for k in (np.int8, np.float32, bool, np.complex64) if v.dtype.kind in "fiub"]
    return ds.assign({name: v.astype(kinds[rng.integers(len(kinds))])}) if kinds else ds


@bent("results.nc")
def results(rng: np.random.Generator, folder: Path) -> Command:
    source, target = folder / "one" / "results.nc", folder / "bent"
    target.mkdir(exist_ok=True)
    path = target / "results.nc"
    whole = bytearray(source.read_bytes())
    if rng.random() < 0.7:
        with contextlib.suppress(Exception), xr.open_dataset(source, engine="h5netcdf") as opened:
            ds = opened.load()
            for _ in range(rng.integers(1, 3)):
                ds = _bend(rng, ds)
            whole = bytearray(ds.to_netcdf(engine="h5netcdf"))
    else:
        for _ in range(rng.integers(1, 30)):
            whole[int(rng.integers(len(whole)))] = int(rng.integers(256))
        if rng.random() < 0.3:
            whole = whole[: int(rng.integers(len(whole)))]
    path.write_bytes(whole)
    ways = (
        ["advise", str(target)],
        ["advise", str(target), "--keep", "a", "--redraw", "b", "--json"],
        ["compare", str(path), str(folder / "two"), "--out", str(folder / f"compared{rng.integers(1 << 40)}")],
    )
    return ways[rng.integers(3)]


@bent("options")
def options(rng: np.random.Generator, folder: Path) -> Command:
    data, out = str(folder / "data.npz"), str(folder / f"out{rng.integers(1 << 40)}")
    study = (
        *("attributes", "draws", "levels", "sigma-min", "sigma-max", "seed", "size", "law", "estimators", "forks"),
        *("model", "labeller", "steps", "null-class", "target-stderr", "budget", "like", "device", "spec"),
    )
    known = {
        "study": ([data, "--dry-run"], study),
        "advise": ([str(folder / "one")], ("keep", "redraw", "probability", "model", "steps", "estimator")),
        "compare": ([str(folder / "one"), str(folder / "two"), "--out", out], ("estimator",)),
        "translate": (["--model", str(folder)], ("sigma", "step", "timestep", "strength", "percent", "steps")),
    }
    name = list(known)[rng.choice(4, p=[0.7, 0.1, 0.1, 0.1])]
    first, those = known[name]
    more = [x for _ in range(rng.integers(1, 4)) for x in (f"--{rng.choice(those)}", _WORDS[rng.integers(len(_WORDS))])]
    return [name, *first, *more]


def complaint(command: Command) -> str:
    """What is wrong with how a command ended; empty: nothing."""
    begun, worked, before = time.monotonic(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        status, _, err = said(command)
    except Exception:
        return traceback.format_exc()
    if status not in (0, 2):
        return f"status {status}: {err}"
    if status == 2 and (len(err.strip().splitlines()) != 1 or not err.startswith("sigmascope: ") or len(err) > 2000):
        return f"not one line: {err[:2000]}"
    if time.process_time() - worked > SECONDS or time.monotonic() - begun > 6 * SECONDS:  # others may use the machine
        return f"it took {time.monotonic() - begun:.0f} s"
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return f"it took {grown / 1e9:.1f} GB" if grown > BYTES else ""


def run(folder: Path, seed: int, runs: range) -> list[str]:
    """Complaints of some runs of a seed."""
    found = []
    for number in runs:
        rng = np.random.default_rng([seed, number])
        name = list(KINDS)[number % len(KINDS)]
        command = KINDS[name](rng, folder)
        if said_wrong := complaint(command):
            found.append(f"{name} {number}: {' '.join(command)[:500]}\n{said_wrong}")
    return found


if __name__ == "__main__":
    faulthandler.enable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        prepare(Path(place))
        first, last = (0, given.runs) if given.only is None else (given.only, given.only + 1)
        faults = run(Path(place), given.seed, range(first, last))
    print("\n\n".join(faults))
    print(f"{given.runs} runs, {len(faults)} faults")
    sys.exit(bool(faults))
