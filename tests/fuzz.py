"""Damage small valid files of every kind that is read, and see that each ends in one line or in success.

``python tests/fuzz.py --runs 1500 --seed 0`` runs every reader in turn, each run in a process of its own with a limit
of time and of memory, and lists the runs that end in a traceback, a signal, more than one line, or not at all.  Run
``n`` of a seed is always the same: ``--only n`` repeats it, ``--keep FOLDER`` keeps its files.

Another reader is one line: ``register("name", make, command)``, where ``make(folder, random)`` writes a valid input
into an empty folder and returns its path, and ``command(path)`` gives the arguments of ``sigmascope`` that read it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SECONDS = 10.0
BYTES = 2 << 30  # beyond what the process has when it begins
_ITEMS = 6
_TOKENS = (
    b"\0", b"\xff", b"\n", b",", b'"', b"nan", b"-1", b"1e999", b"9999999999999999999", b"[" * 3000, b"{}", b"null",
    b"\xe2\x80\xa8", b"\xed\xa0\x80", b"../", b"/dev/zero", b"=1+1", b"<U1000000000", b"(1073741824,)",
)  # fmt: skip
Make = Callable[[Path, random.Random], Path]
Mutate = Callable[[Path, random.Random], None]


@dataclass(frozen=True)
class Reader:
    """What is damaged and read.

    Attributes:
        name: of the reader.
        make: writes a valid input and returns its path.
        command: arguments that read it.
        spoil: ways to damage it beyond its bytes.
    """

    name: str
    make: Make
    command: Callable[[Path], list[str]]
    spoil: tuple[Mutate, ...] = ()


READERS: dict[str, Reader] = {}


def dry_run(path: Path) -> list[str]:
    """A study that computes nothing."""
    return ["study", str(path), "--draws", "4", "--levels", "3", "--dry-run"]


def register(
    name: str, make: Make, command: Callable[[Path], list[str]] = dry_run, spoil: Sequence[Mutate] = ()
) -> None:
    """Add a reader to those that are tried."""
    READERS[name] = Reader(name, make, command, tuple(spoil))


def images(r: random.Random) -> np.ndarray:
    """Small grey pictures."""
    return np.random.default_rng(r.randrange(1 << 30)).integers(0, 256, (_ITEMS, 4, 3), dtype=np.uint8)


def picture(pixels: np.ndarray, r: random.Random) -> bytes:
    """A picture encoded in any of the formats that are read."""
    from PIL import Image

    kind, buffer = r.choice(["PNG", "PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"]), io.BytesIO()
    Image.fromarray(pixels).convert(r.choice(["L", "RGB"])).save(buffer, kind)
    return buffer.getvalue()


def make_npz(folder: Path, r: random.Random) -> Path:
    save = r.choice([np.savez, np.savez_compressed])
    v: np.ndarray = images(r) if r.random() < 0.7 else images(r) / 255.0
    label: np.ndarray = r.choice([np.arange(_ITEMS) % 2, np.array(["a", "b"] * (_ITEMS // 2)), np.arange(_ITEMS) / 2.0])
    save(folder / "x.npz", images=v, label=label, **({"weights": np.ones(_ITEMS)} if r.random() < 0.3 else {}))
    return folder / "x.npz"


def make_classes(folder: Path, r: random.Random) -> Path:
    for i, pixels in enumerate(images(r)):
        place = folder / "d" / "ab"[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture(pixels, r))
    return folder / "d"


def make_csv(folder: Path, r: random.Random) -> Path:
    text = "file_name,label,size\n" + "".join(f"{i}.png,{'ab'[i % 2]},{i % 3}\n" for i in range(_ITEMS))
    return _with_table(folder, r, "metadata.csv", text)


def make_jsonl(folder: Path, r: random.Random) -> Path:
    rows = ({"file_name": f"{i}.png", "label": "ab"[i % 2], "size": i % 3} for i in range(_ITEMS))
    return _with_table(folder, r, "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _with_table(folder: Path, r: random.Random, name: str, text: str) -> Path:
    root = folder / "d"
    root.mkdir()
    for i, pixels in enumerate(images(r)):
        (root / f"{i}.png").write_bytes(picture(pixels, r))
    (root / name).write_text(text)
    return root


def make_parquet(folder: Path, r: random.Random) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"bytes": picture(p, r), "path": None} for p in images(r)]
    features = {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    table = pa.table({"image": pa.array(rows), "label": np.arange(_ITEMS) % 2, "size": ["s", "t", None] * 2})
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(meta), folder / "x.parquet", row_group_size=r.choice([2, 100]))
    return folder / "x.parquet"


def make_h5(folder: Path, r: random.Random) -> Path:
    import h5py

    pixels = np.repeat(images(r)[..., None], 3, 3)
    labels = (np.arange(_ITEMS)[:, None] + np.arange(6)) % np.array([2, 2, 3, 2, 4, 2])
    with h5py.File(folder / "x.h5", "w") as file:
        packed = {"chunks": (2, 4, 3, 3), "compression": "gzip"} if r.random() < 0.5 else {}
        file.create_dataset("images", data=pixels, **packed)
        file.create_dataset("labels", data=labels.astype(float))
    return folder / "x.h5"


def spoil_bytes(path: Path, r: random.Random) -> None:
    """Flip, cut, double, insert, or set bytes of one of the files, some times."""
    files = sorted(p for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())
    tables = [p for p in files if p.name.startswith("metadata")]
    file = r.choice(tables if tables and r.random() < 0.7 else files)
    data = bytearray(file.read_bytes())
    for _ in range(r.choice([1, 1, 1, 2, 4, 16])):
        if not data:
            break
        # Headers stand at the ends of a file: they are hit more often than what lies between.
        at = r.choice([r.randrange(len(data)), r.randrange(min(200, len(data))), -1 - r.randrange(min(400, len(data)))])
        at %= len(data)
        way = r.randrange(6)
        if way == 0:
            data[at] ^= 1 << r.randrange(8)
        elif way == 1:
            data[at] = r.choice([0, 1, 0x7F, 0x80, 0xFF, r.randrange(256)])
        elif way == 2:
            del data[at : at + r.choice([1, 4, 64, len(data)])]
        elif way == 3:
            data[at:at] = data[at : at + r.choice([1, 8, 128])]
        elif way == 4:
            data[at : at + (0 if r.random() < 0.5 else 4)] = r.choice(_TOKENS)
        else:
            size = r.choice([2, 4, 8])
            data[at : at + size] = r.choice([b"\xff", b"\0", b"\x7f"]) * size
    file.write_bytes(bytes(data))


def spoil_tree(path: Path, r: random.Random) -> None:
    """Put something odd into a folder, or in the place of a file."""
    places = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    place = r.choice(sorted(places))
    if path.is_dir() and r.random() < 0.5:
        place = place.with_name(r.choice(["._x.png", "x.png", "\udce9.png", ".DS_Store", "n\nl.png", "Thumbs.db"]))
    place.unlink(missing_ok=True)
    ways: list[Callable[[], object]] = [
        lambda: os.mkfifo(place), place.mkdir, lambda: place.symlink_to("/dev/zero"), lambda: place.symlink_to(place),
        lambda: place.symlink_to("/etc/hostname"), lambda: place.write_bytes(b""), lambda: place.symlink_to("none"),
    ]  # fmt: skip
    r.choice(ways)()


def spoil_text(path: Path, r: random.Random) -> None:
    """Change a table of a folder cell by cell."""
    for table in path.glob("metadata.*"):
        lines = table.read_text().splitlines()
        at = r.randrange(len(lines))
        odd = ["", "a\0b", "\ud800", "\\ud800", "\u2028", "nan", "1e5", "=x", "'", '"', "{}", "[1", "0.png", "../0.png",
               "/etc/passwd", "9" * 5000, "true", "+", "a:bins=2", "[" * 50_000]  # fmt: skip
        for _ in range(r.choice([1, 2, 6])):
            cells = lines[at].split(",")
            cells[r.randrange(len(cells))] = r.choice(odd)
            lines[at] = ",".join(cells)
            at = r.randrange(len(lines))
        table.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))


def spoil_npz(path: Path, r: random.Random) -> None:
    """Write another array, or another header, into the archive."""
    odd: list[Callable[[], np.ndarray]] = [
        lambda: np.array(3), lambda: np.zeros((0, 4, 3)), lambda: np.array(["a\0b", "\ud800"] * 3),
        lambda: np.array([None] * _ITEMS, object), lambda: np.zeros((_ITEMS, 2), [("a", "f4")]),
        lambda: np.array([1 + 2j] * _ITEMS), lambda: np.zeros(_ITEMS, "M8[s]"), lambda: np.full(_ITEMS, np.nan),
        lambda: np.arange(_ITEMS + 1), lambda: np.full((_ITEMS, 4, 3), np.inf), lambda: np.zeros(_ITEMS, "S0"),
        lambda: np.asfortranarray(images(r)), lambda: images(r).astype(">f8"), lambda: np.arange(_ITEMS).astype(">i2"),
        lambda: np.zeros((_ITEMS, 1, 1, 1, 1)), lambda: np.arange(_ITEMS, dtype=np.uint64) + (1 << 63),
    ]  # fmt: skip
    with np.load(path) as file:
        held = {k: file[k] for k in file.files}
    held[r.choice(["images", "label", "weights", "", "+", "a:bins=3", "7", "../x", "a\nb"])] = r.choice(odd)()
    with contextlib.suppress(UnicodeEncodeError), path.open("wb") as out:
        np.savez(out, allow_pickle=True, **held)
    if r.random() < 0.3:
        raw = path.read_bytes().replace(
            b"(6, 4, 3)", r.choice([b"(6, 4,-3)", b"(1<<40,4)", b"(((((((((", b"(6e9, 4,)"])
        )
        path.write_bytes(raw)
        _mend_checksums(path)


def _mend_checksums(path: Path) -> None:
    """The checksums of what the archive holds now, so that a header is read in spite of them."""
    import zlib

    raw = bytearray(path.read_bytes())
    with contextlib.suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as file:
        for info in file.infolist():
            if info.compress_type == zipfile.ZIP_STORED:
                head = info.header_offset
                start = head + 30 + int.from_bytes(raw[head + 26 : head + 28], "little")
                start += int.from_bytes(raw[head + 28 : head + 30], "little")
                old = info.CRC.to_bytes(4, "little")
                new = zlib.crc32(raw[start : start + info.file_size]).to_bytes(4, "little")
                raw = bytearray(bytes(raw).replace(old, new))
    path.write_bytes(bytes(raw))


def spoil_parquet(path: Path, r: random.Random) -> None:
    """Write a table of other columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    odd = [
        pa.array([None] * _ITEMS), pa.array(["a", None, "b"] * 2), pa.array([[1]] * _ITEMS),
        pa.array([b"a", b"\xff"] * 3),
        pa.array([1.5, float("nan"), None] * 2), pa.array([-1, 0, 1] * 2), pa.array([1 << 62, 0, 7] * 2),
        pa.array(["x", "y"] * 3).dictionary_encode(), pa.array([{"bytes": "a"}] * _ITEMS),
        pa.array([{"bytes": None}] * _ITEMS),
        pa.array([True, None] * 3), pa.array(range(_ITEMS), pa.timestamp("s")), pa.array(["a\0", "b"] * 3),
    ]  # fmt: skip
    table = pq.read_table(path)
    name = r.choice(["label", "image", "size", "", "a.b", "+", "a\nb", "label:bins=2"])
    if r.random() < 0.5 and name in table.column_names:
        table = table.set_column(table.column_names.index(name), name, r.choice(odd))
    else:
        table = table.append_column(name, r.choice(odd))
    if r.random() < 0.4:
        meta = r.choice([b"[" * 30_000, b"{", b"null", b'{"info": {"features": {"label": {"names": [1, null]}}}}'])
        table = table.replace_schema_metadata({b"huggingface": meta})
    with contextlib.suppress(pa.ArrowException):
        pq.write_table(table, path)


