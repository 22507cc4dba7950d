"""Labels that are missing: items without one are left out, with a count, of columns that were asked for alone."""

from __future__ import annotations

import io
import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from asked import study
from sigmascope import from_array
from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.data import load
from sigmascope.data import shards as shards_module

N = 40
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (N, 4, 4), dtype=np.uint8)
CLASS = np.arange(N) % 4
NAMES = ["cat", "dog", "eel", "fox"]
GONE = np.arange(N) % 5 == 0
KEPT = np.flatnonzero(~GONE)


class Missing:
    """What stands for a missing value in pandas, which this environment does not have."""

    def __eq__(self, other: object) -> Missing:  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


Missing.__name__ = "NAType"


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(path, metadata=None, **columns):
    image = pa.array([{"bytes": png(p), "path": None} for p in PIXELS])
    table = pa.table({"image": image, **columns})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=7)
    return path


def class_label(names=NAMES):
    return {"huggingface": json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}})}


def folder(path, text, kind="csv"):
    path.mkdir()
    (path / f"metadata.{kind}").write_bytes(text if isinstance(text, bytes) else text.encode())
    for i, pixels in enumerate(PIXELS):
        (path / f"{i}.png").write_bytes(png(pixels))
    return path


def table(values):
    return "file_name,label\n" + "".join(f"{i}.png,{v}\n" for i, v in enumerate(values))


def lines(values):
    return "".join(json.dumps({"file_name": f"{i}.png"} | v) + "\n" for i, v in enumerate(values))


OWN_NAMES = {"class_names": ",".join(NAMES)}
NAN = np.where(GONE, np.nan, CLASS)
WORD = np.array(NAMES)[CLASS]
MASKED = np.ma.MaskedArray(CLASS, GONE)
OBJECTS = np.array([None if g else w for w, g in zip(WORD, GONE, strict=True)], dtype=object)


def shapes3d(path, shape, **others):
    """The file of 3D Shapes, whose fifth column is called shape."""
    labels = np.stack([others.get(n, np.arange(N) % 2) for n in ("a", "b", "c", "d")] + [shape, np.arange(N) % 2], 1)
    with h5py.File(path, "w") as file:
        file["images"], file["labels"] = PIXELS[..., None], labels.astype(np.float64)
    return path


FILES = {
    "npz": lambda p: np.savez(p / "x.npz", images=PIXELS, label=NAN) or p / "x.npz",
    "npz, packed": lambda p: np.savez_compressed(p / "x.npz", images=PIXELS, label=NAN) or p / "x.npz",
    "npz, floats": lambda p: np.savez(p / "x.npz", images=PIXELS / 255.0, label=NAN) or p / "x.npz",
    "npz, columns first": lambda p: (
        np.savez(p / "x.npz", images=np.asfortranarray(PIXELS), label=NAN) or p / "x.npz"
    ),
    "class label": lambda p: parquet(p / "x.parquet", class_label(), label=np.where(GONE, -1, CLASS)),
    "class names": lambda p: parquet(p / "x.parquet", OWN_NAMES, label=np.where(GONE, -1, CLASS)),
    "nulls": lambda p: parquet(p / "x.parquet", label=pa.array(CLASS, mask=GONE)),
    "nulls of a class label": lambda p: parquet(p / "x.parquet", class_label(), label=pa.array(CLASS, mask=GONE)),
    "class label that pandas wrote": lambda p: parquet(p / "x.parquet", class_label(), label=NAN),
    "nulls of text": lambda p: parquet(p / "x.parquet", label=pa.array(WORD, mask=GONE)),
    "parquet NaN": lambda p: parquet(p / "x.parquet", label=NAN),
    "empty cells": lambda p: folder(p / "d", table(np.where(GONE, "", WORD))),
    "empty cells of numbers": lambda p: folder(p / "d", table(np.where(GONE, "", CLASS.astype(str)))),
    "nan in a cell": lambda p: folder(p / "d", table(np.where(GONE, "nan", CLASS.astype(str)))),
    "short rows": lambda p: folder(p / "d", table(np.where(GONE, "", WORD)).replace(",\n", "\n")),
    "null": lambda p: folder(p / "d", lines([{"label": w} for w in OBJECTS]), "jsonl"),
    "no key": lambda p: folder(p / "d", lines([{"label": w} if w else {} for w in OBJECTS]), "jsonl"),
    "NaN": lambda p: folder(p / "d", lines([{"label": float(x)} for x in NAN]), "jsonl"),
}  # fmt: skip


