"""The curves of a study made sharper by a classifier: what it says of the draws, and of many others of the same law."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float

from sigmascope.core import Abstraction, Curve, Draws
from sigmascope.information.allocation import REPLICATES
from sigmascope.information.combined import best_bound, grouped
from sigmascope.information.controls import controlled, said
from sigmascope.information.likelihood import tempered
from sigmascope.learn.classifier import NoisyClassifier
from sigmascope.studies.learned_works import ClassifierWork, ControlWork, LikelihoodWork
from sigmascope.studies.works import PathWork, Work

MORE = 16  # cheap draws for each costly one

Asked = PathWork | LikelihoodWork | ClassifierWork


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
    """

    def __init__(
        self,
        classifier: NoisyClassifier | None,
        test: Draws,
        fit: Draws,
        more: Callable[[int, bool, int], Draws],
        sigma: Float[np.ndarray, " levels"],
        abstractions: Sequence[Abstraction],
    ) -> None:
        self._test, self._fit, self._sigma = test, fit, sigma
        self.both = Draws(
            torch.cat([test.items, fit.items]),
            torch.cat([test.v, fit.v]),
            torch.cat([test.noise, fit.noise]),
            {k: torch.cat([x, fit.labels[k]]) for k, x in test.labels.items()},
        )
        self.classifier = classifier
        self.works: list[Work] = []
        self.others = 0  # cheap draws, beside those of the test
        self._known: dict[str, Abstraction] = {}
        if classifier is None:
            return
        told = {a.name for a in classifier.abstractions}
        known = [a for a in abstractions if a.name in told]
        self._known = {a.name: a for a in known}
        each = MORE * len(test) // REPLICATES
        self.others = each * REPLICATES
        self.seen = ClassifierWork(classifier, self.both, sigma, known)
        self._others = {
            of_fit: ControlWork(classifier, partial(more, each, of_fit), groups, sigma, known)
            for of_fit, groups in ((False, REPLICATES), (True, REPLICATES // 2))
        }
        self.works = [self.seen, *self._others.values()]

    def sharper(self, curve: Curve) -> Curve:
        """A curve of the test draws at their own noise, in groups."""
        return self._sharper(curve, self._said(curve.abstraction), False)

    def bounds(self, a: Abstraction, asked: Mapping[str, Asked]) -> list[Curve]:
        """Each bound at temperatures fitted on other draws, and the best of them, named ``bound``, last."""
        found: list[Curve] = []
        fits: list[Curve] = []
        n, own = len(self._test), self.both.labels[a.name]
        for name, work in asked.items():
            if isinstance(work, PathWork):
                q, x = work.log_q(a.name)[0], work.said(a.name) if a.name in self._known else None
            else:
                q, x = work.log_q(a.name), self._said(a.name)
            per_draw = tempered(a, self._sigma, q[:, n:], own[n:], q, own).per_draw
            for kept, part, of_fit in ((found, slice(n), False), (fits, slice(n, None), True)):
                curve = Curve.of_draws(a.name, name, self._sigma, per_draw[:, part], a.entropy, kind="lower bound")
                kept.append(self._sharper(curve, None if x is None else x[:, :, part], of_fit))
        return [*found, best_bound(fits, found)] if found else []

    def _said(self, name: str) -> np.ndarray | None:
        """By the classifier, of all draws at their own noise."""
        if name not in self._known:
            return None
        return said(self._known[name], self.seen.log_q(name), self.both.labels[name])

    def _sharper(self, curve: Curve, controls: np.ndarray | None, of_fit: bool) -> Curve:
        if controls is not None:
            draws = curve.per_draw.shape[1]
            return controlled(curve, controls[:, :, :draws], self._others[of_fit].means(curve.abstraction))
        return curve if of_fit else grouped(curve, REPLICATES)
