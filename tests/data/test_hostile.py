"""Files of others: what systems leave among them is left aside, what cannot be read is refused in one line."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sigmascope.cli import main
from sigmascope.data import load

N = 8
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (N, 4, 4), dtype=np.uint8)
CLASS = np.arange(N) % 2


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [png(p) for p in PIXELS]


def classes(root: Path) -> Path:
    for i, data in enumerate(PICTURES):
        folder = root / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(data)
    return root


def table(root: Path, text: str | bytes, kind: str = "csv") -> Path:
    root.mkdir(parents=True)
    for i, data in enumerate(PICTURES):
        (root / f"{i}.png").write_bytes(data)
    (root / f"metadata.{kind}").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def rows(name: str = "{i}.png", label: str = "{c}", head: str = "file_name,label", end: str = "\n") -> str:
    return head + end + "".join(f"{name},{label}{end}".format(i=i, c=c) for i, c in enumerate(CLASS))


def objects(**more: object) -> str:
    return "\n".join(json.dumps({"file_name": f"{i}.png", "label": int(c)} | more) for i, c in enumerate(CLASS))


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def hub(root: Path, kind: str) -> Path:
    """A snapshot of a cache of the Hugging Face hub: links to files that are called by their contents."""
    snapshot = root / "datasets--me--mine" / "snapshots" / "abc"
    blobs = snapshot.parent.parent / "blobs"
    blobs.mkdir(parents=True)
    for i, data in enumerate(PICTURES):
        (blobs / f"blob{i}").write_bytes(data)
        place = snapshot / (f"{i}.png" if kind == "table" else f"{'ab'[i % 2]}/{i}.png")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(blobs / f"blob{i}", place.parent))
    if kind == "table":
        (blobs / "text").write_text(rows())
        (snapshot / "metadata.csv").symlink_to(os.path.relpath(blobs / "text", snapshot))
    return snapshot


def with_junk(root: Path, name: str, data: bytes = b"\0\5\x16\7") -> Path:
    put(classes(root) / name, data)
    return root


READ = {
    "DS_Store": lambda p: with_junk(p / "d", "a/.DS_Store"),
    "resource fork": lambda p: with_junk(p / "d", "a/._0.png"),
    "zip of macOS": lambda p: with_junk(p / "d", "__MACOSX/a/._0.png"),
    "zip of macOS, within": lambda p: with_junk(p / "d", "a/__MACOSX/0.png"),
    "notebook": lambda p: with_junk(p / "d", "a/.ipynb_checkpoints/0-checkpoint.png", PICTURES[0]),
    "notebook, above": lambda p: with_junk(p / "d", ".ipynb_checkpoints/0-checkpoint.png", PICTURES[0]),
    "thumbnails": lambda p: with_junk(p / "d", "a/Thumbs.db"),
    "thumbnails of a store": lambda p: with_junk(p / "d", "@eaDir/0.png", PICTURES[0]),
    "recycled": lambda p: with_junk(p / "d", "$RECYCLE.BIN/0.png"),
    "git": lambda p: with_junk(p / "d", ".git/objects/0.png"),
    "hidden table": lambda p: with_junk(p / "d", "._metadata.csv"),
    "byte-order mark": lambda p: table(p / "d", b"\xef\xbb\xbf" + rows().encode()),
    "byte-order mark, JSON": lambda p: table(p / "d", b"\xef\xbb\xbf" + objects().encode(), "jsonl"),
    "newlines of Windows": lambda p: table(p / "d", rows(end="\r\n")),
    "newlines of Windows, JSON": lambda p: table(p / "d", objects().replace("\n", "\r\n") + "\r\n", "jsonl"),
    "no last newline": lambda p: table(p / "d", rows()[:-1]),
    "empty lines": lambda p: table(p / "d", rows().replace("\n", "\n\n")),
    "quoted newline": lambda p: table(p / "d", rows(label='{c},"x\n{i}"', head="file_name,label,note")),
    "U+2028 in JSON": lambda p: table(p / "d", objects(note="a\u2028b").encode().decode("unicode_escape"), "jsonl"),
    "U+2028 in a cell": lambda p: table(p / "d", rows(label="{c},a\u2028b{i}", head="file_name,label,note")),
    "absolute names": lambda p: table(p / "d", rows(name=str(p / "d" / "{i}.png"))),
    "names from here": lambda p: table(p / "d", rows(name="./{i}.png")),
    "hub, table": lambda p: hub(p, "table"),
    "hub, classes": lambda p: hub(p, "classes"),
    "list in another column": lambda p: table(p / "d", objects(boxes=[1, 2]), "jsonl"),
    "object in another column": lambda p: table(p / "d", objects(boxes={"x": 1}), "jsonl"),
    "column without a name": lambda p: table(p / "d", rows(label="{c},{i}", head="file_name,label,")),
    "upper-case ending": lambda p: np.savez(p / "x", images=PIXELS, label=CLASS) or (p / "x.npz").rename(p / "x.NPZ"),
    "npz with objects elsewhere": lambda p: (
        np.savez(p / "x.npz", images=PIXELS, label=CLASS, note=np.array([None] * N, object)) or p / "x.npz"
    ),
    "npz with a scalar elsewhere": lambda p: np.savez(p / "x.npz", images=PIXELS, label=CLASS, n=3) or p / "x.npz",
    "npz, big-endian labels": lambda p: np.savez(p / "x.npz", images=PIXELS, label=CLASS.astype(">i4")) or p / "x.npz",
    "npz, bytes": lambda p: np.savez(p / "x.npz", images=PIXELS, label=CLASS.astype("S3")) or p / "x.npz",
    "doubled column elsewhere": lambda p: parquet(p / "x.parquet", [("label", CLASS), ("b", CLASS), ("b", CLASS)]),
    "nulls elsewhere": lambda p: parquet(p / "x.parquet", [("label", CLASS), ("b", pa.array([None] * N, pa.int64()))]),
    "dotted column": lambda p: parquet(p / "x.parquet", [("label", CLASS), ("label.b", CLASS)]),
}


def parquet(path: Path, columns, image=None, **more):
    image = pa.array([{"bytes": b, "path": None} for b in PICTURES]) if image is None else image
    arrays = [image, *(c if isinstance(c, pa.Array) else pa.array(c) for _, c in columns)]
    pq.write_table(pa.Table.from_arrays(arrays, names=["image", *(n for n, _ in columns)]), path, **more)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", READ)
def test_what_is_read(tmp_path, kind):
    path = READ[kind](tmp_path)
    by_class = path.is_dir() and not list(path.glob("metadata.*"))
    data = load(str(path), ["class" if by_class else "label"])
    assert len(data) == N
    assert len(data.attributes[0].values) == 2


def npy(shape: object, descr: object = "|u1", body: bytes = PIXELS.tobytes(), fortran: object = False) -> bytes:
    head = str({"descr": descr, "fortran_order": fortran, "shape": shape}).encode()
    return raw_npy(head, body)


def raw_npy(head: bytes, body: bytes) -> bytes:
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


def archive(path: Path, *, pack: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    good = io.BytesIO()
    np.save(good, CLASS)
    with zipfile.ZipFile(path, "w", pack) as file:
        for name, data in ({"label": good.getvalue()} | members).items():
            file.writestr(f"{name}.npy", data)
    return path


def h5(path: Path, **objects_: object) -> Path:
    held: dict[str, object] = {"images": np.zeros((N, 4, 4, 3), np.uint8), "labels": np.zeros((N, 6))}
    held["images"][:, 0, 0, 0] = np.arange(N)
    held["labels"][:, :] = CLASS[:, None]
    with h5py.File(path, "w") as file:
        for name, value in (held | objects_).items():
            if callable(value):
                value(file)
            elif value is not None:
                file[name] = value
    return path


def external(path: Path) -> Path:
    secret = path.parent / "secret"
    secret.write_bytes(bytes(range(256)) * 8)
    return h5(path, images=lambda f: f.create_dataset(
        "images", (N, 4, 4, 3), "u1", external=[(str(secret), 0, N * 48)]))  # fmt: skip


def elsewhere(path: Path, link) -> Path:
    h5(path.parent / "other.h5")
    return h5(path, images=lambda f: f.__setitem__("images", link(path)))


def virtual(path: Path) -> Path:
    h5(path.parent / "other.h5")
    layout = h5py.VirtualLayout((N, 4, 4, 3), "u1")
    layout[:] = h5py.VirtualSource(str(path.parent / "other.h5"), "images", (N, 4, 4, 3))
    return h5(path, images=lambda f: f.create_virtual_dataset("images", layout))


def linked(root: Path, name: str, target: object, data: bytes = PICTURES[0]) -> Path:
    put(root / "outside" / "x.png", data)
    classes(root / "d")
    (root / "d" / name).symlink_to(target)
    return root / "d"


def piped(path: Path, data: Path) -> Path:
    os.mkfifo(path)
    return data


def bound(path: Path, data: Path) -> Path:
    socket.socket(socket.AF_UNIX).bind(str(path))
    return data


DEEP = "[" * 100_000
REFUSED = {
    "pipe as data": (lambda p: piped(p / "x.npz", p / "x.npz"), "it is a pipe"),
    "device as data": (lambda p: (p / "x.npz").symlink_to("/dev/zero") or p / "x.npz", "it is a device"),
    "pipe as parquet": (lambda p: piped(p / "x.parquet", p / "x.parquet"), "it is a pipe"),
    "pipe as h5": (lambda p: piped(p / "x.h5", p / "x.h5"), "it is a pipe"),
    "link to nothing": (lambda p: (p / "x.npz").symlink_to(p / "none") or p / "x.npz", "it cannot be read"),
    "pipe among pictures": (lambda p: piped(classes(p / "d") / "a" / "x.png", p / "d"), "a/x.png: it is a pipe"),
    "socket": (lambda p: bound(classes(p / "d") / "a" / "x.png", p / "d"), "a/x.png: it is a socket"),
    "pipe as table": (lambda p: piped(classes(p / "d") / "metadata.csv", p / "d"), "metadata.csv: it is a pipe"),
    "pipe in a table": (
        lambda p: piped(table(p / "d", rows() + "x.png,0\n") / "x.png", p / "d"), "row 9 (x.png): it is a pipe",
    ),
    "folder in a table": (
        lambda p: (table(p / "d", rows() + "x.png,0\n") / "x.png").mkdir() or p / "d", "row 9 (x.png): it is a folder",
    ),
    "folder called as a picture": (
        lambda p: (classes(p / "d") / "a/x.png").mkdir() or p / "d",
        "a/x.png: it is a folder",
    ),
    "table of a part": (
        lambda p: put(classes(p / "d") / "a" / "metadata.csv", b"file_name,label\n") or p / "d",
        "a holds a table of its own: pass that folder",
    ),
    "link out": (lambda p: linked(p, "a/x.png", p / "outside" / "x.png"), "a/x.png: it is a link out of the folder"),
    "link up and out": (lambda p: linked(p, "a/x.png", "../../outside/x.png"), "it is a link out of the folder"),
    "link to another class": (lambda p: linked(p, "a/x.png", "../b/1.png"), "it is a link out of the folder"),
    "link to a device": (lambda p: linked(p, "a/x.png", "/dev/zero"), "it is a link out of the folder"),
    "link to itself": (lambda p: linked(p, "a/x.png", "x.png"), "a/x.png: it cannot be read"),
    "class that is a link": (lambda p: linked(p, "c", p / "outside"), "c: it is a link out of the folder"),
    "table that is a link": (
        lambda p: put(p / "t.csv", rows().encode()) or (classes(p / "d") / "metadata.csv").symlink_to(p / "t.csv")
        or p / "d", "metadata.csv: it is a link out of the folder",
    ),
    "link out of a table": (
        lambda p: (table(p / "d", rows() + "x.png,0\n") / "x.png").symlink_to("/etc/passwd") or p / "d",
        "it is a link out of the folder",
    ),
    "name out of a table": (lambda p: table(p / "d", rows(name="../d/../../{i}.png")), "points out of the folder"),
    "absolute name out": (lambda p: table(p / "d", rows(name="/etc/{i}")), "points out of the folder"),
    "NUL in a name": (
        lambda p: table(p / "d", objects().replace("0.png", "0\\u0000.png"), "jsonl"),
        "row 1 has no file_name",
    ),
    "surrogate in a name": (
        lambda p: table(p / "d", objects().replace("0.png", "\\ud800.png"), "jsonl"),
        "which is not there",
    ),
    "number as a name": (
        lambda p: table(p / "d", objects().replace('"0.png"', "7"), "jsonl"),
        "row 1 has no file_name",
    ),
    "very long name": (lambda p: table(p / "d", rows(name="x" * 5000)), "which is not there"),
    "NUL in labels": (lambda p: table(p / "d", rows(label="a\0{c}")), "which holds a character that is no text"),
    "surrogates in labels": (
        lambda p: table(p / "d", objects().replace('"label": 1', '"label": "\\udc80"'), "jsonl"), "no text",
    ),
    "surrogate in a class": (
        lambda p: classes(p / "d").joinpath("a").rename(os.fsdecode(os.fsencode(p) + b"/d/\xe9")) and p / "d",
        "no text",
    ),
    "name of no column": (lambda p: table(p / "d", rows(label="{c},{i}", head="file_name,label,")), "give it a name"),
    "name of two lines": (lambda p: table(p / "d", rows(head='file_name,"a\nb"')), "give it a name"),
    "list as a label": (lambda p: table(p / "d", objects().replace("1}", "[1]}"), "jsonl"), "'label' holds a list"),
    "row too long": (lambda p: table(p / "d", rows() + "0.png,1,2,3\n"), "row 9 has 4 cells, the header has 2"),
    "nested JSON": (lambda p: table(p / "d", DEEP, "jsonl"), "it cannot be read"),
    "nested JSON, objects": (lambda p: table(p / "d", '{"a":' * 100_000, "jsonl"), "it cannot be read"),
    "number without end": (lambda p: table(p / "d", '{"file_name": ' + "9" * 5000 + "}", "jsonl"), "cannot be read"),
    "UTF-16": (lambda p: table(p / "d", rows().encode("utf-16")), "save it as UTF-8"),
    "Latin 1": (lambda p: table(p / "d", rows(label="é{c}").encode("latin-1")), "save it as UTF-8"),
    "semicolons": (lambda p: table(p / "d", rows().replace(",", ";")), "no column 'file_name'"),
    "empty table": (lambda p: table(p / "d", ""), "no column 'file_name'"),
    "JSON of no object": (lambda p: table(p / "d", "[1, 2]\n3", "jsonl"), "a line is no object"),
    "objects in npz": (
        lambda p: np.savez(p / "x.npz", images=PIXELS, label=np.array(["a", "b"] * 4, object)) or p / "x.npz",
        "array 'label' holds Python objects, which are not read: write label.astype(str)",
    ),
    "npz of a bomb": (lambda p: archive(p / "x.npz", images=npy((1 << 40, 4, 4))), "does not fit their length"),
    "npz of a label bomb": (
        lambda p: archive(p / "x.npz", images=npy((N, 4, 4)), label=npy((1 << 40,), "<i8")),
        "does not fit",
    ),
    "npz of no header": (lambda p: archive(p / "x.npz", images=raw_npy(b"(((" * 900, b"")), "not a readable .npz"),
    "npz of a nested header": (lambda p: archive(p / "x.npz", images=raw_npy(b"(" * 9000, b"")), "not a readable .npz"),
    "npz of a long header": (
        lambda p: archive(p / "x.npz", images=raw_npy(b"[" + b"1," * 30000 + b"]", b"")),
        "not a readable",
    ),
    "npz of a wrong type": (lambda p: archive(p / "x.npz", images=npy((N, 4, 4), "nonsense")), "not a readable .npz"),
    "npz of records": (
        lambda p: archive(p / "x.npz", images=npy((N, 4, 4), [("a", "|u1")])),
        "expected uint8, or floats",
    ),
    "npz of text": (lambda p: archive(p / "x.npz", images=npy((N, 4, 1), "<U1")), "expected uint8, or floats"),
    "npz of dates": (lambda p: archive(p / "x.npz", images=npy((N, 2), "<M8[s]")), "expected uint8, or floats"),
    "npz of a text shape": (lambda p: archive(p / "x.npz", images=npy("8, 4, 4")), "not a readable .npz"),
    "npz of a truth shape": (lambda p: archive(p / "x.npz", images=npy((True, True, 128))), "images"),
    "npz of nothing": (lambda p: archive(p / "x.npz", images=npy((0, 4, 4), body=b"")), "not empty"),
    "npz of another version": (
        lambda p: archive(p / "x.npz", images=npy((N, 4, 4)).replace(b"NUMPY\x01", b"NUMPY\x09")), "version (9, 0)",
    ),
    "npz without magic": (lambda p: archive(p / "x.npz", images=b"GIF89a" * 9), "not a readable .npz"),
    "npz, label without magic": (
        lambda p: archive(p / "x.npz", images=npy((N, 4, 4)), label=b"x"),
        "not a readable .npz",
    ),
    "npz of two images": (
        lambda p: archive(p / "x.npz", images=npy((N, 4, 4))) and twice(p / "x.npz"), "two arrays called 'images'",
    ),
    "npz with a lock": (lambda p: encrypted(p / "x.npz"), "not a readable .npz"),
    "npy called npz": (lambda p: put(p / "x.npz", npy((N, 4, 4))) or p / "x.npz", "not a readable .npz"),
    "parquet of text": (
        lambda p: parquet(p / "x.parquet", [("label", CLASS)], pa.array([{"bytes": "a", "path": None}] * N)),
        "holds string where bytes are expected",
    ),
    "doubled column": (
        lambda p: parquet(p / "x.parquet", [("label", CLASS), ("label", CLASS)]),
        "2 columns are called 'label'",
    ),
    "doubled pictures": (
        lambda p: parquet(p / "x.parquet", [("image", CLASS), ("label", CLASS)]), "two columns are called 'image'",
    ),
    "parquet of nothing": (lambda p: put(p / "x.parquet", b"PAR1PAR1") or p / "x.parquet", "not a readable parquet"),
    "parquet of no rows": (
        lambda p: parquet(p / "x.parquet", [("label", pa.array([], pa.int64()))], pa.array(
            [], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))), "there is no picture",
    ),
    "parquet of lists": (lambda p: parquet(p / "x.parquet", [("label", [[1]] * N)]), "there are no attributes"),
    "h5 of a group": (lambda p: h5(p / "x.h5", images=lambda f: f.create_group("images")), "'images' is a group"),
    "h5 of a label group": (lambda p: h5(p / "x.h5", labels=lambda f: f.create_group("labels")), "'labels' is a group"),
    "h5 of a type": (lambda p: h5(p / "x.h5", images=np.dtype("f8")), "'images' is a datatype"),
    "h5 of text": (lambda p: h5(p / "x.h5", labels=["a"] * N), "labels have shape"),
    "h5 of a scalar": (lambda p: h5(p / "x.h5", labels="a"), "labels have shape"),
    "h5 of records": (lambda p: h5(p / "x.h5", labels=np.zeros((N, 6), [("a", "f8")])), "labels have shape"),
    "h5 of references": (
        lambda p: h5(p / "x.h5", labels=lambda f: f.create_dataset("labels", (N, 6), h5py.ref_dtype)), "labels have",
    ),
    "h5 without a shape": (lambda p: h5(p / "x.h5", labels=h5py.Empty("f8")), "without a shape"),
    "h5 of no items": (
        lambda p: h5(p / "x.h5", images=np.zeros((0, 4, 4, 3), np.uint8), labels=np.zeros((0, 6))), "images have shape",
    ),
    "h5 of other counts": (lambda p: h5(p / "x.h5", labels=np.zeros((N + 1, 6))), "9 labels for 8 images"),
    "h5 of floats": (lambda p: h5(p / "x.h5", images=np.zeros((N, 4, 4, 3))), "expected uint8"),
    "h5 without labels": (lambda p: h5(p / "x.h5", labels=None), "'labels' is nothing"),
    "h5 of a loop": (
        lambda p: h5(p / "x.h5", images=lambda f: f.__setitem__("images", h5py.SoftLink("/images"))), "kept elsewhere",
    ),
    "h5 of a link": (
        lambda p: elsewhere(p / "x.h5", lambda x: h5py.ExternalLink("other.h5", "/images")),
        "kept elsewhere",
    ),
    "h5 of a path": (lambda p: elsewhere(p / "x.h5", lambda x: h5py.SoftLink("/labels")), "kept elsewhere"),
    "h5 of a file elsewhere": (lambda p: external(p / "x.h5"), "kept elsewhere"),
    "h5 of another's": (lambda p: virtual(p / "x.h5"), "kept elsewhere"),
    "h5 of a bomb": (
        lambda p: h5(p / "x.h5", images=lambda f: f.create_dataset(
            "images", (N, 1 << 20, 1 << 20, 3), "u1", chunks=(1, 64, 64, 3))), "which the file does not hold",
    ),
    "h5 of many": (
        lambda p: h5(
            p / "x.h5",
            images=lambda f: f.create_dataset("images", (1 << 40, 4, 4, 3), "u1", chunks=(64, 4, 4, 3)),
            labels=lambda f: f.create_dataset("labels", (1 << 40, 6), "f8", chunks=(64, 6)),
        ), "of memory and",
    ),
    "NUL in the path": (lambda p: p / "x\0.npz", "it contains NUL or bytes that are not UTF-8"),
    "surrogate in the path": (lambda p: p / "x\udcff.npz", "it contains NUL or bytes that are not UTF-8"),
}  # fmt: skip


def twice(path: Path) -> Path:
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("images.npy", npy((N, 4, 4)))
    return path


def encrypted(path: Path) -> Path:
    """The flags say that its members are encrypted."""
    archive(path, images=npy((N, 4, 4)))
    raw = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(signature)
        while at >= 0:
            raw[at + place] |= 1
            at = raw.find(signature, at + 1)
    path.write_bytes(bytes(raw))
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(tmp_path, kind, capfd):
    make, words = REFUSED[kind]
    path = make(tmp_path)
    assert main(["study", str(path), "--draws", "4", "--levels", "3", "--out", str(tmp_path / "out")]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("sigmascope: ")
    assert words in lines[0]
    assert not (tmp_path / "out").exists()


def test_an_h5_that_its_writer_holds_open(tmp_path):
    h5(tmp_path / "x.h5")
    command = [sys.executable, "-m", "sigmascope", "study", str(tmp_path / "x.h5"), "--out", str(tmp_path / "out")]
    with h5py.File(tmp_path / "x.h5", "a"):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "HDF5_USE_FILE_LOCKING=FALSE" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_relative_folder_with_absolute_names(tmp_path, monkeypatch):
    table(tmp_path / "d", rows(name=str(tmp_path / "d" / "{i}.png")))
    monkeypatch.chdir(tmp_path)
    assert len(load("d")) == N
    monkeypatch.chdir(tmp_path / "d")
    assert len(load(".")) == N
    (tmp_path / "link").symlink_to("d")
    monkeypatch.chdir(tmp_path)
    assert len(load("link")) == N


def test_a_packed_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    zeros = npy((N, 1 << 20), body=bytes(N << 20))
    path = archive(tmp_path / "x.npz", pack=zipfile.ZIP_DEFLATED, images=zeros)
    monkeypatch.setattr("sigmascope.data.memory.available_bytes", lambda: 1 << 20)
    assert main(["study", str(path), "--dry-run"]) == 2


def test_what_the_directory_of_an_npz_says_is_not_believed(tmp_path):
    """A member that says it is longer than what it unpacks to."""
    path = archive(tmp_path / "x.npz", pack=zipfile.ZIP_DEFLATED, images=npy((N, 4, 4)))
    bad = npy((N, 4, 4))
    raw = path.read_bytes().replace(struct.pack("<I", len(bad)), struct.pack("<I", len(bad) + 3 * PIXELS.nbytes))
    path.write_bytes(raw)
    assert main(["study", str(path), "--dry-run"]) == 2
