"""What to do with a model, read off the curves of a study: each advice with its formula, its interval and its law.

Intervals are of 95 %, by resampling draws.  Advice is true of the law that the curves were measured on
(:attr:`~sigmascope.studies.advice_kinds.Advice.law`).  What cannot be advised is left out, with its reason: a level
that the curve does not reach, or one at which the curve is marked as biased.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property

import numpy as np
import xarray as xr
from jaxtyping import Float

from sigmascope.adapters.diffusers.units import Ruler
from sigmascope.analysis.advice import View
from sigmascope.analysis.onset import Quantity
from sigmascope.core import Curve, InputError
from sigmascope.report.table import brief
from sigmascope.studies import advice_kinds as kinds
from sigmascope.studies.advice_kinds import Advice, Case, Kind, Units
from sigmascope.studies.laws import OWN_PATH_IN_WORDS, law_in_words, path_curves
from sigmascope.studies.marks import doubt_at
from sigmascope.studies.results import main_estimator, to_curves

KINDS: dict[str, Kind] = {
    kind.name: kind()
    for kind in (
        kinds.GuidanceInterval,
        kinds.TrainingRange,
        kinds.NegativePrompt,
        kinds.SdeditStrength,
        kinds.ForkPoint,
        kinds.EarlyExit,
        kinds.SamplingSteps,
    )
}
"""Every kind of advice, in the order in which they are given."""


class Advisor:
    """Reads advice off the results of a study.

    Args:
        results: of a study.
        probability: p, with which what is to be kept is kept.
        ruler: of the model's scheduler, if there is one.
        seed: of the resampling.
        factor: from a level in the unit of the study to one in that of the ruler.
        estimator: whose curves; empty: the study's main one, and those of the model's own path where it was measured.

    Raises: InputError for a probability that is none, or results that are of no study.
    """

    def __init__(
        self,
        results: xr.Dataset,
        probability: float = 0.9,
        ruler: Ruler | None = None,
        seed: int = 0,
        factor: float = 1.0,
        estimator: str = "",
    ) -> None:
        if not 0.5 <= probability < 1:
            raise InputError(f"probability is {probability:g}: expected one from 0.5 to below 1, e.g. 0.9")
        self.results, self.probability, self.ruler, self.factor = results, probability, ruler, factor
        curves = {c.attribute: c for c in to_curves(results, estimator)}
        way, main = next(iter(curves.values())).estimator, main_estimator(results)
        stored = way == ("forks" if "shared_per_draw" in results else main)
        whole = {n: _whole(results, c) for n, c in curves.items()}
        self.noised = View(curves, whole, _kept(results, curves) if stored else {}, law_in_words(results, way), seed)
        self.generated = self.forking = self.noised
        path = path_curves(results) if way == main else {}
        if path:
            whole = {n: c.ceiling for n, c in path.items()}
            self.generated = View(path, whole, _kept(results, path, "path_"), OWN_PATH_IN_WORDS, seed)
            self.forking = self.noised if self.generated.bounded else self.generated

    def advice(self, kind: str, name: str = "", redraw: Sequence[str] = (), steps: int = 0) -> Advice:
        """One advice, or why it cannot be given.

        Args:
            kind: one of :data:`KINDS`.
            name: of the attribute; empty: all, for kinds that are of all.
            redraw: attributes that are to change.
            steps: of the sampler.

        Raises: InputError for steps that cannot be placed.
        """
        of, others = KINDS[kind], [n for n in redraw if n != name]
        view: View = getattr(self, of.reads)
        case = Case(self.results, view, view is self.noised, name, self.probability, others, steps, self._span)
        found = of.of(case)
        if found.reason:
            return found
        ends = {end: self._units(at, of.at_most) for end, at in (("high", found.high), ("low", found.low))}
        return replace(found, units={end: units for end, units in ends.items() if units})

    def _units(self, at: Quantity | None, at_most: bool) -> Units:
        """A level in the units of the scheduler; nothing where there is none."""
        if self.ruler is None or at is None or not at.reached:
            return {}
        # Beyond its range the scheduler's first or last level is the nearest that a run can have.
        found = asdict(self.ruler.of_sigma(min(max(self.factor * at.value, self.ruler.lowest), self.ruler.highest)))
        # Where what is above a level is not safe, a run begins at it or below.
        return found | {"strength": found["strength_at_most"]} if at_most else found

    @cached_property
    def _span(self) -> tuple[float, float] | None:
        """The highest and the lowest level of the sampler, in the unit of the study; None where none is known."""
        if self.ruler is None:
            return None
        states = self.ruler.levels[: self.ruler.states] / self.ruler.unit.scale / self.factor
        states = states[np.isfinite(states) & (states > 0)]
        return (float(states.max()), float(states.min())) if len(states) else None

    def interval(self, name: str) -> tuple[Advice, Advice]:
        """Where guidance to A, and training on A, have something to act on."""
        return self.advice("guidance_interval", name), self.advice("training_range", name)

    def negative(self, name: str) -> Advice:
        """How late a negative prompt can still act."""
        return self.advice("negative_prompt", name)

    def keep(self, name: str, redraw: Sequence[str]) -> tuple[Advice, Advice]:
        """How strongly to edit, and where to fork, so that A stays and other attributes are redrawn."""
        return self.advice("sdedit_strength", name, redraw), self.advice("fork_point", name, redraw)

    def early_exit(self, name: str) -> Advice:
        """How early the label can be read off a half-done image."""
        return self.advice("early_exit", name)

    def steps(self, count: int) -> Advice:
        """Where to put the sampler's levels."""
        return self.advice("sampling_steps", steps=count)

    def all(self, keep: Sequence[str], redraw: Sequence[str], steps: int) -> list[Advice]:
        """All advice about some attributes; of each attribute at last what cannot be advised, and why."""
        found: list[Advice] = []
        for name, of_all in (*((n, False) for n in keep), ("", True)):
            each = [self.advice(k, name, redraw, steps) for k, kind in KINDS.items() if kind.of_all == of_all]
            found += [a for a in each if not a.reason]
            found += [*([] if of_all else self._rivals(name)), *_left_out(name, each)]
        return found

    @cached_property
    def _of_other_laws(self) -> dict[str, tuple[str, dict[str, Curve]]]:
        """Curves of the study that are of another law and no bounds, by estimator and attribute, with their law."""
        found = {}
        for e in map(str, self.results.estimator.values):
            law, kind = law_in_words(self.results, e), str(self.results.kind.sel(estimator=e).values)
            if law != self.noised.law and kind != "lower bound":
                found[e] = law, {c.attribute: c for c in to_curves(self.results, e)}
        return found

    def _rivals(self, name: str) -> list[Advice]:
        """Other curves of the study that put half of A elsewhere, and which to trust."""
        view = self.noised
        if view.lower or doubt_at(self.results, view.estimator, name):
            return []
        half, said = view.half(name), []
        for e, (law, curves) in self._of_other_laws.items():
            if not np.isfinite(curves[name].per_draw).all() or not half.reached:
                continue
            other = view.half(name, curves[name])
            if other.reached and (other.low > half.high or other.high < half.low):
                said.append(f"{e} ({law}) puts half of {name} at σ {brief(other)}, {view.estimator} at {brief(half)}")
        if not said:
            return []
        words = f"{'; '.join(said)}: trust {view.estimator}, which is of the model itself"
        return [Advice("which_to_trust", name, "σ where half is known, by each", words, law=view.law)]


