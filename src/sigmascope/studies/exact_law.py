"""The exact law of data: its filter, its attributes, draws and levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sigmascope.core import Attribute, Draws, InputError, LabelledData
from sigmascope.data import draw_items
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.data.labels import attribute_of
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.estimator import EXACT, named
from sigmascope.information.jobs.passes import series_level
from sigmascope.noise import integration_grid, sigma_grid
from sigmascope.studies.spec import Spec

Data = LabelledData | Hierarchy


def denoiser_of(data: Data, device: torch.device | str = "cpu") -> FiniteDenoiser | HierarchyDenoiser:
    """The exact filter of the data."""
    if isinstance(data, Hierarchy):
        return HierarchyDenoiser(data.rules, data.vectors, data.attributes).to(device)
    return FiniteDenoiser(data, device)


def chosen(data: Any, names: Sequence[str]) -> list[Attribute]:
    """The attributes that entries such as ``slant`` or ``slant:bins=8`` name, in order; all where there is no entry.

    Raises: InputError for an attribute that the data do not have.
    """
    by_name = {a.name: a for a in data.attributes}
    wanted = [attribute_of(n, by_name) for n in names] or list(by_name)
    unknown = [n for n in wanted if n not in by_name]
    if unknown:
        raise InputError(f"no attribute is called {unknown[0]!r}: choose among {', '.join(by_name)}")
    return [by_name[n] for n in wanted]


def draws_of(data: Any, draws: int, seed: int, *, distinct: bool = False) -> Draws:
    """Draws of the data with noise."""
    return (
        draw_items(data, draws, seed, distinct=distinct) if isinstance(data, LabelledData) else data.draw(draws, seed)
    )


def levels_of(data: Any, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """The levels of the computation, and the indices of the levels of the study in them.

    Integrals and paths need dense levels, up to a level above which a series is exact enough.
    """
    s = spec.sampling
    sigma = sigma_grid(s.sigma_max, s.sigma_min, s.levels)
    if not any(named(e, EXACT).integrates for e in spec.estimators):
        return sigma, np.arange(len(sigma))
    return integration_grid(sigma, series_level(data))
