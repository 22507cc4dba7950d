"""Real-valued attributes of finite sets, known up to a resolution, against dense float64 sums and closed forms."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import i0e, logsumexp, ndtri

from sigmascope import from_array
from sigmascope.core import Draws, InputError, LabelledData
from sigmascope.data import draw_items, noisy_numbers
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel.sums import LOGIT_ERROR
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.exact.finite.reals import RealPosterior
from sigmascope.information.reals import information, precision
from sigmascope.noise import sigma_grid

# TRUTHS: scalar Gaussian A = V at (resolution, sigma); an angle of unit vectors in the plane at sigma.
GAUSSIAN = {(0.1, 0.5): 0.78530, (0.3, 1.0): 0.30691, (1.0, 1.0): 0.14384}
ANGLE = {0.25: 1.78804, 0.5: 1.03751, 1.0: 0.40348, 2.0: 0.11776}
LEVELS = sigma_grid(20.0, 0.01, 40)


def some_set(items: int = 90, *, weighted: bool = True) -> LabelledData:
    """Items with near copies, a class, a number, a vector and an angle, all of the latter distinct; and few numbers."""
    rng = np.random.default_rng(3)
    v = rng.normal(size=(items, 7)).astype(np.float32)
    v[items // 2 :] = v[: items - items // 2] + rng.normal(scale=3e-3, size=v[items // 2 :].shape).astype(np.float32)
    v[-1], v[-2] = v[0], v[0]  # equal items with different labels
    columns = {
        "x": v[:, 0] + rng.normal(scale=0.1, size=items), "y": rng.normal(size=items),
        "angle": rng.uniform(0, 360, items), "few": rng.integers(0, 7, items) * 1.5, "kind": rng.integers(0, 3, items),
    }  # fmt: skip
    weights = rng.uniform(0.2, 2.0, items) if weighted else None
    entries = (
        "kind", "x:resolution=0.2", "pair=x+y:resolution=0.3", "angle:resolution=25:period=360", "few:resolution=0.5"
    )  # fmt: skip
    return from_array(v, columns, weights=weights, attributes=entries)


def measured(data: LabelledData, draws: Draws, sigma: np.ndarray, **options: object) -> dict[str, RealPosterior]:
    """The pass of all real-valued attributes of the data."""
    noisy = noisy_numbers(data, draws.items, 5)
    work = PosteriorPass(FiniteDenoiser(data), draws, sigma, noisy=noisy, **options)
    while not work.done:
        work.step()
    return work.reals()


def kernel_of(apart: np.ndarray, resolution: float, period: float | None) -> np.ndarray:
    """The density of A_r given A, from differences (..., columns), with many images of a circle."""
    turns = np.arange(-40, 41) * period if period else np.zeros(1)
    exponent = -((apart[..., None] + turns) ** 2).sum(-2) / (2 * resolution**2)
    return np.exp(logsumexp(exponent, -1)) / (math.sqrt(2 * math.pi) * resolution) ** apart.shape[-1]


def dense(data: LabelledData, draws: Draws, sigma: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """ln p(a_r | y) / p(a_r) and the squared error of every level and draw, by brute force in float64."""
    a = next(r for r in data.reals if r.name == name)
    v = data.source.read(0, len(data)).reshape(len(data), -1).double().numpy()
    numbers, noisy = data.numbers[name].numpy(), noisy_numbers(data, draws.items, 5)[name].numpy()
    w, own = data.weights.numpy(), numbers[draws.items.numpy()]
    k = kernel_of(noisy[:, None] - numbers, a.resolution, a.period)
    ratio, error = np.empty((len(sigma), len(draws))), np.empty((len(sigma), len(draws)))
    for j, s in enumerate(sigma):
        y = draws.v.double().numpy() + s * draws.noise.double().numpy()
        p = np.log(w) - ((y[:, None] - v) ** 2).sum(2) / (2 * s * s)
        p = np.exp(p - logsumexp(p, 1, keepdims=True))
        ratio[j] = np.log((p * k).sum(1)) - np.log(k @ w)
        if a.period:
            turn = np.exp(2j * np.pi * (numbers[:, 0] - own) / a.period)  # relative to the own value
            error[j] = (np.angle((p * turn).sum(1)) * a.period / (2 * np.pi)) ** 2
        else:
            error[j] = ((own - p @ numbers) ** 2).sum(1)
    return ratio, error


@pytest.mark.parametrize("name", ["x", "pair", "angle", "few"])
@pytest.mark.parametrize("weighted", [True, False])
def test_each_draw_is_that_of_a_dense_float64_sum(name, weighted):
    data = some_set(weighted=weighted)
    draws = draw_items(data, 40, 1)
    ours, (ratio, error) = measured(data, draws, LEVELS)[name], dense(data, draws, LEVELS, name)
    assert np.abs(ours.log_ratio[:-1].numpy() - ratio).max() < 1e-10
    assert np.abs(ours.squared_error[:-1].numpy() - error).max() < 1e-10 * max(error.max(), 1.0)
    assert ratio.max() > 1.0  # something is known


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", ["x", "pair", "angle", "few"])
def test_single_precision_errs_as_little_as_for_classes(name, compiled):
    """Products in float32, in both engines; where pairs are computed again in float64, as exact as in float64."""
    data = some_set()
    draws = draw_items(data, 40, 1)
    ours, (ratio, error) = (
        measured(data, draws, LEVELS, dtype=torch.float32, compiled=compiled)[name],
        dense(data, draws, LEVELS, name),
    )
    # Each of the two sums of a ratio errs by as much as the logits of the pairs.
    assert np.abs(ours.log_ratio[:-1].numpy() - ratio).max() < 2 * LOGIT_ERROR
    assert np.abs(ours.squared_error[:-1].numpy() - error).mean() < LOGIT_ERROR * error.mean()
    fine = LEVELS < 0.05
    assert np.abs(ours.log_ratio[:-1].numpy() - ratio)[fine].max() < 1e-10
    assert np.abs(ours.squared_error[:-1].numpy() - error)[fine].max() < 1e-10 * error.max()


@pytest.mark.parametrize("name", ["x", "angle", "few"])
def test_the_limit_is_that_of_the_nearest_items(name):
    """Without noise the posterior is on the item and its equals; the ceiling is that of A itself."""
    data = some_set(weighted=False)
    items = torch.tensor([0, 1, 2, len(data) - 1])
    draws = Draws(items, data.source.take(items), torch.ones(4, 7))
    ours = measured(data, draws, LEVELS)[name]
    alone = ours.log_ratio[-1] - ours.log_ceiling
    assert torch.allclose(alone[1:3], torch.zeros(2).double(), atol=1e-12)
    assert bool((ours.squared_error[-1, 1:3] < 1e-20).all())
    a = next(r for r in data.reals if r.name == name)
    noisy, numbers = noisy_numbers(data, items, 5)[name].numpy(), data.numbers[name].numpy()
    equal = [0, len(data) - 1, len(data) - 2]
    k = kernel_of(noisy[:, None] - numbers, a.resolution, a.period)
    assert ours.log_ratio[-1, 0] == pytest.approx(math.log(k[0, equal].mean() / k[0].mean()), abs=1e-10)


def gaussian(items: int, resolution: float) -> LabelledData:
    """Equal quantiles of a normal law, whose sums converge fast; A = V."""
    v = ndtri((np.arange(items) + 0.5) / items)
    return from_array(v.astype(np.float32)[:, None], {"a": v}, attributes=(f"a:resolution={resolution}",))


@pytest.mark.parametrize(("at", "truth"), GAUSSIAN.items())
def test_a_gaussian_by_its_closed_form(at, truth):
    resolution, sigma = at
    data = gaussian(4000, resolution)
    draws = draw_items(data, 3000, 2)
    known = measured(data, draws, np.array([sigma]))["a"]
    a = data.reals[0]
    curve = information(a, np.array([sigma]), known.log_ratio[:-1], known.log_ceiling)
    assert truth == pytest.approx(-0.5 * math.log(1 - 1 / ((1 + resolution**2) * (1 + sigma**2))), abs=1e-5)
    assert abs(curve.value[0] - truth) < 4 * curve.stderr[0]
    assert curve.stderr[0] < 0.02
    value, error = precision(known.squared_error[:-1])
    assert abs(value[0] - sigma / math.sqrt(1 + sigma**2)) < 4 * error[0]
    assert error[0] < 0.01
    # The ceiling: I(A; A_r) of a normal A.
    ceiling = 0.5 * math.log(1 + resolution**-2)
    spread = float(known.log_ceiling.std()) / math.sqrt(3000)
    assert abs(curve.ceiling - ceiling) < 4 * spread + 1e-3


def test_another_law_misses_the_closed_form():
    """The counter-test: numbers that do not belong to the items miss the closed form by far."""
    data = gaussian(4000, 0.3)
    shuffled = torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    data = replace(data, numbers={"a": data.numbers["a"][shuffled]})
    draws = draw_items(data, 1000, 2)
    known = measured(data, draws, np.array([1.0]))["a"]
    curve = information(data.reals[0], np.array([1.0]), known.log_ratio[:-1], known.log_ceiling)
    assert abs(curve.value[0] - GAUSSIAN[0.3, 1.0]) > 8 * curve.stderr[0]


def test_a_gaussian_vector_by_determinants():
    """I(A_r; Y) = ½ ln det(Σ_A + r²) det(Σ_Y) / det(joint), A = B V."""
    rng = np.random.default_rng(0)
    items, b, r, sigma = 60_000, np.array([[1.0, 0.4, 0.0], [0.0, 0.7, -0.6]]), 0.5, 0.6
    v = rng.normal(size=(items, 3)).astype(np.float32)
    a = v @ b.T
    data = from_array(v, {"p": a[:, 0], "q": a[:, 1]}, attributes=(f"pose=p+q:resolution={r}",))
    draws = draw_items(data, 500, 4)
    known = measured(data, draws, np.array([sigma]))["pose"]
    curve = information(data.reals[0], np.array([sigma]), known.log_ratio[:-1], known.log_ceiling)
    of_a, of_y = b @ b.T + r**2 * np.eye(2), np.eye(3) * (1 + sigma**2)
    joint = np.block([[of_a, b], [b.T, of_y]])
    truth = 0.5 * (np.linalg.slogdet(of_a)[1] + np.linalg.slogdet(of_y)[1] - np.linalg.slogdet(joint)[1])
    # A set of n items approximates its law: the density of Y at σ = .6 from 60,000 of them errs by a few thousandths.
    assert abs(curve.value[0] - truth) < 4 * curve.stderr[0] + 5e-3
    assert curve.stderr[0] < 0.05
    value, error = precision(known.squared_error[:-1])
    left = b @ b.T * sigma**2 / (1 + sigma**2)
    assert abs(value[0] - math.sqrt(np.trace(left))) < 4 * error[0] + 5e-3


def circle(items: int, resolution: float) -> LabelledData:
    degrees = np.arange(items) * 360.0 / items
    v = np.stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], 1).astype(np.float32)
    return from_array(v, {"turn": degrees}, attributes=(f"turn:resolution={resolution}:period=360",))


@pytest.mark.parametrize(("sigma", "whole"), ANGLE.items())
def test_an_angle_by_quadrature(sigma, whole):
    """The posterior of θ given y is von Mises with κ = |y|/σ²; A_r has its convolution with the wrapped kernel."""
    r = 20.0
    data = circle(1440, r)
    draws = draw_items(data, 2000, 6)
    known = measured(data, draws, np.array([sigma]))["turn"]
    curve = information(data.reals[0], np.array([sigma]), known.log_ratio[:-1], known.log_ceiling)
    truth, error = angle_by_quadrature(sigma, r)
    assert truth < whole  # data processing
    assert abs(curve.value[0] - truth) < 4 * curve.stderr[0]
    assert curve.stderr[0] < 0.03
    value, stderr = precision(known.squared_error[:-1])
    assert abs(value[0] - error) < 4 * stderr[0]


def angle_by_quadrature(sigma: float, r: float) -> tuple[float, float]:
    """I(θ_r; Y) in nats and the root mean square of the wrapped error in degrees, over |y| and the angle."""
    theta = (np.arange(1440) + 0.5) / 1440 * 2 * np.pi - np.pi
    radius = np.linspace(1e-4, 1 + 9 * sigma, 3000)
    density = radius / sigma**2 * np.exp(-((radius - 1) ** 2) / (2 * sigma**2)) * i0e(radius / sigma**2)  # Rice
    kappa = radius / sigma**2
    posterior = np.exp(kappa[:, None] * (np.cos(theta) - 1)) / (2 * np.pi * i0e(kappa)[:, None])
    k = np.arange(721)
    blur = np.exp(-0.5 * (k * np.deg2rad(r)) ** 2)  # of the wrapped normal, by Fourier coefficients
    blurred = np.clip(np.fft.irfft(np.fft.rfft(posterior, axis=1) * blur, n=1440, axis=1), 1e-300, None)
    step, width = radius[1] - radius[0], theta[1] - theta[0]
    entropy = -(blurred * np.log(blurred)).sum(1) * width
    information = np.log(2 * np.pi) - (density * entropy).sum() * step
    square = (posterior * theta**2).sum(1) * width  # the mean direction is that of y
    return float(information), float(np.rad2deg(np.sqrt((density * square).sum() * step)))


def test_the_quadrature_has_the_known_information_of_the_angle():
    for sigma, truth in ANGLE.items():
        assert angle_by_quadrature(sigma, 1e-3)[0] == pytest.approx(truth, abs=2e-4)


def test_information_falls_as_the_resolution_grows():
    """Data processing: A_r' is A_r with more noise; the same for every level."""
    curves = []
    for r in (0.1, 0.3, 1.0):
        data = gaussian(2000, r)
        draws = draw_items(data, 1000, 3)
        known = measured(data, draws, LEVELS)["a"]
        curves.append(information(data.reals[0], LEVELS, known.log_ratio[:-1], known.log_ceiling))
    for fine, coarse in itertools.pairwise(curves):
        apart = fine.per_draw - coarse.per_draw
        assert np.all(apart.mean(1) > -4 * apart.std(1) / math.sqrt(1000))
        assert apart.mean(1).max() > 0.1
        assert coarse.ceiling < fine.ceiling


