"""Items of an ``.npz`` file: uncompressed images stay in it, others are unpacked, by each rank its own."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sigmascope import ranks
from sigmascope.core import InputError, LabelledData
from sigmascope.data.arrays import as_columns, check_kind, labelled
from sigmascope.data.memory import require
from sigmascope.data.shards import Rows, StoredRows, as_bytes, block_rows

_LOCAL = struct.Struct("<4s5HIIIHH")  # header of a member of a zip file, where it lies
_IMAGES = "images.npy"
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_DAMAGED = (
    zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class _Header:
    """What a member of the file says of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    before: bytes  # what comes before the first entry


def load_npz(path: Path, abstractions: Sequence[str] = ()) -> LabelledData:
    """An ``.npz`` file with ``images``, one array per attribute, and optionally ``weights``.

    Images that :func:`numpy.savez` wrote, uncompressed, are read from the file when they are wanted: they may be larger
    than the memory.  Compressed ones are unpacked; in a run of several processes each holds only its share.

    Raises: InputError, in one line, for a file that cannot be used.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {i.filename: i for i in archive.infolist()}
            if _IMAGES not in members:
                held = ", ".join(n.removesuffix(".npy") for n in members) or "nothing"
                raise InputError(f"{path}: it holds {held}: expected an array called 'images'")
            info = members[_IMAGES]
            header = _header(archive, info)
            check_kind(header.shape, header.dtype, path.stem)
            n = header.shape[0]
            stored = info.compress_type == zipfile.ZIP_STORED and not header.fortran
            share = None if stored or ranks.world() == 1 else ranks.rows(n)
            held_rows = n if share is None or header.fortran else len(share)
            needed = sum(i.file_size for i in members.values()) - info.file_size
            needed += 0 if stored else info.file_size * held_rows // n
            require(needed, f"{path.name} unpacked", "use a machine with more")
            images: Rows
            if stored:
                images = StoredRows(path, _place(path, info, header), header.shape, header.dtype)
            else:
                images = _unpacked(archive, info, header, range(n) if share is None else share, path)
        with np.load(path, allow_pickle=False) as file:
            columns = {key: file[key] for key in file.files if key != "images"}
    except InputError:
        raise
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:
            reason = "it holds arrays of Python objects (images of unequal sizes are stored so), which are not read"
        raise InputError(f"{path}: not a readable .npz file: {reason}; write it again with numpy.savez") from error
    weights = columns.pop("weights", None)

    def made(seen: Callable[[np.ndarray], None] | None = None) -> LabelledData:
        return labelled(
            images, as_columns(columns), weights=weights, abstractions=abstractions, name=path.stem, share=share,
            total=n, seen=seen,
        )  # fmt: skip

    return made(_checksum(path, info, header)) if stored else made()


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Header:
    """Read it, and check that what follows has the length that it says."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in _READERS:
            raise ValueError(f"its images are of version {version} of the .npy format")
        shape, fortran, dtype = _READERS[version](file)
        length = file.tell()
        file.seek(0)
        before = file.read(length)
    if dtype.hasobject:
        raise ValueError("an array needs pickle")
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != info.file_size - length:
        raise ValueError(f"its images have shape {shape} and type {dtype}, which does not fit their length")
    return _Header(shape, dtype, fortran, before)


def _place(path: Path, info: zipfile.ZipInfo, header: _Header) -> int:
    """Where in the file the first entry lies, from the header at the member's own place."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        signature, _, flags, method, *_, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
        file.seek(0, 2)
        end = file.tell()
    start = info.header_offset + _LOCAL.size + name + extra
    whole = info.compress_size == info.file_size and start + info.file_size <= end
    if signature != b"PK\x03\x04" or method != zipfile.ZIP_STORED or flags & 1 or not whole:
        raise ValueError("its directory does not fit what it holds")
    return start + len(header.before)


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: _Header, own: range, path: Path) -> np.ndarray:
    """The rows of this rank."""
    shape, dtype = header.shape, header.dtype
    if header.fortran:
        with np.load(path, allow_pickle=False) as arrays:
            whole: np.ndarray = arrays["images"]
        return whole if len(own) == shape[0] else np.ascontiguousarray(whole[own.start : own.stop])
    out = np.empty((len(own), *shape[1:]), dtype=dtype)
    row = math.prod(shape[1:]) * dtype.itemsize
    spare = np.empty(block_rows(shape, dtype) * row, dtype=np.uint8)
    with archive.open(info) as file:
        file.read(len(header.before))
        skip = own.start * row
        while skip:
            part = as_bytes(spare)[: min(skip, len(spare))]
            _fill(file.read, part)
            skip -= len(part)
        if len(own):
            _fill(file.read, as_bytes(out))
        if own.stop == shape[0] and file.read(1):  # at the end its checksum is compared
            raise ValueError("its images are longer than they say")
    return out


def _fill(read: Callable[[int], bytes], place: memoryview) -> None:
    while place:
        part = read(min(len(place), 1 << 20))
        if not part:
            raise EOFError("its images end early")
        place[: len(part)] = part
        place = place[len(part) :]


def _checksum(path: Path, info: zipfile.ZipInfo, header: _Header) -> Callable[[np.ndarray], None]:
    """A function that compares the checksum once it has seen all blocks."""
    found, left = zlib.crc32(header.before), info.file_size - len(header.before)

    def seen(block: np.ndarray) -> None:
        nonlocal found, left
        found = zlib.crc32(as_bytes(block), found)
        left -= block.nbytes
        if not left and found != info.CRC:
            raise InputError(
                f"{path}: not a readable .npz file: its images are damaged (their checksum is wrong); write it again "
                "with numpy.savez"
            )

    return seen
