"""Foreign networks, checked by physics: one that is the exact denoiser of a law gives that law's information."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from problems import measure_gaps
from sigmascope.adapters import PREDICTIONS, Foreign, Unit
from sigmascope.core import Attribute, InputError
from sigmascope.noise import SCHEDULES, Discrete, FlowMatching, Schedule, sigma_grid

PRIOR = torch.tensor([0.5, 0.5], dtype=torch.float64)
SIDE = Attribute("side", ("left", "right"), PRIOR)
SPREAD = 0.4


def exact(y, sigma, label):
    """E[V | y, a] of N(±1, SPREAD²) in each of three coordinates, a the sign; of their mixture where it is unknown."""
    y, sigma = y.double(), sigma.double()[:, None]
    gain = SPREAD**2 / (SPREAD**2 + sigma**2)
    each = [m + gain * (y - m) for m in (-1.0, 1.0)]
    right = torch.sigmoid(2 * y.sum(1, keepdim=True) / (SPREAD**2 + sigma**2))
    mixed = (1 - right) * each[0] + right * each[1]
    if label is None:
        return mixed
    return torch.where(label[:, None] == 2, mixed, torch.where(label[:, None] == 1, each[1], each[0]))


class Said(torch.nn.Module):
    """The exact denoiser, in the words of a parametrisation and in the unit of a network."""

    def __init__(self, schedule: Schedule, prediction: str, unit: Unit, given=lambda t: t):
        super().__init__()
        self.schedule, self.prediction, self.unit, self.given = schedule, prediction, unit, given

    def forward(self, x, time, label):
        t = self.given(time.double()).numpy()
        sigma = torch.from_numpy(self.schedule.sigma(t))[:, None]
        alpha = torch.from_numpy(self.schedule.alpha(t))[:, None]
        y = x.double() if self.prediction == "denoiser" else x.double() / alpha
        ours = (y - self.unit.offset) / self.unit.scale
        v = self.unit.scale * exact(ours, sigma[:, 0] / self.unit.scale, label) + self.unit.offset
        n = (y - v) / sigma
        s = alpha * sigma
        said = {
            "epsilon": n, "sample": v, "denoiser": v, "v_prediction": alpha * n - s * v, "flow_prediction": n - v,
        }  # fmt: skip
        return said[self.prediction]


def information(sigma: float) -> float:
    """I(side; Y) by quadrature: the sum of the coordinates is sufficient, N(±3, 3 (SPREAD² + σ²))."""
    variance = (SPREAD**2 + sigma**2) / 3
    x = np.linspace(-1 - 12 * variance**0.5, 1 + 12 * variance**0.5, 200_001)
    p = np.exp(-((x - 1) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    other = -2 * x / variance
    return float(np.log(2) - np.trapezoid(p * np.logaddexp(0, other), x))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", ["ve", "vp", "sub-vp", "cosine", "edm", "flow", "ddpm-linear", "ddpm-scaled-linear"])
def test_every_parametrisation_on_every_schedule(name, prediction):
    """D comes out as it went in, in our unit, whatever the network's words."""
    schedule, unit = SCHEDULES[name](), Unit(2.0, -1.0)
    given = (lambda t: t / 1000) if name == "flow" else (lambda t: t)
    model = Foreign(
        Said(schedule, prediction, unit, given), (3,), schedule, prediction, attribute=SIDE, null=2, unit=unit,
        clock=(lambda t: 1000 * t) if name == "flow" else None,
    )  # fmt: skip
    g = torch.Generator().manual_seed(1)
    for sigma in (0.02, 0.4, 3.0, 7.0):
        level = torch.full((6,), sigma, dtype=torch.float64)
        y = sigma * torch.randn(6, 3, generator=g, dtype=torch.float64) + 1
        label = torch.tensor([0, 1, -1, 0, 1, -1])
        wanted = exact(y, level, torch.where(label < 0, 2, label))
        # The network is handed float32: in epsilon's words, its rounding is multiplied by sigma.
        assert torch.allclose(model(y, level, {"side": label}), wanted, atol=3e-5 * max(1.0, sigma), rtol=0), sigma
        assert torch.allclose(model(y, level), exact(y, level, None), atol=3e-5 * max(1.0, sigma), rtol=0)


