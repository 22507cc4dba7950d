"""The kinds of advice: of each, the curves that it is read off, its formula and its words.

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

Units = Mapping[str, Any]
"""A level in the units of a scheduler (:class:`~sigmascope.adapters.diffusers.units.Level`)."""


@dataclass(frozen=True)
class Advice:
    """One advice.

    Attributes:
        kind: the name of its :class:`Kind`; ``which_to_trust`` or ``left_out`` of what else is said of an attribute.
        attribute: whom it concerns; empty: all.
        formula: where it comes from.
        words: what to do.
        high: the level, or the upper end of the interval, σ in the unit of the study, with its own 95 % interval.
        low: the lower end, of an interval.
        redraws: of other attributes, the probability that a redraw from there changes them, and its standard error.
        levels: of the sampler, in order.
        units: ``high`` and ``low`` in the units of the model's scheduler.
        law: of what it is true.
        reason: why it cannot be given; empty where it can.
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
    """An attribute whose advice is asked for, under one law."""

    results: xr.Dataset  # of the study: they hold the marks of its curves
    view: View  # the curves that the kind reads
    noised: bool  # whether these are of noised images
    name: str  # of the attribute; empty: all
    p: float  # the probability with which what is to be kept is kept
    redraw: Sequence[str] = ()  # other attributes, which are to change
    steps: int = 0  # of the sampler
    span: tuple[float, float] | None = None  # its highest and lowest level, where they are known

    def doubt(self, at: Quantity) -> str:
        """Why a level cannot be relied upon: the marks of the curve there."""
        if not self.noised:
            return str(self.results.attrs.get("wrapping", ""))
        way = self.view.estimator
        doubt = doubt_at(self.results, way, self.name, at.value if at.reached else None)
        return f"{way} is marked as biased there ({doubt})" if doubt else ""

    def place(self, level: int) -> str:
        """The first level of the curves (0), or the last (-1)."""
        return f"the {'last' if level else 'first'} level, σ {number(self.view.sigma[level])}"

    def known(self, level: int) -> str:
        """What is known at a level."""
        least = "at least " if self.view.lower else ""
        return f"{least}{self.view.known(self.name)[0, level]:.3g} of {self.view.whole[self.name]:.3g} nats"

    def so_far(self) -> str:
        """What is known at the last level."""
        return f"at {self.place(-1)}, {self.known(-1)} are known"


class Kind(ABC):
    """A kind of advice."""

    name: str
    reads = "noised"  # which curves: of noised images; "generated" or "forking": of the model's own path, if measured
    of_all = False  # whether it is of all attributes together
    at_most = False  # whether it holds at a level and below it, rather than at a level and above it

    @abstractmethod
    def of(self, case: Case) -> Advice:
        """What is advised, or the reason why nothing can be."""

    @abstractmethod
    def in_units(self, high: Units | None, low: Units | None) -> str:
        """The level, or the interval, in the units of a scheduler, as a pipeline is handed it."""

    def advice(self, case: Case, formula: str, words: str, *, reason: str = "", **more: Any) -> Advice:
        """An advice of this kind; without words where there is a reason against it."""
        return Advice(self.name, case.name, formula, "" if reason else words, law=case.view.law, reason=reason, **more)


def before_step(at: Units) -> str:
    """The step of a sampler that begins at a level."""
    step, steps = at["step"], at["steps"]
    return f"{f'before step {step}' if step < steps else 'after the last step'} of {steps}"


def level_in_units(high: Units | None, handed: Callable[[Units], str] = before_step) -> str:
    """A level in the units of a scheduler, by what a pipeline is handed of it; nothing where they are not known."""
    if high is None:
        return ""
    return f" — {handed(high)} (timestep {high['timestep']:.4g}, {high['percent']:.0f} % done)"


def _clock(high: Units | None, low: Units | None) -> str:
    """From which timestep to which; an end that is not known is that of the run."""
    begin, end = (f"timestep {at['timestep']:.4g}" if at else "" for at in (high, low))
    return f"{begin or 'the start'} to {end or 'the end'}"


