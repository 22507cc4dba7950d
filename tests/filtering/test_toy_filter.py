"""A filter of a test's own goes through the driver and the laws of all filters without a change to any file."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from filtering.helpers import gen
from filtering.laws import LAWS, Case
from sigmascope.filtering import Filter, FiniteSystem, WonhamFilter, run, simulate, uniform_times


class _State(NamedTuple):
    moved: Tensor
    time: float


class SignFilter(Filter[_State]):
    r"""The sign of a drift: of :math:`dY = x\,dt + dW`, x = ±1, all that counts is how far Y has moved.

    .. math:: P(x = 1 \mid Y) = \frac{1}{1 + e^{-2 Y_t}}, \qquad \ln\frac{dP_Y}{dW} = \ln\cosh Y_t - \tfrac t2
    """

    def __init__(self) -> None:
        self.system = FiniteSystem(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0], [1.0]]))
        self.watched = {"moved": lambda state: state.moved}

    def init(self, y0: Tensor) -> _State:
        return _State(torch.zeros_like(y0[:, 0]), 0.0)

    def step(self, state: _State, dy: Tensor, t: float, dt: float) -> _State:
        return _State(state.moved + dy[:, 0], state.time + dt)

    def mean(self, state: _State) -> Tensor:
        return torch.stack([torch.sigmoid(-2 * state.moved), torch.sigmoid(2 * state.moved)], 1)

    def drift(self, state: _State, t: float) -> Tensor:
        return torch.tanh(state.moved)[:, None]

    def log_evidence(self, state: _State) -> Tensor:
        return torch.cosh(state.moved).log() - 0.5 * state.time


@pytest.mark.parametrize("law", LAWS, ids=lambda f: f.__name__)
def test_a_filter_of_ones_own_keeps_the_laws(law):
    law(Case("sign", SignFilter))


def test_it_is_driven_as_all_are():
    path = simulate(SignFilter().system, uniform_times(2.0, 50), 9, gen(8))
    own, other = run(SignFilter(), path), run(WonhamFilter(path.system), path)
    assert torch.allclose(own.mean, other.mean, atol=1e-12)
    assert torch.allclose(own.log_evidence, other.log_evidence, atol=1e-12)
    assert torch.allclose(own.diagnostics["moved"], (path.y - path.y[0])[..., 0], atol=1e-12)
