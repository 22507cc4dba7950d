"""Parquet and folders of pictures: real files, and what cannot be used."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sigmascope.cli import main
from sigmascope.core import InputError
from sigmascope.data import from_array, grouped, load

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path, pictures=None, metadata=None, **columns):
    pictures = [png(p) for p in PIXELS] if pictures is None else pictures
    image = pa.array([{"bytes": b, "path": f"{i}.png"} for i, b in enumerate(pictures)])
    table = pa.table({"image": image, **columns})
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def refused(path, words, *options):
    with pytest.raises(InputError, match=words) as caught:
        load(str(path), *options)
    assert "\n" not in str(caught.value)


def test_cifar(shared):
    path = shared / "data" / "cifar10-train.parquet"
    data = load(str(path))
    assert len(data) == 50_000
    assert data.event == (3, 32, 32)
    a = data.attribute("label_class")
    assert a.values[:3] == ("airplane", "automobile", "bird")
    assert a.entropy == pytest.approx(np.log(10))
    row = pq.ParquetFile(path).read_row_group(0).slice(777, 1).to_pylist()[0]
    with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
        expected = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255
    assert torch.allclose(data.source.read(777, 778)[0], expected)
    assert a.values[int(data.labels["label_class"][777])] == row["image"]["path"].split("/")[0]


def test_hugging_face_layout(tmp_path):
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    columns = {"label": np.arange(12) % 3, "caption": [f"c{i % 2}" for i in range(12)], "score": np.linspace(0, 1, 12)}
    path = write_parquet(tmp_path / "x.parquet", metadata=metadata, **columns)
    data = load(str(path), ["label", "caption", "score:bins=3"])
    assert data.attribute("label").values == ("cat", "dog", "eel")
    assert data.attribute("caption").values == ("c0", "c1")
    assert len(data.attribute("score").values) == 3
    assert torch.equal(data.source.read(3, 4)[0], torch.from_numpy(PIXELS[3]).permute(2, 0, 1).float() / 255)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.write_bytes(b"PAR1 no"), "not a readable parquet"),
        (
            lambda p: (write_parquet(p, a=np.arange(12) % 2), p.write_bytes(p.read_bytes()[:-40])),
            "not a readable parquet",
        ),
        (lambda p: pq.write_table(pa.table({"a": [1, 2]}), p), "0 columns hold encoded pictures"),
        (lambda p: write_parquet(p, [png(PIXELS[0])[:60]] * 12, a=np.arange(12) % 2), "row 0 cannot be decoded"),
        (lambda p: write_parquet(p, [b"junk"] * 12, a=np.arange(12) % 2), "row 0 cannot be decoded"),
        (lambda p: write_parquet(p, [None] * 12, a=np.arange(12) % 2), "no picture's bytes"),
        (
            lambda p: write_parquet(p, [png(PIXELS[0]), png(PIXELS[0][:4])], a=[0, 1]),
            "row 1 is 5 × 4 and row 0 is 5 × 6",
        ),
        (lambda p: write_parquet(p, a=pa.array([None] * 12, type=pa.int64())), "none of 12 items has all labels"),
        (lambda p: write_parquet(p), "there are no attributes"),
        (lambda p: write_parquet(p, a=np.zeros(12, int)), "has 1 value"),
    ],
)
def test_parquet_that_cannot_be_used(tmp_path, make, words, capsys):
    path = tmp_path / "x.parquet"
    make(path)
    refused(path, words)
    assert main(["study", str(path), "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "x.parquet", a=np.arange(12) % 2)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(path, "sigmascope\\[parquet\\]")


def class_folder(root, suffix=".png"):
    for i, pixels in enumerate(PIXELS):
        folder = root / ("warm" if i % 3 else "cold")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i:02}{suffix}")
    (root / "notes.txt").write_text("not a picture")
    (root / ".hidden").mkdir()
    return root


def test_folder_per_class(tmp_path):
    data = load(str(class_folder(tmp_path / "pets")))
    assert data.name == "pets"
    assert data.attribute("class").values == ("cold", "warm")
    assert data.attribute("class").prior.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert torch.equal(data.source.read(0, 1)[0], torch.from_numpy(PIXELS[0]).permute(2, 0, 1).float() / 255)
    assert torch.equal(data.source.read(4, 5)[0], torch.from_numpy(PIXELS[1]).permute(2, 0, 1).float() / 255)


def table_folder(root, kind, rows=None):
    root.mkdir()
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(root / f"{i}.png")
    made = [{"file_name": f"{i}.png", "count": i % 3, "mood": "glad" if i % 2 else "sad"} for i in range(12)]
    rows = made if rows is None else rows(made)
    if kind == "csv":
        lines = [",".join(rows[0])] + [",".join(str(v) for v in r.values()) for r in rows]
    else:
        lines = [json.dumps(r) for r in rows]
    (root / f"metadata.{kind}").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_folder_with_a_table(tmp_path, kind):
    data = load(str(table_folder(tmp_path / "x", kind)))
    assert [a.name for a in data.attributes] == ["count", "mood"]
    assert data.attribute("count").values == ("0", "1", "2")
    assert data.attribute("mood").values == ("glad", "sad")
    assert data.labels["mood"].tolist() == [1, 0] * 6


def test_grey_pictures_have_one_channel(tmp_path):
    for i, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        Image.fromarray(PIXELS[i, :, :, 0]).save(tmp_path / name / "x.png")
    assert load(str(tmp_path)).event == (1, 6, 5)
    Image.fromarray(PIXELS[1]).save(tmp_path / "b" / "y.png")
    mixed = load(str(tmp_path))
    assert mixed.event == (3, 6, 5)
    assert torch.equal(mixed.source.read(0, 1)[0, 0], mixed.source.read(0, 1)[0, 2])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (lambda r: [{**r[0], "file_name": "none.png"}, *r[1:]], "row 1 names none.png, which is not there"),
        (lambda r: [{**r[0], "file_name": "../../etc/passwd"}, *r[1:]], "points out of the folder"),
        (lambda r: [{k: v for k, v in x.items() if k != "file_name"} for x in r], "no column 'file_name'"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_tables_that_cannot_be_used(tmp_path, kind, rows, words):
    refused(table_folder(tmp_path / "x", kind, rows), words)


def test_folders_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no pictures are found")
    one = class_folder(tmp_path / "pets")
    victim = one / "warm" / "01.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    refused(one, "warm/01.png cannot be decoded")
    Image.fromarray(PIXELS[0][:3]).save(victim)
    refused(one, "warm/01.png is 5 × 3 and cold/00.png is 5 × 6")
    assert main(["study", str(one), "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    both = table_folder(tmp_path / "both", "csv")
    (both / "metadata.jsonl").write_text("{}")
    refused(both, "keep one of them")
    broken = table_folder(tmp_path / "broken", "jsonl")
    (broken / "metadata.jsonl").write_text("{not json")
    refused(broken, "it cannot be read")


def test_joint_values(tmp_path):
    data = load(str(table_folder(tmp_path / "x", "csv")), ["count", "count+mood"])
    joint = data.attribute("count+mood")
    assert joint.values[:3] == ("0 + glad", "0 + sad", "1 + glad")
    assert joint.entropy == pytest.approx(np.log(6))
    assert data.labels["count+mood"].tolist() == [2 * (i % 3) + (1 - i % 2) for i in range(12)]
    refused(tmp_path / "x", "joins an attribute with itself", ["count+count"])
    refused(tmp_path / "x", "no attribute is called 'age'", ["count+age"])


def test_groups(tmp_path):
    data = load(str(table_folder(tmp_path / "x", "csv")), ["count"])
    coarse = grouped(data, "count", "any", {"none": ["0"], "some": ["1", "2"]})
    assert coarse.attribute("any").prior.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert coarse.labels["any"].tolist() == [min(i % 3, 1) for i in range(12)]
    assert coarse.fingerprint != data.fingerprint
    for groups in ({"none": ["0"]}, {"a": ["0", "1"], "b": ["1", "2"]}, {"a": ["0", "1", "2", "3"], "b": []}):
        with pytest.raises(InputError, match="exactly once"):
            grouped(data, "count", "any", groups)


def test_grain_of_the_scenes():
    data = load("scenes", size=16, grain=True)
    assert len(data) == 1_920_000
    assert data.attribute("grain").values == ("smooth", "lengthwise", "crosswise", "tiled")
    base = ((4 * 4 + 2) * 15 + 7) * 4
    x = data.source.take(torch.tensor([(base + g) * 1000 + 537 for g in range(4)]))
    assert data.labels["grain"][[(base + g) * 1000 + 537 for g in range(4)]].tolist() == [0, 1, 2, 3]
    plain = load("scenes", size=16).source.take(torch.tensor([base // 4 * 1000 + 537]))
    assert torch.equal(x[:1], plain)
    apart = (x[1:] - x[:1]).abs()
    assert float(apart[:, :, :3].max()) == 0.0  # the floor alone has grain
    assert float(apart.amax((1, 2, 3)).min()) > 0.02
    assert float(x.max()) <= 1.0
    with pytest.raises(InputError, match="--grain is a texture of the scenes"):
        load("pyproject.toml", grain=True)


def test_pictures_of_more_than_8_bits_are_refused(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(RNG.integers(0, 65535, (6, 5)).astype(np.uint16)).save(tmp_path / name / "x.png")
    refused(tmp_path, "more than 8 bits")


def test_names_that_look_like_numbers_stay_apart(tmp_path):
    codes = ["1_0", "10", "1", "01"]
    root = table_folder(tmp_path / "x", "csv", lambda r: [{**x, "code": codes[i % 4]} for i, x in enumerate(r)])
    assert load(str(root), ["code"]).attribute("code").values == ("01", "1", "10", "1_0")
    doubled = root / "metadata.csv"
    doubled.write_text(doubled.read_text().replace("file_name,count", "file_name,mood", 1))
    refused(root, "two columns have one name")


def test_folders_within_folders_are_refused(tmp_path):
    class_folder(tmp_path / "root" / "train")
    class_folder(tmp_path / "root" / "test")
    refused(tmp_path / "root", "lies deeper than a folder per class")


def test_a_row_without_a_picture(tmp_path):
    root = table_folder(tmp_path / "x", "jsonl")
    lines = (root / "metadata.jsonl").read_text().splitlines()
    (root / "metadata.jsonl").write_text("\n".join([lines[0], json.dumps({"count": 1, "mood": "sad"})]))
    refused(root, "row 2 has no file_name")


def test_bins_in_a_joint_attribute():
    x = RNG.random((60, 4))
    labels = {
        "depth": x[:, 0],
        "flag": x[:, 1] > 0.5,
        "a+b": np.arange(60) % 2,
        "a": np.arange(60) % 3,
        "b": np.arange(60) % 4,
    }
    joint = from_array(x, labels, attributes=["depth:bins=3+flag", "flag", "depth:bins=3"])
    assert joint.attribute("depth+flag").parts == ("depth", "flag")
    assert len(joint.attribute("depth+flag").values) == 6
    with pytest.raises(InputError, match="different bins"):
        from_array(x, labels, attributes=["depth:bins=3+flag", "depth:bins=8"])
    assert from_array(x, labels, attributes=["a+b", "a"]).attribute("a+b").parts == ()
    close = from_array(x, {"d": 1e6 + x[:, 0]}, attributes=["d:bins=4"])
    assert len(set(close.attribute("d").values)) == 4


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.full((6, 2), 1e39), {"a": [0, 1] * 3}, "rescale"),
        (np.zeros((6, 2)), {"a": [[1], [2, 3]] * 3}, "ragged"),
        (np.zeros((6, 2)), [0, 1] * 3, "pass a mapping"),
        (np.zeros((6, 2)), {"a": [1e20, 2e20] * 3}, "bins=8"),
    ],
)
def test_arrays_that_cannot_be_used(images, labels, words):
    import inspect

    with pytest.raises(InputError, match=words):
        inspect.unwrap(from_array)(images, labels)
