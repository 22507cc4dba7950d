"""Are the numbers of this program the same, to the last digit, as those that were recorded?

Runs a battery of small commands and keeps a fingerprint of everything that they print and write: the exit status,
every variable of every Dataset, every column of every table, every text, and the lines, bands and words of every
figure.  Beside FILE.json lies FILE.npz with all of it, so that a difference is named with its size.

    python tests/gold.py record gold.json
    python tests/gold.py compare gold.json --only study-blocks,advise
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    **{"TQDM_DISABLE": "1", "MPLBACKEND": "Agg", "COLUMNS": "120", "HF_HUB_OFFLINE": "1", "TERM": "dumb"},
}
_PORTABLE = {
    **{"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    **{"OPENBLAS_CORETYPE": "Nehalem", "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}
"""Instructions that every CPU has: products in float32 otherwise differ by 1e-7 from one to the next."""
if __name__ == "__main__":  # before anything reads it
    os.environ.update(_ENVIRONMENT | (_PORTABLE if "--portable" in sys.argv else {}))
    os.environ.pop("WORLD_SIZE", None)
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import numpy as np  # noqa: E402

from fingerprints import (  # noqa: E402
    FIGURE,
    ROUNDING,
    Leaf,
    Normal,
    difference,
    folder_leaves,
    normalised,
    summary,
    whole_difference,
)
from gold_cases import CASES, FAST, Case  # noqa: E402
from gold_inputs import ready  # noqa: E402

Found = dict[str, dict[str, Leaf]]
_IN_FIGURE = re.compile(r"\.(png|svg|pdf)/axes/").search
"""Whether a leaf is a part of a figure, whose numbers stand in the results too: a bare record leaves it out."""


def described(figure: Any) -> bytes:
    """What a figure shows, as JSON: its words, and the numbers of its lines, areas, bars and pictures."""
    axes = []
    for ax in figure.axes:
        shown: dict[str, Any] = {"words": [ax.get_title(), ax.get_xlabel(), ax.get_ylabel()]}
        shown["limits"] = [float(x) for x in (*ax.get_xlim(), *ax.get_ylim())]
        shown["texts"] = [t.get_text() for t in ax.texts]
        shown["legend"] = [t.get_text() for t in legend.get_texts()] if (legend := ax.get_legend()) else []
        for k, line in enumerate(ax.lines):
            shown[f"line {k} {line.get_label()}"] = _floats(line.get_xydata())
            shown[f"line {k} style"] = f"{line.get_color()} {line.get_linestyle()} {line.get_marker()}"
        for k, some in enumerate(ax.collections):
            paths = [x for p in some.get_paths() for x in _floats(p.vertices)]
            shown[f"collection {k}"] = {"paths": paths, "offsets": _floats(some.get_offsets())}
            if some.get_array() is not None:
                shown[f"collection {k}"]["values"] = _floats(some.get_array())
        for k, patch in enumerate(ax.patches):
            shown[f"patch {k}"] = _floats(patch.get_path().vertices) + _floats(patch.get_patch_transform().get_matrix())
        for k, image in enumerate(ax.images):
            shown[f"image {k}"] = _floats(image.get_array())
        axes.append(shown)
    words = [t.get_text() for t in figure.texts]
    found = {"figure": words, "size": _floats(figure.get_size_inches()), "axes": axes}
    return json.dumps(found).encode()


def _floats(values: Any) -> list[float | None]:
    flat = np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan).reshape(-1)
    return [float(x) if np.isfinite(x) else None for x in flat]


@contextlib.contextmanager
def figures_described() -> Iterator[None]:
    """Figures are described in place of being drawn, which takes seconds and depends on fonts."""
    from matplotlib.figure import Figure

    def described_into(figure: Any, target: Any, **_: Any) -> None:
        content = described(figure)
        assert content.startswith(FIGURE)
        target.write(content) if hasattr(target, "write") else Path(target).write_bytes(content)

    drawn = Figure.savefig
    Figure.savefig = described_into
    try:
        yield
    finally:
        Figure.savefig = drawn


@contextlib.contextmanager
def standing_still() -> Iterator[None]:
    """The clock by which a run says how long it took stands still, and the process seems to hold a round of memory.

    Both go into files of which digests are taken.  The clocks by which the speed of the machine is measured go on.
    """
    import resource

    clock, usage, text = time.monotonic, resource.getrusage, Path.read_text
    held = "VmRSS: 1000000 kB\nVmHWM: 1000000 kB\n"

    def read_text(path: Path, *args: Any, **given: Any) -> str:
        return held if str(path) == "/proc/self/status" else text(path, *args, **given)

    time.monotonic = lambda: 0.0
    resource.getrusage = lambda _: SimpleNamespace(ru_maxrss=1_000_000)
    Path.read_text = read_text
    try:
        yield
    finally:
        time.monotonic, resource.getrusage, Path.read_text = clock, usage, text


def run_case(name: str, work: Path, inputs: Path) -> tuple[int | str, str, str]:
    """Run one case; returns its exit status, or what broke it, and what it printed on both streams."""
    case = CASES[name]
    out = work / "out" / name
    said = case.line.replace("IN/", f"{inputs}/").replace("OF/", f"{work}/out/").split()
    args = [str(out) + a.removeprefix("OUT") if a.startswith("OUT") else a for a in said]
    if any(a != str(out) and a.startswith(f"{out}.") for a in args):  # its files lie in its folder
        out.mkdir(parents=True, exist_ok=True)
        args = [a.replace(f"{out}.", f"{out}/out.") for a in args]
    printed, given = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(given), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            status: int | str = _status(case, args)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else f"exit {stop.code}"
        except Exception as error:
            status = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    return status, printed.getvalue(), given.getvalue()


def _status(case: Case, args: list[str]) -> int:
    if not case.python:
        from sigmascope.cli import main

        return main(args)
    kept, sys.argv = sys.argv, ["program", *args]
    try:
        exec(compile(case.python, "program", "exec"), {})
    finally:
        sys.argv = kept
    return 0


def leaves_of(name: str, work: Path, normal: Normal, ended: tuple[int | str, str, str]) -> dict[str, Leaf]:
    """Everything that a case has printed and written."""
    status, printed, given = ended
    lines = [line for line in given.splitlines() if line.startswith("sigmascope: ") or "nothing was done" in line]
    found: dict[str, Leaf] = {"(status)": str(status).split("\n")[0], "(errors)": "\n".join(lines)}
    try:
        found |= {f"(printed)/{k}": v for k, v in _printed_json(printed)}
    except ValueError:
        found["(printed)"] = printed
    folder = work / "out" / name
    if folder.is_dir():
        found |= dict(folder_leaves(folder))
    return {key: normalised(key, leaf, normal) for key, leaf in found.items()}


def _printed_json(printed: str) -> Iterator[tuple[str, Leaf]]:
    """What was printed as JSON, leaf by leaf.

    Raises: ValueError if it is none.
    """
    from fingerprints import tree_leaves

    if printed[:1] not in ("{", "["):
        raise ValueError("no JSON")
    yield from tree_leaves("json", json.loads(printed))


def wanted(only: Sequence[str]) -> list[str]:
    """The cases of these names and those that they read, in order."""
    unknown = sorted(set(only) - set(CASES))
    if unknown:
        raise SystemExit(f"gold: there is no case {', '.join(unknown)}: choose among {', '.join(CASES)}")
    found: set[str] = set()
    left = list(only)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += CASES[name].needs()
    return [name for name in CASES if name in found]


def run_all(names: Sequence[str], inputs: Path | None, quiet: bool = False) -> Found:
    """Run cases and those that they read; what each of ``names`` has left.  A case without its data is left out."""
    work = Path(tempfile.mkdtemp(prefix="gold-")).resolve()
    inputs = (inputs or work / "in").resolve()
    normal = Normal({str(work): "WORK", str(inputs): "IN", str(SHARED): "SHARED", str(ROOT): "ROOT"})
    found: Found = {}
    before, path = os.getcwd(), list(sys.path)
    inputs.mkdir(parents=True, exist_ok=True)
    os.chdir(inputs)  # where the labeller lies
    try:
        with figures_described(), standing_still():
            for name in wanted(names):
                lacking = [i for i in CASES[name].inputs() if not ready(inputs, i, SHARED)]
                if lacking:
                    print(f"{name}: left out: {', '.join(lacking)} wants {SHARED}", file=sys.stderr)
                    continue
                begun = time.perf_counter()
                ended = run_case(name, work, inputs)
                if name in names:
                    found[name] = leaves_of(name, work, normal, ended)
                if not quiet:
                    line = f"{name}: status {ended[0]}, {time.perf_counter() - begun:.1f} s"
                    print(line, file=sys.stderr, flush=True)
    finally:
        os.chdir(before)
        sys.path[:] = path
        shutil.rmtree(work)
    return found


def summaries(found: Found) -> dict[str, dict[str, Any]]:
    """The summary of each leaf of each case."""
    return {name: {key: summary(leaf) for key, leaf in leaves.items()} for name, leaves in found.items()}


def write(file: Path, found: Found, bare: bool) -> None:
    """Write the summaries, a line for each leaf, and unless ``bare`` the leaves themselves beside them."""
    lines = []
    for name, leaves in summaries(found).items():
        leaves = {k: s for k, s in leaves.items() if not (bare and _IN_FIGURE(k))}
        inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(s)}" for k, s in leaves.items())
        lines.append(f"{json.dumps(name)}: {{\n{inner}\n }}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    if bare:
        return
    whole: dict[str, np.ndarray] = {}
    for name, leaves in found.items():
        for key, leaf in leaves.items():
            text = isinstance(leaf, str)
            of = np.frombuffer(leaf.encode(), np.uint8) if isinstance(leaf, str) else leaf
            whole[f"{'text' if text else 'array'}:{name}:{key}".replace("/", "\\")] = of
    np.savez_compressed(file.with_suffix(".npz"), **whole)


def differences(
    old: dict[str, dict[str, Any]], new: Found, whole: dict[str, Leaf], tolerance: float = 0.0
) -> list[tuple[str, str, float, str]]:
    """What differs: case, leaf, the largest relative difference, words.

    Args:
        old: summaries that were recorded.
        new: the leaves that were found.
        whole: recorded leaves by ``case:leaf``, as far as they were kept.
        tolerance: relative difference of floats that counts as none; 0: exact.
    """
    found = []
    for name, leaves in new.items():
        held, now = old.get(name), {key: summary(leaf) for key, leaf in leaves.items()}
        if held is None:
            found.append((name, "", float("inf"), "is not recorded"))
            continue
        now = json.loads(json.dumps(now))  # as a file holds it
        if not any(map(_IN_FIGURE, held)):  # a bare record has none of them
            now = {key: s for key, s in now.items() if not _IN_FIGURE(key)}
        for key in [*held, *(k for k in now if k not in held)]:
            if key not in now or key not in held:
                found.append((name, key, float("inf"), "is gone" if key not in now else "is new"))
                continue
            off = difference(held[key], now[key], tolerance)
            if off is not None:
                kept = whole.get(f"{name}:{key}")
                size, said = off if kept is None else whole_difference(kept, leaves[key])
                found.append((name, key, size, said))
    return found


def kept_leaves(file: Path) -> dict[str, Leaf]:
    """The leaves that lie beside the summaries, if they do."""
    path = file.with_suffix(".npz")
    found: dict[str, Leaf] = {}
    if path.exists():
        with np.load(path, allow_pickle=False) as held:
            for key in held.files:
                kind, name = key.replace("\\", "/").split(":", 1)
                found[name] = held[key].tobytes().decode() if kind == "text" else held[key]
    return found


def compare(file: Path, only: Sequence[str], inputs: Path | None, tolerance: float) -> int:
    """Run what was recorded again and list what differs; returns the exit status."""
    old = json.loads(file.read_text(encoding="utf-8"))
    names = [n for n in (only or old) if n in CASES]
    gone = [] if only else [n for n in old if n not in CASES]
    new = run_all(names, inputs)
    off = differences(old, new, kept_leaves(file), tolerance)
    for name, key, size, said in off:
        print(f"{name}: {key}: {said}{' (rounding)' if size <= ROUNDING else ''}")
    for name in gone:
        print(f"{name}: was recorded, and is no case any more")
    left_out = [n for n in names if n not in new]
    count = sum(len(leaves) for leaves in new.values())
    rounding = sum(size <= ROUNDING for _, _, size, _ in off)
    print(
        f"{len(off)} of {count:,} arrays and texts differ, in {len({o[0] for o in off})} of {len(new)} cases"
        f"{f'; {rounding} by rounding alone' if rounding else ''}"
        f"{f'; left out: {chr(44).join(left_out)}' if left_out else ''}"
    )
    return int(bool(off or gone or left_out))


def main(arguments: Sequence[str] | None = None) -> int:
    """Record or compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("file", type=Path, metavar="FILE.json")
    parser.add_argument("--only", default="", metavar="A,B", help="cases; 'fast' are those of the tests")
    parser.add_argument("--inputs", type=Path, metavar="FOLDER", help="where the inputs are kept, or are made")
    parser.add_argument("--bare", action="store_true", help="record summaries alone, without FILE.npz and figures")
    parser.add_argument(
        "--tolerance", type=float, default=0.0, help="relative difference of floats that counts as none"
    )
    parser.add_argument("--portable", action="store_true", help="use no instruction that only some CPUs have")
    given = parser.parse_args(arguments)
    only = list(FAST) if given.only == "fast" else [n for n in given.only.split(",") if n]
    file = given.file.resolve()
    if given.what == "compare":
        return compare(file, only, given.inputs, given.tolerance)
    names = wanted(only) if only else list(CASES)
    write(file, run_all(only or names, given.inputs), given.bare)
    return 0


if __name__ == "__main__":
    sys.exit(main())
