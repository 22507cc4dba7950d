"""``sigmascope.study`` with options by their own names, as the command line has them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import xarray as xr

import sigmascope
from sigmascope.studies.network_options import NetworkOptions
from sigmascope.studies.options import (
    ClassifierOptions,
    DataOptions,
    ExactOptions,
    ForkOptions,
    GapOptions,
    PipelineOptions,
    Sampling,
)

_GROUPS = (DataOptions, ExactOptions, ForkOptions, GapOptions, PipelineOptions, ClassifierOptions, NetworkOptions)


def study(data: Any, labels: Any = None, *, attributes: Any = (), **given: Any) -> xr.Dataset:
    """A study; each option goes to its group."""
    if (weights := given.pop("weights", None)) is not None:
        data, labels, attributes = (
            sigmascope.from_array(data, labels, weights=weights, attributes=attributes),
            None,
            (),
        )
    groups = []
    for kind in (*_GROUPS, Sampling):
        of = {f.name: given.pop(f.name) for f in fields(kind) if f.name in given}
        groups.append(kind(**of))
    *options, sampling = groups
    return sigmascope.study(data, labels=labels, attributes=attributes, sampling=sampling, options=options, **given)