def test_a_pass_that_stops_and_goes_on_ends_with_the_same_numbers():
    data = gaussian(5000, 0.3)
    draws = draw_items(data, 8, 3)
    noisy = {"a": noisy_numbers(data, draws.items, 5)["a"]}

    def new() -> PosteriorPass:
        return PosteriorPass(FiniteDenoiser(data), draws, LEVELS, noisy=noisy)

    work = new()
    assert work.total > 1
    work.step()
    state = {k: v.copy() for k, v in work.state().items()}
    other = new()
    other.restore(state)
    for each in (work, other):
        while not each.done:
            each.step()
    assert torch.equal(work.reals()["a"].log_ratio, other.reals()["a"].log_ratio)


def test_draws_from_outside_the_data_are_refused():
    data = gaussian(50, 0.3)
    draws = Draws(torch.full((2,), -1), torch.zeros(2, 1), torch.zeros(2, 1))
    with pytest.raises(InputError, match="have no number"):
        PosteriorPass(FiniteDenoiser(data), draws, LEVELS, noisy={"a": torch.zeros(2, 1).double()})


def test_more_draws_leave_the_noise_of_the_others():
    data = gaussian(50, 0.3)
    few, more = draw_items(data, 3, 0), draw_items(data, 9, 0)
    assert torch.equal(noisy_numbers(data, few.items, 0)["a"], noisy_numbers(data, more.items, 0)["a"][:3])


