r"""The gap along the model's own conditional generations: how far the condition moves a generation, level by level.

.. math:: K(\sigma) = E \int_{\ln\sigma}^{\infty} \frac{\|D_A - D\|^2}{\sigma'^2}\, d\ln\sigma'
                    = E_A\, KL\!\left(P_A \,\|\, P\right)_{[\sigma, \infty)},

the mean over generations by the model itself, conditional on A.  By Girsanov's theorem it is the relative entropy of
the law of the conditional generation from that of the unconditional one, down to sigma, for any network whatever its
error; so guidance of weight w between two levels moves the law of the conditional generation by :math:`w^2` times the
difference of K.  K is at least the information about A in the states of the conditional generations, and equal to it
where the unconditional generation is their mixture, as it is for an exact model.
"""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, generator
from sigmascope.information.estimator import PATH_ESTIMATOR
from sigmascope.information.jobs.forking import PathResult
from sigmascope.information.jobs.units import Units
from sigmascope.information.parts import Arrays, Parts
from sigmascope.information.together import answers
from sigmascope.noise import integral_from_the_top
from sigmascope.sample import StochasticHeun, Streams, start
from sigmascope.sample.schemes import Model
from sigmascope.streams import NoiseOf, Use

_STEP = 0.25  # largest step in ln sigma
_ROWS = 64  # generations of a block
_LARGEST = 128  # generations at most: their standard error is small beside what the curve is read for


class ConditionalPathJob(Units):
    """Squared gaps along conditional generations from the top level: a block of one attribute's at a time."""

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
        self._draws, self._seed = min(draws, _LARGEST), seed
        self._nodes, self._wanted = _nodes(top, sigmas)
        self._blocks = -(-self._draws // _ROWS)
        super().__init__("conditional", len(attributes) * self._blocks)

    def _unit(self, number: int, held: Arrays) -> Parts[Arrays]:
        k, block = divmod(number, self._blocks)
        a, rows = self._attributes[k], range(block * _ROWS, min((block + 1) * _ROWS, self._draws))
        known = {a.name: self._labels(a)[rows.start : rows.stop]}
        noise = Streams(self._seed, [(NoiseOf.CONDITIONAL_PATH, k, i) for i in rows], self._denoiser.event)
        conditional, scheme, first = Model(self._denoiser, known), StochasticHeun(), noise()
        gaps: list[np.ndarray] = [*held["gaps"]] if held else []
        if held:
            y = torch.from_numpy(held["y"])
            for _ in gaps:
                noise()
        else:
            y = start(self._denoiser, float(self._nodes[0]), first, known)
        for j, sigma in enumerate(self._nodes.tolist()[len(gaps) :], len(gaps)):
            mean, free = answers(self._denoiser, y, sigma, [known, {}])
            gaps.append((mean - free).flatten(1).square().sum(1).numpy())
            if j + 1 < len(self._nodes):
                y = scheme.step(conditional, y, sigma, float(self._nodes[j + 1]), noise, mean)
                yield partial(_state, gaps, y)
        return {"gap": np.stack(gaps)}

    def _labels(self, a: Attribute) -> Tensor:
        """Values in their proportions, in random order."""
        g = generator(self._seed, Use.CONDITIONAL_LABELS)
        place = (torch.arange(self._draws) + torch.rand(self._draws, generator=g, dtype=torch.float64)) / self._draws
        labels = torch.searchsorted(a.prior.cumsum(0), place, right=True).clamp_max(len(a.values) - 1)
        return labels[torch.randperm(self._draws, generator=g)]

    def calls(self, unconditional: int = 1) -> int:
        """Network calls of all generations, where an unconditional output takes so many."""
        return _calls(len(self._nodes), len(self._attributes), self._draws, unconditional)

    def result_for(self, a: Attribute) -> PathResult:
        """The curve of an attribute; what a redraw keeps is not known of paths that do not fork."""
        k = [x.name for x in self._attributes].index(a.name)
        gap = np.concatenate([u["gap"] for u in self.units()[k * self._blocks : (k + 1) * self._blocks]], 1)
        rate = gap / self._nodes[:, None] ** 2
        # Above the top the gap is that of E[V | A] from E[V], which no longer depends on the level.
        per_draw = (integral_from_the_top(self._nodes) @ rate + 0.5 * rate[0])[self._wanted]
        ceiling = max(a.entropy, float(per_draw[-1].mean()))
        return PathResult(Curve.of_draws(a.name, PATH_ESTIMATOR, self._sigmas, per_draw, ceiling, kind="estimate"))


def _state(gaps: list[np.ndarray], y: Tensor) -> Arrays:
    return {"gaps": np.stack(gaps), "y": y.numpy()}


def _nodes(top: float, sigmas: Float[np.ndarray, " levels"]) -> tuple[Float[np.ndarray, " nodes"], np.ndarray]:
    """Levels close enough to each other to step and to integrate, from the top down, and where those given are."""
    ends = [top, *sigmas.tolist()] if top > sigmas[0] * (1 + 1e-9) else sigmas.tolist()
    nodes, wanted = [ends[0]], [0]
    for high, low in itertools.pairwise(ends):
        count = max(int(np.ceil(np.log(high / low) / _STEP)), 1)
        nodes += np.geomspace(high, low, count + 1)[1:].tolist()
        wanted.append(len(nodes) - 1)
    return np.array(nodes), np.array(wanted[-len(sigmas) :])


def path_calls(
    top: float, sigmas: Float[np.ndarray, " levels"], attributes: int, draws: int, unconditional: int
) -> int:
    """Network calls of such a job."""
    return _calls(len(_nodes(top, sigmas)[0]), attributes, min(draws, _LARGEST), unconditional)


def _calls(nodes: int, attributes: int, draws: int, unconditional: int) -> int:
    """At every level a conditional and an unconditional output; a conditional one for every step, and at the start."""
    return attributes * draws * (2 + unconditional) * nodes
