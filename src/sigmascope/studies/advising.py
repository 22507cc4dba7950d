"""Advice on a model from the curves of a study, each piece with its formula, interval and law.

Intervals are of 95 %, by resampling draws.  Advice holds for the law of the noisy images of the curves
(:attr:`~sigmascope.studies.advice_kinds.Advice.law`).  Where a level is not reached, or the curve is marked as biased
there, the advice is left out, with the reason.
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
from sigmascope.studies.laws import OWN_PATH_IN_WORDS, law_in_words
from sigmascope.studies.marks import doubt_at
from sigmascope.studies.results import main_estimator, path_curves, real_names, to_curves

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
"""Every kind of advice, in order."""


class Advisor:
    """Gives advice from the results of a study.

    Args:
        results: of a study.
        probability: p, the probability of keeping an attribute.
        ruler: converts levels to the units of the scheduler of the model, if there is one.
        seed: of the resampling.
        factor: from the noise unit of the study to that of the ruler.
        estimator: name of the estimator; empty: the main one, and the model's own path where it was measured.

    Raises: InputError for a probability out of range, or a Dataset that is not that of a study.
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
        name, main = next(iter(curves.values())).estimator, main_estimator(results)
        stored = name == ("forks" if "shared_per_draw" in results else main)
        whole = {n: _whole(results, c) for n, c in curves.items()}
        self.noised = View(curves, whole, _kept(results, curves) if stored else {}, law_in_words(results, name), seed)
        self.generated = self.forking = self.noised
        path = path_curves(results) if name == main else {}
        if path:
            whole = {n: c.ceiling for n, c in path.items()}
            # Continuations cannot exceed the entropy of their own labels; the gap of a network can exceed H(A).
            by_gap = results.path_information.attrs.get("by") == "gap"
            entropies = {n: float(results.ceiling.sel(attribute=n)) for n in path} if by_gap else {}
            self.generated = View(path, whole, _kept(results, path, "path_"), OWN_PATH_IN_WORDS, seed, entropies)
            self.forking = self.noised if self.generated.bounded else self.generated

    def advice(self, kind: str, name: str = "", redraw: Sequence[str] = (), steps: int = 0) -> Advice:
        """A piece of advice, or the reason why it cannot be given.

        Args:
            kind: one of :data:`KINDS`.
            name: of the attribute; empty: all, for kinds about all attributes.
            redraw: attributes that are to change.
            steps: of the sampler.

        Raises: InputError for fewer than 2 steps of a sampler.
        """
        reader, others = KINDS[kind], [n for n in redraw if n != name]
        view: View = getattr(self, reader.reads)
        if name and name not in view.curves:  # a real-valued attribute, which is not measured along the own path
            view = self.noised
        case = Case(self.results, view, view is self.noised, name, self.probability, others, steps, self._span)
        advice = reader.read(case)
        if advice.reason:
            return advice
        ends = {end: self._units(at, reader.at_most) for end, at in (("high", advice.high), ("low", advice.low))}
        return replace(advice, units={end: units for end, units in ends.items() if units})

    def _units(self, at: Quantity | None, at_most: bool) -> Units:
        """A level in the units of the scheduler; empty where it cannot be converted."""
        if self.ruler is None or at is None or not at.reached:
            return {}
        # Levels outside the range of the scheduler become its first or last level.
        units = asdict(self.ruler.of_sigma(min(max(self.factor * at.value, self.ruler.lowest), self.ruler.highest)))
        # Advice that holds at a level and below needs a strength that does not begin above it.
        return units | {"strength": units["strength_at_most"]} if at_most else units

    @cached_property
    def _span(self) -> tuple[float, float] | None:
        """The highest and the lowest level of the sampler, in the unit of the study; None: not known."""
        if self.ruler is None:
            return None
        states = self.ruler.levels[: self.ruler.states] / self.ruler.unit.scale / self.factor
        states = states[np.isfinite(states) & (states > 0)]
        return (float(states.max()), float(states.min())) if len(states) else None

    def interval(self, name: str) -> tuple[Advice, Advice]:
        """The intervals of guidance to A and of training for A."""
        return self.advice("guidance_interval", name), self.advice("training_range", name)

    def negative(self, name: str) -> Advice:
        """The level above which a negative prompt must act."""
        return self.advice("negative_prompt", name)

    def keep(self, name: str, redraw: Sequence[str]) -> tuple[Advice, Advice]:
        """The strength of an edit, and the level of a fork, that keep A and redraw other attributes."""
        return self.advice("sdedit_strength", name, redraw), self.advice("fork_point", name, redraw)

    def early_exit(self, name: str) -> Advice:
        """The level from which the label of an unfinished image is certain."""
        return self.advice("early_exit", name)

    def steps(self, count: int) -> Advice:
        """The levels of a sampler."""
        return self.advice("sampling_steps", steps=count)

    def all(self, keep: Sequence[str], redraw: Sequence[str], steps: int) -> list[Advice]:
        """All advice about some attributes; for each attribute, last, the advice that is left out and why."""
        advice: list[Advice] = []
        for name, of_all in (*((n, False) for n in keep), ("", True)):
            each = [self.advice(k, name, redraw, steps) for k, kind in KINDS.items() if kind.of_all == of_all]
            advice += [a for a in each if not a.reason]
            advice += [*([] if of_all else self._rivals(name)), *_left_out(name, each)]
        return advice

    @cached_property
    def _of_other_laws(self) -> dict[str, tuple[str, dict[str, Curve]]]:
        """Curves of another law that are no bounds, by estimator and attribute, with their law."""
        curves = {}
        for e in map(str, self.results.estimator.values):
            law, kind = law_in_words(self.results, e), str(self.results.kind.sel(estimator=e).values)
            if law != self.noised.law and kind != "lower bound":
                curves[e] = law, {c.attribute: c for c in to_curves(self.results, e)}
        return curves

    def _rivals(self, name: str) -> list[Advice]:
        """Other curves of the study with another level of half the information, and which curve to trust."""
        view = self.noised
        if view.lower or doubt_at(self.results, view.estimator, name):
            return []
        half, sentences = view.half(name), []
        for e, (law, curves) in self._of_other_laws.items():
            if name not in curves or not np.isfinite(curves[name].per_draw).all() or not half.reached:
                continue
            other = view.half(name, curves[name])
            if other.reached and (other.low > half.high or other.high < half.low):
                both = f"σ {brief(other)}, and by {view.estimator} at {brief(half)}"
                sentences.append(f"by {e} ({law}), half of {name} is known at {both}")
        if not sentences:
            return []
        words = f"{'; '.join(sentences)}: trust {view.estimator}, which measures the model itself"
        return [Advice("which_to_trust", name, "σ where half is known, by each estimator", words, law=view.law)]


