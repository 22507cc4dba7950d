"""Checks of the noise levels before a study starts, and notes on how the data were read."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import sigmascope.distributed as distributed
from sigmascope.core import Attribute, LabelledData
from sigmascope.data.scales import require_different, require_levels, require_shared
from sigmascope.studies.exact_law import Data
from sigmascope.studies.spec import HeldoutSpec, Spec


def require_scales(data: Data, spec: Spec, studied: Sequence[Attribute]) -> None:
    """Refuse levels and attributes with which all curves would be trivial (raises InputError)."""
    if isinstance(data, LabelledData):
        if spec.inputs.data.startswith("<"):  # readers of files have checked the others
            require_different(data)
        require_levels(data, spec.sampling.sigma_max, spec.sampling.sigma_min)
        if isinstance(spec, HeldoutSpec):
            require_shared(data, studied)


def print_notes(data: object) -> None:
    """Print the notes on how the data were read, on stderr."""
    if isinstance(data, LabelledData) and not distributed.rank():
        for note in data.notes:
            print(f"sigmascope: note: {note}", file=sys.stderr)
