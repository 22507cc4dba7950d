"""Images that stay in their file, and shares of them."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sigmascope.core import Draws, InputError
from sigmascope.data import from_array, load
from sigmascope.data.arrays import ArraySource
from sigmascope.data.shards import ShardedSource
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.heldout import HeldOutPass

RNG = np.random.default_rng(0)
PLACES = RNG.random((40, 5, 4))
DIGIT = np.arange(40) % 3
KINDS = {
    "bytes": (255 * PLACES).astype(np.uint8),
    "colour": (255 * RNG.random((40, 5, 5, 3))).astype(np.uint8),
    "single": PLACES.astype(np.float32),
    "half": PLACES.astype(np.float16),
    "big-endian": PLACES.astype(">f8"),
    "extended": PLACES.astype(np.longdouble),
    "truth": PLACES > 0.5,
    "vectors": PLACES[:, 0],
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", KINDS)
def test_items_of_a_file_are_those_of_the_array(tmp_path, kind, save):
    path, images = tmp_path / "x.npz", KINDS[kind]
    weights = RNG.random(40)
    save(path, digit=DIGIT, images=images, weights=weights)
    found, expected = load(str(path)), from_array(images, {"digit": DIGIT}, weights=weights)
    assert found.fingerprint == expected.fingerprint
    assert found.event == expected.event
    assert found.source.resident_bytes == (0 if save is np.savez else images.nbytes)
    assert torch.equal(found.source.read(0, 40), expected.source.read(0, 40))
    assert torch.equal(found.source.read(33, 40), expected.source.read(33, 40))
    items = torch.tensor([39, 0, 17, 17])
    assert torch.equal(found.source.take(items), expected.source.take(items))


def test_columns_first(tmp_path):
    """numpy stores such an array as it lies: rows are not contiguous, so it is loaded."""
    path = tmp_path / "x.npz"
    np.savez(path, images=np.asfortranarray(PLACES), digit=DIGIT)
    found = load(str(path))
    assert torch.equal(found.source.read(3, 9), torch.from_numpy(PLACES[3:9].astype(np.float32)[:, None]))
    assert found.fingerprint == from_array(PLACES, {"digit": DIGIT}).fingerprint


def high_water() -> int:
    """Bytes that this process has held at most since the mark was last set back."""
    status = Path("/proc/self/status").read_text()
    found = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(found.split()[1])


def test_images_larger_than_the_memory(tmp_path, monkeypatch):
    """A file of 96 MiB where 60 MB of memory are free: it is read in less."""
    path = tmp_path / "x.npz"
    images = np.zeros((6144, 128, 128), np.uint8)
    images[:, 0, 0] = 200 * (np.arange(6144) % 2)
    np.savez(path, images=images, half=np.arange(6144) % 2)
    del images
    monkeypatch.setattr("sigmascope.data.memory.available_bytes", lambda: 60_000_000)
    high_water()
    before = high_water()
    data = load(str(path))
    assert high_water() - before < 40_000_000  # some blocks of 4 MiB
    assert float(data.source.read(6143, 6144)[0, 0, 0, 0]) == np.float32(200 / 255)


def member(path: Path, name: str = "images.npy") -> tuple[zipfile.ZipInfo, int]:
    """Its entry in the directory, and where its bytes begin."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    header = path.read_bytes()[info.header_offset :][:30]
    return info, info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))