def _left_out(name: str, each: Sequence[Advice]) -> list[Advice]:
    """What cannot be advised of an attribute, each reason once."""
    kinds: dict[str, list[str]] = {}
    for a in each:
        if a.reason:
            kinds.setdefault(a.reason, []).append(a.kind.replace("_", " "))
    if not kinds:
        return []
    words = "; ".join(f"no {' or '.join(of)}, since {reason}" for reason, of in kinds.items())
    law = next(a.law for a in each if a.reason)
    return [Advice("left_out", name, "", words, law=law, reason=words)]


def _whole(results: xr.Dataset, c: Curve) -> float:
    """What a clean image tells of an attribute: H(A), or less where equal images carry different labels."""
    if c.kind == "lower bound" or "information_limit" not in results:
        return c.ceiling
    limit = float(results.information_limit.sel(attribute=c.attribute))
    return min(limit, c.ceiling) if math.isfinite(limit) and limit > 0 else c.ceiling


def _kept(
    results: xr.Dataset, curves: Mapping[str, Curve], prefix: str = ""
) -> dict[str, dict[str, Float[np.ndarray, "levels draws"]]]:
    """What redraws keep of each attribute and what can be read off, as far as it was measured."""
    found = {which: f"{prefix}{which}_per_draw" for which in ("kept", "sure")}
    return {w: {n: results[at].sel(attribute=n).values for n in curves} for w, at in found.items() if at in results}