class _Window(Kind):
    """An interval in which an attribute is decided."""

    def of(self, case: Case) -> Advice:
        high, low = case.view.window(case.name)
        if high.value == 0.0:
            reason = f"next to nothing of it is decided within the levels: {case.so_far()}"
        else:
            reason = case.doubt(high) or self.lost(case, low)
        first = f"from {case.place(0)}, where {case.known(0)} are known already,"
        words = self.sentence(case, f"from σ {brief(high)}" if high.reached else first, low)
        if case.view.lower:
            words += " (read off a lower bound: the truth reaches the same shares at these levels or above)"
        formula = f"I(A; Y_σ) from {100 * EDGE:.0f} to {100 * (1 - EDGE):.0f} % of what a clean image tells of A"
        return self.advice(case, formula, words, high=high, low=low, reason=reason)

    @abstractmethod
    def sentence(self, c: Case, begin: str, low: Quantity) -> str:
        """What to do between the two."""

    @abstractmethod
    def lost(self, c: Case, low: Quantity) -> str:
        """Why nothing can be said without its end; empty where it can."""


class GuidanceInterval(_Window):
    """Guidance has something to act on between the levels where I is 5 and 95 % of what a clean image tells."""

    name, reads = "guidance_interval", "generated"

    def sentence(self, c: Case, begin: str, low: Quantity) -> str:
        guide = f"guide towards {c.name} {begin}"
        if low.reached:
            doubt = c.doubt(low)
            relied = f" (this end is not to be relied upon: {doubt})" if doubt else ""
            return f"{guide} down to σ {brief(low)}{relied}{self._changes(c, low.value)}"
        if math.isinf(low.value):
            return f"{guide} no more: it is decided above {c.place(0)}"
        return f"{guide}; no end of it is shown, since {c.so_far()}{self._changes(c, float(c.view.sigma[-1]))}"

    def lost(self, c: Case, low: Quantity) -> str:
        return ""

    def _changes(self, c: Case, sigma: float) -> str:
        """How often a redraw from a level changes it: what is still open there."""
        if c.view.bounded and not c.noised:
            return ""
        most = "at most " if c.view.bounded else ""
        return f"; a redraw from there changes it in {most}{_percent(*c.view.redrawn(c.name, sigma))} of the images"

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
    """The same levels: by I-MMSE nine tenths of the gap that is to be learned for A lie between them."""

    name = "training_range"

    def sentence(self, c: Case, begin: str, low: Quantity) -> str:
        nine_tenths = "nine tenths of what a clean image tells of it is decided there"
        return f"to teach {c.name}, train {begin} down to σ {brief(low)}: {nine_tenths}"

    def lost(self, c: Case, low: Quantity) -> str:
        if low.value == 0.0:
            return f"95 % of what a clean image tells of it is not reached: {c.so_far()}"
        return c.doubt(low)

    def in_units(self, high: Units | None, low: Units | None) -> str:
        return f" — {_clock(high, low)}" if high or low else ""


