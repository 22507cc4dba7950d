"""Do the intervals that a user sees hold the truth as often as they say?

    python benchmarks/coverage.py --json benchmarks/coverage.json

Five problems whose information is known by quadrature, 64 and 256 draws, and 400 seeds of each.  A row is one interval:
an estimator's curve at its levels between 5 and 95 % of H(A), the lower end of a bound, an onset, or a level that is
advised: the ends of the guidance interval, the strength of an edit, the early exit.  A two-sided interval of 95 %
should hold the truth in 92 to 98 % of the seeds, a lower end should lie above it in at most 4 %; the binomial error of
the row is allowed for.  Children of forks are labels drawn from the exact posterior: no picture is made, so what is
tried is the estimator and its interval alone.  Gaps are those of an exact denoiser that is measured as a network is,
with calls where they count until a standard error is met: two rows more hold that to the target.
"""

from __future__ import annotations

if __name__ == "coverage":  # numba asks for a library of this name, and finds this file where a command lies beside it
    raise ImportError("coverage.py is a command, no library")

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from scipy import stats
from scipy.special import logsumexp

from sigmascope.analysis.onset import SHARES, crossings, onsets
from sigmascope.core import Attribute, Curve
from sigmascope.exact.gaussian import MixtureDenoiser
from sigmascope.information.above import CoarseTopWarning
from sigmascope.information.adaptive import GapJob
from sigmascope.information.forks import forks
from sigmascope.information.keeping import kept_of_counts
from sigmascope.studies.advising import Advisor

DRAWS, SEEDS, CHILDREN, LEVELS, RESAMPLES = (64, 256), 400, 16, 18, 300
TARGETS = (0.02, 0.05)  # standard errors of gaps, nats
LOW, HIGH, ABOVE = 0.92, 0.98, 0.04
EDGE, KEPT, SURE_OF = 0.05, 0.9, 0.9  # what is advised: ends of the guidance interval, edits, early exits
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

    def attribute(self) -> Attribute:
        return Attribute(self.name, tuple(map(str, range(len(self.prior)))), torch.from_numpy(self.prior))

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
        return float(self._integral(sigma, lambda p: p * (np.log(p + 1e-300) - np.log(self.prior))))

    def keeping(self, sigma: float) -> tuple[float, float]:
        """Probabilities that a redraw keeps A, and that the likeliest value is the true one.

        By quadrature on a line, else the mean over 100,000 draws.
        """
        if self.points.shape[1] > 1:
            p = np.exp(self.posteriors(np.random.default_rng(0), 100_000, np.array([sigma]))[0][0])
            return float((p**2).sum(1).mean()), float(p.max(1).mean())
        kept = self._integral(sigma, lambda p: p**2)
        return kept, self._integral(sigma, lambda p: p * (p == p.max(1, keepdims=True)))

    def _integral(self, sigma: float, of: Callable[[np.ndarray], np.ndarray]) -> float:
        """The mean over y of the sum over a of what is made of p(a | y)."""
        ends = (float(self.points.min()), float(self.points.max()))
        wide = 12.0 * float(np.hypot(sigma, self.spread.max()))
        y = np.linspace(ends[0] - wide, ends[1] + wide, 40_001)
        joint = self.log_joint(y[:, None], sigma)
        total = logsumexp(joint, axis=1, keepdims=True)
        return float((np.exp(total) * of(np.exp(joint - total))).sum() * (y[1] - y[0]))


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
        return np.asarray(np.exp(-inside) @ weights)

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


def by_forks() -> Estimator:
    """Forks, with labels of the children drawn from p(a | y)."""

    def curve(p: Problem, sigma: np.ndarray, log_posterior: np.ndarray, _: np.ndarray, g: np.random.Generator) -> Curve:
        counts = g.multinomial(CHILDREN, np.exp(log_posterior))
        return forks(p.attribute(), sigma, torch.from_numpy(counts))

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
        problem, estimator, draws: of what; gaps have as many draws as their target takes, and 32 columns.
        interval: "curve", "onset", "lower end", "guidance begins", "guidance ends", "edit", "early exit"; or "stderr"
            and "deviation", how large an error was found and how far the truth was.
        share: of H(A), at the level or of the onset; of an edit and an exit the probability that is asked for; of gaps'
            errors the target.
        truth: nats, or σ of the onset or the advice; of gaps' errors nats.
        seeds: how many were tried.
        held: share of seeds whose interval held the truth; of gaps' errors their mean over the target.
        above: share of seeds whose lower end lay above the truth.
        open: share of seeds whose interval of a level has an end beyond the levels: there it is absent, and says so.
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
    open: float
    fine: bool


def judged(held: float, above: float, seeds: int, one_sided: bool, open_: float = 0.0) -> bool:
    """Whether a row agrees with what was promised, the binomial error allowed for; open intervals may hold more."""
    if one_sided:
        return bool(stats.binom.sf(round(above * seeds) - 1, seeds, ABOVE) > SURE)
    hits = round(held * seeds)
    much = open_ > 0.5 or stats.binom.sf(hits - 1, seeds, HIGH) > SURE
    return bool(stats.binom.cdf(hits, seeds, LOW) > SURE and much)


