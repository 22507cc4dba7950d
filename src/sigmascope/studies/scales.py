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
    """Refuse, before work starts, levels or attributes of which every answer would be empty.

    Raises: InputError.
    """
    if isinstance(data, LabelledData):
        if spec.inputs.data.startswith("<"):  # readers of files have looked
            require_different(data)
        require_levels(data, spec.sampling.sigma_max, spec.sampling.sigma_min)
        if isinstance(spec, HeldoutSpec):
            require_shared(data, studied)


def say_notes(data: object) -> None:
    """Say on stderr, a line each, what whoever reads the numbers must know of how the data were read."""
    if isinstance(data, LabelledData) and not distributed.rank():
        for note in data.notes:
            print(f"sigmascope: note: {note}", file=sys.stderr)
