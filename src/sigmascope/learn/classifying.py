r"""Training of a classifier of noisy data.

.. math:: L = -E_{\sigma, v, n} \sum_A \ln q(a_A \mid v + \sigma n, \sigma)

with levels even in ln sigma.  At each level the loss of A is at least :math:`H(A) - I(A; Y_\sigma)`, which is that of
the posterior.  Every batch is a function of the seed and of the number of the step: a run that was stopped continues
with the same batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import sigmascope.distributed as distributed
from sigmascope.learn.classifier import NoisyClassifier, classifier_architecture, new_classifier
from sigmascope.learn.descent import Training
from sigmascope.learn.levels import Levels
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Source
from sigmascope.streams import Use

_MEASURE_EVERY = 100  # steps between two measurements of the levels at which attributes are partly known
_HELD_ROWS = 256  # of each decade


class ClassifierTrainer(Training):
    r"""The training of a classifier of noisy values, for all attributes at once.

    .. math:: L = -E_{\sigma, v, n} \sum_A \ln q(a_A \mid v + \sigma n, \sigma)

    with half or all of the levels even in ln sigma.  Call :meth:`step` ``settings.steps`` times and take ``averaged``,
    the classifier with averaged weights.  :meth:`losses` and :meth:`bounds` measure it on the way, :meth:`store` and
    :meth:`restore` write and read a checkpoint.

    Args:
        source: of the training values; attributes whose values are vectors are left out.
        settings: of the training.  With ``adaptive`` noise, half of the levels are even in ln sigma and half are where
            attributes are partly known, as measured in training so far; with ``lognormal``, all are even.
        device: of the classifier.

    Attributes:
        model: the classifier that is trained.
        averaged: the same with weights averaged over the last steps.
        done: number of steps so far.
        history: the results of :meth:`losses`.

    Raises: InputError for settings that do not fit the data, or data without attributes.
    """

    kind, loss = "classifying", "the classifier's loss"
    model: NoisyClassifier
    averaged: NoisyClassifier

    def __init__(self, source: Source, settings: Settings, device: torch.device | str = "cpu") -> None:
        settings, device = settings.check(), torch.device(device)
        shape = classifier_architecture(settings.network, settings.width, settings.depth, source.event)
        model = new_classifier(source, shape, settings.seed).to(device)
        # Adaptive levels without a measurement are even in ln sigma.
        levels = Levels(settings.sigma_min, settings.sigma_max, adaptive=True)
        super().__init__(model, source, settings, levels, device, fused=False)
        self.arrays["measured"] = np.zeros((1 + len(model.attributes), len(levels.middles)))

    def step(self) -> float:
        """Do one step of the optimiser, and return its loss: the sum of the attributes' cross-entropies, nats."""
        _, labels, sigma, y, own = self._batch(Use.CLASSIFIER_BATCHES)
        with self._autocast:
            logits = self.model.logits(y, sigma).float()
        log_q = self.model.split(logits)
        targets = {name: labels[name][own].to(self.device) for name in log_q}
        by_name = torch.stack([nn.functional.nll_loss(q, targets[n], reduction="none") for n, q in log_q.items()])
        value = self._descend(by_name.sum(0), sigma)
        self._measure(by_name.detach().double().cpu().numpy(), sigma.cpu().numpy())
        return value

    def _measure(self, by_name: np.ndarray, sigma: np.ndarray) -> None:
        """Measure :math:`\\sum_A H(A)\\, k(1 - k)` by levels, with k the share of H(A) that is known."""
        if self.settings.noise != "adaptive":
            return
        sums = self.arrays["measured"]
        bins = sums.shape[1]
        at = np.clip(np.searchsorted(self.levels.edges, np.log(sigma), side="right") - 1, 0, bins - 1)
        new = np.stack([np.bincount(at, x, bins) for x in (np.ones(len(at)), *by_name)])
        sums += distributed.add_up(torch.from_numpy(new)).numpy()
        if self.done % _MEASURE_EVERY == 0:
            entropy = np.array([[a.entropy] for a in self.model.attributes])
            known = np.clip(1.0 - sums[1:] / np.maximum(sums[:1], 1.0) / entropy, 0.0, 1.0)
            self.levels.measured((entropy * known * (1.0 - known)).sum(0))
            sums[:] = 0.0

    def losses(self) -> dict[str, Any]:
        """Losses by decade since the last call and on values kept out of training; they are added to the history."""
        bounds = self.bounds()
        ceiling = sum(a.entropy for a in self.model.attributes)
        entry = {
            "step": self.done,
            "loss": self._means(),
            "held_out": [ceiling - sum(b[j] for b in bounds.values()) for j in range(len(self.decades))],
        }
        self.history.append(entry)
        return entry

    def bounds(self) -> dict[str, list[float]]:
        """For each attribute :math:`E[\\ln q - \\ln p]` of the averaged classifier in each decade of sigma, nats, on
        values kept out of training, which are the same in all calls."""
        bounds: dict[str, list[float]] = {a.name: [] for a in self.model.attributes}
        for _, labels, sigma, y in self._held_out(Use.CLASSIFIER_HELD_OUT, _HELD_ROWS):
            log_q = self.averaged.all_log_posteriors(y, sigma)
            for a in self.model.attributes:
                own = labels[a.name]
                q = log_q[a.name].cpu()[torch.arange(len(own)), own]
                bounds[a.name].append(float((q - a.prior.log()[own]).mean()))
        return bounds