class _Kept(Kind):
    """The highest level at which an attribute is kept, or can be read off, with a probability p."""

    at_most = True
    formula = "largest σ with P_keep(A) ≥ {p:g}"
    sentence: str  # of the level ``at``, the attribute ``name``, and p and 1 − p in per cent, ``stays`` and ``goes``
    which, symbol = "kept", "P_keep"
    fixed = 0.0  # p, where it is not asked for
    redraws = False  # whether it says what becomes of other attributes

    def of(self, case: Case) -> Advice:
        view, p = case.view, self.fixed or case.p
        at = view.kept_from(case.name, p, self.which)
        most, bound = (" at most", ", by the bound e^(I − H)") if view.bounded else ("", "")
        redraws = {n: view.redrawn(n, at.value) for n in case.redraw} if at.reached and self.redraws else {}
        words = self.sentence.format(
            at=brief(at), name=case.name, stays=f"{100 * p:.3g}", goes=f"{100 * (1 - p):.3g}", most=most
        )
        if redraws:
            changed = "; ".join(f"{n} {_percent(*of)}" for n, of in redraws.items())
            words += f"; redrawn with probability{most}: {changed}"
        if self.at_most:
            words += self._memory(case, at)
        reason = case.doubt(at) if at.reached else self._never(case, at, p)
        return self.advice(case, self.formula.format(p=p) + bound, words, high=at, redraws=redraws, reason=reason)

    @abstractmethod
    def handed(self, at: Units) -> str:
        """What a pipeline is handed of a level."""

    def in_units(self, high: Units | None, low: Units | None) -> str:
        return level_in_units(high, self.handed)

    def _never(self, c: Case, at: Quantity, p: float) -> str:
        """Why there is no such level."""
        level = -1 if at.value == 0.0 else 0
        here = f"{'at least ' if c.view.bounded else ''}{c.view.keeping(c.name, self.which)[0, level]:.2g}"
        if level:
            below = f"is not shown to reach {p:g}" if c.view.bounded else f"stays below {p:g}"
            return f"{self.symbol} {below}: at {c.place(level)}, it is {here}"
        return f"{self.symbol} is {here}, {p:g} or more, already at {c.place(level)}"

    def _memory(self, c: Case, at: Quantity) -> str:
        """What must be said where the exact filter has identified the very item."""
        known = float(c.results.get("identified_sigma", math.inf))
        if c.view.estimator != "posterior" or not at.value < known < math.inf:
            return ""
        return (
            f"; this is memory: below σ {number(known)} the exact filter has identified the very item, so a model that "
            "has not learned the items by heart keeps less"
        )


class NegativePrompt(_Kept):
    """The lowest level where a redraw still loses A with probability 1 − p: P_keep = p."""

    name, at_most, formula = "negative_prompt", False, "P_keep(σ) = {p:g}"
    sentence = (
        "a negative prompt against {name} must act above σ {at}: a redraw from there changes {name} in{most} "
        "{goes} % of the images, one from below in fewer; guidance pushes harder than a redraw, and these curves "
        "do not tell how much"
    )

    def handed(self, at: Units) -> str:
        step = at["step"]
        return f"{f'in the steps before {step}' if step else 'before the first step'} of {at['steps']}"


class SdeditStrength(_Kept):
    """The highest level where P_keep(A) ≥ p; other attributes B are redrawn with probability 1 − P_keep(B)."""

    name, redraws = "sdedit_strength", True
    sentence = "noise an image to at most σ {at}, and {name} stays in {stays} % of the redraws"

    def handed(self, at: Units) -> str:
        if at["strength"] is None:
            return f"no strength of {at['steps']} steps begins so low: pass more --steps"
        return f"strength {at['strength']:.6g} of {at['steps']} steps"


class ForkPoint(_Kept):
    """The same level, as a step of the sampler: from there on children share A and vary in B."""

    name, reads, redraws = "fork_point", "forking", True
    sentence = "fork a generation at σ {at} or below, and two of its children share {name} in {stays} % of the cases"

    def handed(self, at: Units) -> str:
        return before_step(at)


class EarlyExit(_Kept):
    """The highest level where P_sure ≥ 90 %: the label that is likeliest there is the final one."""

    name, reads, formula = "early_exit", "forking", "largest σ with P_sure ≥ {p:g}"
    sentence = "a check for {name} is right in {stays} % of cases from σ {at} on: stop there what fails it"
    which, symbol, fixed = "sure", "P_sure", 0.9

    def handed(self, at: Units) -> str:
        return before_step(at)


class SamplingSteps(Kind):
    """The levels of a first-order sampler (:func:`~sigmascope.analysis.advice.sampler_levels`)."""

    name, of_all = "sampling_steps", True

    def of(self, case: Case) -> Advice:
        """The levels.

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
            f"near to each other where {', '.join(sure)} {'is' if len(sure) == 1 else 'are'} decided"
        )
        return self.advice(case, formula, words, levels=levels)

    def in_units(self, high: Units | None, low: Units | None) -> str:
        return ""


def _percent(share: float, error: float) -> str:
    digits = 1 if share < 0.1 else 0
    return f"{100 * share:.{digits}f} ± {196 * error:.{digits}f} %"