def require_left_out(data, a=None):
    assert len(data) == len(KEPT)
    assert "8 of 40 items have no 'label' and are left out" in data.words
    a = a or data.attribute("label")
    assert a.entropy == pytest.approx(np.log(4))
    assert torch.equal(data.labels["label"], torch.from_numpy(CLASS[KEPT]))
    expected = torch.from_numpy(PIXELS[KEPT] / 255.0).float()[:, None]
    assert torch.allclose(data.source.read(0, len(data)), expected)
    assert torch.allclose(data.source.take(torch.tensor([30, 2, 2])), expected[[30, 2, 2]])


@pytest.mark.parametrize("kind", FILES)
def test_files(tmp_path, kind):
    data = load(str(FILES[kind](tmp_path)))
    require_left_out(data)
    named = "class" in kind or kind in ("nulls of text", "empty cells", "short rows", "null", "no key")
    assert data.attribute("label").values == (tuple(NAMES) if named else tuple("0123"))


@pytest.mark.parametrize(
    "label",
    [
        NAN, NAN.tolist(), MASKED, OBJECTS, OBJECTS.tolist(), np.ma.MaskedArray(WORD, GONE), torch.from_numpy(NAN),
        [float("nan") if g else str(w) for w, g in zip(WORD, GONE, strict=True)],
        np.array([Missing() if g else int(c) for c, g in zip(CLASS, GONE, strict=True)], dtype=object),
        [None if g else int(c) for c, g in zip(CLASS, GONE, strict=True)],
        np.ma.MaskedArray(OBJECTS, GONE),
    ],
)  # fmt: skip
def test_arrays(label):
    data = from_array(PIXELS, {"label": label})
    require_left_out(data)
    assert data.fingerprint == from_array(PIXELS[KEPT], {"label": CLASS[KEPT]}).fingerprint


def test_labels_of_the_file_of_3d_shapes(tmp_path):
    """NaN is a missing label of the columns that are asked for, and what is left is as it was."""
    data = load(str(shapes3d(tmp_path / "x.h5", NAN, a=np.where(np.arange(N) < 3, np.nan, 1.0))), ["shape"])
    assert len(data) == len(KEPT)
    assert "8 of 40 items have no 'shape' and are left out" in data.words
    assert data.attribute("shape").values == ("capsule", "cube", "cylinder", "sphere")
    names = np.array(["cube", "cylinder", "sphere", "capsule"])[CLASS[KEPT]]
    assert [data.attribute("shape").values[i] for i in data.labels["shape"]] == names.tolist()
    expected = torch.from_numpy(PIXELS[KEPT] / 255.0).float()[:, None]
    assert torch.equal(data.source.read(0, len(data)), expected)
    assert torch.equal(data.source.take(torch.tensor([30, 2, 2])), expected[[30, 2, 2]])
    both = load(str(tmp_path / "x.h5"), ["shape", "scale"])
    assert len(both) == len(KEPT)
    lacking = load(str(shapes3d(tmp_path / "y.h5", CLASS, d=np.where(GONE, np.nan, np.arange(N) % 3))))
    assert "8 of 40 items have no 'scale' and are left out" in lacking.words
    whole = load(str(shapes3d(tmp_path / "z.h5", CLASS)))
    kept = shapes3d(tmp_path / "u.h5", CLASS)
    assert len(whole) == N
    assert whole.fingerprint == load(str(kept)).fingerprint
    with pytest.raises(InputError, match="infinite numbers: write NaN where a label is missing"):
        load(str(shapes3d(tmp_path / "v.h5", np.where(GONE, np.inf, CLASS))))
    with pytest.raises(InputError, match="none of 40 items has all labels"):
        load(str(shapes3d(tmp_path / "w.h5", np.full(N, np.nan))), ["shape"])


def test_classes_that_have_names_keep_them():
    data = from_array(PIXELS, {"label": np.where(GONE, -1, CLASS)}, names={"label": NAMES})
    require_left_out(data)
    assert data.attribute("label").values == tuple(NAMES)
    plain = from_array(PIXELS, {"label": np.where(GONE, -1, CLASS)})  # without names −1 is a number
    assert plain.attribute("label").values == ("-1", "0", "1", "2", "3")


