"""Maps per pixel: against the gap of the same draws, closed forms, and the information they add up to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from problems import direct_gap, random_set
from sigmascope.core import Attribute, Denoiser, Draws, InputError, generator
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.gaussian import GaussianDenoiser, MixtureDenoiser
from sigmascope.information.gaps import score_gap
from sigmascope.information.maps import information_maps
from sigmascope.noise import sigma_grid

SIGMA = sigma_grid(20.0, 0.2, 24)


def same_draws(v: Tensor, label: dict[str, int], noises: int, seed: int) -> Draws:
    """What the map sees of one image, as draws."""
    noise = torch.stack([torch.randn(*v.shape, generator=generator(seed, j)) for j in range(noises)])
    labels = {n: torch.full((noises,), k) for n, k in label.items()}
    return Draws(torch.arange(noises), v.expand_as(noise).contiguous(), noise, labels)


@pytest.mark.parametrize("batch", [1, 7, 60, 10_000])
def test_sums_are_the_gap_of_the_same_draws(batch):
    data = random_set(3)
    denoiser, v = FiniteDenoiser(data), data.source.take(torch.tensor([11]))[0]
    label = {n: int(data.labels[n][11]) for n in ("even", "many")}
    found = information_maps(denoiser, v, label, SIGMA, noises=6, seed=5, batch=batch)
    for name, m in found.items():
        draws = same_draws(v, label, 6, 5)
        gap = direct_gap(denoiser, draws, SIGMA, name, average=False)
        curve = score_gap(data.attribute(name), SIGMA, gap)
        assert m.rate.shape == m.information.shape == (len(SIGMA), 4, 4)  # three channels are summed
        assert m.rate.sum((1, 2)) == pytest.approx((gap.score / SIGMA[:, None] ** 2).mean(1), rel=1e-9)
        assert m.information.sum((1, 2)) == pytest.approx(curve.value, rel=1e-9)
        assert m.total == pytest.approx(curve.value, rel=1e-9)
        # But for the series above the first level, which a curve takes from the mean of all draws.
        assert m.total_stderr == pytest.approx(curve.stderr, rel=0.02, abs=1e-4)
        assert m.total[-1] > 0.1


def written_on_two(m: np.ndarray, s: np.ndarray) -> MixtureDenoiser:
    """Two classes at ±m with independent coordinates of standard deviation s."""
    means, covariance = torch.tensor(np.stack([-m, m])), torch.diag(torch.tensor(s) ** 2).expand(2, -1, -1)
    return MixtureDenoiser(torch.tensor([0.5, 0.5]), means, covariance, {"sign": [0, 1]})


M, S = np.array([1.5, 0.0, 0.7, 0.0]), np.array([0.3, 1.0, 0.8, 0.4])
V = torch.tensor([1.2, 0.4, -0.2, 0.1], dtype=torch.float64)


def rate_by_quadrature(sigma: float) -> np.ndarray:
    r"""Conditional +: D_a - D = sigma^2/(s_i^2 + sigma^2) 2 m_i (1 - p(+ | y)), the log odds normal under the noise."""
    total = S**2 + sigma**2
    middle, spread = 2 * (M * V.numpy() / total).sum(), 2 * math.sqrt((M**2 / total**2).sum()) * sigma
    x, w = np.polynomial.hermite_e.hermegauss(200)
    doubt2 = (w / math.sqrt(2 * math.pi) / (1 + np.exp(middle + spread * x)) ** 2).sum()
    return 4 * M**2 * sigma**2 / total**2 * doubt2


def test_a_mixture_in_closed_form():
    found = information_maps(written_on_two(M, S), V, {"sign": 1}, SIGMA, noises=6000)["sign"]
    truth = np.stack([rate_by_quadrature(s) for s in SIGMA])
    assert found.rate.shape == (len(SIGMA), 4)
    assert np.abs(found.rate[:, [1, 3]]).max() < 1e-20  # nothing is written there
    assert np.abs(found.information[:, [1, 3]]).max() < 1e-20
    on, seen = [0, 2], truth[:, 0] > 1e-3  # below, a noise in ten thousand carries the rate: its error is not seen
    apart, error = np.abs(found.rate - truth)[seen][:, on], found.rate_stderr[seen][:, on]
    assert seen.sum() == 21
    assert np.all(apart < 4 * error)
    assert found.rate[~seen].max() < 1e-3
    fine = sigma_grid(400.0, 0.2, 2000)
    rates, x = np.stack([rate_by_quadrature(s) for s in fine]), np.log(fine)
    steps = (rates[1:] + rates[:-1]) / 2 * -np.diff(x)[:, None]
    above = np.concatenate([np.zeros((1, 4)), np.cumsum(steps, 0)]) + rates[0] / 2  # the rest falls as 1/sigma^2
    wanted = np.stack([np.interp(-np.log(SIGMA), -x, c) for c in above.T], 1)
    assert np.all(np.abs(found.information - wanted)[:, on] < 4 * found.stderr[:, on] + 1e-4)
    assert found.stderr[-1, on].max() < 0.03 * wanted[-1].max()
    # The errors are those of a mean over noises: none would be passed with errors a tenth as large.
    assert not np.all(apart < 0.4 * error)


def test_standard_errors_cover():
    truth = rate_by_quadrature(1.0)[0]
    denoiser, sigma, runs = written_on_two(M, S), np.array([1.5, 1.0]), 400
    each = [information_maps(denoiser, V, {"sign": 1}, sigma, noises=60, seed=k)["sign"] for k in range(runs)]
    errors = np.array([(m.rate[1, 0] - truth) / m.rate_stderr[1, 0] for m in each])
    band = 4 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.95 - band - 0.01 < np.mean(np.abs(errors) < 1.96) < 0.95 + band
    assert np.mean(np.abs(errors) < 1.96 * 0.75) < 0.95 - band - 0.01


def test_a_continuous_attribute_in_closed_form():
    """A = V_0 + N(0, 0.25); the other coordinates are independent of it."""
    s2, r2, a = 1.44, 0.25, 0.9
    gain, covariance = torch.tensor([[1.0, 0.0, 0.0]]), torch.diag(torch.tensor([s2, 1.0, 0.3], dtype=torch.float64))
    mean = torch.tensor([0.2, 0.0, -1.0], dtype=torch.float64)
    denoiser, v = (
        GaussianDenoiser(mean, covariance, gain, torch.tensor([[r2]])),
        torch.tensor([1.0, 2.0, -0.5]).double(),
    )
    found = information_maps(denoiser, v, {"a": torch.tensor([a])}, SIGMA, noises=3000)["a"]
    conditional, t2 = 0.2 + s2 / (s2 + r2) * (a - 0.2), s2 * r2 / (s2 + r2)
    free, known = s2 / (s2 + SIGMA**2), t2 / (t2 + SIGMA**2)
    # D_a - D = conditional (1 - known) - 0.2 (1 - free) + (known - free) (v + sigma n)
    middle = conditional * (1 - known) - 0.2 * (1 - free) + (known - free) * 1.0
    truth = (middle**2 + ((known - free) * SIGMA) ** 2) / SIGMA**2
    assert np.all(np.abs(found.rate[:, 0] - truth) < 4 * found.rate_stderr[:, 0] + 1e-6 * truth)
    assert found.rate_stderr[-1, 0] < 0.05 * truth[-1]
    assert np.abs(found.rate[:, 1:]).max() < 1e-10


def test_the_mean_over_images_is_the_information():
    denoiser = written_on_two(np.array([1.0, 0.6]), np.array([0.5, 0.5]))
    draws = denoiser.draw(300, 1)
    each = [
        information_maps(denoiser, v, {"sign": int(k)}, SIGMA, noises=8, seed=i)["sign"].total
        for i, (v, k) in enumerate(zip(draws.v, draws.labels["sign"], strict=True))
    ]
    total, error = np.mean(each, 0), np.std(each, 0, ddof=1) / math.sqrt(300)
    x, w = np.polynomial.hermite_e.hermegauss(200)
    for j in (4, 10, 16, 23):
        snr = (1.0 + 0.36) / (0.25 + SIGMA[j] ** 2)  # along m: the log odds of the own class are normal
        entropy = (w / math.sqrt(2 * math.pi) * np.log1p(np.exp(-2 * snr - 2 * math.sqrt(snr) * x))).sum()
        truth = math.log(2) - entropy
        assert abs(total[j] - truth) < 4 * error[j] + 1e-3
        assert error[j] < 0.06
    assert np.std([t[-1] for t in each]) > 0.1  # but images differ


def test_the_part_above_the_first_level_is_there():
    """Begun at a level at which much is known already, the sum is that of a grid that begins far above."""
    denoiser = written_on_two(np.array([1.0, 0.0]), np.array([0.2, 0.2]))
    v = torch.tensor([1.1, 0.0], dtype=torch.float64)
    low, high = (sigma_grid(top, 0.5, n) for top, n in ((4.0, 60), (400.0, 180)))
    short, long = (information_maps(denoiser, v, {"sign": 1}, s, noises=400)["sign"] for s in (low, high))
    assert short.total[0] == pytest.approx(np.interp(-np.log(4.0), -np.log(high), long.total), rel=0.03)
    assert short.total[0] > 0.02


class Sure(Denoiser):
    """A network that is conditional and believes it, in float32 with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.event = (2, 3, 3)
        self.attributes = (Attribute("a", ("x", "y"), torch.tensor([0.5, 0.5])),)
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, y, sigma, known=None):
        assert y.dtype == sigma.dtype == torch.float32
        out = torch.zeros_like(y)
        if known is not None:
            out[:, 0, 0, 1] += known["a"].to(y.dtype) * self.weight
            out[:, 1, 0, 1] += 2 * known["a"].to(y.dtype) * self.weight
        return out


