"""Labelled data from every source that the package reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sigmascope.core import InputError, LabelledData
from sigmascope.data.arrays import from_array
from sigmascope.data.draws import draw_items
from sigmascope.data.files import printable, require_plain, require_text
from sigmascope.data.folder import load_folder
from sigmascope.data.hierarchy import Hierarchy, parse_hierarchy, random_hierarchy
from sigmascope.data.labels import grouped
from sigmascope.data.npz import load_npz
from sigmascope.data.parquet import load_parquet
from sigmascope.data.pictures import WHITE, ground_colour
from sigmascope.data.scenes import load_scenes
from sigmascope.data.shapes3d import load_shapes3d

__all__ = [
    "Hierarchy",
    "draw_items",
    "from_array",
    "grouped",
    "load",
    "load_any",
    "load_folder",
    "load_npz",
    "load_parquet",
    "load_scenes",
    "load_shapes3d",
    "parse_hierarchy",
    "random_hierarchy",
]

_KINDS = "the word 'scenes' or 'hierarchy', an .npz, .parquet or 3D Shapes .h5 file, or a folder of pictures"


def load_any(
    data: str, abstractions: Sequence[str] = (), *, size: int = 32, grain: bool = False, ground: str = WHITE
) -> LabelledData | Hierarchy:
    """Load what ``data`` names, as :func:`load`, or make a hierarchy.

    Args:
        data: also ``hierarchy``, perhaps with sizes: ``hierarchy:v=16,m=4,s=2,L=6,seed=1``.
        abstractions: which attributes; empty means all.
        size: side of the scenes in pixels.
        grain: give the floor of the scenes a fine texture, one more attribute.
        ground: ``white``, ``black`` or ``#rrggbb``: what transparent pixels of pictures are laid on.

    Raises: InputError, in one line, for anything that cannot be used.
    """
    if data != "hierarchy" and not data.startswith("hierarchy:"):
        return load(data, abstractions, size=size, grain=grain, ground=ground)
    if grain:
        raise InputError(f"{data}: --grain is a texture of the scenes: leave it out for other data")
    _check_ground(data, ground, pictures=False)
    hierarchy = parse_hierarchy(data)
    hierarchy.check_names(abstractions)
    return hierarchy


def load(
    data: str | Path, abstractions: Sequence[str] = (), *, size: int = 32, grain: bool = False, ground: str = WHITE
) -> LabelledData:
    """Load what ``data`` names.

    Args:
        data: ``scenes``, or the path of an ``.npz``, ``.parquet`` or ``.h5`` file or of a folder of pictures.
        abstractions: which attributes; empty means all.
        size: side of the scenes in pixels.
        grain: give the floor of the scenes a fine texture, one more attribute.
        ground: ``white``, ``black`` or ``#rrggbb``: what transparent pixels of pictures are laid on.

    Raises: InputError, in one line, for anything that cannot be used.
    """
    try:
        return _loaded(str(data), abstractions, size, grain, ground)
    except InputError as error:  # names from a file may hold line breaks
        raise InputError(printable(str(error))) from error


def _loaded(data: str, abstractions: Sequence[str], size: int, grain: bool, ground: str) -> LabelledData:
    require_text(data, "the path of the data")
    if data == "scenes":
        _check_ground(data, ground, pictures=False)
        return load_scenes(size, abstractions, grain=grain)
    if grain:
        raise InputError(f"{data}: --grain is a texture of the scenes: leave it out for other data")
    path = Path(data)
    if not os.path.lexists(path):
        raise InputError(f"{data}: there is no such file: pass {_KINDS}")
    if path.is_dir():
        _check_ground(data, ground, pictures=True)
        return load_folder(path, abstractions, ground)
    require_plain(path)
    suffix = path.suffix.lower()
    _check_ground(data, ground, pictures=suffix == ".parquet")
    if suffix == ".parquet":
        return load_parquet(path, abstractions, ground)
    if suffix == ".npz":
        return load_npz(path, abstractions)
    if suffix in (".h5", ".hdf5"):
        return load_shapes3d(path, abstractions)
    raise InputError(f"{data}: files that end in {path.suffix or 'nothing'!r} are not read: pass {_KINDS}")


def _check_ground(data: str, ground: str, *, pictures: bool) -> None:
    """Refuse a ground that is none, or one for data that are no pictures.

    Raises: InputError.
    """
    ground_colour(ground)
    if ground != WHITE and not pictures:
        raise InputError(f"{data}: --ground is what transparent pictures are laid on: leave it out for other data")
