"""Data by their name: a word, a file or a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sigmascope.core import InputError, LabelledData
from sigmascope.data.files import printable, require_file, require_text
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.data.loaders import Loader, LoadOptions, by_word, known_kinds, loaders
from sigmascope.data.pictures import WHITE, ground_colour


def load_any(
    data: str, attributes: Sequence[str] = (), *, size: int = 32, grain: bool = False, ground: str = WHITE
) -> LabelledData | Hierarchy:
    """Load what ``data`` names, as :func:`load`, or make a hierarchy.

    Args:
        data: also ``hierarchy``, perhaps with sizes: ``hierarchy:v=16,m=4,s=2,L=6,seed=1``.
        attributes: which attributes; empty means all.
        size: side of the scenes in pixels.
        grain: give the floor of the scenes a fine texture, one more attribute.
        ground: ``white``, ``black`` or ``#rrggbb``: what transparent pixels of pictures are laid on.

    Raises: InputError, in one line, for anything that cannot be used.
    """
    return _loaded(data, by_word(data), LoadOptions(tuple(attributes), size, grain, ground))


def load(
    data: str | Path, attributes: Sequence[str] = (), *, size: int = 32, grain: bool = False, ground: str = WHITE
) -> LabelledData:
    """Load what ``data`` names.

    Args:
        data: ``scenes``, or the path of an ``.npz``, ``.parquet`` or ``.h5`` file or of a folder of pictures.
        attributes: which attributes; empty means all.
        size: side of the scenes in pixels.
        grain: give the floor of the scenes a fine texture, one more attribute.
        ground: ``white``, ``black`` or ``#rrggbb``: what transparent pixels of pictures are laid on.

    Raises: InputError, in one line, for anything that cannot be used.
    """
    named = by_word(str(data))
    finite = named if named is None or named.finite else None
    found = _loaded(str(data), finite, LoadOptions(tuple(attributes), size, grain, ground))
    if not isinstance(found, LabelledData):
        raise InputError(f"{data}: it is no finite set of items: pass {known_kinds()}")
    return found


def _loaded(data: str, named: Loader | None, wanted: LoadOptions) -> LabelledData | Hierarchy:
    """What the loader of a word, or else that of a path, gives."""
    try:
        require_text(data, "the path of the data")
        if wanted.grain and not (named and named.rendered):
            raise InputError(f"{data}: --grain is a texture of the scenes: leave it out for other data")
        loader = named or _of_path(data)
        ground_colour(wanted.ground)
        if wanted.ground != WHITE and not loader.pictures:
            raise InputError(f"{data}: --ground is what transparent pictures are laid on: leave it out for other data")
        return loader.load(data, wanted)
    except InputError as error:  # names from a file may hold line breaks
        raise InputError(printable(str(error))) from error


def _of_path(data: str) -> Loader:
    """The loader of a file or a folder.

    Raises: InputError for what is not there or is not read.
    """
    path = Path(data)
    if not os.path.lexists(path):
        raise InputError(f"{data}: there is no such file: pass {known_kinds()}")
    folder, suffix = path.is_dir(), path.suffix.lower()
    if not folder:
        require_file(path)
    for loader in loaders():
        if (folder and loader.holds is not None and loader.holds(path)) or (not folder and suffix in loader.suffixes):
            return loader
    raise InputError(f"{data}: files that end in {path.suffix or 'nothing'!r} are not read: pass {known_kinds()}")