def test_a_learned_denoiser_is_mapped_as_it_is():
    m = information_maps(Sure(), torch.zeros(2, 3, 3), {"a": 1}, np.array([2.0, 1.0]), noises=3)["a"]
    wanted = np.zeros((2, 3, 3))
    wanted[:, 0, 1] = [5 / 4, 5.0]
    assert np.array_equal(m.rate, wanted)
    assert np.all(m.rate_stderr == 0)
    assert m.information[:, 0, 1] == pytest.approx([5 / 8, 5 / 8 + (5 / 4 + 5) / 2 * math.log(2)])


def test_more_noises_leave_the_earlier_ones():
    data = random_set(4)
    denoiser, v = FiniteDenoiser(data), data.source.take(torch.tensor([0]))[0]
    few, many = (information_maps(denoiser, v, {"many": 2}, SIGMA, noises=n, batch=50)["many"] for n in (4, 9))
    assert many.total_per_noise[:, :4] == pytest.approx(few.total_per_noise, rel=1e-9)
    assert len(np.unique(many.total_per_noise[10])) == 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": {"colour": 0}}, "no attribute is called 'colour': choose among even"),
        ({"labels": {"many": 7}}, r"labels\['many'\] is 7: expected 0 to 6"),
        ({"labels": {}}, "name no attribute"),
        ({"v": torch.zeros(3, 4, 5)}, "expected one of shape"),
        ({"v": torch.full((3, 4, 4), torch.nan)}, "not finite"),
        ({"sigma": np.array([1.0])}, "2 or more"),
        ({"sigma": np.array([1.0, 2.0])}, "must decrease"),
        ({"noises": 1}, "at least 2 noises"),
    ],
)
def test_refused(change, words):
    data = random_set(4)
    given = {"v": data.source.take(torch.tensor([0]))[0], "labels": {"many": 2}, "sigma": SIGMA} | change
    with pytest.raises(InputError, match=words):
        information_maps(FiniteDenoiser(data), **given)
