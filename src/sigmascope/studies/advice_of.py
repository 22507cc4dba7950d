"""Advice of a finished study: for the command, and for the study's own page, which says the same."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import xarray as xr

from sigmascope.adapters.diffusers.units import Ruler, ruler_of
from sigmascope.core import InputError
from sigmascope.data.sigma_units import LATENTS, range_of
from sigmascope.studies.advice_kinds import Advice
from sigmascope.studies.advice_words import as_html
from sigmascope.studies.advising import Advisor
from sigmascope.studies.reading import read_study
from sigmascope.studies.results import to_curves
from sigmascope.studies.spec import HUB, PIPELINE, read_spec
from sigmascope.studies.translating import numbers

STEPS, PROBABILITY = 50, 0.9
MOST = 40
"""Attributes of a page."""


def advise(
    study: str | Path,
    *,
    keep: str = "",
    redraw: str = "",
    probability: float = PROBABILITY,
    model: str = "",
    steps: int = STEPS,
    timesteps: str = "",
    sigmas: str = "",
    height: int = 0,
    width: int = 0,
    estimator: str = "",
) -> list[Advice]:
    """Advice from a study.

    Args:
        study: its folder.
        keep: the attribute that the advice is about; empty: each.
        redraw: the attribute that is to change; empty: all others.
        probability: with which what is to be kept is kept.
        model: ``diffusers:`` and a pipeline's folder, whose scheduler's units are told; empty: the study's own.
        steps: of the sampler.
        timesteps: the user's own list, as text, in place of ``steps``.
        sigmas: likewise of levels, as the scheduler counts them.
        height: of the images in pixels, for pipelines whose levels shift with it; 0: the pipeline's own.
        width: likewise.
        estimator: whose curves; empty: the study's main one.

    Raises: InputError for a folder that is no study, names that it does not know, or a pipeline whose levels are in
        another unit.
    """
    folder = Path(study)
    path = folder / "results.nc"
    if not path.is_file():
        raise InputError(f"{folder}: it holds no finished study (results.nc): pass the --out of sigmascope study")
    results = read_study(path, "run the study again")
    names = [c.attribute for c in to_curves(results, estimator)]
    for name in (keep, redraw):
        if name and name not in names:
            raise InputError(f"the study has no attribute {name!r}: choose among {', '.join(names)}")
    if keep and keep == redraw:
        raise InputError(f"{keep!r} is to be kept and redrawn: name two attributes")
    own = read_spec(folder / "spec.toml").options().model if (folder / "spec.toml").exists() else ""
    named = model or _own_pipeline(own)
    lists = {"timesteps": numbers("timesteps", timesteps), "sigmas": numbers("sigmas", sigmas)}

    def note(error: InputError) -> None:
        if not own.startswith(HUB) or model:  # a pipeline of the hub may be out of reach: then no unit of it is told
            raise error
        print(f"sigmascope: note: {error}; its steps are left out", file=sys.stderr)

    kept, redrawn = [keep] if keep else names, [redraw] if redraw else names
    return _advised(
        results, str(folder), named, kept, redrawn, note, steps=steps, probability=probability, estimator=estimator,
        height=height, width=width, **lists,
    )  # fmt: skip


def page_advice(results: xr.Dataset, model: str = "") -> str:
    """The advice of a study as part of its page: what :func:`advise` says of it.

    Args:
        results: of the study.
        model: of its specification.
    """
    names = [c.attribute for c in to_curves(results)]
    missing: list[InputError] = []
    found = _advised(results, "this study", _own_pipeline(model), names[:MOST], names[:MOST], missing.append)
    note = "".join(f'<p class="note">Steps of the pipeline are left out: {escape(str(e))}.</p>' for e in missing)
    more = f"<p>{len(names) - MOST:,} more attributes: sigmascope advise.</p>" if len(names) > MOST else ""
    return note + as_html(found) + more


def _advised(
    results: xr.Dataset,
    study: str,
    named: str,
    keep: Sequence[str],
    redraw: Sequence[str],
    missing: Callable[[InputError], object],
    *,
    steps: int = STEPS,
    probability: float = PROBABILITY,
    estimator: str = "",
    **lists: Any,
) -> list[Advice]:
    """All advice, in the units of a named pipeline; ``missing`` is told why there are none, and may raise it."""
    ruler, factor = None, 1.0
    if named:
        try:
            ruler = ruler_of(named, steps, **lists)
            factor = unit_factor(str(results.attrs.get("unit_of_sigma", "")), ruler, study, named)
        except InputError as error:
            missing(error)
            ruler = None
    advisor = Advisor(results, probability, ruler, int(results.attrs.get("seed", 0)), factor, estimator)
    found = advisor.all(keep, redraw, ruler.steps if ruler is not None else steps)
    if not named or str(results.attrs.get("model", "")).startswith((PIPELINE, HUB)):
        return found
    said = f"; steps, timesteps and strengths are those of {named}, which this study did not measure"
    return [replace(a, law=a.law + said) for a in found]


def _own_pipeline(model: str) -> str:
    """A study's own pipeline, if it is one and still there, or of the hub."""
    if model.startswith(HUB):
        return model
    return model if model.startswith(PIPELINE) and Path(model.removeprefix(PIPELINE)).is_dir() else ""


def unit_factor(unit: str, ruler: Ruler, study: str, model: str) -> float:
    """From a level in the unit of a study to one in that of a pipeline: pixels from 0 to 1, or latents.

    Raises: InputError where the two are known to be others.
    """
    range_, latents = range_of(unit), unit.startswith(LATENTS)
    of_latents = ruler.unit.scale == 1
    if (range_ is not None and of_latents) or (latents and not of_latents):
        kinds = "latents", "pixels"
        raise InputError(
            f"{study}: its σ is of {kinds[not latents]} and that of {model} of {kinds[not of_latents]}, and neither "
            "becomes the other: pass the study of this pipeline itself (sigmascope study DATA --model), or no --model"
        )
    if range_ is None and not latents:
        taken = "latents" if of_latents else "pixels from 0 to 1"
        print(f"sigmascope: note: {study}: its unit of noise levels is not known: {taken} are taken", file=sys.stderr)
    return range_ or 1.0