def test_only_columns_that_are_asked_for_count(tmp_path):
    path = parquet(tmp_path / "x.parquet", label=CLASS, note=pa.array(WORD, mask=GONE), size=pa.array(NAN))
    assert len(load(str(path), ["label"])) == N
    assert len(load(str(path), ["label", "note"])) == len(KEPT)
    assert len(load(str(path), ["label+size"])) == len(KEPT)
    other = np.arange(N) % 2 == 0
    both = from_array(PIXELS, {"a": NAN, "b": np.ma.MaskedArray(CLASS, other), "c": CLASS}, attributes=["a", "b"])
    assert len(both) == int((~GONE & ~other).sum())
    assert "8 of 40 items have no 'a' and are left out; 20 of 40 items have no 'b' and are left out" in both.words
    assert len(from_array(PIXELS, {"a": NAN, "b": np.full(N, np.nan)})) == len(KEPT)  # a column of nothing is none


def test_weights_are_those_of_the_items_that_are_left():
    weights = np.arange(1.0, N + 1)
    data = from_array(PIXELS, {"label": NAN}, weights=weights)
    assert torch.allclose(data.weights, torch.from_numpy(weights[KEPT] / weights[KEPT].sum()))


def test_images_that_stay_in_their_file(tmp_path, monkeypatch):
    """Rows that are left out are not held, in blocks of any size, and damage is noticed among them, too."""
    np.savez(tmp_path / "x.npz", images=PIXELS, label=NAN)
    monkeypatch.setattr(shards_module, "_BLOCK_BYTES", 5 * 16)
    data = load(str(tmp_path / "x.npz"))
    require_left_out(data)
    assert data.source.resident_bytes == 0
    raw = bytearray((tmp_path / "x.npz").read_bytes())
    place = raw.find(PIXELS[5].tobytes())
    raw[place] ^= 1
    (tmp_path / "x.npz").write_bytes(bytes(raw))
    with pytest.raises(InputError, match=r"checksum is wrong|Bad CRC"):
        load(str(tmp_path / "x.npz"))


def test_the_count_is_shown(tmp_path, capsys):
    path = str(FILES["class label"](tmp_path))
    words = "8 of 40 items have no 'label' and are left out"
    assert main(["study", path, "--draws", "8", "--levels", "4", "--out", str(tmp_path / "o")]) == 0
    assert f"sigmascope: note: {words}" in capsys.readouterr().err.splitlines()
    assert words.replace("'", "&#x27;") in (tmp_path / "o" / "report.html").read_text()
    assert (tmp_path / "o" / "values.csv").read_text().count("cat") == 1
    assert main(["study", path, "--dry-run"]) == 0
    assert words in capsys.readouterr().out
    assert words in study(path, draws=8, levels=4).attrs["data_words"]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ([None] * N, "none of 40 items has all labels"),
        (["a", 1] * 20, "holds numbers and text"),
        ([True, "a"] * 20, "holds text and truth values"),
        ([{}, 1] * 20, "holds a dict"),
        ([b"a", b"\xff"] * 20, "bytes that are not UTF-8"),
        ([10**30, 1] * 20, "beyond 64 bits"),
        (["a", "b\0c"] * 20, r"'b\\x00c', which holds a character that is no text"),
        (["a", "\ud800"] * 20, "which holds a character that is no text"),
        ([["a"], ["b"]] * 20, "holds a list"),
        (np.arange(N).astype(complex), "has type complex"),
        (np.arange(N).astype("datetime64[D]"), "has type datetime"),
        (np.where(GONE, np.inf, CLASS), "not finite"),
        (np.zeros((N, 2)), "one label per image"),
        ("abcd" * 10, "one label per image"),
    ],
)
def test_columns_of_python_that_cannot_be_used(label, words):
    import inspect

    with pytest.raises(InputError, match=words):
        inspect.unwrap(from_array)(PIXELS, {"label": label})


