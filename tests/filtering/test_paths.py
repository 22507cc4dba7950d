"""Brownian paths, and what refinement may change: nothing that was drawn."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from filtering.helpers import chain, column, gen, plane
from sigmascope.filtering import BenesSystem, CoarseStepWarning, DiffusionSystem, FiniteSystem, simulate, uniform_times
from sigmascope.paths import brownian, check_times

COARSE = torch.tensor([0.0, 0.4, 0.5, 1.3], dtype=torch.float64)
EARLY = torch.tensor([-0.5, 0.0, 0.4, 0.5, 1.3], dtype=torch.float64)
FINE = torch.tensor([0.0, 0.1, 0.15, 0.4, 0.42, 0.5, 0.9, 1.3], dtype=torch.float64)


def covariance(values):
    """Of one coordinate over the times."""
    return torch.cov(values)


def test_refined_brownian_motion_is_one():
    path = brownian(COARSE, 40_000, 1, gen(1))
    fine = path.refined(FINE, gen(2))
    assert torch.equal(fine.values[[0, 3, 5, 7]], path.values)
    expected = torch.minimum(FINE[:, None], FINE)
    assert (covariance(fine.values[:, :, 0]) - expected).abs().max() < 4 * 2**0.5 * 1.3 / 40_000**0.5


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_refined_linear_path_has_the_law_of_a_fine_one(correlation):
    system, n = plane(correlation), 30_000
    path = simulate(system, COARSE, n, gen(1))
    fine, direct = path.refined(FINE, gen(2)), simulate(system, FINE, n, gen(3))
    assert torch.equal(fine.y[[0, 3, 5, 7]], path.y)
    assert torch.equal(fine.state[[0, 3, 5, 7]], path.state)

    def joint(p):
        return torch.cat([p.state, p.y], 2).transpose(1, 2).reshape(-1, n)

    a, b = torch.cov(joint(fine)), torch.cov(joint(direct))
    scale = b.diagonal().sqrt()
    assert ((a - b).abs() / (scale[:, None] * scale)).max() < 5 * 2 / n**0.5


def test_refined_chain_keeps_its_jumps_and_its_measurement():
    path = simulate(chain(), uniform_times(2.0, 8), 50, gen(1))
    fine = path.refined(uniform_times(2.0, 64), gen(2))
    assert torch.equal(fine.state[::8], path.state)
    assert torch.allclose(fine.y[::8], path.y, atol=1e-12)
    # What lies between is noise about H integrated along the jumps: less the noise, no step exceeds max |H| dt.
    drift = (fine.y - fine.drawn.noise.values).diff(dim=0)
    assert drift.abs().max() <= 2.0 * 2.0 / 64 + 1e-12


def test_refined_benes_is_a_bridge():
    system = BenesSystem(1.0, torch.ones(1))
    n = 40_000
    path = simulate(system, COARSE, n, gen(1))
    fine, direct = path.refined(FINE, gen(2)), simulate(system, FINE, n, gen(3))
    assert torch.equal(fine.state[[0, 3, 5, 7]], path.state)
    a, b = torch.cov(torch.cat([fine.state, fine.y], 2)[1:].reshape(7, n, 2).permute(0, 2, 1).reshape(-1, n)), None
    b = torch.cov(torch.cat([direct.state, direct.y], 2)[1:].reshape(7, n, 2).permute(0, 2, 1).reshape(-1, n))
    scale = b.diagonal().sqrt()
    assert ((a - b).abs() / (scale[:, None] * scale)).max() < 5 * 2 / n**0.5


def test_refined_diffusion_converges_at_order_one():
    """Additive noise: Euler's scheme has strong order one, by refinement of one set of noises."""
    system = DiffusionSystem(
        lambda x, t: -(x**3) + x,
        torch.tensor([[0.7]]),
        lambda y, x, t: torch.sin(2 * x) - 0.5 * y,
        lambda n, g: torch.randn(n, 1, generator=g, dtype=torch.float64),
        dim=1,
        rate=0.0,
    )
    path = simulate(system, uniform_times(1.0, 16), 2000, gen(1))
    ends = [path.y[-1]]
    for steps in (32, 64, 128, 1024):
        path = path.refined(uniform_times(1.0, steps), gen(steps))
        ends.append(path.y[-1])
    errors = [float((e - ends[-1]).pow(2).mean().sqrt()) for e in ends[:-1]]
    slopes = [torch.log2(torch.tensor(a / b)).item() for a, b in pairwise(errors)]
    assert all(0.8 < s < 1.35 for s in slopes), slopes


def test_feedback_is_solved_along_the_path():
    signs = column(-1.0, 1.0)
    system = FiniteSystem(torch.tensor([0.5, 0.5]), lambda y, t: signs - 2.0 * y[..., None, :], dim=1)
    path = simulate(system, uniform_times(1.0, 2000), 4, gen(1))
    for k in (0, 700, 1999):
        h = system.drift(path.y[k], path.state[k], 0.0)
        dw = path.drawn.noise.increments[k]
        assert torch.allclose(path.y[k + 1] - path.y[k], h * (path.times[k + 1] - path.times[k]) + dw, atol=1e-12)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (torch.tensor([0.0, 1.0, 1.0]), "increase strictly"),
        (torch.tensor([0.0, float("nan")]), "finite"),
        (torch.tensor([0.0]), "at least two"),
        (torch.tensor([[0.0, 1.0]]), "expected"),
    ],
)
def test_bad_times(times, said):
    with pytest.raises(ValueError, match=said):
        check_times(times)
    with pytest.raises(ValueError, match=said):
        simulate(chain(), times, 3, gen())


@pytest.mark.filterwarnings("ignore::sigmascope.filtering.CoarseStepWarning")
@pytest.mark.parametrize("system", [chain(), plane()])
def test_bad_refinement(system):
    path = simulate(system, COARSE, 3, gen())
    for grid in (torch.tensor([0.0, 0.4, 0.7, 1.3]), torch.tensor([0.0, 0.4, 0.5, 1.3, 1.5]), EARLY):
        with pytest.raises(ValueError, match="finer grid"):
            path.refined(grid, gen())
    with pytest.raises(ValueError, match="at least 1"):
        simulate(system, COARSE, 0, gen())


def test_the_steepness_of_a_diffusion_is_seen():
    def steep(slope, rate=None):
        draw = lambda n, g: torch.randn(n, 1, generator=g, dtype=torch.float64)  # noqa: E731
        return DiffusionSystem(lambda x, t: -slope * x, torch.ones(1, 1), lambda y, x, t: x, draw, dim=1, rate=rate)

    with pytest.warns(CoarseStepWarning, match=r"fastest rate is 40: use steps of 0\.0025 or less"):
        simulate(steep(40.0), uniform_times(1.0, 50), 2, gen())
    simulate(steep(40.0, rate=0.0), uniform_times(1.0, 50), 2, gen())  # warnings are errors here
    simulate(steep(4.0), uniform_times(1.0, 50), 2, gen())
