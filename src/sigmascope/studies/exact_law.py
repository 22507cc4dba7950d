"""The exact law of data: its filter, attributes, draws and levels; checks of the entries and levels of a study."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import sigmascope.distributed as distributed
from sigmascope.core import Attribute, Draws, InputError, LabelledData, RealAttribute
from sigmascope.data import draw_items
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.data.labels import Entry, attribute_of, parse_entry
from sigmascope.data.scales import require_different, require_levels, require_shared
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.estimator import EXACT, named
from sigmascope.information.jobs.passes import series_level
from sigmascope.noise import integration_grid, sigma_grid
from sigmascope.studies.spec import HeldoutSpec, Spec

Data = LabelledData | Hierarchy


def denoiser_of(data: Data, device: torch.device | str = "cpu") -> FiniteDenoiser | HierarchyDenoiser:
    """The exact filter of the data."""
    if isinstance(data, Hierarchy):
        return HierarchyDenoiser(data.rules, data.vectors, data.attributes).to(device)
    return FiniteDenoiser(data, device)


def chosen(data: Any, names: Sequence[str]) -> list[Attribute]:
    """The attributes that entries such as ``slant`` or ``slant:bins=8`` name, in order; all where there is no entry.

    Entries of real-valued attributes are left to :func:`chosen_reals`.

    Raises: InputError for an attribute that the data do not have.
    """
    by_name = {a.name: a for a in data.attributes}
    reals = {a.name for a in getattr(data, "reals", ())}
    wanted = [attribute_of(n, {*by_name, *reals}) for n in names] or list(by_name)
    unknown = [n for n in wanted if n not in by_name and n not in reals]
    if unknown:
        raise InputError(f"no attribute is called {unknown[0]!r}: choose among {', '.join(by_name)}")
    return [by_name[n] for n in wanted if n in by_name]


def chosen_reals(data: Any, names: Sequence[str]) -> list[RealAttribute]:
    """The real-valued attributes that entries name, in order; all where there is no entry."""
    by_name = {a.name: a for a in getattr(data, "reals", ())}
    wanted = [attribute_of(n, by_name) for n in names] or list(by_name)
    return [by_name[n] for n in wanted if n in by_name]


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


def attributes_of(entries: Sequence[str], trained: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The attributes that entries such as ``slant`` or ``slant:bins=8`` name, out of those of a model.

    Args:
        entries: of the study; empty means all.
        trained: entries of the training; empty where it had none.
        names: of the model's attributes.

    Raises: InputError for another attribute, or other bins.
    """
    bins = {p.name: p.bins for e in trained for w in [parse_entry(e, names)] for p in (w.parts or (w,)) if p.bins}
    chosen = []
    for entry in entries:
        name = attribute_of(entry, names)
        if name not in names:
            raise InputError(f"the model is not conditional on {name!r}: choose one of {', '.join(names)}")
        wanted = parse_entry(entry, names)
        if wanted.real:
            _check_real(wanted, trained, names)
            chosen.append(name)
            continue
        for part in wanted.parts or (wanted,):
            if part.bins is not None and bins.get(part.name) != part.bins:
                had = f"{bins[part.name]} bins" if part.name in bins else "no bins"
                raise InputError(f"the model was trained with {had} of {part.name!r}, not {part.bins}: write {name}")
        chosen.append(name)
    doubled = next((n for n in chosen if chosen.count(n) > 1), None)
    if doubled is not None:
        raise InputError(f"attribute {doubled!r} is asked for twice: name each once")
    return tuple(chosen) or tuple(names)


def _check_real(wanted: Entry, trained: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a real-valued attribute that a model was not trained on, or with another resolution or period."""
    had = next((e.real for t in trained if (e := parse_entry(t, names)).name == wanted.name), None)
    if had is None or wanted.real is None:
        name = wanted.name
        raise InputError(f"the model has no real-valued attribute {name!r}: leave the resolution out, or name others")
    if replace(wanted.real, unit=had.unit) != had:
        turn = f" and period {had.period:g}" if had.period else ""
        raise InputError(
            f"the model was trained with resolution {had.resolution:g}{turn} of {'+'.join(had.columns)}: write "
            f"{wanted.name}"
        )


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
