r"""The gap along the model's own told path: how far what it is told moves a generation, level by level.

.. math:: K(\sigma) = E \int_{\ln\sigma}^{\infty} \frac{\|D_A - D\|^2}{\sigma'^2}\, d\ln\sigma'
                    = E_A\, KL\!\left(P_A \,\|\, P\right)_{[\sigma, \infty)},

the mean over generations that are given A, by the model itself.  By Girsanov's theorem it is the relative entropy of
the law of the conditional generation from that of the unconditional one, down to sigma, for any network whatever its
error; so guidance of weight w between two levels moves the law of the conditional generation by :math:`w^2` times the
difference of K.  K is at least the information about A of the conditional generations' states, and equal to it where
the unconditional generation is their mixture, as it is for an exact model.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, generator
from sigmascope.information.estimator import PATH_ESTIMATOR
from sigmascope.information.jobs.forking import PathResult
from sigmascope.information.jobs.levels import Units
from sigmascope.noise import integral_from_the_top
from sigmascope.sample import StochasticHeun, Streams, start
from sigmascope.sample.schemes import Model
from sigmascope.streams import NoiseOf, Use

_STEP, _ROWS, MOST = 0.25, 64, 128
"""MOST: generations at most, whose standard error is small beside what the curve is read for."""


class ConditionalPathJob(Units):
    """Squared gaps along generations that are told a value: a block of generations of an attribute at a time.

    Args:
        denoiser: can be told each attribute.
        top: the level at which generations begin.
        sigmas: decreasing levels.
        attributes: which.
        draws: generations of each.
        seed: of labels and noise.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        top: float,
        sigmas: Float[np.ndarray, " levels"],
        attributes: tuple[Attribute, ...],
        draws: int,
        seed: int,
    ) -> None:
        self._denoiser, self._sigmas, self._attributes = denoiser, sigmas, attributes
        self._draws, self._seed = min(draws, MOST), seed
        self._nodes, self._wanted = nodes_of(max(top, float(sigmas[0])), sigmas)
        self._blocks = -(-self._draws // _ROWS)
        super().__init__("told", len(attributes) * self._blocks)

    def step(self) -> None:
        """Follow the next block from the top to the last level."""
        which, block = divmod(self.next_unit, self._blocks)
        first = block * _ROWS
        a, mine = self._attributes[which], range(first, min(first + _ROWS, self._draws))
        told = {a.name: self._labels(a)[mine.start : mine.stop]}
        noise = Streams(self._seed, [(NoiseOf.CONDITIONAL_PATH, which, i) for i in mine], self._denoiser.event)
        knowing, free, how = Model(self._denoiser, told), Model(self._denoiser), StochasticHeun()
        y = start(self._denoiser, float(self._nodes[0]), noise(), told)
        gaps = []
        for k, sigma in enumerate(self._nodes.tolist()):
            said = knowing.denoise(y, sigma)
            gaps.append((said - free.denoise(y, sigma)).flatten(1).square().sum(1).numpy())
            if k + 1 < len(self._nodes):
                y = how.step(knowing, y, sigma, float(self._nodes[k + 1]), noise, said)
        self.results.append({"gap": np.stack(gaps)})

    def _labels(self, a: Attribute) -> Tensor:
        """Values in their proportions, in random order."""
        g = generator(self._seed, Use.CONDITIONAL_LABELS)
        place = (torch.arange(self._draws) + torch.rand(self._draws, generator=g, dtype=torch.float64)) / self._draws
        found = torch.searchsorted(a.prior.cumsum(0), place, right=True).clamp_max(len(a.values) - 1)
        return found[torch.randperm(self._draws, generator=g)]

    def calls(self, unconditional: int = 1) -> int:
        """Network calls of all generations.

        Args:
            unconditional: network calls of an answer without knowledge.
        """
        return _calls(len(self._nodes), len(self._attributes), self._draws, unconditional)

    def result_for(self, a: Attribute) -> PathResult:
        """The curve of an attribute: what is kept is not known of paths that do not fork."""
        which = [x.name for x in self._attributes].index(a.name)
        gap = np.concatenate([u["gap"] for u in self.units()[which * self._blocks : (which + 1) * self._blocks]], 1)
        rate = gap / self._nodes[:, None] ** 2
        # Above the top the gap is that of E[V | A] from E[V], which no longer depends on the level.
        per_draw = integral_from_the_top(self._nodes) @ rate + 0.5 * rate[0]
        mean = per_draw[self._wanted].mean(1)
        ceiling = max(a.entropy, float(mean[-1]))
        return PathResult(
            Curve.of_draws(a.name, PATH_ESTIMATOR, self._sigmas, per_draw[self._wanted], ceiling, kind="estimate")
        )


def nodes_of(top: float, sigmas: Float[np.ndarray, " levels"]) -> tuple[Float[np.ndarray, " nodes"], np.ndarray]:
    """Levels near enough to each other to step and to integrate, from the top down, and where those given are."""
    ends = [top, *sigmas.tolist()] if top > sigmas[0] * (1 + 1e-9) else sigmas.tolist()
    nodes, wanted = [ends[0]], [0]
    for high, low in itertools.pairwise(ends):
        count = max(int(np.ceil(np.log(high / low) / _STEP)), 1)
        nodes += np.geomspace(high, low, count + 1)[1:].tolist()
        wanted.append(len(nodes) - 1)
    return np.array(nodes), np.array(wanted[-len(sigmas) :])


def calls_of(top: float, sigmas: Float[np.ndarray, " levels"], attributes: int, draws: int, unconditional: int) -> int:
    """Network calls of such a work."""
    nodes, _ = nodes_of(max(top, float(sigmas[0])), sigmas)
    return _calls(len(nodes), attributes, min(draws, MOST), unconditional)


def _calls(nodes: int, attributes: int, draws: int, unconditional: int) -> int:
    """One told and one unconditional at every level, one more told of every step, and one told of the start."""
    return attributes * draws * (2 + unconditional) * nodes