def between(problem: Problem, truth: np.ndarray) -> list[int]:
    """The levels of rows."""
    return [int(k) for k in np.flatnonzero((truth >= 0.05 * problem.entropy) & (truth <= 0.95 * problem.entropy))]


def where(sigma: np.ndarray, rising: np.ndarray, target: float) -> float:
    """The true level of a crossing."""
    return float(np.exp(crossings(np.log(sigma), rising[None], target)[0]))


def row(
    problem: Problem, name: str, draws: int, kind: str, share: float, true: float, low: np.ndarray, high: np.ndarray
) -> Row:
    """The row of an interval, from its ends over seeds."""
    held, above = float(((low <= true) & (true <= high)).mean()), float((low > true).mean())
    of_levels = kind not in ("lower end", "curve")
    beyond = float(((low == 0.0) | np.isinf(high)).mean()) if of_levels else 0.0
    fine = judged(held, above, len(low), kind == "lower end", beyond)
    return Row(problem.name, name, draws, kind, share, true, len(low), held, above, beyond, fine)


def of_curves(problem: Problem, name: str, draws: int, curves: Sequence[Curve]) -> list[Row]:
    """Rows of curves and of their onsets, one curve a seed."""
    sigma, truth = levels_of(problem)
    low, high = (np.stack([c.value + side * 1.96 * c.error for c in curves]) for side in (-1, 1))
    bound = curves[0].kind == "lower bound"
    kind = "lower end" if bound else "curve"
    made = [
        row(problem, name, draws, kind, float(truth[k] / problem.entropy), float(truth[k]), low[:, k], high[:, k])
        for k in between(problem, truth)
    ]
    if bound:
        return made
    found = [onsets([c], resamples=RESAMPLES, seed=seed)[0] for seed, c in enumerate(curves)]
    for i, share in enumerate(SHARES):
        ends = np.array([(o.at[i].low, o.at[i].high) for o in found])
        true = where(sigma, truth, share * problem.entropy)
        made.append(row(problem, name, draws, "onset", share, true, ends[:, 0], ends[:, 1]))
    return made


def rows_of(problem: Problem, name: str, estimator: Estimator, draws: int, seeds: int) -> list[Row]:
    """The rows of one estimator on one problem."""
    sigma, _ = levels_of(problem)
    curves = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, draws])
        curves.append(estimator(problem, sigma, *problem.posteriors(rng, draws, sigma), rng))
    return of_curves(problem, name, draws, curves)


