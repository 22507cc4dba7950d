"""The curves of a study made sharper by a classifier: what it says of the draws, and of many others of the same law."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float

from sigmascope.core import Abstraction, Curve, Draws
from sigmascope.information.adaptive import GOALS
from sigmascope.information.allocation import REPLICATES
from sigmascope.information.combined import best_bound, grouped
from sigmascope.information.controls import controlled, said
from sigmascope.information.jobs.levels import AlongJob, PathJob, Work
from sigmascope.information.jobs.networks import ClassifierJob, ControlJob, LikelihoodJob
from sigmascope.information.likelihood import tempered
from sigmascope.learn.classifier import NoisyClassifier

BOUNDS = ("filter", "likelihood", "classifier")
MORE = 16  # cheap draws for each costly one

Asked = PathJob | LikelihoodJob | ClassifierJob


class Controls:
    """Curves of the draws of a study, and of those that choices are made on, less the chance that a classifier sees.

    Without a classifier, or for an attribute that it does not know, curves are those of their draws alone.

    Args:
        classifier: of noisy values, if there is one.
        test: draws that curves are of, a multiple of :data:`~sigmascope.information.allocation.REPLICATES`.
        fit: half as many others, that temperatures and choices are made on.
        more: makes cheap draws: as many, of those of ``fit`` or else of ``test``, of the group of this number.
        sigma: decreasing levels.
        abstractions: which.
        estimators: that the study is of.
        seed: of the paths.
    """

    def __init__(
        self,
        classifier: NoisyClassifier | None,
        test: Draws,
        fit: Draws,
        more: Callable[[int, bool, int], Draws],
        sigma: Float[np.ndarray, " levels"],
        abstractions: Sequence[Abstraction],
        estimators: Collection[str],
        seed: int,
    ) -> None:
        self._tested, self._sigma = len(test), sigma
        self.both = Draws(
            torch.cat([test.items, fit.items]),
            torch.cat([test.v, fit.v]),
            torch.cat([test.noise, fit.noise]),
            {k: torch.cat([x, fit.labels[k]]) for k, x in test.labels.items()},
        )
        self.works: list[Work] = []
        self.others = 0  # cheap draws, beside those of the test
        self._known: dict[str, Abstraction] = {}
        if classifier is None or set(estimators) <= set(GOALS):
            return
        told = {a.name for a in classifier.abstractions}
        known = [a for a in abstractions if a.name in told]
        self._known = {a.name: a for a in known}
        each = MORE * len(test) // REPLICATES
        self.others = each * REPLICATES
        self.seen = ClassifierJob(classifier, self.both, sigma, known)
        self._others = ControlJob(classifier, partial(more, each, False), REPLICATES, sigma, known)
        self._others_fit = ControlJob(classifier, partial(more, each, True), REPLICATES // 2, sigma, known)
        self._along = AlongJob(classifier, self.both, sigma, known, seed)
        self.works = [self.seen, self._others]
        if set(estimators) & set(BOUNDS):  # the best of them is chosen
            self.works.append(self._others_fit)
        if "filter" in estimators:
            self.works.append(self._along)

    def sharper(self, curve: Curve) -> Curve:
        """A curve of the test draws at their own noise, in groups."""
        x = self._said(curve.abstraction)
        if x is None:
            return grouped(curve, REPLICATES)
        return controlled(curve, x[:, :, : self._tested], self._others.means(curve.abstraction))

    def bounds(self, a: Abstraction, asked: Mapping[str, Asked]) -> list[Curve]:
        """Each bound at temperatures fitted on other draws, and the best of them, named ``bound``, last."""
        found: list[Curve] = []
        fits: list[Curve] = []
        n, own = self._tested, self.both.labels[a.name]
        for name, work in asked.items():
            if isinstance(work, PathJob):
                q, x = work.log_q(a.name)[0], self._along.said(a.name) if a.name in self._known else None
            elif isinstance(work, ClassifierJob) and a.name not in self._known:
                continue
            else:
                q, x = work.log_q(a.name), self._said(a.name)
            per_draw = tempered(a, self._sigma, q[:, n:], own[n:], q, own).per_draw
            curve, fit = (
                Curve.of_draws(a.name, name, self._sigma, part, a.entropy, kind="lower bound")
                for part in (per_draw[:, :n], per_draw[:, n:])
            )
            if x is None:
                found.append(grouped(curve, REPLICATES))
                fits.append(fit)
            else:
                other = (fit.per_draw, x[:, :, n:])
                found.append(controlled(curve, x[:, :, :n], self._others.means(a.name), other))
                fits.append(controlled(fit, x[:, :, n:], self._others_fit.means(a.name)))
        return [*found, best_bound(fits, found)] if found else []

    def _said(self, name: str) -> np.ndarray | None:
        """By the classifier, of all draws at their own noise."""
        if name not in self._known:
            return None
        return said(self._known[name], self.seen.log_q(name), self.both.labels[name])
