"""Do the intervals that a user sees hold the truth as often as they say?

    python benchmarks/coverage.py --json benchmarks/coverage.json

Four problems whose information is known by quadrature, 64 and 256 draws, and 400 seeds of each.  A row is one interval:
an estimator's curve at its levels between 5 and 95 % of H(A), the lower end of a bound, or an onset.  A two-sided
interval of 95 % should hold the truth in 92 to 98 % of the seeds, a lower end should lie above it in at most 4 %; the
binomial error of the row is allowed for.  Children of forks are labels drawn from the exact posterior: no picture is
made, so what is tried is the estimator and its interval alone.
"""

from __future__ import annotations

if __name__ == "coverage":  # numba asks for a library of this name, and finds this file where a command lies beside it
    raise ImportError("coverage.py is a command, no library")

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from scipy.special import logsumexp

from sigmascope.core import Abstraction, Curve
from sigmascope.information.forks import FITTED, forks
from sigmascope.onset import SHARES, crossings, onsets

DRAWS, SEEDS, CHILDREN, LEVELS, RESAMPLES = (64, 256), 400, 16, 18, 300
LOW, HIGH, ABOVE = 0.92, 0.98, 0.04
SURE = 1e-3  # of the binomial law: a row is red where chance explains it no better


@dataclass(frozen=True, eq=False)
class Problem:
    """Points, or normal laws around them, with labels, in Gaussian noise.

    Args:
        name: of the problem.
        points: shape (points, dim).
        spread: standard deviation of each point's law.
        weights: of the points.
        labels: of the points.
    """

    name: str
    points: np.ndarray
    spread: np.ndarray
    weights: np.ndarray
    labels: np.ndarray

    @property
    def prior(self) -> np.ndarray:
        return np.bincount(self.labels, self.weights)

    @property
    def entropy(self) -> float:
        return float(-(self.prior * np.log(self.prior)).sum())

    def abstraction(self) -> Abstraction:
        return Abstraction(self.name, tuple(map(str, range(len(self.prior)))), torch.from_numpy(self.prior))

    def log_joint(self, y: np.ndarray, sigma: float) -> np.ndarray:
        """ln p(a, y), shape (draws, values)."""
        s2 = self.spread**2 + sigma**2
        square = ((y[:, None] - self.points) ** 2).sum(2)
        each = np.log(self.weights) - square / (2 * s2) - 0.5 * self.points.shape[1] * np.log(2 * np.pi * s2)
        return np.stack([logsumexp(each[:, self.labels == a], axis=1) for a in range(len(self.prior))], 1)

    def posteriors(self, rng: np.random.Generator, draws: int, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln p(a | y) of draws that all levels share, shape (levels, draws, values), and their labels."""
        k = rng.choice(len(self.weights), size=draws, p=self.weights)
        v = self.points[k] + self.spread[k, None] * rng.normal(size=(draws, self.points.shape[1]))
        noise = rng.normal(size=v.shape)
        joint = np.stack([self.log_joint(v + s * noise, float(s)) for s in sigma])
        return joint - logsumexp(joint, axis=2, keepdims=True), self.labels[k]

    def information(self, sigma: float) -> float:
        """By quadrature: over y on a line, or, for orthogonal points, over the Laplace variable of their sum."""
        if self.points.shape[1] > 1:
            return _orthogonal(len(self.points), float(self.points.max()) / sigma)
        ends = (float(self.points.min()), float(self.points.max()))
        wide = 12.0 * float(np.hypot(sigma, self.spread.max()))
        y = np.linspace(ends[0] - wide, ends[1] + wide, 40_001)
        joint = self.log_joint(y[:, None], sigma)
        total = logsumexp(joint, axis=1, keepdims=True)
        gain = np.exp(joint) * (joint - total - np.log(self.prior))
        return float(gain.sum(1).sum() * (y[1] - y[0]))


def _orthogonal(count: int, strength: float) -> float:
    r"""I of ``count`` equal orthogonal points of this length over sigma.

    H(A | Y) = E ln S − λ with S = exp(λ + √λ n₁) + Σ exp(√λ n_k), λ the square of the strength, and
    E ln S = ∫ (e^{-t} − E e^{-tS}) dt/t, whose integrand is a product of integrals over one normal number.
    """
    rate = strength**2
    nodes, weights = np.polynomial.hermite_e.hermegauss(180)
    weights = weights / weights.sum()
    u = np.linspace(-60.0 - 1.5 * rate, 40.0, 12_001)  # ln t
    t = np.exp(u)

    def transform(shift: float) -> np.ndarray:
        inside = np.exp(np.minimum(u[:, None] + shift + strength * nodes, 700.0))
        return np.exp(-inside) @ weights

    whole = np.exp(-t) - transform(rate) * transform(0.0) ** (count - 1)
    mean = float(whole.sum() * (u[1] - u[0]))
    return float(np.log(count) - (mean - rate))


def problems() -> list[Problem]:
    """Two equal points, five unequal ones, ten orthogonal ones, a mixture with two labels, and a rare class."""
    none = np.zeros
    five = np.array([-3.0, -1.0, 0.0, 2.0, 5.0])
    return [
        Problem("two points", np.array([[-1.0], [1.0]]), none(2), np.full(2, 0.5), np.arange(2)),
        Problem("five points", five[:, None], none(5), np.array([0.4, 0.25, 0.15, 0.15, 0.05]), np.arange(5)),
        Problem("ten points", 3.0 * np.eye(10), none(10), np.full(10, 0.1), np.arange(10)),
        Problem(
            "mixture",
            np.array([[-2.0], [0.5], [3.0]]),
            np.array([0.4, 0.3, 0.6]),
            np.array([0.5, 0.3, 0.2]),
            np.array([0, 1, 0]),
        ),
        Problem("rare class", np.array([[-1.0], [1.0]]), none(2), np.array([0.95, 0.05]), np.arange(2)),
    ]


Estimator = Callable[[Problem, np.ndarray, np.ndarray, np.ndarray, np.random.Generator], Curve]
"""From a problem, levels, ln p(a | y), true labels and a generator to a curve."""


def by_posterior(p: Problem, sigma: np.ndarray, log_posterior: np.ndarray, _: np.ndarray, __: object) -> Curve:
    """The exact filter's curve."""
    entropy = -(np.exp(log_posterior) * log_posterior).sum(2)
    return Curve.of_draws(p.name, "posterior", sigma, p.entropy - entropy, p.entropy)


def by_bound(p: Problem, sigma: np.ndarray, log_posterior: np.ndarray, own: np.ndarray, _: object) -> Curve:
    """The lower bound E ln q(a | y)/p(a), with the exact posterior for q: its mean is the information itself."""
    gains = log_posterior[:, np.arange(len(own)), own] - np.log(p.prior)[own]
    return Curve.of_draws(p.name, "bound", sigma, gains, p.entropy, kind="lower bound")


def by_forks(correction: str = FITTED) -> Estimator:
    """Forks, with labels of the children drawn from p(a | y)."""

    def curve(p: Problem, sigma: np.ndarray, log_posterior: np.ndarray, _: np.ndarray, g: np.random.Generator) -> Curve:
        counts = g.multinomial(CHILDREN, np.exp(log_posterior))
        return forks(p.abstraction(), sigma, torch.from_numpy(counts), correction)

    return curve


@cache
def levels_of(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Levels from above to below what is studied, and the information there."""
    wide = np.geomspace(60.0, 0.05, 90)
    known = np.array([problem.information(float(s)) for s in wide]) / problem.entropy
    top = wide[np.flatnonzero(known > 0.01)[0] - 1]
    low = wide[np.flatnonzero(known > 0.99)[0]]
    sigma = np.geomspace(top, low, LEVELS)
    return sigma, np.array([problem.information(float(s)) for s in sigma])


@dataclass(frozen=True)
class Row:
    """How often an interval held the truth.

    Args:
        problem, estimator, draws: of what.
        interval: "curve", "onset" or "lower end".
        share: of H(A), at the level or of the onset.
        truth: nats, or σ of the onset.
        seeds: how many were tried.
        held: share of seeds whose interval held the truth.
        above: share of seeds whose lower end lay above the truth.
        fine: whether that is as it should be, the binomial error allowed for.
    """

    problem: str
    estimator: str
    draws: int
    interval: str
    share: float
    truth: float
    seeds: int
    held: float
    above: float
    fine: bool


def judged(held: float, above: float, seeds: int, one_sided: bool) -> bool:
    """Whether a row agrees with what was promised, the binomial error allowed for."""
    if one_sided:
        return bool(stats.binom.sf(round(above * seeds) - 1, seeds, ABOVE) > SURE)
    hits = round(held * seeds)
    return bool(stats.binom.cdf(hits, seeds, LOW) > SURE and stats.binom.sf(hits - 1, seeds, HIGH) > SURE)


def rows_of(problem: Problem, name: str, estimator: Estimator, draws: int, seeds: int) -> list[Row]:
    """The rows of one estimator on one problem."""
    sigma, truth = levels_of(problem)
    where = [float(np.exp(crossings(np.log(sigma), truth[None], q * problem.entropy)[0])) for q in SHARES]
    ends: list[tuple[np.ndarray, np.ndarray]] = []
    onset: list[list[tuple[float, float]]] = []
    bound = False
    for seed in range(seeds):
        rng = np.random.default_rng([seed, draws])
        curve = estimator(problem, sigma, *problem.posteriors(rng, draws, sigma), rng)
        bound = curve.kind == "lower bound"
        ends.append((curve.value - 1.96 * curve.error, curve.value + 1.96 * curve.error))
        (found,) = onsets([curve], resamples=RESAMPLES, seed=seed)
        onset.append([(q.low, q.high) for q in found.at])
    low, high = (np.stack(e) for e in zip(*ends, strict=True))
    of_onset = np.array(onset)
    made = []

    def add(kind: str, share: float, true: float, bottom: np.ndarray, top: np.ndarray) -> None:
        held, above = float(((bottom <= true) & (true <= top)).mean()), float((bottom > true).mean())
        fine = judged(held, above, seeds, kind == "lower end")
        made.append(Row(problem.name, name, draws, kind, share, true, seeds, held, above, fine))

    for k, value in enumerate(truth):
        if 0.05 <= value / problem.entropy <= 0.95:
            kind = "lower end" if bound else "curve"
            add(kind, float(value / problem.entropy), float(value), low[:, k], high[:, k])
    if not bound:
        for i, (share, level) in enumerate(zip(SHARES, where, strict=True)):
            add("onset", share, level, of_onset[:, i, 0], of_onset[:, i, 1])
    return made


ESTIMATORS: dict[str, Estimator] = {"posterior": by_posterior, "forks": by_forks(), "bound": by_bound}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a row is red."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of each row")
    options = parser.parse_args(argv)
    start, found = time.perf_counter(), []
    print(f"{'problem':12s} {'estimator':10s} draws interval   at  share  held  low end above")
    for problem in problems():
        for name, estimator in ESTIMATORS.items():
            for draws in DRAWS:
                for row in rows_of(problem, name, estimator, draws, options.seeds):
                    found.append(row)
                    print(
                        f"{row.problem:12s} {row.estimator:10s} {row.draws:5d} {row.interval:9s} {row.truth:6.3f} "
                        f"{row.share:5.2f} {row.held:6.3f} {row.above:6.3f} {'' if row.fine else '  RED'}"
                    )
                sys.stdout.flush()
    red = sum(not r.fine for r in found)
    print(f"{len(found)} rows, {red} red, {time.perf_counter() - start:.0f} s")
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in found], indent=1) + "\n")
    return int(red > 0)


if __name__ == "__main__":
    sys.exit(main())
