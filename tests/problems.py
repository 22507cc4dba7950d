"""Problems whose information is known, each with its data and its truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from sigmascope.core import Denoiser, Draws, Gap, LabelledData
from sigmascope.data import from_array
from sigmascope.exact.gaussian import MixtureDenoiser
from sigmascope.information.adaptive import GapJob
from sigmascope.information.direct import as_gap, gaps_at
from sigmascope.information.gaps import Gaps
from sigmascope.information.importance import Draw
from sigmascope.learn.sources import Law


@dataclass(frozen=True)
class Line:
    """Points on a line with labels: information by quadrature in float64, independent of the package."""

    points: np.ndarray
    labels: dict[str, np.ndarray]
    weights: np.ndarray

    def data(self) -> LabelledData:
        return from_array(self.points[:, None], self.labels, weights=self.weights)

    def entropy(self, name: str) -> float:
        p = np.bincount(self.labels[name], weights=self.weights)
        return float(-(p[p > 0] * np.log(p[p > 0])).sum())

    def grid(self, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        """Points of y and their quadrature weights times p(y)."""
        y = np.linspace(self.points.min() - 12 * sigma, self.points.max() + 12 * sigma, 20_001)
        density = self.kernel(y, sigma).sum(1)
        return y, density * (y[1] - y[0])

    def kernel(self, y: np.ndarray, sigma: float) -> np.ndarray:
        """Joint density of y and each point, shape (y, points)."""
        z = (y[:, None] - self.points) / sigma
        return self.weights * np.exp(-0.5 * z**2) / (sigma * np.sqrt(2 * np.pi))

    def information(self, name: str, sigma: float) -> float:
        y, mass = self.grid(sigma)
        joint = self.kernel(y, sigma)
        by_value = np.stack([joint[:, self.labels[name] == a].sum(1) for a in np.unique(self.labels[name])], 1)
        p = by_value / np.maximum(by_value.sum(1, keepdims=True), 1e-300)
        h = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
        return self.entropy(name) - float((mass * h).sum())


def two_points(m: float = 1.0) -> Line:
    return Line(np.array([-m, m]), {"sign": np.array([0, 1])}, np.array([0.5, 0.5]))


def four_points() -> Line:
    labels = {"point": np.arange(4), "coarse": np.array([0, 0, 1, 1]), "alternate": np.array([0, 1, 0, 1])}
    return Line(np.array([-8.0, -4.0, 6.0, 8.0]), labels, np.full(4, 0.25))


def random_set(seed: int, *, items: int = 240, event: tuple[int, ...] = (3, 4, 4)) -> LabelledData:
    """A random labelled set with duplicates (some of other labels), near-duplicates and unequal weights."""
    rng = np.random.default_rng(seed)
    v = rng.uniform(size=(items, *event)).astype(np.float32)
    v[items // 4 : items // 2] = v[: items // 4]  # duplicates
    near = slice(items // 2, 3 * items // 4)
    scale = 10.0 ** rng.uniform(-4.5, -1.0, size=(items // 4, *[1] * len(event)))
    v[near] = v[: items // 4] + scale * rng.normal(size=v[near].shape)
    labels = {
        "even": rng.integers(0, 2, items),
        "many": rng.integers(0, 7, items),
        "word": np.array(["a", "b", "c"])[rng.integers(0, 3, items)],
    }
    return from_array(v, labels, weights=rng.uniform(0.2, 1.0, items))


def dense_posterior_entropy(
    data: LabelledData, v: np.ndarray, noise: np.ndarray, sigma: np.ndarray
) -> dict[str, np.ndarray]:
    """H(A | y), shape (levels, draws), by a dense float64 softmax over true differences."""
    x = data.source.read(0, len(data)).double().numpy().reshape(len(data), -1)
    out = {a.name: np.empty((len(sigma), len(v))) for a in data.attributes}
    w = np.log(data.weights.numpy())
    for i in range(len(v)):
        for j, s in enumerate(sigma):
            y = v[i].astype(np.float64).reshape(-1) + s * noise[i].astype(np.float64).reshape(-1)
            logit = w - ((y - x) ** 2).sum(1) / (2 * s**2)
            p = np.exp(logit - logit.max())
            p /= p.sum()
            for a in data.attributes:
                q = np.bincount(data.labels[a.name].numpy(), weights=p, minlength=len(a.values))
                out[a.name][j, i] = -(q[q > 0] * np.log(q[q > 0])).sum()
    return out


@dataclass(frozen=True)
class Mixture:
    """Normal components on a line with labels: information by quadrature in float64, independent of the package."""

    means: np.ndarray
    spread: np.ndarray
    weights: np.ndarray
    labels: dict[str, np.ndarray]

    def denoiser(self) -> MixtureDenoiser:
        return MixtureDenoiser(
            torch.tensor(self.weights),
            torch.tensor(self.means)[:, None],
            torch.tensor(self.spread) ** 2,
            {k: v.tolist() for k, v in self.labels.items()},
        )

    def density(self, y: np.ndarray, sigma: float) -> np.ndarray:
        """Joint density of y and each component, shape (y, components)."""
        scale = np.hypot(self.spread, sigma)
        return self.weights * stats.norm.pdf((y[:, None] - self.means) / scale) / scale

    def distribution(self, y: np.ndarray, sigma: float) -> np.ndarray:
        """P(Y <= y)."""
        return (self.weights * stats.norm.cdf((y[:, None] - self.means) / np.hypot(self.spread, sigma))).sum(1)

    def grid(self, sigma: float, points: int = 20_001) -> tuple[np.ndarray, np.ndarray]:
        """Points of y and their quadrature weights times p(y)."""
        reach = 12 * np.hypot(self.spread.max(), sigma)
        y = np.linspace(self.means.min() - reach, self.means.max() + reach, points)
        return y, self.density(y, sigma).sum(1) * (y[1] - y[0])

    def information(self, name: str, sigma: float) -> float:
        y, mass = self.grid(sigma)
        joint = self.density(y, sigma)
        by_value = np.stack([joint[:, self.labels[name] == a].sum(1) for a in np.unique(self.labels[name])], 1)
        p = by_value / np.maximum(by_value.sum(1, keepdims=True), 1e-300)
        prior = np.bincount(self.labels[name], weights=self.weights)
        h = -(prior * np.log(prior)).sum()
        return float(h + (mass * (p * np.log(np.maximum(p, 1e-300))).sum(1)).sum())


def points(line: Line) -> Mixture:
    """Points on a line, as a mixture without spread."""
    return Mixture(line.points, np.zeros(len(line.points)), line.weights, line.labels)


def mixture() -> Mixture:
    """Four overlapping normal components of unequal weight and width, of two attributes."""
    labels = {"side": np.array([0, 0, 1, 1]), "width": np.array([0, 1, 0, 1])}
    return Mixture(
        np.array([-3.0, -1.0, 0.5, 2.5]), np.array([0.2, 0.6, 0.3, 0.5]), np.array([0.1, 0.3, 0.4, 0.2]), labels
    )


def clones(m: float = 16.0, s: float = 1.0) -> Mixture:
    """Two normal classes at ±m: Biroli's clones, seen along m."""
    return Mixture(np.array([-m, m]), np.array([s, s]), np.array([0.5, 0.5]), {"class": np.array([0, 1])})


