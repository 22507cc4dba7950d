"""The numbers of a study: draws, resumable works, estimators."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

import sigmascope.distributed as distributed
from sigmascope.core import Abstraction, Curve, Denoiser, Draws, InputError, LabelledData, generator
from sigmascope.data import draw_items
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.data.labels import attribute_of
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.heldout import HeldOutPass
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.bounds import heldout_bound
from sigmascope.information.forks import forks_at_once
from sigmascope.information.gaps import GAPS
from sigmascope.information.jobs.levels import FinitePathJob, InTurn, LevelJob, PathJob, Work
from sigmascope.information.jobs.pairs import PairJob
from sigmascope.information.jobs.passes import Collected, series_level, sketch_of
from sigmascope.information.keeping import kept, sure
from sigmascope.information.path import path_bound
from sigmascope.information.posterior import entropy_of, posterior
from sigmascope.information.values import by_value
from sigmascope.noise import integration_grid, sigma_grid
from sigmascope.studies.results import (
    to_dataset,
    with_effective_items,
    with_keeping,
    with_pairs,
    with_tree,
    with_values,
)
from sigmascope.studies.spec import HELDOUT, Spec
from sigmascope.studies.store import StudyFolder

CHECKPOINT_SECONDS = 8.0
Data = LabelledData | Hierarchy
_CHILDREN = 5  # stream of the labels of children
FEW_VALUES = 16  # of a hierarchy: more are too many for a mean over them
MOST_VALUES = 64  # of an attribute: more single values are not looked at one by one


def denoiser_of(data: Data, device: torch.device | str = "cpu") -> FiniteDenoiser | HierarchyDenoiser:
    """The exact filter of the data."""
    if isinstance(data, Hierarchy):
        return HierarchyDenoiser(data.rules, data.vectors, data.abstractions).to(device)
    return FiniteDenoiser(data, device)


def chosen(data: Data, names: Sequence[str]) -> list[Abstraction]:
    """The abstractions that entries such as ``slant`` or ``slant:bins=8`` ask for, in this order; all for no entry.

    Raises: InputError for one that the data do not have.
    """
    by_name = {a.name: a for a in data.abstractions}
    found = [attribute_of(n, by_name) for n in names] or list(by_name)
    unknown = [n for n in found if n not in by_name]
    if unknown:
        raise InputError(f"no attribute is called {unknown[0]!r}: choose among {', '.join(by_name)}")
    return [by_name[n] for n in found]


def draws_of(data: Data, draws: int, seed: int, *, distinct: bool = False) -> Draws:
    """Draws of the data with noise."""
    return data.draw(draws, seed) if isinstance(data, Hierarchy) else draw_items(data, draws, seed, distinct=distinct)


def levels_of(data: Data, spec: Spec) -> tuple[Float[np.ndarray, " nodes"], np.ndarray]:
    """The levels to work at, and where among them those of the study are.

    Integrals and paths need levels near enough to each other, up to where the series above them holds.
    """
    sigma = sigma_grid(spec.sigma_max, spec.sigma_min, spec.levels)
    if not {*GAPS, "filter"} & set(spec.estimators):
        return sigma, np.arange(len(sigma))
    return integration_grid(sigma, series_level(data))


def compute(
    data: Data, denoiser: Denoiser, spec: Spec, folder: StudyFolder | None = None, progress: bool = False
) -> tuple[xr.Dataset, Draws]:
    """Draw, work (resuming where the folder holds a checkpoint), and estimate."""
    draws = draws_of(data, spec.draws, spec.seed, distinct=spec.law == "heldout")
    if isinstance(denoiser, FiniteDenoiser) and spec.law == "heldout":
        return _bounds(denoiser, draws, spec, folder, progress), draws
    nodes, wanted = levels_of(data, spec)
    abstractions = chosen(data, spec.abstractions)
    gaps = bool(GAPS.keys() & set(spec.estimators))
    along = "filter" in spec.estimators
    main: Collected | LevelJob
    paths: FinitePathJob | PathJob | None
    if isinstance(denoiser, FiniteDenoiser):
        sketch = sketch_of(denoiser.data, spec.seed) if gaps or along else None
        main = Collected(denoiser, draws, nodes, sketch if gaps else None)
        paths = FinitePathJob(denoiser, draws, nodes, sketch, spec.seed) if along and sketch is not None else None
    else:
        few = max(len(a.values) for a in abstractions) <= FEW_VALUES
        main = LevelJob(denoiser, draws, nodes, abstractions, gaps, average=few)
        paths = PathJob(denoiser, draws, nodes, abstractions, spec.seed) if along else None
    pairs: PairJob | None = None
    if isinstance(denoiser, FiniteDenoiser) and spec.pairs:
        pairs = PairJob(denoiser, draws, nodes[wanted], abstractions)
    works: list[Work] = [w for w in (main, paths, pairs) if w is not None]
    advance(InTurn(works), data.name, folder, progress)
    curves, limit, values = [], {}, {}
    keeps, sures = {}, {}
    for a in abstractions:
        log_p = main.log_posterior(a.name)
        keeps[a.name], sures[a.name] = kept(log_p[wanted]).numpy(), sure(log_p[wanted]).numpy()
        for way in spec.estimators:
            if way == "posterior":
                curves.append(posterior(a, nodes[wanted], log_p[wanted]))
                if len(a.values) <= MOST_VALUES:
                    values[a.name] = by_value(a, nodes[wanted], log_p[wanted])
            elif way in GAPS:
                curves.append(GAPS[way](a, nodes, main.gap(a.name)).at_levels(wanted))
            elif way == "forks":
                curves.append(_by_forks(a, nodes[wanted], log_p[wanted], spec))
            elif paths is not None:
                curves.append(path_bound(a, nodes, *paths.log_q(a.name), draws.labels[a.name]).at_levels(wanted))
        limit[a.name] = _limit(a, log_p[-1]) if isinstance(main, Collected) else (a.entropy, 0.0)
    results = with_keeping(with_values(to_dataset(curves, limit, data, draws, spec), values), keeps, sures)
    if isinstance(main, Collected):
        results = with_effective_items(results, main.effective_items()[[*wanted, -1]])
    if pairs is not None:
        results = with_pairs(results, pairs.interactions([c for c in curves if c.estimator == "posterior"]))
    if isinstance(denoiser, HierarchyDenoiser) and isinstance(main, LevelJob):
        results = with_tree(results, main.whole_entropies()[:, wanted], denoiser.level_prior_entropies().numpy())
    return results, draws


def _limit(abstraction: Abstraction, log_p: Float[Tensor, "draws values"]) -> tuple[float, float]:
    """I(A; V) and its standard error, from the posterior at sigma → 0."""
    known = abstraction.entropy - entropy_of(log_p).numpy()
    return float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known)))


def _by_forks(a: Abstraction, sigma: np.ndarray, log_p: Float[Tensor, "levels draws values"], spec: Spec) -> Curve:
    """Labels of children drawn at once; a draw has its own uniform numbers, shared by levels."""
    each = [
        torch.rand(spec.forks, generator=generator(spec.seed, i, _CHILDREN), dtype=torch.float64)
        for i in range(log_p.shape[1])
    ]
    return forks_at_once(a, sigma, log_p, torch.stack(each))


def _bounds(
    denoiser: FiniteDenoiser, draws: Draws, spec: Spec, folder: StudyFolder | None, progress: bool
) -> xr.Dataset:
    """Lower bounds for the population that the items come from."""
    data, sigma = denoiser.data, sigma_grid(spec.sigma_max, spec.sigma_min, spec.levels)
    held = HeldOutPass(denoiser, draws, sigma)
    advance(InTurn([held]), data.name, folder, progress)
    levels = [j for j, _ in held.pairs]
    nothing = {a.name: (float("nan"), float("nan")) for a in data.abstractions}
    bounds: Sequence[Curve] = [
        heldout_bound(a, sigma, levels, held.own_probability(a.name), draws.labels[a.name].numpy())
        for a in data.abstractions
    ]
    return to_dataset(bounds, nothing, data, draws, spec).assign_attrs(main_estimator=HELDOUT)


def advance(work: Work, name: str, folder: StudyFolder | None, progress: bool) -> None:
    """Step to the end, from the folder's checkpoint where there is one, leaving new ones on the way."""
    if folder is not None:
        state = folder.checkpoint()
        if any(distributed.gathered(state is not None)):
            try:
                work.restore(state or {})
            except InputError:
                raise
            except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
                raise InputError("the checkpoint is not of this study: delete checkpoint*.npz and run again") from error
    shown = progress and distributed.rank() == 0
    with tqdm(
        total=work.total, initial=work.position, disable=not shown, file=sys.stderr, desc=name, unit="step"
    ) as bar:
        last = time.monotonic()
        while not work.done:
            work.step()
            bar.update(work.position - bar.n)
            if folder is not None and time.monotonic() - last > CHECKPOINT_SECONDS:
                folder.store_checkpoint(work.state())
                last = time.monotonic()
