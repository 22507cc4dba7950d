r"""What to do with a model, read off the curves of a study: each advice with its formula and its interval.

With I(σ) the information about A of the study's main estimator, and :math:`P_{keep}` the probability that a redraw from
σ keeps A (:mod:`sigmascope.information.keeping`):

================= ====================================================================================================
advice            formula
================= ====================================================================================================
guidance_interval between the levels where I is 5 and 95 % of what it is at the last level
training_range    the same levels: nine tenths of the gap to be learned for A lie between them
negative_prompt   the level where P_keep = 1 − (1 − p)/4: below it less than 1 − p of the images lose A, also where the
                  prompt is pushed: guidance of weight 3 changes some three times as many as chance does
sdedit_strength   the highest level where P_keep(A) ≥ p; other attributes B are redrawn with probability 1 − P_keep(B)
fork_point        the same level, as a step of the sampler: from there on children share A and vary in B
early_exit        the highest level where P_sure ≥ 90 %: the label that is likeliest there is the final one
sampling_steps    of a first-order sampler (DDIM, Euler): levels at equal shares of .2 (even in ln σ) + .8 (root of the
                  rate of all information, −dΣI/d ln σ): a step h there errs as h² times the rate, and density in
                  proportion to the root makes the sum least
================= ====================================================================================================

Where a study has bounds only, :math:`e^{I - H}` stands for :math:`P_{keep}` and :math:`P_{sure}`, which are at least
that: the advice is then on the safe side.  Intervals are of 95 %, by resampling draws.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.optimize import isotonic_regression

from sigmascope.adapters.units import Ruler, ruler_of
from sigmascope.core import InputError
from sigmascope.data.sigma_units import LATENTS, range_of
from sigmascope.information.keeping import kept_at_least
from sigmascope.limits import shown
from sigmascope.onset import Quantity, crossings, moved, quantity
from sigmascope.studies.reading import read_study
from sigmascope.studies.results import to_curves
from sigmascope.studies.spec import PIPELINE, read_spec
from sigmascope.studies.translating import numbers

KINDS = (
    *("guidance_interval", "training_range", "negative_prompt", "sdedit_strength"),
    *("fork_point", "early_exit", "sampling_steps"),
)
_AT_MOST = ("sdedit_strength", "fork_point", "early_exit")
"""What holds at a level and below it; of the others, what holds at a level and above it."""
_RESAMPLES, _EDGE, _RELIABLE, _PUSHED, _EVEN = 1000, 0.05, 0.9, 4.0, 0.2


@dataclass(frozen=True)
class Advice:
    """One advice.

    Attributes:
        kind: one of :data:`KINDS`.
        abstraction: whom it concerns; empty: all.
        formula: where it comes from.
        words: what to do.
        high: the level, or the upper end of the interval, σ in the unit of the study, with its own 95 % interval.
        low: the lower end, of an interval.
        redraws: of other attributes, the probability that a redraw from there changes them, and its standard error.
        levels: of the sampler, in order.
        units: ``high`` and ``low`` in the units of the model's scheduler.
    """

    kind: str
    abstraction: str
    formula: str
    words: str
    high: Quantity | None = None
    low: Quantity | None = None
    redraws: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    levels: tuple[float, ...] = ()
    units: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Advisor:
    """Reads advice off the results of a study.

    Args:
        results: of a study.
        probability: p, with which what is to be kept is kept.
        ruler: of the model's scheduler, if there is one.
        seed: of the resampling.
        factor: from a level in the unit of the study to one in that of the ruler.

    Raises: InputError for a probability that is none, or results that are of no study.
    """

    def __init__(
        self,
        results: xr.Dataset,
        probability: float = 0.9,
        ruler: Ruler | None = None,
        seed: int = 0,
        factor: float = 1.0,
    ) -> None:
        if not 0.5 <= probability < 1:
            raise InputError(f"probability is {probability:g}: expected one from 0.5 to below 1, e.g. 0.9")
        self.curves = {c.abstraction: c for c in to_curves(results)}
        self.results, self.probability, self.ruler, self.factor = results, probability, ruler, factor
        first = next(iter(self.curves.values()))
        open_ = [n for n, c in self.curves.items() if not np.isfinite(c.per_draw).all()]
        if open_:
            said = f"{shown(first.estimator)} of {shown(open_[0])!r}"
            raise InputError(f"{said} has no number at some levels: choose another --estimator")
        self.sigma, self.bound = first.sigma, first.kind == "lower bound"
        draws, self._seed = first.per_draw.shape[1], seed
        drawn = np.random.default_rng(seed).multinomial(draws, np.full(draws, 1.0 / draws), size=_RESAMPLES)
        self._shares = np.concatenate([np.full((1, draws), 1.0 / draws), drawn / draws])

    def known(self, name: str) -> Float[np.ndarray, "resamples levels"]:
        """I of an attribute, over resamples (the first: the estimate), rising as the noise falls."""
        c = self.curves[name]
        return _rising(moved(c, self._mean(c.per_draw)[1:], np.random.default_rng(self._seed)))

    def keeping(self, name: str, which: str = "kept") -> Float[np.ndarray, "resamples levels"]:
        """The probability that it is kept, or (``sure``) can be read off; or what it is at least."""
        for found in (f"{which}_per_draw", "kept_per_draw"):
            if found in self.results:
                return _rising(self._mean(self.results[found].sel(abstraction=name).values))
        c = self.curves[name]
        if c.kind != "lower bound" and c.estimator in ("posterior", "forks"):
            return _rising(self._mean(np.exp(np.minimum(c.per_draw - c.ceiling, 0.0))))
        return kept_at_least(self.known(name), c.ceiling)

    def _mean(self, per_draw: Float[np.ndarray, "levels draws"]) -> Float[np.ndarray, "resamples levels"]:
        return self._shares @ per_draw.T

    def crossing(self, rising: Float[np.ndarray, "resamples levels"], target: np.ndarray | float) -> Quantity:
        """The highest σ where a curve reaches its target, with the interval over resamples."""
        x, aims = np.log(self.sigma), np.broadcast_to(target, len(rising))
        if np.ptp(aims) == 0:
            at = crossings(x, rising, float(aims[0]))
        else:
            at = np.concatenate([crossings(x, r[None], t) for r, t in zip(rising, aims, strict=True)])
        return quantity(at, self._shares.shape[1])

    def at(self, rising: Float[np.ndarray, "resamples levels"], sigma: float) -> tuple[float, float]:
        """The value of a curve at a level between two, and its standard error."""
        x = np.log(self.sigma)[::-1]
        values = np.array([np.interp(math.log(sigma), x, r[::-1]) for r in rising])
        return float(values[0]), float(values[1:].std(ddof=1))

    def interval(self, name: str) -> tuple[Advice, Advice]:
        """Where guidance to A, and training on A, have something to act on."""
        known = self.known(name)
        high, low = (self.crossing(known, share * known[:, -1]) for share in (_EDGE, 1.0 - _EDGE))
        span = f"σ {_said(high)} down to σ {_said(low)}"
        formula = f"I(A; Y_σ) from {100 * _EDGE:.0f} to {100 * (1 - _EDGE):.0f} % of its last value"
        late = " (read off a lower bound: the true interval may begin earlier)" if self.bound else ""
        return (
            self._advice(
                "guidance_interval", name, formula,
                f"guide towards {name} from {span}; above it nothing of it is decided yet, below it is fixed{late}",
                high=high, low=low,
            ),
            self._advice(
                "training_range", name, formula,
                f"to teach {name}, train from {span}: nine tenths of what tells it lie there{late}", high=high, low=low,
            ),
        )  # fmt: skip

    def negative(self, name: str) -> Advice:
        """How late a negative prompt can still act."""
        p = self.probability
        safe = 1.0 - (1.0 - p) / _PUSHED
        at = self.crossing(self.keeping(name), safe)
        return self._advice(
            "negative_prompt", name, f"P_keep(σ) = 1 − (1 − p)/{_PUSHED:g} = {safe:g}",
            f"a negative prompt against {name} must act above σ {_said(at)}: below, {100 * p:.0f} % of the images keep "
            "it", high=at,
        )  # fmt: skip

    def keep(self, name: str, redraw: Sequence[str]) -> tuple[Advice, Advice]:
        """How strongly to edit, and where to fork, so that A stays and other attributes are redrawn."""
        p = self.probability
        at = self.crossing(self.keeping(name), p)
        others: dict[str, tuple[float, float]] = {}
        if at.reached:
            for other in redraw:
                value, error = self.at(self.keeping(other), at.value)
                others[other] = (1.0 - value, error)
        most = " at most" if self._bounded else ""
        changed = "; ".join(f"{n} {100 * v:.0f} ± {196 * e:.0f} %" for n, (v, e) in others.items())
        changed = f"; redrawn with probability{most}: {changed}" if changed else ""
        return (
            self._advice(
                "sdedit_strength", name, f"largest σ with P_keep(A) ≥ {p:g}",
                f"noise an image to at most σ {_said(at)}, and {name} stays in {100 * p:.0f} % of the redraws{changed}",
                high=at, redraws=others,
            ),
            self._advice(
                "fork_point", name, f"largest σ with P_keep(A) ≥ {p:g}",
                f"fork a generation at σ {_said(at)} or below, and its children share {name}{changed}",
                high=at, redraws=others,
            ),
        )  # fmt: skip

    def early_exit(self, name: str) -> Advice:
        """How early the label can be read off a half-done image."""
        at = self.crossing(self.keeping(name, "sure"), _RELIABLE)
        return self._advice(
            "early_exit", name, f"largest σ with P_sure ≥ {_RELIABLE:g}",
            f"a check for {name} is right in {100 * _RELIABLE:.0f} % of cases from σ {_said(at)} on: stop there what "
            "fails it", high=at,
        )  # fmt: skip

    def steps(self, count: int) -> Advice:
        """Where to put the sampler's levels.

        Raises: InputError for fewer than 2.
        """
        if count < 2:
            raise InputError(f"steps is {count}: at least 2 are needed; pass e.g. --steps 50")
        x, total = self._within(np.sum([self.known(n)[0] for n in self.curves], axis=0))
        root = np.sqrt(np.maximum(-np.gradient(total, x), 0.0))
        gained = np.concatenate([[0.0], np.cumsum(0.5 * (root[1:] + root[:-1]) * -np.diff(x))])
        even = (x[0] - x) / (x[0] - x[-1])
        share = _EVEN * even + (1.0 - _EVEN) * gained / max(float(gained[-1]), 1e-12)
        levels = np.exp(np.interp(np.linspace(0.0, 1.0, count), share, x))
        shown = ", ".join(f"{s:.4g}" for s in levels)
        return self._advice(
            "sampling_steps", "", f"equal shares of {_EVEN:g} (even in ln σ) + {1 - _EVEN:g} √(−d ΣI / d ln σ)",
            f"put the {count} levels of a first-order sampler at σ {shown}, 0: near to each other where attributes are "
            "decided", levels=tuple(map(float, levels)),
        )  # fmt: skip

    def _within(
        self, total: Float[np.ndarray, " levels"]
    ) -> tuple[Float[np.ndarray, " kept"], Float[np.ndarray, " kept"]]:
        """ln σ and a curve between the levels that the sampler has: those of the study, and of the ruler's run."""
        x = np.log(self.sigma)
        if self.ruler is None:
            return x, total
        states = self.ruler.levels[: self.ruler.states] / self.ruler.unit.scale / self.factor
        states = states[np.isfinite(states) & (states > 0)]
        if not len(states):
            return x, total
        high, low = min(x[0], math.log(states.max())), max(x[-1], math.log(states.min()))
        if low >= high:
            raise InputError(
                f"the sampler's levels go from {states.min():.3g} to {states.max():.3g} and the study's from "
                f"{self.sigma[-1]:.3g} to {self.sigma[0]:.3g}: none is common, so its steps cannot be placed"
            )
        kept = np.concatenate([[high], x[(x < high) & (x > low)], [low]])
        return kept, np.interp(kept[::-1], x[::-1], total[::-1])[::-1]

    def all(self, keep: Sequence[str], redraw: Sequence[str], steps: int) -> list[Advice]:
        """All advice about some attributes."""
        found: list[Advice] = []
        for name in keep:
            found += [*self.interval(name), self.negative(name)]
            found += [*self.keep(name, [n for n in redraw if n != name]), self.early_exit(name)]
        return [*found, self.steps(steps)]

    @property
    def _bounded(self) -> bool:
        return "kept_per_draw" not in self.results

    def _advice(self, kind: str, name: str, formula: str, words: str, **more: Any) -> Advice:
        units: dict[str, dict[str, Any]] = {}
        for end in ("high", "low"):
            level = more.get(end)
            if self.ruler is None or level is None or not level.reached:
                continue
            # Beyond its range the scheduler's first or last level is the nearest that a run can have.
            within = min(max(self.factor * level.value, self.ruler.lowest), self.ruler.highest)
            found = asdict(self.ruler.of_sigma(within))
            if kind in _AT_MOST:  # what is above this level is not safe: a run begins at it or below
                found["strength"] = found["strength_at_most"]
            units[end] = found
        if kind in ("sdedit_strength", "fork_point", "early_exit", "negative_prompt") and self._bounded:
            formula += ", by the bound e^(I − H)"
        return Advice(kind, name, formula, words, units=units, **more)


