"""Every filter of the package keeps the laws, and a wrong one breaks them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from filtering import laws
from filtering.helpers import chain
from filtering.laws import CASES, LAWS, Case
from sigmascope.filtering import Filter, WonhamFilter


@pytest.mark.parametrize("law", LAWS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_filters_keep_the_laws(case, law):
    law(case)


class _Spoiled(Filter[Any]):
    """A right filter with a wrong input or a wrong output.

    Args:
        what: that is wrong.
    """

    def __init__(self, what: str) -> None:
        self._inner, self._what = WonhamFilter(chain()), what
        self.system = self._inner.system

    def init(self, y0: Tensor) -> Any:
        return self._inner.init(y0)

    def step(self, state: Any, dy: Tensor, t: float, dt: float) -> Any:
        given = dy.roll(1, 0) if self._what == "batch" else 1.5 * dy if self._what == "step" else dy
        return self._inner.step(state, given, t, dt)

    def mean(self, state: Any) -> Tensor:
        found = self._inner.mean(state)
        return found.flip(1) if self._what == "mean" else found

    def drift(self, state: Any, t: float) -> Tensor:
        return (-1 if self._what == "drift" else 1) * self._inner.drift(state, t)

    def log_evidence(self, state: Any) -> Tensor:
        return (2 if self._what == "evidence" else 1) * self._inner.log_evidence(state)


@pytest.mark.parametrize(
    ("what", "law"),
    [
        ("batch", laws.a_batch_is_its_paths),
        ("drift", laws.its_innovation_is_a_brownian_motion),
        ("step", laws.its_innovation_is_a_brownian_motion),
        ("mean", laws.its_error_is_orthogonal_to_the_measurements),
        ("step", laws.its_error_is_orthogonal_to_the_measurements),
        ("evidence", laws.its_evidence_is_a_likelihood_ratio),
        ("step", laws.its_evidence_is_a_likelihood_ratio),
        ("evidence", laws.its_evidence_is_what_it_expects),
    ],
)
def test_a_wrong_filter_is_seen(what, law):
    with pytest.raises(AssertionError):
        law(Case(what, lambda: _Spoiled(what)))


def test_one_that_looks_ahead_is_seen(monkeypatch):
    """A driver that shows the next increment in place of this one."""
    own = laws.run
    shifted = lambda f, p: own(f, laws.replace(p, y=torch.cat([p.y[:1], p.y[2:], p.y[-1:]])))  # noqa: E731
    monkeypatch.setattr(laws, "run", shifted)
    with pytest.raises(AssertionError):
        laws.it_does_not_look_ahead(Case("one step ahead", CASES[0].make))
