"""Labelled data from every source that the package reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.data.arrays import from_array as from_array
    from sigmascope.data.draws import draw_items as draw_items
    from sigmascope.data.draws import noisy_numbers as noisy_numbers
    from sigmascope.data.folder import load_folder as load_folder
    from sigmascope.data.hierarchy import Hierarchy as Hierarchy
    from sigmascope.data.hierarchy import parse_hierarchy as parse_hierarchy
    from sigmascope.data.hierarchy import random_hierarchy as random_hierarchy
    from sigmascope.data.labels import grouped as grouped
    from sigmascope.data.loaders import Loader as Loader
    from sigmascope.data.loaders import LoadOptions as LoadOptions
    from sigmascope.data.loaders import register as register
    from sigmascope.data.loading import load as load
    from sigmascope.data.loading import load_any as load_any
    from sigmascope.data.npz import load_npz as load_npz
    from sigmascope.data.parquet import load_parquet as load_parquet
    from sigmascope.data.scenes import load_scenes as load_scenes
    from sigmascope.data.shapes3d import load_shapes3d as load_shapes3d

_HOMES = {
    "Hierarchy": "sigmascope.data.hierarchy",
    "Loader": "sigmascope.data.loaders",
    "LoadOptions": "sigmascope.data.loaders",
    "draw_items": "sigmascope.data.draws",
    "from_array": "sigmascope.data.arrays",
    "grouped": "sigmascope.data.labels",
    "load": "sigmascope.data.loading",
    "load_any": "sigmascope.data.loading",
    "load_folder": "sigmascope.data.folder",
    "load_npz": "sigmascope.data.npz",
    "load_parquet": "sigmascope.data.parquet",
    "load_scenes": "sigmascope.data.scenes",
    "load_shapes3d": "sigmascope.data.shapes3d",
    "noisy_numbers": "sigmascope.data.draws",
    "parse_hierarchy": "sigmascope.data.hierarchy",
    "random_hierarchy": "sigmascope.data.hierarchy",
    "register": "sigmascope.data.loaders",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