def _rising(means: Float[np.ndarray, "resamples levels"]) -> Float[np.ndarray, "resamples levels"]:
    return np.stack([isotonic_regression(m).x for m in means])


def _said(q: Quantity) -> str:
    if q.value == 0.0:
        return "(below the levels of the study)"
    if math.isinf(q.value):
        return "(above the levels of the study)"
    low, high = f"{q.low:.3g}" if q.low > 0 else "below", f"{q.high:.3g}" if math.isfinite(q.high) else "above"
    return f"{q.value:.3g} ({low} to {high})"


def advise(
    study: str | Path,
    *,
    keep: str = "",
    redraw: str = "",
    probability: float = 0.9,
    model: str = "",
    steps: int = 50,
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
    if estimator:
        results.attrs["main_estimator"] = estimator
    names = [c.abstraction for c in to_curves(results)]
    for name in (keep, redraw):
        if name and name not in names:
            raise InputError(f"the study has no attribute {name!r}: choose among {', '.join(names)}")
    if keep and keep == redraw:
        raise InputError(f"{keep!r} is to be kept and redrawn: name two attributes")
    own = read_spec(folder / "spec.toml").model if (folder / "spec.toml").exists() else ""
    named = model or (own if own.startswith(PIPELINE) and Path(own.removeprefix(PIPELINE)).is_dir() else "")
    ruler, scale = None, 1.0
    if named:
        lists = numbers("timesteps", timesteps), numbers("sigmas", sigmas)
        ruler = ruler_of(named, steps, height=height, width=width, timesteps=lists[0], sigmas=lists[1])
        scale = _to_ruler(str(results.attrs.get("unit_of_sigma", "")), ruler, folder, named)
    advisor = Advisor(results, probability, ruler, int(results.attrs.get("seed", 0)), scale)
    count = ruler.steps if ruler is not None else steps
    return advisor.all([keep] if keep else names, [redraw] if redraw else names, count)


def _to_ruler(unit: str, ruler: Ruler, folder: Path, model: str) -> float:
    """From a level in the unit of a study to one in that of a pipeline: pixels from 0 to 1, or latents.

    Raises: InputError where the two are known to be others.
    """
    range_, latents = range_of(unit), unit.startswith(LATENTS)
    of_latents = ruler.unit.scale == 1
    if (range_ is not None and of_latents) or (latents and not of_latents):
        kinds = "latents", "pixels"
        raise InputError(
            f"{folder}: its σ is of {kinds[not latents]} and that of {model} of {kinds[not of_latents]}, and neither "
            "becomes the other: pass the study of this pipeline itself (sigmascope study DATA --model), or no --model"
        )
    if range_ is None and not latents:
        taken = "latents" if of_latents else "pixels from 0 to 1"
        print(f"sigmascope: note: {folder}: its unit of noise levels is not known: {taken} are taken", file=sys.stderr)
    return range_ or 1.0
