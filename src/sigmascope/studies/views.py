"""The curves that advice is read off, under one law, with their resamples."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.optimize import isotonic_regression

from sigmascope.analysis.onset import Quantity, crossings, moved, mover, quantity, towards_tail
from sigmascope.core import Curve, InputError
from sigmascope.information.keeping import kept_at_least
from sigmascope.limits import shown
from sigmascope.rare import tail_allowance
from sigmascope.studies.laws import OWN_PATH_IN_WORDS, law_in_words, path_curves
from sigmascope.studies.results import main_estimator, to_curves

RESAMPLES = 1000
_GROUPS = 4096
_MOVED = 2  # use of a seed

Rising = Float[np.ndarray, "resamples levels"]


class View:
    """Curves of one law, over resamples of their draws.

    Args:
        curves: of each attribute, over the same levels and draws.
        whole: what a clean image tells of each, nats.
        kept: under ``kept`` and ``sure``, the probability that a redraw keeps an attribute, and that it can be read
            off, over abstraction, sigma and draw; empty where only their bound e^(I − H) is known.
        law: of what they are true.
        seed: of the resampling.

    Raises: InputError for a curve that has no number at some levels.
    """

    def __init__(
        self,
        curves: Mapping[str, Curve],
        whole: Mapping[str, float],
        kept: Mapping[str, xr.DataArray],
        law: str,
        seed: int,
    ) -> None:
        self.curves, self._whole, self._kept, self.law, self._seed = dict(curves), whole, kept, law, seed
        first = next(iter(self.curves.values()))
        open_ = [n for n, c in self.curves.items() if not np.isfinite(c.per_draw).all()]
        if open_:
            said = f"{shown(first.estimator)} of {shown(open_[0])!r}"
            raise InputError(f"{said} has no number at some levels: choose another --estimator")
        self.estimator, self.sigma, self.lower = first.estimator, first.sigma, first.kind == "lower bound"
        draws = first.per_draw.shape[1]
        # Very many draws are resampled in groups, whose mean has the same variance.
        self._starts = np.linspace(0, draws, min(draws, _GROUPS), endpoint=False).astype(np.int64)
        groups = len(self._starts)
        drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1.0 / groups), size=RESAMPLES)
        counts = np.concatenate([np.ones((1, groups)), drawn])
        self._shares = counts / (counts @ np.diff(self._starts, append=draws))[:, None]
        self._found: dict[tuple[str, str], Rising] = {}

    @property
    def bounded(self) -> bool:
        """Whether probabilities to keep an attribute are known by a bound only."""
        return "kept" not in self._kept

    def whole(self, name: str) -> float:
        """What a clean image tells of an attribute, nats."""
        return self._whole[name]

    def known(self, name: str) -> Rising:
        """I of an attribute, over resamples (the first: the estimate), rising as the noise falls."""
        if (name, "known") not in self._found:
            self._found[name, "known"] = self.informed(self.curves[name])
        return self._found[name, "known"]

    def informed(self, c: Curve) -> Rising:
        """The same of another curve of these draws."""
        return _rising(moved(c, self._mean(c.per_draw)[1:], mover(c, self._seed)))

    def keeping(self, name: str, which: str = "kept") -> Rising:
        """The probability that it is kept, or (``sure``) can be read off; or what it is at least."""
        if (name, which) not in self._found:
            self._found[name, which] = self._keeping(name, which)
        return self._found[name, which]

    def _keeping(self, name: str, which: str) -> Rising:
        for found in (which, "kept"):
            if found in self._kept:
                return self._chance(self._kept[found].sel(abstraction=name).values)
        c = self.curves[name]
        if c.kind != "lower bound" and c.estimator in ("posterior", "forks"):
            return self._chance(np.exp(np.minimum(c.per_draw - c.ceiling, 0.0)))
        return kept_at_least(self.known(name), c.ceiling)

    def _chance(self, per_draw: Float[np.ndarray, "levels draws"]) -> Rising:
        """The mean of a probability over draws, then of each resample, with what few draws may have missed."""
        means = self._mean(per_draw)
        rng = np.random.default_rng([self._seed, _MOVED])
        return _rising(np.concatenate([means[:1], towards_tail(means[1:], tail_allowance(per_draw), rng)]))

    def _mean(self, per_draw: Float[np.ndarray, "levels draws"]) -> Rising:
        return self._shares @ np.add.reduceat(per_draw, self._starts, axis=1).T

    def crossing(self, rising: Rising, target: float) -> Quantity:
        """The highest σ where a curve reaches its target, with the interval over resamples."""
        return quantity(crossings(np.log(self.sigma), rising, target), self._shares.shape[1])

    def at(self, rising: Rising, sigma: float) -> tuple[float, float]:
        """The value of a curve at a level, perhaps between two studied ones, and its standard error."""
        x, at = np.log(self.sigma), math.log(sigma)
        k = int(np.clip(np.searchsorted(-x, -at, side="right"), 1, len(x) - 1))  # the first level below
        share = float(np.clip((x[k - 1] - at) / (x[k - 1] - x[k]), 0.0, 1.0))
        values = (1.0 - share) * rising[:, k - 1] + share * rising[:, k]
        return float(values[0]), float(values[1:].std(ddof=1))


def noised(results: xr.Dataset, estimator: str, seed: int) -> View:
    """The curves of one estimator, which are of noised images.

    Args:
        results: of a study.
        estimator: whose; empty: the study's main one.
        seed: of the resampling.

    Raises: InputError.
    """
    curves = {c.abstraction: c for c in to_curves(results, estimator)}
    first = next(iter(curves.values()))
    own = first.estimator == ("forks" if "shared_per_draw" in results else main_estimator(results))
    kept = {w: results[f"{w}_per_draw"] for w in ("kept", "sure") if own and f"{w}_per_draw" in results}
    whole = {n: _whole(results, c) for n, c in curves.items()}
    return View(curves, whole, kept, law_in_words(results, first.estimator), seed)


def own_path(results: xr.Dataset, seed: int) -> View | None:
    """The curves of the model's own path, where it was measured.

    Args:
        results: of a study.
        seed: of the resampling.
    """
    curves = path_curves(results)
    if not curves:
        return None
    kept = {w: results[f"path_{w}_per_draw"] for w in ("kept", "sure") if f"path_{w}_per_draw" in results}
    return View(curves, {n: c.ceiling for n, c in curves.items()}, kept, OWN_PATH_IN_WORDS, seed)


def _whole(results: xr.Dataset, c: Curve) -> float:
    """H(A), or less where equal images carry different labels."""
    if c.kind == "lower bound" or "information_limit" not in results:
        return c.ceiling
    limit = float(results.information_limit.sel(abstraction=c.abstraction))
    return min(limit, c.ceiling) if math.isfinite(limit) and limit > 0 else c.ceiling


def _rising(means: Rising) -> Rising:
    return np.stack([isotonic_regression(m).x for m in means])