@pytest.mark.parametrize(("draws", "sigma"), [(64, 0.3), (64, 1.0), (128, 3.0)])
def test_intervals_of_curve_and_precision_hold(draws, sigma):
    """200 studies of the normal law: 95 % intervals hold its information and precision; half of one does not."""
    r, items = 0.3, 4000
    data = gaussian(items, r)
    truth = -0.5 * math.log(1 - 1 / ((1 + r**2) * (1 + sigma**2)))
    exact = sigma / math.sqrt(1 + sigma**2)
    seeds = 200
    whole = draw_items(data, draws * seeds, 11)
    known = measured(data, whole, np.array([sigma]))["a"]
    held = np.zeros((seeds, 4), dtype=bool)
    for k in range(seeds):
        part = slice(k * draws, (k + 1) * draws)
        curve = information(data.reals[0], np.array([sigma]), known.log_ratio[:-1, part], known.log_ceiling[part])
        value, error = precision(known.squared_error[:-1, part])
        off = abs(curve.value[0] - truth) / curve.error[0], abs(value[0] - exact) / error[0]
        held[k] = off[0] < 1.96, off[1] < 1.96, off[0] < 0.98, off[1] < 0.98
    share = held.mean(0)
    assert np.all(np.abs(share[:2] - 0.95) < 4 * math.sqrt(0.95 * 0.05 / seeds)), share
    assert np.all(share[2:] < 0.95 - 4 * math.sqrt(0.95 * 0.05 / seeds)), share
