"""Sources of data: of each one record, by which ``--help``, messages and :func:`~sigmascope.data.load` know it.

Imports nothing heavy: what reads the data is imported when there are data to read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigmascope.core import LabelledData
    from sigmascope.data.hierarchy import Hierarchy


@dataclass(frozen=True)
class LoadOptions:
    """What is wanted of the data.

    Args:
        attributes: which attributes; empty means all.
        size: side of rendered pictures in pixels.
        grain: give them a fine texture, one more attribute.
        ground: ``white``, ``black`` or ``#rrggbb``: what transparent pixels of pictures are laid on.
    """

    attributes: tuple[str, ...]
    size: int
    grain: bool
    ground: str


@dataclass(frozen=True, eq=False)
class Loader:
    """A source of data, which is named by a word, by the suffix of a file, or by what a folder holds.

    Args:
        name: how a message calls it: the word itself, ``.npz`` of a file, ``a folder of pictures``.
        words: how ``--help`` describes it.
        load: from the name of the data and what is wanted of them to the data; InputError for what cannot be used.
        word: that names the data; empty: they lie in a file or a folder.
        settings: whether the word may be followed by a colon and settings.
        suffixes: of its files, in small letters.
        holds: whether a folder is one of its own; None: it reads no folders.
        finite: whether the data are a finite set of items, and not a hierarchy.
        rendered: whether they are rendered, with a size and a grain.
        pictures: whether they are encoded pictures, whose transparent pixels want a ground.
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

    def is_called(self, data: str) -> bool:
        """Whether the name of the data is its word."""
        return bool(self.word) and (data == self.word or (self.settings and data.startswith(f"{self.word}:")))


_LOADERS: dict[str, Loader] = {}


def register(loader: Loader) -> Loader:
    """Make a source known; data that are of several sources are read by the last of them.

    Returns: the loader.

    Raises: ValueError for a name that another source has already.
    """
    if loader.name in _LOADERS:
        raise ValueError(f"{loader.name!r} is a loader already: choose another name")
    _LOADERS[loader.name] = loader
    return loader


def unregister(loader: Loader) -> None:
    """Forget a source."""
    _LOADERS.pop(loader.name, None)


def loaders() -> tuple[Loader, ...]:
    """All sources, the last registered first."""
    return tuple(reversed(_LOADERS.values()))


def by_word(data: str) -> Loader | None:
    """The source that a name is a word of; None where it is the path of a file or a folder."""
    return next((x for x in loaders() if x.is_called(data)), None)


def data_words() -> str:
    """What data can be, for ``--help``."""
    *others, last = (x.words for x in _LOADERS.values())
    return f"{', '.join(others)}, or {last}"


def known_kinds() -> str:
    """What data can be, for messages."""
    known = tuple(_LOADERS.values())
    named = " or ".join(repr(x.word) for x in known if x.word)
    *others, last = (x.name for x in known if x.suffixes)
    folders = [x.name for x in known if x.holds is not None]
    return f"the word {named}, an {', '.join(others)} or {last} file, or {' or '.join(folders)}"


def _scenes(data: str, wanted: LoadOptions) -> LabelledData:
    from sigmascope.data.scenes import load_scenes

    return load_scenes(wanted.size, wanted.attributes, grain=wanted.grain)


def _npz(data: str, wanted: LoadOptions) -> LabelledData:
    from sigmascope.data.npz import load_npz

    return load_npz(Path(data), wanted.attributes)


def _parquet(data: str, wanted: LoadOptions) -> LabelledData:
    from sigmascope.data.parquet import load_parquet

    return load_parquet(Path(data), wanted.attributes, wanted.ground)


def _folder(data: str, wanted: LoadOptions) -> LabelledData:
    from sigmascope.data.folder import load_folder

    return load_folder(Path(data), wanted.attributes, wanted.ground)


def _shapes3d(data: str, wanted: LoadOptions) -> LabelledData:
    from sigmascope.data.shapes3d import load_shapes3d

    return load_shapes3d(Path(data), wanted.attributes)


def _hierarchy(data: str, wanted: LoadOptions) -> Hierarchy:
    from sigmascope.data.hierarchy import parse_hierarchy

    hierarchy = parse_hierarchy(data)
    hierarchy.check_names(wanted.attributes)
    return hierarchy


register(Loader("scenes", "the word 'scenes' (480,000 rendered images)", _scenes, word="scenes", rendered=True))
register(Loader(".npz", "an .npz file with 'images' and one array per attribute", _npz, suffixes=(".npz",)))
register(
    Loader(
        ".parquet",
        "a .parquet file with encoded pictures and label columns",
        _parquet,
        suffixes=(".parquet",),
        pictures=True,
    )
)
register(
    Loader(
        "a folder of pictures",
        "a folder of pictures (a folder per class, or with metadata.csv or metadata.jsonl)",
        _folder,
        holds=lambda folder: True,
        pictures=True,
    )
)
register(
    Loader("3D Shapes .h5", "a file in the .h5 layout of 3D Shapes", _shapes3d, suffixes=(".h5", ".hdf5")),
)
register(
    Loader(
        "hierarchy",
        "'hierarchy', data that a random grammar writes on a tree (hierarchy:v=16,m=4,s=2,L=6,seed=1 sets symbols, "
        "rules, children, depth and grammar)",
        _hierarchy,
        word="hierarchy",
        settings=True,
        finite=False,
    )
)