@pytest.mark.parametrize(
    ("names", "label", "words"),
    [
        (NAMES, np.where(GONE, 7, CLASS), "holds the class 7, names go from 0 to 3"),
        (NAMES, np.where(GONE, -2, CLASS), "holds the class -2, names go from 0 to 3"),
        (NAMES[:2], CLASS, "holds the class 3, names go from 0 to 1"),
        (["a\0", "b", "c", "d"], CLASS, "which holds a character that is no text"),
        ([], np.full(N, -1), "none of 40 items has all labels"),
    ],
)
def test_class_labels_that_cannot_be_used(tmp_path, names, label, words):
    with pytest.raises(InputError, match=words):
        load(str(parquet(tmp_path / "x.parquet", class_label(names), label=label)))


def test_two_classes_of_one_name_stay_apart(tmp_path):
    path = parquet(tmp_path / "x.parquet", class_label(["crane", "dog", "crane", "fox"]), label=CLASS)
    assert load(str(path)).attribute("label").values == ("crane (0)", "dog", "crane (2)", "fox")


def test_labels_of_one_item_each(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", images=PIXELS, name=[f"n{i}" for i in range(N)], label=CLASS)
    words = "40 of 40 items have a 'name' that no other item has, so that this attribute"
    options = ["--draws", "16", "--levels", "4"]
    assert main(["study", str(tmp_path / "x.npz"), *options, "--out", str(tmp_path / "o")]) == 0
    assert words in capsys.readouterr().err
    assert main(["study", str(tmp_path / "x.npz"), *options, "--law", "heldout", "--out", str(tmp_path / "h")]) == 2
    assert "leave it out with --attributes" in capsys.readouterr().err
    assert not (tmp_path / "h").exists()
    with pytest.raises(InputError, match="nothing is known of those held out"):
        study(PIXELS, {"name": np.arange(N)}, law="heldout", draws=16, levels=4)


def test_a_column_of_one_value_is_left_out_where_all_are_wanted():
    data = from_array(PIXELS, {"label": CLASS, "source": ["web"] * N})
    assert [a.name for a in data.attributes] == ["label"]
    assert "'source' has one value and is left out" in data.words
    with pytest.raises(InputError, match="has 1 value"):
        from_array(PIXELS, {"label": CLASS, "source": ["web"] * N}, attributes=["source"])


SCALES = {
    "floats to 255": (lambda v: v.astype(np.float32), {}, "the pixels are floats from 0 to 255"),
    "floats to 65535": (lambda v: v * 257.0, {}, "divide them by 65535"),
    "in their own unit": (lambda v: v.astype(np.float32), {"sigma_max": 25500.0, "sigma_min": 2.6}, None),
    "alike": (lambda v: np.repeat(v[:1], N, 0), {}, "all 40 images are alike"),
    "alike, floats": (lambda v: np.ones((N, 3)), {}, "all 40 images are alike"),
    "tiny": (lambda v: v * 1e-9, {}, "nothing is decided there; rescale the pixels, or pass --sigma-min"),
    "tiny, by levels": (lambda v: v * 1e-9, {"sigma_min": 1e-9, "sigma_max": 1e-6}, None),
    "unit range": (lambda v: v / 255.0, {}, None),
    "bytes": (lambda v: v, {}, None),
    "wide vectors": (lambda v: v.reshape(N, -1).astype(float), {}, None),
}


@pytest.mark.parametrize("kind", SCALES)
def test_scales(kind, tmp_path, capsys):
    make, options, words = SCALES[kind]
    images = make(
        np.where(np.arange(16).reshape(4, 4) == 3, 255, np.where(np.arange(16).reshape(4, 4) == 4, 0, PIXELS))
    )
    given = {"draws": 8, "levels": 4} | options
    if words is None:
        assert study(images, {"label": CLASS}, **given).sizes["sigma"] == 4
        return
    with pytest.raises(InputError, match=words):
        study(images, {"label": CLASS}, **given)
    np.savez(tmp_path / "x.npz", images=images, label=CLASS)
    for command in (["study"], ["generate"]):
        assert main([*command, str(tmp_path / "x.npz"), "--out", str(tmp_path / "o")]) == 2
        assert len([x for x in capsys.readouterr().err.splitlines() if "note:" not in x]) == 1
        assert not (tmp_path / "o").exists()


def test_bytes_of_zero_and_one_are_noticed():
    data = from_array((PIXELS > 99).astype(np.uint8), {"label": CLASS})
    assert "multiply them by 255 or store floats" in data.words
