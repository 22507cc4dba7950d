"""Items of an ``.npz`` file.  Uncompressed images stay in the file; each rank unpacks its share of compressed ones."""

from __future__ import annotations

import lzma
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import sigmascope.distributed as distributed
from sigmascope.core import InputError, LabelledData
from sigmascope.data.arrays import check_kind, labelled
from sigmascope.data.files import error_words, require_file
from sigmascope.data.labels import Selected, columns_of, parse_entries, select
from sigmascope.data.memory import require
from sigmascope.data.shards import Rows, StoredRows, as_bytes, block_rows, blocks, chosen_rows

_LOCAL = struct.Struct("<4s5HIIIHH")  # header of a member of a zip file, where it lies
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_DAMAGED = (
    zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError, RuntimeError, TypeError, SyntaxError, OverflowError,
    struct.error, zlib.error, lzma.LZMAError,
)  # fmt: skip
_LABEL_KINDS = "biufUS"
_OF_OBJECTS = "its images are Python objects (so are images of unequal sizes), which are not read"
_NAMED = 20  # arrays of a file in a message


@dataclass(frozen=True)
class _Header:
    """The header of an array in the file; ``before`` are the bytes that precede its first entry."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    before: bytes


def load_npz(path: Path, attributes: Sequence[str] = ()) -> LabelledData:
    """Load an ``.npz`` file with ``images``, one array per attribute, and optionally ``weights``.

    Images that :func:`numpy.savez` wrote, uncompressed, are read from the file when they are needed: they may be larger
    than the memory.  Compressed ones are unpacked; in a run of several processes each holds only its share.  Items
    with NaN as a label of one of the attributes are left out.  The sizes in the headers are compared with the lengths
    of the members before any array is read.

    Args:
        path: of the file.
        attributes: entries of ``--attributes``; empty: all.

    Returns: the images with their labels, as of :func:`~sigmascope.data.from_array`.

    Raises: InputError, in one line, for a file that cannot be used.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path)
            if "images" not in members:
                raise InputError(
                    f"{path}: it holds {', '.join(members) or 'nothing'}: expected an array called 'images'"
                )
            info = members["images"]
            header = _header(archive, info, "images", _OF_OBJECTS)
            check_kind(header.shape, header.dtype, path.stem)
            n = header.shape[0]
            selected, weights = _labels(archive, members, n, attributes, path)
            stored = info.compress_type == zipfile.ZIP_STORED and not header.fortran
            share = None if stored or distributed.world() == 1 else distributed.rows(selected.items)
            own = _span(selected, share)
            needed = 0 if stored else info.file_size * (n if header.fortran else len(own)) // n
            require(needed, f"{path.name} unpacked", "use a machine with more")
            images: Rows
            if stored:
                images = StoredRows(path, _offset(path, info, header), header.shape, header.dtype)
            else:
                images = _unpacked(archive, info, header, own, path)
    except InputError:
        raise
    except _DAMAGED as error:
        message = f"{path}: not a readable .npz file: {error_words(error)}; write it again with numpy.savez"
        raise InputError(message) from error
    on_block = _checksum(path, info, header) if stored else None
    if selected.kept is not None:
        if on_block is not None:
            distributed.by_first(partial(_for_each_block, images, on_block))
        rows = selected.kept if share is None else selected.kept[share.start : share.stop]
        images, on_block = chosen_rows(images, rows - (0 if stored else own.start)), None
    return labelled(
        images, selected, weights=weights, attributes=attributes, name=path.stem, share=share, from_file=True,
        on_block=on_block,
    )  # fmt: skip


def images_of(path: Path) -> np.ndarray:
    """The images of an ``.npz`` file, in memory, without labels; InputError where there are none."""
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("images.npy")
            header = _header(archive, info, "images", _OF_OBJECTS)
            check_kind(header.shape, header.dtype, str(path))
            require(info.file_size, f"{path.name} unpacked", "use a machine with more")
            return _unpacked(archive, info, header, range(header.shape[0]), path)
    except InputError:
        raise
    except _DAMAGED as error:
        message = f"{path}: no 'images' can be read from it ({error_words(error)}): pass an .npz with them"
        raise InputError(message) from error


def arrays_of(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Some arrays of an ``.npz`` file, in memory.

    The sizes in their headers are compared with the lengths of the members before any of them is read.

    Raises: InputError, in one line, for a file that cannot be used, or a name that it does not have.
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path)
            for name in names:
                if name not in members:
                    known = ", ".join(sorted(members)[:_NAMED]) or "none"
                    raise InputError(f"{path}: it has no array {name!r}: its arrays are {known}")
                _header(archive, members[name], name, "it holds Python objects")
        require(4 * sum(members[n].file_size for n in names), "the arrays in memory", "use fewer samples")
        with np.load(path, allow_pickle=False) as file:
            return [file[n] for n in names]
    except InputError:
        raise
    except _DAMAGED as error:
        message = f"{path}: it cannot be read ({error_words(error)}): write arrays of numbers with numpy.savez"
        raise InputError(message) from error


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The arrays of the file, by name."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            continue  # no array
        if name in members:
            raise InputError(f"{path}: it holds two arrays called {name!r}: write it again with numpy.savez")
        members[name] = info
    return members