def overwrite(path: Path, place: int, what: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[place : place + len(what)] = what
    path.write_bytes(whole)


def forged(path: Path, shape: bytes) -> None:
    """A file whose directory is in order, with another shape in the array's header."""
    with zipfile.ZipFile(path) as archive:
        held = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in held.items():
            archive.writestr(name, content.replace(b"(40, 5, 4)", shape))


def taller(path: Path) -> None:
    forged(path, b"(90, 5, 4)")


def shorter(path: Path) -> None:
    forged(path, b"(10, 5, 4)")


def backward(path: Path) -> None:
    forged(path, b"(-40,5,-4)")


def endless(path: Path) -> None:
    forged(path, b"(9**9**99)")


def another_name_length(path: Path) -> None:
    overwrite(path, member(path)[0].header_offset + 28, struct.pack("<H", 60_000))


def packed_says_its_place(path: Path) -> None:
    overwrite(path, member(path)[0].header_offset + 8, struct.pack("<H", zipfile.ZIP_DEFLATED))


def elsewhere(path: Path) -> None:
    """The directory sends the images behind the end of the file."""
    directory = path.read_bytes().rindex(b"PK\x01\x02")
    overwrite(path, directory + 42, struct.pack("<I", 1 << 30))


def locked(path: Path) -> None:
    directory = path.read_bytes().index(b"PK\x01\x02")
    overwrite(path, directory + 8, struct.pack("<H", 1))


def third_version(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        held = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in held.items():
            archive.writestr(name, content[:6] + b"\x03" + content[7:])


@pytest.mark.parametrize(
    ("spoil", "save", "words"),
    [
        (taller, np.savez, "does not fit their length"),
        (shorter, np.savez, "does not fit their length"),
        (backward, np.savez, "does not fit their length"),
        (endless, np.savez, ""),
        (another_name_length, np.savez, ""),
        (another_name_length, np.savez_compressed, ""),
        (packed_says_its_place, np.savez, "directory"),
        (elsewhere, np.savez, ""),
        (elsewhere, np.savez_compressed, ""),
        (locked, np.savez, ""),
        (locked, np.savez_compressed, ""),
        (third_version, np.savez, r"version \(3, 0\)"),
    ],
)
def test_files_that_are_not_what_they_say(tmp_path, spoil, save, words):
    path = tmp_path / "x.npz"
    save(path, images=KINDS["bytes"], digit=DIGIT)
    spoil(path)
    with pytest.raises(InputError, match=f"not a readable .npz file.*{words}") as caught:
        load(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_pixel_that_was_spoilt(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=RNG.integers(0, 256, (40, 30, 30)).astype(np.uint8), digit=DIGIT)
    place = member(path)[1] + 128 + 30_000
    overwrite(path, place, bytes([path.read_bytes()[place] ^ 1]))
    with pytest.raises(InputError, match="its images are damaged"):
        load(str(path))


def test_a_file_that_changes_under_its_reader(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=KINDS["bytes"], digit=DIGIT)
    data = load(str(path))
    np.savez(path, images=KINDS["bytes"][:20], digit=DIGIT[:20])
    with pytest.raises(InputError, match="was changed while it was in use: load it again"):
        data.source.read(0, 40)


def test_a_pixel_that_is_not_finite_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sigmascope.data.shards._BLOCK_BYTES", 8 * 20 * 7)  # of 7 items
    images = PLACES.copy()
    images[31, 2, 2] = np.inf
    np.savez(tmp_path / "x.npz", images=images, digit=DIGIT)
    with pytest.raises(InputError, match="image 31 holds a pixel that is not finite"):
        load(str(tmp_path / "x.npz"))


def test_a_share_serves_its_own_rows_alone():
    whole = ArraySource(KINDS["single"])
    share = ShardedSource(ArraySource(KINDS["single"][8:24]), 8, 40)
    assert len(share) == 40
    assert share.resident_bytes == KINDS["single"][8:24].nbytes
    assert torch.equal(share.read(8, 24), whole.read(8, 24))
    items = torch.tensor([23, 8, 8])
    assert torch.equal(share.take(items), whole.take(items))
    assert torch.equal(share.take(torch.tensor([7, 24])), torch.zeros(2, *whole.event))  # another rank adds them
    for start, stop in ((7, 9), (23, 25), (0, 8)):
        with pytest.raises(InputError, match=f"items {start} to {stop} came, this rank holds 8 to 24: .* without"):
            share.read(start, stop)


def test_a_held_out_item_has_copies_whatever_the_sign_of_its_zeros():
    """Items that were added up over ranks have lost it."""
    v = np.abs(np.random.default_rng(1).normal(size=(60, 4))).astype(np.float32)
    v[:, 1] = 0.0
    v[30:] = v[:30]
    found = []
    for zero in (0.0, -0.0):
        v[30:, 1] = zero
        data = from_array(v, {"a": np.arange(60) % 2})
        items = torch.arange(4)
        draws = Draws(items, data.source.take(items), torch.ones(4, 4), {"a": items % 2})
        held = HeldOutPass(FiniteDenoiser(data), draws, np.array([1.0, 0.1]))
        while not held.done:
            held.step()
        found.append(held.own_probability("a"))
    assert np.array_equal(*found)
