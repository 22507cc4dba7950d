"""Every loader on a file of its kind, and on what cannot be used."""

from __future__ import annotations

import zipfile

import h5py
import numpy as np
import pytest
import torch

from sigmascope.core import InputError
from sigmascope.data import from_array, load
from sigmascope.data.shapes3d import FACTORS


def grid_h5(path, n=40):
    """A file in the layout of 3D Shapes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(n, 64, 64, 3), dtype=np.uint8)
    labels = np.zeros((n, 6))
    for j, values in enumerate((10, 10, 10, 8, 4, 15)):
        step = {0: 0.1, 1: 0.1, 2: 0.1}.get(j, 1.0)
        labels[:, j] = (np.arange(n) % values) * step
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, chunks=(8, 64, 64, 3), compression="gzip")
        file.create_dataset("labels", data=labels)
    return images, labels


def test_shapes3d_layout(tmp_path):
    images, labels = grid_h5(tmp_path / "3dshapes.h5")
    data = load(str(tmp_path / "3dshapes.h5"))
    assert [a.name for a in data.attributes] == list(FACTORS)
    assert [len(a.values) for a in data.attributes] == [10, 10, 10, 8, 4, 15]
    assert data.attribute("shape").values == ("capsule", "cube", "cylinder", "sphere")
    shape_of = [data.attribute("shape").values[i] for i in data.labels["shape"]]
    assert shape_of[:4] == ["cube", "cylinder", "sphere", "capsule"]
    assert data.event == (3, 64, 64)
    expected = torch.from_numpy(images[5].transpose(2, 0, 1) / 255.0).float()
    assert torch.equal(data.source.read(5, 6)[0], expected)
    assert torch.equal(data.source.take(torch.tensor([7, 5]))[1], expected)
    hue = data.labels["floor_hue"].numpy()
    assert np.array_equal(hue, np.round(labels[:, 0] * 10).astype(int))
    assert data.source.resident_bytes == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(b"not hdf5"), "not a readable 3D Shapes file"),
        (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "not a readable 3D Shapes file"),
    ],
)
def test_damaged_h5(tmp_path, spoil, words):
    path = tmp_path / "x.h5"
    grid_h5(path)
    spoil(path)
    with pytest.raises(InputError, match=words) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)


def test_h5_with_a_damaged_chunk(tmp_path):
    path = tmp_path / "x.h5"
    grid_h5(path)
    with h5py.File(path) as file:
        offset = file["images"].id.get_chunk_info(2).byte_offset
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 400] = bytes(400)
    path.write_bytes(bytes(raw))
    with pytest.raises(InputError, match="damaged"):
        load(str(path))


def test_sprites(shared):
    data = load(str(shared / "data" / "lpc-sprites.npz"))
    assert len(data) == 34_992
    assert data.event == (3, 64, 64)
    assert {a.name: len(a.values) for a in data.attributes} == {
        "skin": 6, "bottomwear": 6, "topwear": 6, "hair": 6, "action": 3, "direction": 3, "frame": 3,
    }  # fmt: skip
    with np.load(shared / "data" / "lpc-sprites.npz") as file:
        raw, action = file["images"][123], str(file["action"][123])
    assert torch.equal(data.source.read(123, 124)[0], torch.from_numpy(raw).permute(2, 0, 1).float().div(255))
    assert data.attribute("action").values[int(data.labels["action"][123])] == action


def test_mnist(shared):
    data = load(str(shared / "data" / "mnist-10k.npz"))
    assert data.event == (1, 28, 28)
    assert data.attribute("digit").values == tuple("0123456789")
    assert 2.29 < data.attribute("digit").entropy < np.log(10)


def test_kinds_of_labels():
    n = 40
    columns = {
        "whole": np.arange(n) % 3 - 1,
        "word": np.array(["b", "a"])[np.arange(n) % 2],
        "flag": np.arange(n) % 4 == 0,
        "depth": np.linspace(0.0, 1.0, n) ** 2,
    }
    data = from_array(
        np.random.default_rng(0).random((n, 5)), columns, attributes=["whole", "word", "flag", "depth:bins=4"]
    )
    assert data.attribute("whole").values == ("-1", "0", "1")
    assert data.attribute("word").values == ("a", "b")
    assert data.attribute("flag").values == ("False", "True")
    assert torch.allclose(data.attribute("depth").prior, torch.full((4,), 0.25).double())
    assert torch.equal(data.labels["depth"], torch.arange(n) // 10)
    with pytest.raises(InputError, match="depth:bins=8"):
        from_array(np.random.default_rng(0).random((n, 5)), columns)


def test_weights_make_the_prior():
    data = from_array(np.random.default_rng(0).random((3, 2)), {"a": [0, 1, 1]}, weights=np.array([2.0, 1.0, 1.0]))
    assert data.attribute("a").prior.tolist() == [0.5, 0.5]
    equal = from_array(np.random.default_rng(0).random((3, 2)), {"a": [0, 1, 1]})
    assert equal.attribute("a").prior.tolist() == pytest.approx([1 / 3, 2 / 3])


def test_fingerprint_sees_pixels_labels_and_weights():
    images, labels = np.random.default_rng(0).integers(0, 255, (6, 4, 4), dtype=np.uint8), np.arange(6) % 2
    base = from_array(images, {"a": labels}).fingerprint
    assert from_array(images.copy(), {"a": labels.copy()}).fingerprint == base
    touched = images.copy()
    touched[3, 2, 1] ^= 1
    assert from_array(touched, {"a": labels}).fingerprint != base
    assert from_array(images, {"a": 1 - labels}).fingerprint != base
    assert from_array(images, {"a": labels}, weights=np.arange(1.0, 7.0)).fingerprint != base


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


IMAGES = np.random.default_rng(0).integers(0, 255, (12, 4, 4), dtype=np.uint8)
DIGIT = np.arange(12) % 3


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"digit": DIGIT}, "expected an array called 'images'"),
        ({"images": IMAGES}, "there are no attributes"),
        ({"images": IMAGES, "digit": DIGIT[:-1]}, "one label per image"),
        ({"images": IMAGES, "digit": np.zeros(12, int)}, "has 1 value"),
        ({"images": np.where(IMAGES[5, 1, 1] == IMAGES, np.nan, IMAGES), "digit": DIGIT}, "not finite"),
        ({"images": IMAGES.astype(int), "digit": DIGIT}, "expected uint8, or floats"),
        ({"images": IMAGES, "digit": DIGIT, "weights": -np.ones(12)}, "non-negative"),
        ({"images": IMAGES, "digit": np.where(DIGIT == 0, np.inf, DIGIT)}, "not finite"),
        ({"images": np.array([np.zeros((2, 2)), np.zeros((3, 3))], object), "digit": DIGIT[:2]}, "unequal sizes"),
    ],
)
def test_npz_that_cannot_be_used(tmp_path, arrays, words):
    path = tmp_path / "x.npz"
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, **arrays)
    with pytest.raises(InputError, match=words) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)


def test_truncated_npz(tmp_path):
    path = save(tmp_path / "x.npz", images=IMAGES, digit=DIGIT)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="not a readable"):
            load(str(path))


def test_npz_larger_than_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = save(tmp_path / "x.npz", images=IMAGES, digit=DIGIT)
    monkeypatch.setattr("sigmascope.data.memory.available_bytes", lambda: 100)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *a: pytest.fail("the file was read"))
    with pytest.raises(InputError, match="memory"):
        load(str(path))


@pytest.mark.parametrize(
    ("data", "words"),
    [("nowhere.npz", "no such file"), ("src", "no pictures are found"), ("pyproject.toml", "are not read: pass")],
)
def test_no_data_there(data, words, monkeypatch):
    from conftest import ROOT

    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=words):
        load(data)


def test_a_path_is_as_good_as_its_text(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).random((12, 4, 4)), a=np.arange(12) % 2)
    assert load(tmp_path / "x.npz").fingerprint == load(str(tmp_path / "x.npz")).fingerprint
