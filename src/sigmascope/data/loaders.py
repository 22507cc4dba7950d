"""Sources of data.  Each is one record, from which ``--help``, messages and :func:`~sigmascope.data.load` are made.

This module imports nothing heavy: the module that reads a source is imported when the source is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sigmascope.core import LabelledData
    from sigmascope.data.hierarchy import Hierarchy


@dataclass(frozen=True)
class LoadOptions:
    """Options of loading data.

    Args:
        attributes: entries of ``--attributes``; empty: all.
        size: side of rendered pictures in pixels.
        grain: whether rendered pictures get a fine texture, which is one more attribute.
        ground: colour behind the transparent pixels of pictures: ``white``, ``black`` or ``#rrggbb``.
    """

    attributes: tuple[str, ...]
    size: int
    grain: bool
    ground: str


@dataclass(frozen=True, eq=False)
class Loader:
    """A source of data, which is chosen by a word, by the suffix of a file, or by the contents of a folder.

    Args:
        name: of the source in messages: the word itself, ``.npz`` for a file, ``a folder of pictures``.
        words: its description in ``--help``.
        load: from the name of the data and the options to the data; raises InputError for data that cannot be used.
        word: that chooses it; empty: the data are a file or a folder.
        settings: whether a colon and settings may follow the word.
        suffixes: of its files, in small letters.
        holds: whether a folder is one of this source; None: it reads no folders.
        finite: whether the data are a finite set of items, in contrast to a hierarchy.
        rendered: whether the data are rendered, with a size and a grain.
        pictures: whether the data are encoded pictures, whose transparent pixels need a ground.
    """

    name: str
    words: str
    load: Callable[[str, LoadOptions], LabelledData | Hierarchy]
    word: str = ""
    settings: bool = False
    suffixes: tuple[str, ...] = ()
    holds: Callable[[Path], bool] | None = None
    finite: bool = True
    rendered: bool = False
    pictures: bool = False


_LOADERS: dict[str, Loader] = {}


def register(loader: Loader) -> Loader:
    """Add a source; data that fit several sources are read by the last one added.

    Returns: the loader.

    Raises: ValueError for a name that another source has.
    """
    if loader.name in _LOADERS:
        raise ValueError(f"{loader.name!r} is a loader already: choose another name")
    _LOADERS[loader.name] = loader
    return loader


def unregister(loader: Loader) -> None:
    """Remove a source."""
    _LOADERS.pop(loader.name, None)


def loaders() -> tuple[Loader, ...]:
    """All sources, the last registered first."""
    return tuple(reversed(_LOADERS.values()))


def by_word(data: str) -> Loader | None:
    """The source whose word is the name of the data; None where the name is a path."""
    word, colon, _ = data.partition(":")
    return next((x for x in loaders() if x.word and x.word == word and (x.settings or not colon)), None)


def data_words() -> str:
    """All sources in words, for ``--help``."""
    *others, last = (x.words for x in _LOADERS.values())
    return f"{', '.join(others)}, or {last}"


def known_kinds() -> str:
    """All sources by name, for messages."""
    known = tuple(_LOADERS.values())
    words = " or ".join(repr(x.word) for x in known if x.word)
    *others, last = (x.name for x in known if x.suffixes)
    folders = [x.name for x in known if x.holds is not None]
    return f"the word {words}, an {', '.join(others)} or {last} file, or {' or '.join(folders)}"


def _reader(module: str, *fields: str) -> Callable[[str, LoadOptions], LabelledData]:
    """The function ``load_*`` of a module of this package, on a path and some of the options."""

    def load(data: str, options: LoadOptions) -> LabelledData:
        function: Any = getattr(import_module(f"sigmascope.data.{module}"), f"load_{module}")
        loaded: LabelledData = function(Path(data), *(getattr(options, field) for field in fields))
        return loaded

    return load


def _scenes(data: str, options: LoadOptions) -> LabelledData:
    from sigmascope.data.scenes import load_scenes

    return load_scenes(options.size, options.attributes, grain=options.grain)


def _hierarchy(data: str, options: LoadOptions) -> Hierarchy:
    from sigmascope.data.hierarchy import parse_hierarchy

    hierarchy = parse_hierarchy(data)
    hierarchy.check_names(options.attributes)
    return hierarchy


_NPZ = "an .npz file with 'images' and one array per attribute"
_PARQUET = "a .parquet file with encoded pictures and label columns"
_FOLDER = "a folder of pictures (a folder per class, or with metadata.csv or metadata.jsonl)"
_SHAPES3D = "a file in the .h5 layout of 3D Shapes"
_GRAMMAR = (
    "'hierarchy', data that a random grammar writes on a tree (hierarchy:v=16,m=4,s=2,L=6,seed=1 sets symbols, rules, "
    "children, depth and grammar)"
)
_ENCODED = ("attributes", "ground")
for _loader in (
    Loader("scenes", "the word 'scenes' (480,000 rendered images)", _scenes, "scenes", rendered=True),
    Loader(".npz", _NPZ, _reader("npz", "attributes"), suffixes=(".npz",)),
    Loader(".parquet", _PARQUET, _reader("parquet", *_ENCODED), suffixes=(".parquet",), pictures=True),
    Loader("a folder of pictures", _FOLDER, _reader("folder", *_ENCODED), holds=lambda folder: True, pictures=True),
    Loader("3D Shapes .h5", _SHAPES3D, _reader("shapes3d", "attributes"), suffixes=(".h5", ".hdf5")),
    Loader("hierarchy", _GRAMMAR, _hierarchy, "hierarchy", settings=True, finite=False),
):
    register(_loader)