@pytest.mark.parametrize(
    ("schedule", "prediction"),
    [(Discrete.linear(), "epsilon"), (Discrete.cosine(), "v_prediction"), (FlowMatching(3.0), "flow_prediction")],
)
def test_information_of_a_foreign_network(schedule, prediction):
    """The score gap of the wrapped network is the closed form, through parametrisation and schedule."""
    unit = Unit(2.0, -1.0)
    model = Foreign(Said(schedule, prediction, unit), (3,), schedule, prediction, attribute=SIDE, null=2, unit=unit)
    sigma = sigma_grid(20.0, 0.2, 12)

    def draw(n, g):
        side = torch.randint(2, (n,), generator=g)
        v = (2.0 * side - 1)[:, None] + SPREAD * torch.randn(n, 3, generator=g)
        return v, {"side": side}

    found = measure_gaps(model, draw, {"side": SIDE.entropy}, sigma, target_stderr=0.01, seed=3)["side"].score_gap
    true = np.array([information(s) for s in sigma])
    assert float(np.abs((found.value - true) / np.maximum(found.error, 1e-3)).max()) < 4
    assert found.value[-1] == pytest.approx(true[-1], abs=0.05)


def test_a_schedule_of_the_wrong_network_is_seen():
    """The check can fail: given another schedule, the same network gives another law's denoiser."""
    unit = Unit()
    right, wrong = Discrete.linear(), Discrete.cosine()
    model = Foreign(Said(right, "epsilon", unit), (3,), wrong, "epsilon", attribute=SIDE, null=2)
    level = torch.full((4,), 1.0, dtype=torch.float64)
    y = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float((model(y, level) - exact(y, level, None)).abs().max()) > 0.05


def test_a_plain_function_without_classes():
    calls = []

    def network(x, time, label):
        calls.append(label)
        return torch.zeros_like(x)

    model = Foreign(network, (2, 2), SCHEDULES["vp"](), "v_prediction")
    y, level = torch.ones(3, 2, 2), torch.tensor([0.1, 1.0, 10.0])
    # v = 0 says E[V | y] = y / (1 + σ²): the denoiser of N(0, 1).
    assert torch.allclose(model(y, level)[:, 0, 0], 1 / (1 + level**2), atol=1e-6)
    assert calls == [None]
    assert model.attributes == ()


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"hue": torch.zeros(2, dtype=torch.int64)}, "has no attribute 'hue'"),
        ({"side": torch.tensor([0, 2])}, "one index of 2 values"),
        ({"side": torch.tensor([0, -1])}, "always needs 'side'"),
        (None, "always needs 'side'"),
    ],
)
def test_what_it_cannot_be_given(known, said):
    model = Foreign(lambda x, t, a: x, (3,), SCHEDULES["ve"](), "sample", attribute=SIDE)
    with pytest.raises(InputError, match=said):
        model(torch.zeros(2, 3), torch.ones(2), known)


def test_bad_parametrisation_shape_level_and_unit():
    with pytest.raises(InputError, match="expected epsilon, sample"):
        Foreign(lambda x, t, a: x, (3,), SCHEDULES["ve"](), "noise")
    with pytest.raises(InputError, match="must be above 0"):
        Unit(0.0)
    model = Foreign(lambda x, t, a: x[:, :2], (3,), SCHEDULES["ve"](), "sample")
    with pytest.raises(InputError, match=r"gave shape \(2, 2\)"):
        model(torch.zeros(2, 3), torch.ones(2))
    with pytest.raises(InputError, match="leave out what is outside"):
        model(torch.zeros(2, 3), torch.full((2,), 1e4))
    with pytest.raises(InputError, match="expected rows of"):
        model(torch.zeros(2, 4), torch.ones(2))