def spoil_h5(path: Path, r: random.Random) -> None:
    """Put another object in the place of one."""
    import h5py

    name = r.choice(["images", "labels"])
    ways: list[Callable[[h5py.File], object]] = [
        lambda f: f.create_group(name), lambda f: f.__setitem__(name, "text"),
        lambda f: f.__setitem__(name, h5py.Empty("f8")),
        lambda f: f.__setitem__(name, h5py.SoftLink(f"/{name}")), lambda f: f.__setitem__(name, np.dtype("i4")),
        lambda f: f.__setitem__(name, h5py.ExternalLink("/dev/zero", "/x")), lambda f: f.__setitem__(name, ["a", "b"]),
        lambda f: f.create_dataset(name, (_ITEMS, 6), h5py.ref_dtype), lambda f: f.__setitem__(name, np.zeros((0, 6))),
        lambda f: f.create_dataset(name, (1 << 40, 64, 64, 3), "u1", chunks=(1, 64, 64, 3)),
        lambda f: f.create_dataset(name, (1 << 40, 6), "f8", chunks=(64, 6)),
        lambda f: f.__setitem__(name, np.zeros(_ITEMS)), lambda f: f.__setitem__(name, np.full((_ITEMS, 6), np.nan)),
        lambda f: f.__setitem__(name, np.zeros((_ITEMS, 6), "c8")),
        lambda f: f.create_dataset(name, (_ITEMS, 4, 3, 3), "u1", external=[("/dev/zero", 0, 1 << 20)]), lambda f: None,
    ]  # fmt: skip
    with h5py.File(path, "a") as file:
        del file[name]
        r.choice(ways)(file)