def _labels(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], n: int, attributes: Sequence[str], path: Path
) -> tuple[Selected, np.ndarray | None]:
    """The columns of the attributes, and the weights."""
    known = [name for name in members if name not in ("images", "weights")]
    needed = columns_of(parse_entries(attributes, known))
    weights = _read(archive, members["weights"], "weights", n, path) if "weights" in members else None
    # Of the other columns only the names count.
    columns = {k: _read(archive, members[k], k, n, path) if k in needed else np.empty(0) for k in known}
    return select(columns, n, attributes), weights


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, n: int, path: Path) -> np.ndarray:
    """An array of labels or of weights."""
    header = _header(archive, info, name)
    if header.shape != (n,):
        raise InputError(
            f"{path}: array {name!r} has shape {header.shape} for {n} images: expected one label per image, ({n},)"
        )
    if header.dtype.kind not in _LABEL_KINDS:
        raise InputError(
            f"{path}: array {name!r} has type {header.dtype}: expected integers, strings, booleans or real numbers"
        )
    require(4 * info.file_size, f"array {name!r} of {path.name}", "use a machine with more")
    out = np.empty(n, dtype=header.dtype)
    if header.dtype.itemsize:
        with archive.open(info) as file:
            file.read(len(header.before))
            _fill(file.read, as_bytes(out))
            file.read(1)  # zipfile compares the checksum at the end
    return out


def _span(selected: Selected, share: range | None) -> range:
    """Rows of the file from the first to the last item of this rank."""
    first, last = (0, selected.items) if share is None else (share.start, share.stop)
    if selected.kept is None or first == last:
        return range(first, last)
    return range(int(selected.kept[first]), int(selected.kept[last - 1]) + 1)


def _for_each_block(images: Rows, on_block: Callable[[np.ndarray], None]) -> None:
    for _, block in blocks(images):
        on_block(block)


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, objects: str = "") -> _Header:
    """The header of a member, once its shape and type fit the length of the member.

    ``objects`` is what to say where the member holds Python objects; empty: how to write labels.
    """
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in _READERS:
            raise ValueError(f"array {name!r} is of version {version} of the .npy format")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of headers that Python 2 wrote
                shape, fortran, dtype = _READERS[version](file)
        except Exception as error:  # numpy evaluates it as Python, which can raise anything
            raise ValueError(f"array {name!r} has a header that cannot be read") from error
        length = file.tell()
        file.seek(0)
        before = file.read(length)
    if dtype.hasobject:
        if objects:
            raise ValueError(objects)
        raise InputError(
            f"{archive.filename}: array {name!r} holds Python objects, which are not read: write "
            f"{name}.astype(str), or numbers"
        )
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != info.file_size - length:
        subject = "its images have" if name == "images" else f"array {name!r} has"
        raise ValueError(f"{subject} shape {shape} and type {dtype}, which does not fit their length")
    return _Header(shape, dtype, fortran, before)


def _offset(path: Path, info: zipfile.ZipInfo, header: _Header) -> int:
    """Offset of the first entry in the file, from the local header of the member."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        signature, _, flags, method, *_, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
        file.seek(0, 2)
        end = file.tell()
    start = info.header_offset + _LOCAL.size + name + extra
    whole = info.compress_size == info.file_size and start + info.file_size <= end
    if signature != b"PK\x03\x04" or method != zipfile.ZIP_STORED or flags & 1 or not whole:
        raise ValueError("its directory does not fit what it holds")
    return int(start) + len(header.before)


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
        if own.stop == shape[0] and file.read(1):  # zipfile compares the checksum at the end
            raise ValueError("its images are longer than they say")
    return out


def _fill(read: Callable[[int], bytes], target: memoryview) -> None:
    while target:
        part = read(min(len(target), 1 << 20))
        if not part:
            raise EOFError("its images end early")
        target[: len(part)] = part
        target = target[len(part) :]


def _checksum(path: Path, info: zipfile.ZipInfo, header: _Header) -> Callable[[np.ndarray], None]:
    """A function that takes all blocks, in order, and then compares their checksum with that of the file."""
    checksum, left = zlib.crc32(header.before), info.file_size - len(header.before)

    def update(block: np.ndarray) -> None:
        nonlocal checksum, left
        checksum = zlib.crc32(as_bytes(block), checksum)
        left -= block.nbytes
        if not left and checksum != info.CRC:
            raise InputError(
                f"{path}: not a readable .npz file: its images are damaged (their checksum is wrong); write it again "
                "with numpy.savez"
            )

    return update