@cache
def levels_to_the_end(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same levels and three more, where all is known; the information there, and the chances to keep A."""
    sigma, truth = levels_of(problem)
    more = sigma[-1] * np.array([0.8, 0.6, 0.4])
    sigma, truth = np.append(sigma, more), np.append(truth, [problem.information(float(s)) for s in more])
    return sigma, truth, np.array([problem.keeping(float(s)) for s in sigma]).T


def advised_rows(problem: Problem, name: str, draws: int, seeds: int) -> list[Row]:
    """The rows of what is advised from a study by the posterior, or by forks."""
    sigma, truth, (kept, sure) = levels_to_the_end(problem)
    whole, ends = problem.entropy, []
    probability = max(KEPT, 0.5 * (1.0 + float(kept[0])))  # a rare value is lost seldom, whatever the noise
    known = {
        "guidance begins": (EDGE, where(sigma, truth, EDGE * whole)),
        "guidance ends": (1 - EDGE, where(sigma, truth, (1 - EDGE) * whole)),
        "edit": (probability, where(sigma, kept, probability)),
    }
    if name == "posterior" and sure[0] < SURE_OF:  # of forks children are read: an exit is advised by what is kept
        known["early exit"] = (SURE_OF, where(sigma, sure, SURE_OF))
    for seed in range(seeds):
        rng = np.random.default_rng([seed, draws, 1])
        log_p, own = problem.posteriors(rng, draws, sigma)
        of = {"kept": np.exp(2 * log_p).sum(2), "sure": np.exp(log_p).max(2)}
        if name == "forks":
            counts = torch.from_numpy(rng.multinomial(CHILDREN, np.exp(log_p)))
            curve, of = forks(problem.attribute(), sigma, counts), {"kept": kept_of_counts(counts).numpy()}
        else:
            curve = by_posterior(problem, sigma, log_p, own, None)
        advisor = Advisor(as_study(curve, of), probability, seed=seed)
        guide, edit = advisor.interval(problem.name)[0], advisor.keep(problem.name, [])[0]
        levels = [guide.high, guide.low, edit.high]
        if "early exit" in known:
            levels.append(advisor.early_exit(problem.name).high)
        ends.append([(q.low, q.high) for q in levels if q is not None])
    low, high = np.moveaxis(np.array(ends), 2, 0)
    return [
        row(problem, name, draws, kind, share, true, low[:, i], high[:, i])
        for i, (kind, (share, true)) in enumerate(known.items())
    ]


def as_study(c: Curve, kept: dict[str, np.ndarray]) -> xr.Dataset:
    """The results of a study that holds this curve alone, with the chances to keep A."""
    shape = ("attribute", "estimator", "sigma")
    error = np.zeros_like(c.value) if c.quadrature_error is None else c.quadrature_error
    chances = {f"{n}_per_draw": (("attribute", "sigma", "draw"), x[None]) for n, x in kept.items()}
    return xr.Dataset(
        {
            "information": (shape, c.value[None, None]),
            "stderr": (shape, c.stderr[None, None]),
            "quadrature_error": (shape, error[None, None]),
            "information_per_draw": ((*shape, "draw"), c.per_draw[None, None]),
            "ceiling": ("attribute", [c.ceiling]),
            "kind": ("estimator", [c.kind]),
            **chances,
        },
        coords={
            "attribute": [c.attribute],
            "estimator": [c.estimator],
            "sigma": c.sigma,
            "draw": np.arange(c.per_draw.shape[1]),
        },
        attrs={"main_estimator": c.estimator},
    )


def gap_rows(problem: Problem, goal: str, target: float, seeds: int) -> list[Row]:
    """The rows of a gap that is measured to a target, the exact denoiser in the place of a network."""
    sigma, truth = levels_of(problem)
    weights, points, spread, labels = (
        torch.from_numpy(x) for x in (problem.weights, problem.points, problem.spread, problem.labels)
    )
    denoiser = MixtureDenoiser(weights, points, spread**2, {problem.name: problem.labels.tolist()})

    def draw(n: int, g: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        k = torch.multinomial(weights, n, replacement=True, generator=g)
        noise = torch.randn(n, points.shape[1], generator=g, dtype=torch.float64)
        return points[k] + spread[k, None] * noise, {problem.name: labels[k]}

    curves: list[Curve] = []
    for seed in range(seeds):
        work = GapJob(
            denoiser, draw, {problem.name: problem.entropy}, sigma, target_stderr=target, goal=goal, seed=seed,
            batch=4096,
        )  # fmt: skip
        while not work.done:
            work.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CoarseTopWarning)
            curves.append(getattr(work.curves()[problem.name], goal))
    name = f"{goal} to {target:g}"
    found = of_curves(problem, name, curves[0].per_draw.shape[1], curves)
    largest = np.array([c.stderr.max() for c in curves])
    off = np.sqrt(np.mean([(c.value - truth) ** 2 for c in curves], 0)).max()
    chance = 1.0 + 3.1 * np.array([largest.std() / largest.mean() / seeds**0.5, (2 * seeds) ** -0.5])
    for kind, size, most in zip(("stderr", "deviation"), (largest.mean(), off), chance, strict=True):
        fine = bool(size <= most * target)
        ratio = float(size / target)
        found.append(Row(problem.name, name, 32, kind, target, float(size), seeds, ratio, 0.0, 0.0, fine))
    return found


ESTIMATORS: dict[str, Estimator] = {"posterior": by_posterior, "forks": by_forks(), "bound": by_bound}


def _made(job: tuple[int, str, float, int]) -> list[Row]:
    """The rows of a job: which problem, of what, at how many draws or to which target, and seeds."""
    torch.set_num_threads(1)
    which, of, size, seeds = job
    problem = problems()[which]
    kind, _, name = of.partition(" ")
    if kind == "curve":
        return rows_of(problem, name, ESTIMATORS[name], int(size), seeds)
    if kind == "advice":
        return advised_rows(problem, name, int(size), seeds)
    return gap_rows(problem, name, size, seeds)


def jobs(seeds: int) -> Iterator[tuple[int, str, float, int]]:
    """All of the table."""
    for which, problem in enumerate(problems()):
        for draws in DRAWS:
            yield from ((which, f"curve {name}", draws, seeds) for name in ESTIMATORS)
            yield from ((which, f"advice {name}", draws, seeds) for name in ("posterior", "forks"))
        yield from ((which, "gap score_gap", target, seeds) for target in TARGETS)
        if problem.spread.any():  # the two gaps of points that A tells apart are one
            yield from ((which, "gap mmse_gap", target, seeds) for target in TARGETS)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a row is red."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of each row")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at a time")
    options = parser.parse_args(argv)
    start, found = time.perf_counter(), []
    print(f"{'problem':12s} {'estimator':17s} draws {'interval':15s}     at  share  held  low end above")
    with ProcessPoolExecutor(options.workers) as pool:
        for rows in pool.map(_made, jobs(options.seeds)):
            for r in rows:
                found.append(r)
                print(
                    f"{r.problem:12s} {r.estimator:17s} {r.draws:5d} {r.interval:15s} {r.truth:6.3f} {r.share:5.2f} "
                    f"{r.held:6.3f} {r.above:6.3f} {'' if r.fine else '  RED'}"
                )
            sys.stdout.flush()
    red = sum(not r.fine for r in found)
    print(f"{len(found)} rows, {red} red, {time.perf_counter() - start:.0f} s")
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in found], indent=1) + "\n")
    return int(red > 0)


if __name__ == "__main__":
    sys.exit(main())