register("npz", make_npz, spoil=[spoil_npz, spoil_tree])
register("classes", make_classes, spoil=[spoil_tree])
register("csv", make_csv, spoil=[spoil_text, spoil_tree])
register("jsonl", make_jsonl, spoil=[spoil_text, spoil_tree])
register("parquet", make_parquet, spoil=[spoil_parquet, spoil_tree])
register("h5", make_h5, spoil=[spoil_h5, spoil_tree])


def spoiled(reader: Reader, folder: Path, seed: int, number: int) -> Path:
    """A damaged input: that of a run."""
    r = random.Random(f"{seed} {number} {reader.name}")
    path = reader.make(folder, r)
    ways = [spoil_bytes, spoil_bytes, *reader.spoil]
    first = r.choice(ways)
    first(path, r)
    if r.random() < 0.2 and first is not spoil_tree:  # a pipe would wait
        with contextlib.suppress(Exception):  # what is already damaged may not be read to be damaged further
            r.choice(ways)(path, r)
    return path


def run(command: Sequence[str], seconds: float = SECONDS, extra: int = BYTES) -> str:
    """What is wrong with the way that a command ends, in a process of its own; empty: nothing.

    Args:
        command: arguments of ``sigmascope``.
        seconds: it may take.
        extra: bytes that it may take beyond what it has.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        _child(command, write, extra)
    os.close(write)
    said, end = b"", time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        ready = select.select([read], [], [], max(left, 0.0))[0]
        part = os.read(read, 1 << 16) if ready else b""
        said += part
        if not ready or not part:
            break
    late = not ready
    if late:
        os.kill(child, signal.SIGKILL)
    os.close(read)
    status = os.waitpid(child, 0)[1]
    if late:
        return f"it did not end within {seconds:g} s"
    if os.WIFSIGNALED(status):
        return f"it was ended by signal {os.WTERMSIG(status)}"
    code, _, text = said.decode("utf-8", "replace").partition("\n")
    return _verdict(code, text)


def _verdict(code: str, text: str) -> str:
    if "Traceback" in text:
        return text[text.index("Traceback") :]
    lines = [x for x in text.strip().splitlines() if not x.startswith("sigmascope: note: ")]
    if code == "2" and len(lines) == 1 and lines[0].startswith("sigmascope: "):
        return ""
    return "" if code == "0" and not lines else f"status {code}, and on stderr:\n{text}"


def _child(command: Sequence[str], write: int, extra: int) -> None:
    """Run the command and write its status and what it says on stderr into a pipe; never returns."""
    status, said = "?", io.StringIO()
    try:
        from sigmascope.cli import main
        from sigmascope.studies import costs

        costs.seconds_of = lambda *a: 0.0  # a measurement of this machine
        grown = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + extra
        resource.setrlimit(resource.RLIMIT_AS, (grown, grown))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = str(main(list(command)))
    except BaseException:
        said.write(traceback.format_exc())
    os.write(write, f"{status}\n{said.getvalue()[-30_000:]}".encode("utf-8", "backslashreplace"))
    os._exit(0)


def fuzz(
    runs: int, seed: int, readers: Sequence[str] = (), only: int | None = None, keep: Path | None = None
) -> list[str]:
    """Try readers in turn on damaged inputs.

    Args:
        runs: how many inputs.
        seed: of the damage.
        readers: names; empty: all.
        only: the number of one run, to repeat it alone.
        keep: a folder for the inputs; None keeps none.

    Returns: what is wrong, a text for each run that ended badly.
    """
    import sigmascope.learn.neural
    import sigmascope.studies.study  # noqa: F401  (once, before the processes part)

    chosen = [READERS[n] for n in (readers or READERS)]
    wrong = []
    for number in range(runs) if only is None else [only]:
        reader = chosen[number % len(chosen)]
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            path = spoiled(reader, folder, seed, number)
            said = run(reader.command(path))
            if said:
                wrong.append(f"run {number} of seed {seed}, {reader.name}: {said}")
                print(wrong[-1], end="\n\n", flush=True)
            if keep is not None:
                shutil.copytree(folder, keep / str(number), symlinks=True, ignore=shutil.ignore_patterns("*.fifo"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", default=[], choices=list(READERS))
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    start = time.monotonic()
    wrong = fuzz(given.runs, given.seed, given.reader, given.only, given.keep)
    print(f"{given.runs} runs in {time.monotonic() - start:.0f} s, {len(wrong)} of them ended badly", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