def _left_out(name: str, each: Sequence[Advice]) -> list[Advice]:
    """The advice on an attribute that is left out, by reason."""
    kinds: dict[str, list[str]] = {}
    for a in each:
        if a.reason:
            kinds.setdefault(a.reason, []).append(a.kind.replace("_", " "))
    if not kinds:
        return []
    words = "; ".join(f"no {' or '.join(names)}, since {reason}" for reason, names in kinds.items())
    law = next(a.law for a in each if a.reason)
    return [Advice("left_out", name, "", words, law=law, reason=words)]


def _whole(results: xr.Dataset, c: Curve) -> float:
    """The information of a clean image: H(A), or less where equal images carry different labels."""
    if c.kind == "lower bound" or "information_limit" not in results:
        return c.ceiling
    limit = float(results.information_limit.sel(attribute=c.attribute))
    return min(limit, c.ceiling) if math.isfinite(limit) and limit > 0 else c.ceiling


def _kept(
    results: xr.Dataset, curves: Mapping[str, Curve], prefix: str = ""
) -> dict[str, dict[str, Float[np.ndarray, "levels draws"]]]:
    """The probabilities ``kept`` and ``sure`` of each attribute, as far as they were measured; NaN of real-valued ones,
    whose value no redraw keeps."""
    measured = {q: f"{prefix}{q}_per_draw" for q in ("kept", "sure")}
    each = {q: {n: results[v].sel(attribute=n).values for n in curves} for q, v in measured.items() if v in results}
    reals = {n: np.full_like(c.per_draw, np.nan) for n, c in curves.items() if n in real_names(results)}
    return each or ({"kept": reals} if reals else {})
