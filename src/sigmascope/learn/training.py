r"""Training of a denoiser that is conditional on any subset of the attributes.

.. math:: L = E_{\sigma, v, n, c}\; \frac{s^2 + \sigma^2}{s^2 \sigma^2} \|D(v + \sigma n, \sigma, c) - v\|^2 / d

Every batch is a function of the seed and of the number of the step: a run that was stopped continues with the same
batches.

References: Karras et al. (2022) for the weighting; Ho & Salimans (2021) for dropping the condition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sigmascope.core import UNKNOWN, generator
from sigmascope.learn.classifier import NoisyClassifier
from sigmascope.learn.descent import Training, level_per_row
from sigmascope.learn.frames import frame_of
from sigmascope.learn.levels import Levels
from sigmascope.learn.neural import NeuralDenoiser, architecture
from sigmascope.learn.settings import NULL, NULL_NUMBER, Settings
from sigmascope.learn.sources import Source
from sigmascope.streams import Use

_UNCONDITIONAL, _UP_TO_ONE = 0.3, 0.8  # shares of the rows where no attribute is known; none or exactly one
_MEASURE_EVERY, _MEASURE_ROWS = 50, 8  # steps; rows of each bin of levels
_HELD_ROWS = 64  # of each decade


class Trainer(Training):
    r"""The training of a denoiser that is conditional on any subset of the attributes.

    .. math:: L = E_{\sigma, v, n, c}\; \frac{s^2 + \sigma^2}{s^2 \sigma^2} \|D(v + \sigma n, \sigma, c) - v\|^2 / d

    with s the scale of the data, d the number of coordinates and c the labels of a random subset of the attributes.

    Call :meth:`step` ``settings.steps`` times and take ``averaged``, the network with averaged weights.  :meth:`losses`
    measures it on the way, :meth:`store` and :meth:`restore` write and read a checkpoint: a training that was stopped
    continues with the same batches.

    Args:
        source: of the training values.
        settings: of the training.
        device: of the network.
        classifier: of noisy values of this source; its posteriors replace unknown attributes.  It is not trained.

    Attributes:
        model: the network that is trained.
        averaged: the same with weights averaged over the last steps.
        done: number of steps so far.
        history: the results of :meth:`losses`.

    Raises: InputError for settings that do not fit the data.

    References: Karras et al. (2022) for the weighting; Ho & Salimans (2021) for dropping the condition.
    """

    kind, loss = "training", "the loss"
    model: NeuralDenoiser
    averaged: NeuralDenoiser

    def __init__(
        self,
        source: Source,
        settings: Settings,
        device: torch.device | str = "cpu",
        classifier: NoisyClassifier | None = None,
    ) -> None:
        settings, device = settings.check(), torch.device(device)
        shape = architecture(settings.network, settings.width, settings.depth, source.event)
        frame = frame_of(source, settings.seed, shape.width if shape.kind == "mlp" else 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            model = NeuralDenoiser(
                source.event, source.attributes, shape, frame, source.continuous, classifier=classifier
            )
        levels = Levels(
            settings.sigma_min,
            settings.sigma_max,
            adaptive=settings.noise == "adaptive",
            log_mean=settings.log_mean + math.log(frame.scale),
            log_std=settings.log_std,
        )
        super().__init__(model.to(device), source, settings, levels, device, fused=True)

    def step(self) -> float:
        """Do one step of the optimiser, and return its loss, weighted by 1/c_out² and per coordinate."""
        if self.levels.adaptive and self.done % _MEASURE_EVERY == 0 and self.done > 0:
            self._measure()
        v, labels, sigma, y, own = self._batch(Use.BATCHES)
        known = self._random_subset(labels, generator(self.settings.seed, Use.DROPPED_LABELS, self.done))
        known = {name: x[own].to(self.device) for name, x in known.items()}
        with self._autocast:
            denoised = self.model(y, sigma, known)
        return self._descend(self._weight(sigma) * ((denoised - v) ** 2).flatten(1).mean(1), sigma)

    def _random_subset(self, labels: Mapping[str, Tensor], g: torch.Generator) -> dict[str, Tensor]:
        """Labels of which each row keeps none, exactly one, or a random subset; the others are unknown."""
        if not labels:
            return {}
        rows, count = len(next(iter(labels.values()))), len(labels)
        u = torch.rand(rows, generator=g)
        single = torch.randint(count, (rows,), generator=g)
        subset = torch.rand(rows, count, generator=g) < 0.5
        kept = torch.where((u < _UP_TO_ONE)[:, None], nn.functional.one_hot(single, count).bool(), subset)
        kept &= (u >= _UNCONDITIONAL)[:, None]
        return {name: _where_kept(x, kept[:, i]) for i, (name, x) in enumerate(labels.items())}

    def _weight(self, sigma: Tensor) -> Tensor:
        s = self.model.scale
        return (s**2 + sigma**2) / (s * sigma) ** 2

    def _measure(self) -> None:
        """Measure the rate of information at the middle of each bin of levels, with the averaged network."""
        names = [a.name for a in self.model.attributes if a.name != NULL]
        names += [c.name for c in self.model.continuous if c.name != NULL_NUMBER]
        if not names:
            return
        g = generator(self.settings.seed, Use.LEVEL_ERRORS, self.done)
        middles = torch.from_numpy(self.levels.middles).float()
        sigma = middles.repeat_interleave(_MEASURE_ROWS)
        v, labels = self.source.draw(len(sigma), g)
        y = v + level_per_row(sigma, v) * torch.randn(v.shape, generator=g)
        choice = torch.randint(len(names), (len(sigma),), generator=g)
        known = {n: _where_kept(labels[n], choice == i).to(self.device) for i, n in enumerate(names)}
        y, sigma = y.to(self.device), sigma.to(self.device)
        with torch.no_grad():
            gap = ((self.averaged(y, sigma, known) - self.averaged(y, sigma)) ** 2).flatten(1).sum(1) / sigma**2
        self.levels.measured(gap.double().cpu().numpy().reshape(-1, _MEASURE_ROWS).mean(1))

    def losses(self) -> dict[str, Any]:
        """Losses since the last call and on values kept out of training, unconditional and given all attributes."""
        entry = {
            "step": self.done,
            "loss": self._means(),
            "held_out": self._held_out_losses(conditional=False),
            "held_out_conditional": self._held_out_losses(conditional=True),
        }
        self.history.append(entry)
        return entry

    def _held_out_losses(self, conditional: bool) -> list[float]:
        """The loss of the averaged network in each decade, on values and noises that are the same in all calls."""
        losses = []
        for v, labels, sigma, y in self._held_out(Use.HELD_OUT_LEVELS, _HELD_ROWS):
            known = {n: x.to(self.device) for n, x in labels.items()} if conditional else None
            with torch.no_grad():
                error = ((self.averaged(y, sigma, known) - v.to(self.device)) ** 2).flatten(1).mean(1)
            losses.append(float((self._weight(sigma) * error).mean()))
        return losses


def _where_kept(labels: Tensor, kept: Tensor) -> Tensor:
    """Labels of one attribute, unknown in the rows that are not kept."""
    if labels.is_floating_point():
        return labels.where(kept[:, None], torch.nan)
    return labels.where(kept, UNKNOWN)
