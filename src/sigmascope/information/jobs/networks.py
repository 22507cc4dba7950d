"""Jobs that call a learned model at every level: classifier, likelihood, chain rule, probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser, Draws, HasAllPosteriors, RealAttribute
from sigmascope.information.controls import classifier_controls
from sigmascope.information.jobs.levels import AtLevels
from sigmascope.information.jobs.units import AtOnce, Units
from sigmascope.information.likelihood import likelihood_in_parts
from sigmascope.information.parts import Arrays, Parts
from sigmascope.information.probes import HasFeatures, log_posteriors, probes
from sigmascope.information.together import answers
from sigmascope.sample import Streams, rows
from sigmascope.streams import NoiseOf

_OUTPUTS = 2048  # of a network at a time


class ClassifierJob(AtLevels, AtOnce):
    """Posteriors by a classifier of noisy values, of draws held out from it: a level at a time."""

    _in_checkpoint = "classified"

    def _measured(self, number: int) -> Arrays:
        log_q = log_posteriors(self._model, self._draws, float(self._sigmas[number]))
        return {f"q.{a.name}": log_q[a.name].numpy() for a in self._attributes}

    def log_q(self, name: str) -> Float[Tensor, "levels draws values"]:
        """ln q(a | y)."""
        return torch.from_numpy(self._rows(f"q.{name}"))


class ControlJob(AtOnce):
    """Controls of a classifier for many other draws, as means over groups: a group, made by its number, at a time."""

    def __init__(
        self,
        classifier: HasAllPosteriors,
        make: Callable[[int], Draws],
        groups: int,
        sigmas: Float[np.ndarray, " levels"],
        attributes: Sequence[Attribute],
    ) -> None:
        super().__init__("controls", groups)
        self._classifier, self._make, self._sigmas, self._attributes = classifier, make, sigmas, attributes

    def _measured(self, number: int) -> Arrays:
        draws = self._make(number)
        unit: dict[str, list[np.ndarray]] = {a.name: [] for a in self._attributes}
        for sigma in self._sigmas.tolist():
            log_q = log_posteriors(self._classifier, draws, sigma)
            for a in self._attributes:
                unit[a.name].append(classifier_controls(a, log_q[a.name], draws.labels[a.name]).mean(1))
        return {f"controls.{name}": np.stack(means, 1) for name, means in unit.items()}

    def means(self, name: str) -> Float[np.ndarray, "controls levels groups"]:
        """Means of :func:`~sigmascope.information.controls.classifier_controls` over the draws of each group."""
        return np.stack([u[f"controls.{name}"] for u in self.units()], 2)


class LikelihoodJob(Units):
    """Gains of :func:`~sigmascope.information.likelihood.likelihood_posterior`: an attribute and a level at a time."""

    def __init__(
        self,
        denoiser: Denoiser,
        draws: Draws,
        sigmas: Float[np.ndarray, " levels"],
        attributes: Sequence[Attribute],
        scale: float,
        highest: float,
        seed: int,
    ) -> None:
        costs = [float(len(a.values)) for a in attributes for _ in sigmas]
        super().__init__("likelihood", len(costs), costs)
        self._denoiser, self._draws, self._sigmas, self._attributes = denoiser, draws, sigmas, list(attributes)
        self._scale, self._highest, self._seed = scale, highest, seed

    def _unit(self, number: int, held: Arrays) -> Parts[Arrays]:
        i, k = divmod(number, len(self._sigmas))
        a, sigma, d = self._attributes[i], float(self._sigmas[k]), self._draws
        noise = Streams(self._seed, [(NoiseOf.LIKELIHOOD, k, *r) for r in rows(len(d))], tuple(d.v.shape[1:]))
        gains = yield from likelihood_in_parts(
            self._denoiser, a.name, d.v.double() + sigma * d.noise.double(), sigma, noise, held, self._scale,
            highest=self._highest, batch=max(_OUTPUTS // len(a.values), 1),
        )  # fmt: skip
        return {"gains": gains.cpu().numpy()}

    def log_q(self, name: str) -> Float[Tensor, "levels draws values"]:
        """ln p(a) plus the gains, not normalised."""
        i, levels = [a.name for a in self._attributes].index(name), len(self._sigmas)
        gains = torch.from_numpy(np.stack([u["gains"] for u in self.units()[i * levels : (i + 1) * levels]]))
        return gains + self._attributes[i].prior.log()


class ChainJob(AtLevels):
    r"""The residual of the chain rule of squared gaps, for each attribute a conditioned on first: a level at a time.

    .. math:: \|D_{all} - D\|^2 - \|D_a - D\|^2 - \|D_{all} - D_a\|^2 = 2\langle D_a - D, D_{all} - D_a\rangle

    Its mean is zero for true conditional means.
    """

    _in_checkpoint = "chain"

    def __init__(
        self,
        model: Any,
        draws: Draws,
        sigmas: Float[np.ndarray, " levels"],
        attributes: Sequence[Attribute | RealAttribute],
    ) -> None:
        super().__init__(model, draws, sigmas, ())
        self._names = [a.name for a in attributes]

    def _unit(self, number: int, held: Arrays) -> Parts[Arrays]:
        sigma, d = float(self._sigmas[number]), self._draws
        known = {name: d.labels[name] for name in self._names}
        conditions = [{}, known, *({n: x} for n, x in known.items())]
        done: list[Arrays] = [held] if held else []
        first = len(held["all"]) if held else 0
        each = max(_OUTPUTS // len(conditions), 1)
        for some in torch.split(torch.arange(first, len(d)), each) if first < len(d) else ():
            y = d.v[some].double() + sigma * d.noise[some].double()
            means = answers(self._model, y, sigma, [{n: x[some] for n, x in c.items()} for c in conditions])
            free, given_all, *given_one_each = (m.flatten(1).cpu() for m in means)
            unit = {"all": ((given_all - free) ** 2).sum(1).numpy()}
            for name, given_one in zip(self._names, given_one_each, strict=True):
                residual = 2.0 * ((given_one - free) * (given_all - given_one)).sum(1)
                unit[f"residual.{name}"] = residual.numpy()
            done.append(unit)
            yield partial(_joined, done)
        return _joined(done)

    def residual(self, name: str) -> Float[np.ndarray, "levels draws"]:
        """The residual for an attribute conditioned on first."""
        return self._rows(f"residual.{name}")

    def everything(self) -> Float[np.ndarray, "levels draws"]:
        """Squared gap of all attributes together."""
        return self._rows("all")


def _joined(parts: Sequence[Arrays]) -> Arrays:
    return {k: np.concatenate([x[k] for x in parts]) for k in parts[0]}


class ProbeJob(AtLevels, AtOnce):
    """Linear probes on noisy values or on a network's features of them: a level at a time."""

    def __init__(
        self,
        denoiser: HasFeatures | None,
        train: Draws,
        test: Draws,
        sigmas: Float[np.ndarray, " levels"],
        attributes: Sequence[Attribute],
        where: str,
        seed: int,
    ) -> None:
        self._in_checkpoint = f"probed_{where}"
        super().__init__(denoiser, test, sigmas, attributes)
        self._train, self.where, self._seed = train, where, seed

    def _measured(self, number: int) -> Arrays:
        level = self._sigmas[[number]]
        probed = probes(
            self._attributes, self._train, self._draws, level, self.where, denoiser=self._model, seed=self._seed
        )
        unit: dict[str, np.ndarray] = {}
        for name, p in probed.items():
            unit[f"gain.{name}"], unit[f"accuracy.{name}"] = p.curve.per_draw[0], p.accuracy[0]
            unit[f"learning.{name}"] = p.learning[0]
        return unit

    def curve(self, a: Attribute) -> Curve:
        """The bound."""
        gains = self._rows(f"gain.{a.name}")
        return Curve.of_draws(a.name, f"probes:{self.where}", self._sigmas, gains, a.entropy, kind="lower bound")

    def accuracy(self, name: str) -> Float[np.ndarray, " levels"]:
        """Share of the draws whose likeliest value is the true one."""
        return self._rows(f"accuracy.{name}")

    def learning(self, name: str) -> Float[np.ndarray, "levels shares"]:
        """The bound from a quarter, half and all of the training draws."""
        return self._rows(f"learning.{name}")
