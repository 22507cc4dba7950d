"""The filter along a denoiser's own path: its belief is the exact posterior, at K + 1 outputs a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from problems import four_points, mixture, points
from sigmascope.adapters.foreign import Foreign
from sigmascope.core import Attribute, Denoiser, InputError
from sigmascope.noise import Karras
from sigmascope.sample import Ancestral, OwnPathBelief, Streams, final, joint, rows, sample


class Asked(Denoiser):
    """A denoiser that counts the rows it is asked for, and is more certain of a value than it should be."""

    def __init__(self, inner, exaggerated=1.0):
        super().__init__()
        self.inner, self.event, self.attributes = inner, inner.event, inner.attributes
        self.rows, self.calls, self.exaggerated = 0, 0, exaggerated

    def forward(self, y, sigma, known=None):
        self.rows, self.calls = self.rows + len(y), self.calls + 1
        free = self.inner(y, sigma)
        return free + self.exaggerated * (self.inner(y, sigma, known) - free)


def run(denoiser, names, first, last, steps, count, seed=0):
    noise = Streams(seed, rows(count), (1,))
    draws = denoiser.inner.draw(count, seed + 100)
    belief = OwnPathBelief(denoiser, names)
    return list(joint(belief, draws.v + first * draws.noise, np.geomspace(first, last, steps + 1), noise)), belief


def off(exaggerated: float, steps: int) -> float:
    """Root mean square of π − p(a | Y_σ) over the path."""
    denoiser = Asked(points(four_points()).denoiser(), exaggerated)
    states, belief = run(denoiser, ["alternate"], 40.0, 0.5, steps, 1500)
    apart = []
    for s in states[:: steps // 16]:
        level = torch.full((1500,), s.sigma, dtype=torch.float64)
        exact = denoiser.inner.log_posterior(s.y, level, "alternate").exp()
        apart.append(((s.log_pi[:, belief.columns["alternate"]].exp() - exact) ** 2).sum(1).mean())
    return float(torch.stack(apart).mean().sqrt())


def test_the_belief_is_the_exact_posterior_at_order_one_half():
    errors = np.array([off(1.0, steps) for steps in (64, 256, 1024)])
    orders = np.log2(errors[:-1] / errors[1:]) / 2
    assert np.all(np.abs(orders - 0.5) < 0.15), errors
    assert errors[-1] < 0.05
    assert off(3.0, 1024) > 0.1  # a network that exaggerates is not taken for the exact one


def test_the_path_is_the_denoisers_own():
    """With the same noise it is the path of the Ancestral sampler, whatever the conditional outputs."""
    for exaggerated in (1.0, 3.0):
        denoiser = Asked(mixture().denoiser(), exaggerated)
        states, _ = run(denoiser, ["side", "width"], 20.0, 0.3, 40, 100)
        noise = Streams(0, rows(100), (1,))
        usual = final(sample(denoiser.inner, states[0].y, np.geomspace(20.0, 0.3, 41), Ancestral(), noise=noise))
        assert torch.allclose(usual.y, states[-1].y, atol=1e-9)


def test_outputs_of_a_step():
    """One output, and one for each value, in one call of the network; twice the values at the first level."""
    denoiser = Asked(mixture().denoiser())
    run(denoiser, ["side"], 20.0, 0.3, 40, 100)
    counted, calls = denoiser.rows, denoiser.calls
    denoiser = Asked(mixture().denoiser())
    run(denoiser, ["side"], 20.0, 0.3, 41, 100)
    assert denoiser.rows - counted == (2 + 1) * 100
    assert denoiser.calls - calls == 1
    denoiser = Asked(mixture().denoiser())
    run(denoiser, ["side", "width"], 20.0, 0.3, 40, 100)
    assert denoiser.rows == 40 * (2 + 2 + 1) * 100 + 2 * 4 * 100


def test_a_foreign_network_is_followed_as_the_law_it_wraps():
    problem = mixture()
    exact = problem.denoiser()

    def network(y, sigma, label):
        return exact(y.double(), sigma.double(), {"side": torch.where(label == 2, -1, label)}).float()

    side = Attribute("side", ("0", "1"), torch.tensor([0.4, 0.6], dtype=torch.float64))
    foreign = Foreign(network, (1,), Karras(), "denoiser", attribute=side, null=2)
    draws = exact.draw(300, 7)
    y = draws.v + 20.0 * draws.noise
    levels = np.geomspace(20.0, 0.2, 200)
    of_law = list(joint(OwnPathBelief(exact, ["side"]), y, levels, Streams(3, rows(300), (1,))))[-1]
    of_network = list(joint(OwnPathBelief(foreign, ["side"]), y, levels, Streams(3, rows(300), (1,))))[-1]
    assert float((of_law.log_pi.exp() - of_network.log_pi.exp()).abs().mean()) < 0.02


def test_an_unknown_attribute():
    with pytest.raises(InputError, match="no attribute is called 'hue': choose among side, width"):
        OwnPathBelief(mixture().denoiser(), ["hue"])
