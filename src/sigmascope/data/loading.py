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
    """Load data by their name, like :func:`load`, or make a hierarchy.

    ``data`` may also be ``hierarchy``, alone or with sizes: ``hierarchy:v=16,m=4,s=2,L=6,seed=1``.  The other arguments
    are those of :func:`load`.

    Returns: labelled data, or the hierarchy.

    Raises: InputError, in one line, for data that cannot be used.
    """
    return _loaded(data, by_word(data), LoadOptions(tuple(attributes), size, grain, ground))


def load(
    data: str | Path, attributes: Sequence[str] = (), *, size: int = 32, grain: bool = False, ground: str = WHITE
) -> LabelledData:
    """Load data by their name.

    Args:
        data: ``scenes``, or the path of an ``.npz``, ``.parquet`` or ``.h5`` file or of a folder of pictures.
        attributes: entries of ``--attributes``, as for :func:`~sigmascope.data.from_array`; empty: all.
        size: side of the scenes in pixels: 16, 32 or 64.
        grain: whether the floor of the scenes has a fine texture, which is one more attribute.
        ground: colour behind the transparent pixels of pictures: ``white``, ``black`` or ``#rrggbb``.

    Returns: the items with the attributes that were chosen.

    Raises: InputError, in one line, for data that cannot be used.
    """
    loader = by_word(str(data))
    if loader is not None and not loader.finite:
        loader = None
    loaded = _loaded(str(data), loader, LoadOptions(tuple(attributes), size, grain, ground))
    if not isinstance(loaded, LabelledData):
        raise InputError(f"{data}: it is no finite set of items: pass {known_kinds()}")
    return loaded


def _loaded(data: str, by_name: Loader | None, options: LoadOptions) -> LabelledData | Hierarchy:
    try:
        require_text(data, "the path of the data")
        if options.grain and not (by_name and by_name.rendered):
            raise InputError(f"{data}: --grain is a texture of the scenes: leave it out for other data")
        loader = by_name or _of_path(data)
        ground_colour(options.ground)
        if options.ground != WHITE and not loader.pictures:
            raise InputError(f"{data}: --ground is what transparent pictures are laid on: leave it out for other data")
        return loader.load(data, options)
    except InputError as error:  # names from a file may hold line breaks
        raise InputError(printable(str(error))) from error


def _of_path(data: str) -> Loader:
    """The loader of a file or a folder; InputError where there is none."""
    path = Path(data)
    if not os.path.lexists(path):
        raise InputError(f"{data}: there is no such file: pass {known_kinds()}")
    folder, suffix = path.is_dir(), path.suffix.lower()
    if not folder:
        require_file(path)
    for loader in loaders():
        if (loader.holds is not None and loader.holds(path)) if folder else suffix in loader.suffixes:
            return loader
    raise InputError(f"{data}: files that end in {path.suffix or 'nothing'!r} are not read: pass {known_kinds()}")
