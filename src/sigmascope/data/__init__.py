"""Labelled data from every source that the package reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sigmascope.core import InputError, LabelledData
from sigmascope.data.arrays import from_array, load_npz
from sigmascope.data.draws import draw_items
from sigmascope.data.scenes import load_scenes
from sigmascope.data.shapes3d import load_shapes3d

__all__ = ["draw_items", "from_array", "load", "load_npz", "load_scenes", "load_shapes3d"]

_KINDS = "the word 'scenes', an .npz file, or a 3D Shapes .h5 file"


def load(data: str, abstractions: Sequence[str] = (), *, size: int = 32) -> LabelledData:
    """Load what ``data`` names.

    Args:
        data: ``scenes``, or the path of an ``.npz`` or ``.h5`` file.
        abstractions: which attributes; empty means all.
        size: side of the scenes in pixels.

    Raises: InputError, in one line, for anything that cannot be used.
    """
    if data == "scenes":
        return load_scenes(size, abstractions)
    path = Path(data)
    if not path.exists():
        raise InputError(f"{data}: there is no such file: pass {_KINDS}")
    if path.is_dir():
        raise InputError(f"{data}: this is a folder: pass {_KINDS}")
    if path.suffix == ".npz":
        return load_npz(path, abstractions)
    if path.suffix in (".h5", ".hdf5"):
        return load_shapes3d(path, abstractions)
    raise InputError(f"{data}: files that end in {path.suffix or 'nothing'!r} are not read: pass {_KINDS}")