Problem = Callable[[], Line]


def pictures(n: int = 300, side: int = 8):
    """Images with two attributes, one of which is where the light is."""
    rng = np.random.default_rng(3)
    where, other = rng.integers(0, 3, n), rng.integers(0, 2, n)
    v = rng.uniform(0, 0.2, (n, 3, side, side)).astype(np.float32)
    for k in range(3):
        v[where == k, k] += 0.7
    return from_array(v, {"where": where, "other": other})


def law_of(problem: Line, null: int = 0) -> Law:
    """Equally likely points of a line, as a law that can be sampled without end."""
    data = problem.data()

    def sampler(n, g):
        k = torch.randint(len(data), (n,), generator=g)
        return data.source.take(k), {name: label[k] for name, label in data.labels.items()}

    return Law((1,), sampler, data.attributes, null=null)


def measure_gaps(
    denoiser: Denoiser, draw: Draw, ceilings: Mapping[str, float], sigma: np.ndarray, **options
) -> dict[str, Gaps]:
    """All of a measurement of gaps, at once."""
    work = GapJob(denoiser, draw, ceilings, sigma, **options)
    while not work.done:
        work.step()
    return work.curves()


def direct_gap(denoiser: Denoiser, draws: Draws, sigma: np.ndarray, attribute: str, average: bool = True) -> Gap:
    """Gaps at all levels, in the whole space: no sketch, no random directions."""
    gaps = [gaps_at(denoiser, draws, float(s), attribute, average) for s in sigma]
    score, mmse = (torch.stack(x).cpu().numpy() for x in zip(*gaps, strict=True))
    return as_gap(score, mmse, sigma)
