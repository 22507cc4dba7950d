r"""What to do with a model, read off the curves of a study: each advice with its formula, its interval and its law.

With I(σ) the information about A of the study's main estimator, :math:`I_0` what a clean image tells of A (H(A), or
less where equal images carry different labels), and :math:`P_{keep}` the probability that a redraw from σ keeps A
(:mod:`sigmascope.information.keeping`):

================= ====================================================================================================
advice            formula
================= ====================================================================================================
guidance_interval between the levels where I is 5 and 95 % of :math:`I_0`
training_range    the same levels: by I-MMSE nine tenths of the gap to be learned for A lie between them
negative_prompt   the lowest level where a redraw still loses A with probability 1 − p: P_keep = p
sdedit_strength   the highest level where P_keep(A) ≥ p; other attributes B are redrawn with probability 1 − P_keep(B)
fork_point        the same level, as a step of the sampler: from there on children share A and vary in B
early_exit        the highest level where P_sure ≥ 90 %: the label that is likeliest there is the final one
sampling_steps    of a first-order sampler (DDIM, Euler): levels at equal shares of .2 (even in ln σ) + .8 (root of the
                  rate of all information, −dΣI/d ln σ): a step h there errs as h² times the rate, and density in
                  proportion to the root makes the sum least
================= ====================================================================================================

Where a study has bounds only, :math:`e^{I - H}` stands for :math:`P_{keep}` and :math:`P_{sure}`, which are at least
that: the advice is then on the safe side.  Intervals are of 95 %, by resampling draws.  Advice is true of the law that
the curves were measured on (:attr:`Advice.law`).  What cannot be advised is left out, with its reason: a level that
the curve does not reach, or one at which the curve is marked as biased.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from sigmascope.adapters.diffusers.units import Ruler
from sigmascope.analysis.onset import Quantity
from sigmascope.core import Curve, InputError
from sigmascope.report.table import brief, number
from sigmascope.studies.laws import law_in_words
from sigmascope.studies.marks import doubt_at
from sigmascope.studies.results import main_estimator, to_curves
from sigmascope.studies.views import View, noised, own_path

KINDS = (
    *("guidance_interval", "training_range", "negative_prompt", "sdedit_strength"),
    *("fork_point", "early_exit", "sampling_steps"),
)
REMARKS = ("which_to_trust", "left_out")
"""What else is said of an attribute."""
_AT_MOST = ("sdedit_strength", "fork_point", "early_exit")
"""What holds at a level and below it; of the others, what holds at a level and above it."""
_EDGE, _RELIABLE, _EVEN = 0.05, 0.9, 0.2
_WINDOW = f"I(A; Y_σ) from {100 * _EDGE:.0f} to {100 * (1 - _EDGE):.0f} % of what a clean image tells of A"


@dataclass(frozen=True)
class Advice:
    """One advice.

    Attributes:
        kind: one of :data:`KINDS` or :data:`REMARKS`.
        abstraction: whom it concerns; empty: all.
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
    abstraction: str
    formula: str
    words: str
    high: Quantity | None = None
    low: Quantity | None = None
    redraws: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    levels: tuple[float, ...] = ()
    units: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    law: str = ""
    reason: str = ""


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
        self.noised = noised(results, estimator, seed)
        own = self.noised.estimator == main_estimator(results)
        path = own_path(results, seed) if own else None
        self.generated = path or self.noised  # what is said of generation itself
        self.forking = path if path is not None and not path.bounded else self.noised

    def interval(self, name: str) -> tuple[Advice, Advice]:
        """Where guidance to A, and training on A, have something to act on."""
        view, teach = self.generated, self.noised
        high, low = self._ends(view, name)
        guide = f"guide towards {name} {self._from(view, name, high)}{self._until(view, name, low)}{_late(view)}"
        first, last = self._ends(teach, name)
        span = f"{self._from(teach, name, first)} down to σ {brief(last)}"
        range_ = f"to teach {name}, train {span}: nine tenths of what a clean image tells of it is decided there"
        lost = f"95 % of what a clean image tells of it is not reached: {self._so_far(teach, name)}"
        lost = lost if last.value == 0.0 else self._doubt(teach, name, last)
        return (
            self._advice("guidance_interval", name, view, _WINDOW, guide, high=high, low=low,
                         reason=self._unbegun(view, name, high)),
            self._advice("training_range", name, teach, _WINDOW, range_ + _late(teach), high=first, low=last,
                         reason=self._unbegun(teach, name, first) or lost),
        )  # fmt: skip

    def _ends(self, view: View, name: str) -> tuple[Quantity, Quantity]:
        known, whole = view.known(name), view.whole(name)
        return view.crossing(known, _EDGE * whole), view.crossing(known, (1.0 - _EDGE) * whole)

    def _unbegun(self, view: View, name: str, high: Quantity) -> str:
        """Why an interval has no beginning; empty where it has one."""
        if high.value == 0.0:
            return f"next to nothing of it is decided within the levels: {self._so_far(view, name)}"
        return self._doubt(view, name, high)

    def _from(self, view: View, name: str, high: Quantity) -> str:
        if high.reached:
            return f"from σ {brief(high)}"
        return f"from the first level, σ {number(view.sigma[0])}, where {self._known(view, name, 0)} are known already,"

    def _until(self, view: View, name: str, low: Quantity) -> str:
        """Where little is left to guide, and what a redraw from there still changes."""
        if low.reached:
            doubt = self._doubt(view, name, low)
            relied = f" (this end is not to be relied upon: {doubt})" if doubt else ""
            return f" down to σ {brief(low)}{relied}{self._changes(view, name, low.value)}"
        if math.isinf(low.value):
            return f" no more: it is decided above the first level, σ {number(view.sigma[0])}"
        end = f"; no end of it is shown, since {self._so_far(view, name)}"
        return end + self._changes(view, name, float(view.sigma[-1]))

    def _changes(self, view: View, name: str, sigma: float) -> str:
        """How often a redraw from a level changes it: what is still open there."""
        if view.bounded and view is not self.noised:
            return ""
        value, error = view.at(view.keeping(name), sigma)
        most = "at most " if view.bounded else ""
        return f"; a redraw from there changes it in {most}{_percent(1.0 - value, error)} of the images"

    def _known(self, view: View, name: str, level: int) -> str:
        least = "at least " if view.lower else ""
        return f"{least}{view.known(name)[0, level]:.3g} of {view.whole(name):.3g} nats"

    def _so_far(self, view: View, name: str) -> str:
        return f"at the last level, σ {number(view.sigma[-1])}, {self._known(view, name, -1)} are known"

    def negative(self, name: str) -> Advice:
        """How late a negative prompt can still act."""
        p, view = self.probability, self.noised
        at = view.crossing(view.keeping(name), p)
        words = (
            f"a negative prompt against {name} must act above σ {brief(at)}: a redraw from there changes {name} in "
            f"{'at most ' if view.bounded else ''}{100 * (1 - p):.3g} % of the images, one from below in fewer; "
            "guidance pushes harder than a redraw, and these curves do not tell how much"
        )
        reason = self._unkept(view, name, at)
        return self._advice("negative_prompt", name, view, f"P_keep(σ) = {p:g}", words, high=at, reason=reason)

    def keep(self, name: str, redraw: Sequence[str]) -> tuple[Advice, Advice]:
        """How strongly to edit, and where to fork, so that A stays and other attributes are redrawn."""
        p, formula = self.probability, f"largest σ with P_keep(A) ≥ {self.probability:g}"
        found = []
        for kind, view in (("sdedit_strength", self.noised), ("fork_point", self.forking)):
            at = view.crossing(view.keeping(name), p)
            others: dict[str, tuple[float, float]] = {}
            for other in redraw if at.reached else ():
                value, error = view.at(view.keeping(other), at.value)
                others[other] = (1.0 - value, error)
            most = " at most" if view.bounded else ""
            changed = "; ".join(f"{n} {_percent(v, e)}" for n, (v, e) in others.items())
            changed = f"; redrawn with probability{most}: {changed}" if changed else ""
            words = (
                f"noise an image to at most σ {brief(at)}, and {name} stays in {100 * p:.3g} % of the redraws"
                if kind == "sdedit_strength"
                else f"fork a generation at σ {brief(at)} or below, and two of its children share {name} in "
                f"{100 * p:.3g} % of the cases"
            )
            found.append(
                self._advice(kind, name, view, formula, words + changed + self._memory(view, at), high=at,
                             redraws=others, reason=self._unkept(view, name, at))
            )  # fmt: skip
        return found[0], found[1]

    def early_exit(self, name: str) -> Advice:
        """How early the label can be read off a half-done image."""
        view = self.forking
        at = view.crossing(view.keeping(name, "sure"), _RELIABLE)
        words = (
            f"a check for {name} is right in {100 * _RELIABLE:.0f} % of cases from σ {brief(at)} on: stop there what "
            f"fails it{self._memory(view, at)}"
        )
        reason = self._unkept(view, name, at, "sure", "P_sure", _RELIABLE)
        formula = f"largest σ with P_sure ≥ {_RELIABLE:g}"
        return self._advice("early_exit", name, view, formula, words, high=at, reason=reason)

    def steps(self, count: int) -> Advice:
        """Where to put the sampler's levels.

        Raises: InputError for fewer than 2.
        """
        if count < 2:
            raise InputError(f"steps is {count}: at least 2 are needed; pass e.g. --steps 50")
        view, sure = (
            self.noised,
            [n for n in self.noised.curves if not doubt_at(self.results, self.noised.estimator, n)],
        )
        formula = f"equal shares of {_EVEN:g} (even in ln σ) + {1 - _EVEN:g} √(−d ΣI / d ln σ)"
        if not sure:
            return self._advice("sampling_steps", "", view, formula, "", reason="every curve is marked as biased")
        x, total = self._within(np.sum([view.known(n)[0] for n in sure], axis=0))
        root = np.sqrt(np.maximum(-np.gradient(total, x), 0.0))
        gained = np.concatenate([[0.0], np.cumsum(0.5 * (root[1:] + root[:-1]) * -np.diff(x))])
        even = (x[0] - x) / (x[0] - x[-1])
        share = _EVEN * even + (1.0 - _EVEN) * gained / max(float(gained[-1]), 1e-12)
        levels = np.exp(np.interp(np.linspace(0.0, 1.0, count), share, x))
        said = ", ".join(f"{s:.4g}" for s in levels)
        return self._advice(
            "sampling_steps", "", view, formula,
            f"put the {count} levels of a first-order sampler at σ {said}, 0: near to each other where "
            f"{', '.join(sure)} {'is' if len(sure) == 1 else 'are'} decided", levels=tuple(map(float, levels)),
        )  # fmt: skip

    def _within(
        self, total: Float[np.ndarray, " levels"]
    ) -> tuple[Float[np.ndarray, " kept"], Float[np.ndarray, " kept"]]:
        """ln σ and a curve between the levels that the sampler has: those of the study, and of the ruler's run."""
        sigma = self.noised.sigma
        x = np.log(sigma)
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
                f"{sigma[-1]:.3g} to {sigma[0]:.3g}: none is common, so its steps cannot be placed"
            )
        kept = np.concatenate([[high], x[(x < high) & (x > low)], [low]])
        return kept, np.interp(kept[::-1], x[::-1], total[::-1])[::-1]

    def all(self, keep: Sequence[str], redraw: Sequence[str], steps: int) -> list[Advice]:
        """All advice about some attributes; of each attribute at last what cannot be advised, and why."""
        found: list[Advice] = []
        for name in keep:
            each = [*self.interval(name), self.negative(name)]
            each += [*self.keep(name, [n for n in redraw if n != name]), self.early_exit(name)]
            found += [a for a in each if not a.reason]
            found += [*self._rivals(name), *_left_out(name, each)]
        last = self.steps(steps)
        return [*found, *([last] if not last.reason else _left_out("", [last]))]

    @cached_property
    def _of_other_laws(self) -> dict[str, tuple[str, dict[str, Curve]]]:
        """Curves of the study that are of another law and no bounds, by estimator and attribute, with their law."""
        found = {}
        for e in map(str, self.results.estimator.values):
            law, kind = law_in_words(self.results, e), str(self.results.kind.sel(estimator=e).values)
            if law != self.noised.law and kind != "lower bound":
                found[e] = law, {c.abstraction: c for c in to_curves(self.results, e)}
        return found

    def _rivals(self, name: str) -> list[Advice]:
        """Other curves of the study that put half of A elsewhere, and which to trust."""
        view = self.noised
        if view.lower or doubt_at(self.results, view.estimator, name):
            return []
        half, said = view.crossing(view.known(name), 0.5 * view.whole(name)), []
        for e, (law, curves) in self._of_other_laws.items():
            c = curves[name]
            if not np.isfinite(c.per_draw).all() or not half.reached:
                continue
            other = view.crossing(view.informed(c), 0.5 * view.whole(name))
            if other.reached and (other.low > half.high or other.high < half.low):
                said.append(f"{e} ({law}) puts half of {name} at σ {brief(other)}, {view.estimator} at {brief(half)}")
        if not said:
            return []
        words = f"{'; '.join(said)}: trust {view.estimator}, which is of the model itself"
        return [self._advice("which_to_trust", name, view, "σ where half is known, by each", words)]

    def _doubt(self, view: View, name: str, at: Quantity) -> str:
        """Why a level cannot be relied upon: the marks of the curve there."""
        if view is not self.noised:
            return str(self.results.attrs.get("wrapping", ""))
        doubt = doubt_at(self.results, view.estimator, name, at.value if at.reached else None)
        return f"{view.estimator} is marked as biased there ({doubt})" if doubt else ""

    def _unkept(
        self, view: View, name: str, at: Quantity, which: str = "kept", symbol: str = "P_keep", p: float = 0.0
    ) -> str:
        """Why there is no level at which it is kept with a probability; empty where there is one."""
        if at.reached:
            return self._doubt(view, name, at)
        p, least = p or self.probability, "at least " if view.bounded else ""
        level = -1 if at.value == 0.0 else 0
        here, place = f"{least}{view.keeping(name, which)[0, level]:.2g}", f"σ {number(view.sigma[level])}"
        if level:
            below = f"is not shown to reach {p:g}" if view.bounded else f"stays below {p:g}"
            return f"{symbol} {below}: at the last level, {place}, it is {here}"
        return f"{symbol} is {here}, {p:g} or more, already at the first level, {place}"

    def _memory(self, view: View, at: Quantity) -> str:
        """What must be said where the exact filter has recognised the very item."""
        if not at.reached or view.estimator != "posterior" or "recognised_sigma" not in self.results:
            return ""
        known = float(self.results.recognised_sigma)
        if not at.value < known < math.inf:
            return ""
        return (
            f"; this is memory: below σ {number(known)} the exact filter has recognised the very item, so a model that "
            "has not learned the items by heart keeps less"
        )

    def _advice(
        self, kind: str, name: str, view: View, formula: str, words: str, *, reason: str = "", **more: Any
    ) -> Advice:
        if reason:
            return Advice(kind, name, formula, "", law=view.law, reason=reason, **more)
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
        if kind in ("sdedit_strength", "fork_point", "early_exit", "negative_prompt") and view.bounded:
            formula += ", by the bound e^(I − H)"
        return Advice(kind, name, formula, words, units=units, law=view.law, **more)


def _late(view: View) -> str:
    return " (read off a lower bound: the truth reaches the same shares at these levels or above)" if view.lower else ""


def _left_out(name: str, each: Sequence[Advice]) -> list[Advice]:
    """What cannot be advised of an attribute, each reason once."""
    kinds: dict[str, list[str]] = {}
    for a in each:
        if a.reason:
            kinds.setdefault(a.reason, []).append(a.kind.replace("_", " "))
    if not kinds:
        return []
    words = "; ".join(f"no {' or '.join(of)}, since {reason}" for reason, of in kinds.items())
    return [replace(next(a for a in each if a.reason), kind="left_out", abstraction=name, formula="", words=words,
                    reason=words, high=None, low=None, redraws={}, units={})]  # fmt: skip


def _percent(share: float, error: float) -> str:
    digits = 1 if share < 0.1 else 0
    return f"{100 * share:.{digits}f} ± {196 * error:.{digits}f} %"
