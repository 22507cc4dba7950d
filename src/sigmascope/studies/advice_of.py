"""Advice from a finished study, for the command ``advise`` and for the page of the study."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import xarray as xr

from sigmascope.adapters.diffusers.units import Ruler
from sigmascope.adapters.models import LoadedModel
from sigmascope.adapters.naming import HUB, PIPELINE
from sigmascope.core import InputError
from sigmascope.data.sigma_units import LATENTS, range_of
from sigmascope.studies.advice_kinds import Advice
from sigmascope.studies.advice_words import as_html
from sigmascope.studies.advising import Advisor
from sigmascope.studies.reading import read_study
from sigmascope.studies.results import to_curves
from sigmascope.studies.rulers import NO_SCHEDULER, ruler_of_any
from sigmascope.studies.spec import read_spec
from sigmascope.studies.translating import numbers

STEPS, PROBABILITY = 50, 0.9
MOST_ON_PAGE = 40
"""Attributes with advice on a page."""


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
    """Advice from a finished study: at which noise levels to guide, to train, to edit, to fork or to stop.

    For each attribute these are the interval of guidance to it, the range of levels of a training for it, the level
    from which a negative prompt must act, the strength of an edit and the level of a fork that keep it, and the level
    from which its label is certain; and, once, the levels of a sampler with few steps.

    A *redraw* from a level of noise adds that much noise to an image and generates anew from there, as image-to-image
    editing does: what is decided above that level stays, what is decided below it is drawn again.

    Args:
        study: its folder, the ``--out`` of ``sigmascope study``.
        keep: the attribute to keep; empty: each attribute.
        redraw: the attribute to change; empty: all others.
        probability: probability with which a redraw is to keep the attribute, from 0.5 to below 1.
        model: a pipeline, or a function of the user that returns one, for levels in the units of its scheduler; empty:
            the pipeline of the study.
        steps: steps of the sampler, for levels in its units and for the levels of a sampler.
        timesteps: a list of timesteps, as text, instead of ``steps``.
        sigmas: a list of levels of the scheduler, as text, instead of ``steps``.
        height: height of the images in pixels, for pipelines whose levels depend on it; 0: that of the pipeline.
        width: their width, likewise.
        estimator: name of the estimator; empty: the main one of the study.

    Returns: the advice by attribute, and then that about all.  Each has its words, its levels with 95 % intervals (in
        the unit of the study and, with a pipeline, in the units of its scheduler), and the law for which it holds.
        What cannot be advised on an attribute follows, as one entry of the kind ``left_out`` with its ``reason``.

    Raises: InputError for a folder without a finished study, unknown names, or a pipeline whose levels are in another
        unit.
    """
    folder = Path(study)
    path = folder / "results.nc"
    if not path.is_file():
        raise InputError(f"{folder}: it holds no finished study (results.nc): pass the --out of sigmascope study")
    results = read_study(path, "run the study again")
    if "resolved_share" in results:
        raise InputError(f"{folder}: it measures features of the pictures, not labels: pass a study of labels")
    names = [c.attribute for c in to_curves(results, estimator)]
    for name in (keep, redraw):
        if name and name not in names:
            raise InputError(f"the study has no attribute {name!r}: choose among {', '.join(names)}")
    if keep and keep == redraw:
        raise InputError(f"{keep!r} is to be kept and redrawn: name two attributes")
    studied = read_spec(folder / "spec.toml").options().model if (folder / "spec.toml").exists() else ""
    named = model or _own_pipeline(studied)
    lists = {"timesteps": numbers("timesteps", timesteps), "sigmas": numbers("sigmas", sigmas)}

    def note(error: InputError) -> None:
        if not studied.startswith(HUB) or model:  # without a connection, advice on a hub pipeline has no steps
            raise error
        print(f"sigmascope: note: {error}; its steps are left out", file=sys.stderr)

    kept, redrawn = [keep] if keep else names, [redraw] if redraw else names
    return _advised(
        results, str(folder), named, kept, redrawn, note, steps=steps, probability=probability, estimator=estimator,
        height=height, width=width, **lists,
    )  # fmt: skip


def page_advice(results: xr.Dataset, model: str = "") -> str:
    """The advice of :func:`advise` as HTML for the page of a study."""
    names = [c.attribute for c in to_curves(results)]
    missing: list[InputError] = []
    advice = _advised(
        results, "this study", _own_pipeline(model), names[:MOST_ON_PAGE], names[:MOST_ON_PAGE], missing.append
    )
    note = "".join(f'<p class="note">Steps of the pipeline are left out: {escape(str(e))}.</p>' for e in missing)
    others = f"<p>{len(names) - MOST_ON_PAGE:,} more attributes: sigmascope advise.</p>" * (len(names) > MOST_ON_PAGE)
    return note + as_html(advice) + others


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
    """All advice, in the units of a named pipeline; where it has none, ``missing`` takes the error and may raise it."""
    ruler, factor = None, 1.0
    if named:
        try:
            of_model = ruler_of_any(named, steps, **lists)
            if isinstance(of_model, LoadedModel):
                raise InputError(f"{named}: {NO_SCHEDULER}")
            ruler = of_model
            factor = unit_factor(str(results.attrs.get("unit_of_sigma", "")), ruler, study, named)
        except InputError as error:
            missing(error)
            ruler = None
    advisor = Advisor(results, probability, ruler, int(results.attrs.get("seed", 0)), factor, estimator)
    advice = advisor.all(keep, redraw, ruler.steps if ruler is not None else steps)
    studied = str(results.attrs.get("model", ""))
    if not named or studied.startswith((PIPELINE, HUB)) or studied == named:
        return advice
    note = f"; steps, timesteps and strengths are those of {named}, which this study did not measure"
    return [replace(a, law=a.law + note) for a in advice]


def _own_pipeline(model: str) -> str:
    """The pipeline of a study, if it still exists or is of the hub; else empty."""
    if model.startswith(HUB):
        return model
    return model if model.startswith(PIPELINE) and Path(model.removeprefix(PIPELINE)).is_dir() else ""


def unit_factor(unit: str, ruler: Ruler, study: str, model: str) -> float:
    """The factor from the noise unit of a study to that of a pipeline: pixels from 0 to 1, or latents.

    Raises: InputError where the two are known to differ.
    """
    range_, latents = range_of(unit), unit.startswith(LATENTS)
    of_latents = ruler.unit.scale == 1
    if (range_ is not None and of_latents) or (latents and not of_latents):
        kinds = "latents", "pixels"
        raise InputError(
            f"{study}: its σ is of {kinds[not latents]} and that of {model} of {kinds[not of_latents]}, and neither "
            "can be converted: pass the study of this pipeline itself (sigmascope study DATA --model), or no --model"
        )
    if range_ is None and not latents:
        taken = "latents" if of_latents else "pixels from 0 to 1"
        print(f"sigmascope: note: {study}: its unit of noise levels is not known: {taken} are assumed", file=sys.stderr)
    return range_ or 1.0
