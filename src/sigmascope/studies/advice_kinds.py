"""The kinds of advice: the curves that each reads, its formula and its words.

A new kind is a subclass of :class:`Kind` in a file of its own, and a line in :data:`sigmascope.studies.advising.KINDS`.
The formulas are those of :class:`~sigmascope.analysis.advice.View`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from sigmascope.analysis.advice import EDGE, EVEN, View, sampler_levels
from sigmascope.analysis.onset import Quantity
from sigmascope.core import InputError
from sigmascope.report.table import brief, number
from sigmascope.studies.marks import doubt_at

_NO_VALUES = "a real-valued attribute has no values that are kept or lost: read its precision on the page of the study"
Units = Mapping[str, Any]
"""A noise level in the units of a scheduler (:class:`~sigmascope.adapters.diffusers.units.Level`)."""


@dataclass(frozen=True)
class Advice:
    """A piece of advice from a study, for one attribute or for all.

    Attributes:
        kind: its name: ``guidance_interval``, ``training_range``, ``negative_prompt``, ``sdedit_strength``,
            ``fork_point``, ``early_exit`` or ``sampling_steps``; or ``which_to_trust``, where two curves of the study
            disagree; or ``left_out``, which lists what cannot be advised.
        attribute: name of the attribute; empty: all.
        formula: the formula behind it.
        words: what to do, in a sentence.
        high: the level, or the upper end of the interval, σ in the unit of the study, with its 95 % interval.
        low: the lower end of the interval; None where the advice is one level.
        redraws: for other attributes, the probability that a redraw from ``high`` changes them, with standard error.
        levels: levels of the sampler, in order.
        units: ``high`` and ``low`` in the units of the scheduler of the model.
        law: the law of the noisy images for which it holds.
        reason: why the advice cannot be given; empty where it can.
    """

    kind: str
    attribute: str
    formula: str
    words: str
    high: Quantity | None = None
    low: Quantity | None = None
    redraws: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    levels: tuple[float, ...] = ()
    units: Mapping[str, Units] = field(default_factory=dict)
    law: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Case:
    """What a kind of advice reads: an attribute and its curves under one law."""

    results: xr.Dataset  # of the study, with the marks of its curves
    view: View  # the curves
    noised: bool  # whether the curves are of noised images
    name: str  # of the attribute; empty: all
    p: float  # the probability with which the attribute is to be kept
    redraw: Sequence[str] = ()  # other attributes, which are to change
    steps: int = 0  # of the sampler
    span: tuple[float, float] | None = None  # highest and lowest level of the sampler, where they are known

    def doubt(self, at: Quantity) -> str:
        """Why a level is not reliable: the verdict on the curve there."""
        if not self.noised:
            wrapping = str(self.results.attrs.get("wrapping", ""))
            excess = self.view.excess(self.name, at.value) if at.reached and not wrapping else None
            return wrapping if excess is None else _above_entropy(*excess)
        estimator = self.view.estimator
        doubt = doubt_at(self.results, estimator, self.name, at.value if at.reached else None)
        return f"{estimator} is marked as biased there ({doubt})" if doubt else ""

    def place(self, level: int) -> str:
        """The first level of the curves (0), or the last (-1)."""
        return f"the {'last' if level else 'first'} level, σ {number(self.view.sigma[level])}"

    def reached(self, level: int) -> str:
        """The information at a level."""
        least = "at least " if self.view.lower else ""
        return f"{least}{self.view.known(self.name)[0, level]:.3g} of {self.view.whole[self.name]:.3g} nats"

    def so_far(self) -> str:
        """The information at the last level, as a clause."""
        return f"at {self.place(-1)}, {self.reached(-1)} are known"


def _above_entropy(known: float, entropy: float) -> str:
    return f"the information along the model's own path is biased there: {known:.3g} nats exceed H(A) = {entropy:.3g}"


class Kind(ABC):
    """A kind of advice."""

    name: str
    reads = "noised"  # its curves: of noised images; "generated" or "forking": of the own path, where measured
    of_all = False  # whether it is about all attributes together
    at_most = False  # whether it holds at a level and below, rather than at a level and above

    @abstractmethod
    def read(self, case: Case) -> Advice:
        """The advice, or the reason why there is none."""

    @abstractmethod
    def in_units(self, high: Units | None, low: Units | None) -> str:
        """The level or interval in the units of a scheduler, as a user passes it to a pipeline."""

    def advice(self, case: Case, formula: str, words: str, *, reason: str = "", **fields: Any) -> Advice:
        """Advice of this kind; without words where there is a reason against it."""
        words = "" if reason else words
        return Advice(self.name, case.name, formula, words, law=case.view.law, reason=reason, **fields)


def before_step(at: Units) -> str:
    """The step of a sampler that begins at a level."""
    step, steps = at["step"], at["steps"]
    return f"{f'before step {step}' if step < steps else 'after the last step'} of {steps}"


def level_in_units(high: Units | None, setting: Callable[[Units], str] = before_step) -> str:
    """A level in the units of a scheduler, by the setting of a pipeline; empty where they are not known."""
    if high is None:
        return ""
    return f" — {setting(high)} (timestep {high['timestep']:.4g}, {high['percent']:.0f} % done)"


def _clock(high: Units | None, low: Units | None) -> str:
    """The range of timesteps; an unknown end is that of the run."""
    begin, end = (f"timestep {at['timestep']:.4g}" if at else "" for at in (high, low))
    return f"{begin or 'the start'} to {end or 'the end'}"


class _Window(Kind):
    """Advice on the interval in which an attribute is decided."""

    def read(self, case: Case) -> Advice:
        high, low = case.view.window(case.name)
        if high.value == 0.0:
            reason = f"almost none of its information appears within the levels: {case.so_far()}"
        else:
            reason = case.doubt(high) or self.lost(case, low)
        first = f"from {case.place(0)}, where {case.reached(0)} are known already,"
        words = self.sentence(case, f"from σ {brief(high)}" if high.reached else first, low)
        if case.view.lower:
            words += " (from a lower bound: the true curve reaches the same shares at these levels or above)"
        formula = f"I(A; Y_σ) from {100 * EDGE:.0f} to {100 * (1 - EDGE):.0f} % of the information of a clean image"
        return self.advice(case, formula, words, high=high, low=low, reason=reason)

    @abstractmethod
    def sentence(self, c: Case, begin: str, low: Quantity) -> str:
        """The advice for the interval."""

    @abstractmethod
    def lost(self, c: Case, low: Quantity) -> str:
        """Why there is no advice without the lower end; empty where there is."""


class GuidanceInterval(_Window):
    """Guidance can act between the levels where I is 5 and 95 % of the information of a clean image."""

    name, reads = "guidance_interval", "generated"

    def sentence(self, c: Case, begin: str, low: Quantity) -> str:
        guide = f"guide towards {c.name} {begin}"
        if low.reached:
            doubt = c.doubt(low)
            warning = f" (this end is not reliable: {doubt})" if doubt else ""
            return f"{guide} down to σ {brief(low)}{warning}{self._changes(c, low.value)}"
        if math.isinf(low.value):
            return f"guidance towards {c.name} is not needed: it is decided above {c.place(0)}"
        return f"{guide}; the lower end is not reached, since {c.so_far()}{self._changes(c, float(c.view.sigma[-1]))}"

    def lost(self, c: Case, low: Quantity) -> str:
        return ""

    def _changes(self, c: Case, sigma: float) -> str:
        """How often a redraw from a level changes the attribute."""
        if (c.view.bounded and not c.noised) or not c.view.has_values(c.name):
            return ""
        limit = "at most " if c.view.bounded else ""
        return f"; a redraw from there changes it in {limit}{_percent(*c.view.redrawn(c.name, sigma))} of the images"

    def in_units(self, high: Units | None, low: Units | None) -> str:
        if not high and not low:
            return ""
        steps = int((high or low or {})["steps"])
        first, last = int(high["step"]) if high else 0, steps - 1
        if low:
            last = int(low["step"]) - (0 if math.isclose(low["step_sigma"], low["sigma"]) else 1)
        span = f"steps {first} to {last} of {steps}" if first <= last else f"no step of {steps} lies there"
        done = f"{high['percent'] if high else 0:.0f} to {low['percent'] if low else 100:.0f} % done"
        return f" — {span} ({_clock(high, low)}; {done})"


class TrainingRange(_Window):
    """The same levels: by I-MMSE, nine tenths of the gap that training must learn for A lie between them."""

    name = "training_range"

    def sentence(self, c: Case, begin: str, low: Quantity) -> str:
        nine_tenths = "nine tenths of the information of a clean image appear there"
        return f"to teach {c.name}, train {begin} down to σ {brief(low)}: {nine_tenths}"

    def lost(self, c: Case, low: Quantity) -> str:
        if low.value == 0.0:
            return f"95 % of the information of a clean image is not reached: {c.so_far()}"
        return c.doubt(low)

    def in_units(self, high: Units | None, low: Units | None) -> str:
        return f" — {_clock(high, low)}" if high or low else ""


class _Kept(Kind):
    """Advice on the highest level at which an attribute is kept, or is certain, with a probability p."""

    at_most = True
    formula = "largest σ with P_keep(A) ≥ {p:g}"
    sentence: str  # of the level ``at``, the attribute ``name``, and p and 1 − p in per cent, ``stays`` and ``goes``
    quantity, symbol = "kept", "P_keep"
    fixed = 0.0  # p, where the user cannot choose it
    redraws = False  # whether it reports how often other attributes change

    def read(self, case: Case) -> Advice:
        view, p = case.view, self.fixed or case.p
        if not view.has_values(case.name):
            return self.advice(case, "", "", reason=_NO_VALUES)
        at = view.kept_from(case.name, p, self.quantity)
        limit, bound = (" at most", ", by the bound e^(I − H)") if view.bounded else ("", "")
        others = [n for n in case.redraw if view.has_values(n)]
        redraws = {n: view.redrawn(n, at.value) for n in others} if at.reached and self.redraws else {}
        words = self.sentence.format(
            at=brief(at), name=case.name, stays=f"{100 * p:.3g}", goes=f"{100 * (1 - p):.3g}", limit=limit
        )
        if redraws:
            changed = "; ".join(f"{n} {_percent(*share)}" for n, share in redraws.items())
            words += f"; redrawn with probability{limit}: {changed}"
        if self.at_most:
            words += self._memory(case, at)
        reason = case.doubt(at) if at.reached else self._never(case, at, p)
        return self.advice(case, self.formula.format(p=p) + bound, words, high=at, redraws=redraws, reason=reason)

    @abstractmethod
    def setting(self, at: Units) -> str:
        """The setting of a pipeline for a level."""

    def in_units(self, high: Units | None, low: Units | None) -> str:
        return level_in_units(high, self.setting)

    def _never(self, c: Case, at: Quantity, p: float) -> str:
        """Why there is no such level."""
        level = -1 if at.value == 0.0 else 0
        here = f"{'at least ' if c.view.bounded else ''}{c.view.keeping(c.name, self.quantity)[0, level]:.2g}"
        if level:
            below = f"is not shown to reach {p:g}" if c.view.bounded else f"stays below {p:g}"
            return f"{self.symbol} {below}: at {c.place(level)}, it is {here}"
        return f"{self.symbol} is {here}, {p:g} or more, already at {c.place(level)}"

    def _memory(self, c: Case, at: Quantity) -> str:
        """A warning where the exact filter has identified the item."""
        identified = float(c.results.get("identified_sigma", math.inf))
        if c.view.estimator != "posterior" or not at.value < identified < math.inf:
            return ""
        return (
            f"; this is memory: below σ {number(identified)} the exact filter has identified the item, so a model that "
            "has not memorised the items keeps less"
        )


class NegativePrompt(_Kept):
    """The lowest level where a redraw still loses A with probability 1 − p: P_keep = p."""

    name, at_most, formula = "negative_prompt", False, "P_keep(σ) = {p:g}"
    sentence = (
        "a negative prompt against {name} must act above σ {at}: a redraw from there changes {name} in{limit} "
        "{goes} % of the images, and one from below in fewer; a strong prompt can change more, which this study does "
        "not show how much"
    )

    def setting(self, at: Units) -> str:
        step = at["step"]
        return f"{f'in the steps before {step}' if step else 'before the first step'} of {at['steps']}"


class SdeditStrength(_Kept):
    """The highest level where P_keep(A) ≥ p; other attributes B are redrawn with probability 1 − P_keep(B)."""

    name, redraws = "sdedit_strength", True
    sentence = "noise an image to at most σ {at}, and {name} stays in {stays} % of the redraws"

    def setting(self, at: Units) -> str:
        if at["strength"] is None:
            return f"no strength of {at['steps']} steps begins so low: pass more --steps"
        return f"strength {at['strength']:.6g} of {at['steps']} steps"


class ForkPoint(_Kept):
    """The same level, as a step of the sampler: continuations from there share A and vary in B."""

    name, reads, redraws = "fork_point", "forking", True
    sentence = "fork a generation at σ {at} or below, and two continuations share {name} in {stays} % of the cases"

    def setting(self, at: Units) -> str:
        return before_step(at)


class EarlyExit(_Kept):
    """The highest level where P_sure ≥ 90 %: there the likeliest label is the final one."""

    name, reads, formula = "early_exit", "forking", "largest σ with P_sure ≥ {p:g}"
    sentence = (
        "from σ {at} on, the likeliest {name} is the final one in {stays} % of the images: check it there, and stop "
        "the generations that show another one"
    )
    quantity, symbol, fixed = "sure", "P_sure", 0.9

    def setting(self, at: Units) -> str:
        return before_step(at)


class SamplingSteps(Kind):
    """The levels of a first-order sampler (:func:`~sigmascope.analysis.advice.sampler_levels`)."""

    name, of_all = "sampling_steps", True

    def read(self, case: Case) -> Advice:
        """The levels of the sampler.

        Raises: InputError for fewer than 2.
        """
        if case.steps < 2:
            raise InputError(f"steps is {case.steps}: at least 2 are needed; pass e.g. --steps 50")
        formula = f"equal shares of {EVEN:g} (even in ln σ) + {1 - EVEN:g} √(−d ΣI / d ln σ)"
        sure = [n for n in case.view.curves if not doubt_at(case.results, case.view.estimator, n)]
        if not sure:
            return self.advice(case, formula, "", reason="every curve is marked as biased")
        levels = sampler_levels(case.view, sure, case.steps, case.span)
        words = (
            f"put the {case.steps} levels of a first-order sampler at σ {', '.join(f'{s:.4g}' for s in levels)}, 0: "
            f"close to each other where {', '.join(sure)} {'is' if len(sure) == 1 else 'are'} decided"
        )
        return self.advice(case, formula, words, levels=levels)

    def in_units(self, high: Units | None, low: Units | None) -> str:
        return ""


def _percent(share: float, error: float) -> str:
    digits = 1 if share < 0.1 else 0
    return f"{100 * share:.{digits}f} ± {196 * error:.{digits}f} %"
