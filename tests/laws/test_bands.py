"""Features of pictures and the Gaussian field: closed forms, the chain rule, bias and coverage on known fields."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sigmascope.core import Draws, InputError
from sigmascope.data import draw_items, from_array
from sigmascope.exact.features import Feature, parse_features, picture_shape, radii, real_fourier, to_frequencies
from sigmascope.exact.field import GaussianField, fit_field
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.gaussian import GaussianDenoiser
from sigmascope.information.jobs.field import ResolvedJob
from sigmascope.information.resolved import resolved_shares

SIZES = [(1, 4, 4), (3, 5, 4), (2, 5, 7), (1, 1, 6), (6, 3)]
SIGMAS = (0.05, 0.4, 1.0, 3.0, 20.0)


def projection(feature, event):
    """P, dense, of pixels."""
    size = int(np.prod(event))
    _, height, width = picture_shape(event, "x")
    return feature.of(to_frequencies(torch.eye(size, dtype=torch.float64).reshape(-1, *event)), height, width).T


def spectrum_of(event, alpha=1.5):
    """A stationary law: its variance at each basis picture and its covariance of pixels."""
    channels, height, width = picture_shape(event, "x")
    power = 4.0 / (0.1 + radii(height, width)) ** alpha
    basis = to_frequencies(torch.eye(channels * height * width, dtype=torch.float64).reshape(-1, *event))
    return power, (basis.flatten(1) * power.repeat_interleave(channels)) @ basis.flatten(1).T


def general(size, seed, rank=None):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(size, rank or 2 * size, generator=g, dtype=torch.float64)
    return root @ root.T / root.shape[1]


def dense_information(sigma_v, p, sigma):
    """½ ln det(Σ + σ²) − ½ ln det(Σ_{V|B} + σ²), by a pseudo-inverse in float64."""
    unit = sigma**2 * torch.eye(len(sigma_v), dtype=torch.float64)
    cross = sigma_v @ p.T
    given = sigma_v - cross @ torch.linalg.pinv(p @ cross, hermitian=True, rtol=1e-11) @ cross.T
    return 0.5 * float(torch.logdet(sigma_v + unit) - torch.logdet(given + unit))


@pytest.mark.parametrize("event", SIZES)
def test_the_basis_is_orthonormal_and_the_bands_part_the_picture(event):
    size = int(np.prod(event))
    whole = torch.cat([projection(f, event) for f in parse_features(["bands:3"])])
    assert whole.shape == (size, size)
    torch.testing.assert_close(whole @ whole.T, torch.eye(size, dtype=torch.float64), atol=1e-12, rtol=0)
    for feature in parse_features(["lowpass:.5", "gray"]):
        p = projection(feature, event)
        torch.testing.assert_close(p @ p.T, torch.eye(len(p), dtype=torch.float64), atol=1e-12, rtol=0)
        assert feature.size(event) == len(p)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_the_basis_has_the_frequencies_of_numpy(n):
    """Every row's periodogram lies at its own frequency."""
    basis, frequency = real_fourier(n)
    power = np.abs(np.fft.fft(basis.numpy(), axis=1)) ** 2
    for row, f in zip(power, frequency.tolist(), strict=True):
        assert row[np.isclose(np.abs(np.fft.fftfreq(n)), f)].sum() == pytest.approx(row.sum(), rel=1e-12)


@pytest.mark.parametrize("event", [(1, 6, 6), (3, 5, 4)])
def test_a_stationary_field_has_the_closed_form(event):
    power, covariance = spectrum_of(event)
    channels, height, width = event
    field = GaussianField.of(torch.zeros(event), covariance)
    for feature, sigma in itertools.product(parse_features(["bands:3", "lowpass:.6"]), SIGMAS):
        s = power[feature.frequencies(height, width)]
        at = field.feature(feature).at(sigma)
        assert at.information == pytest.approx(0.5 * channels * float(torch.log1p(s / sigma**2).sum()), abs=1e-9)
        assert at.rate == pytest.approx(channels * float((s / (s + sigma**2)).sum()), abs=1e-9)
        assert at.share == pytest.approx(float((s**2 / (s + sigma**2)).sum() / s.sum()), abs=1e-9)


@pytest.mark.parametrize("rank", [None, 20])
def test_a_general_covariance_agrees_with_the_dense_form(rank):
    event = (3, 4, 3)
    covariance = general(36, 1, rank)
    field = GaussianField.of(torch.zeros(event), covariance)
    for feature, sigma in itertools.product(parse_features(["bands:2", "gray"]), SIGMAS):
        p = projection(feature, event)
        at = field.feature(feature).at(sigma)
        assert at.information == pytest.approx(dense_information(covariance, p, sigma), abs=1e-7 if rank else 1e-9)
        step = 1e-4
        up, down = (field.feature(feature).at(sigma * np.exp(s)).information for s in (-step, step))
        assert at.rate == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-7)
        error = sigma**2 * covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(36, dtype=torch.float64))
        assert at.share == pytest.approx(1 - float(torch.trace(p @ error @ p.T) / torch.trace(p @ covariance @ p.T)))


def test_it_is_the_information_of_the_gaussian_denoiser():
    covariance, event = general(8, 2), (2, 2, 2)
    (feature,) = parse_features(["gray"])
    p = projection(feature, event)
    denoiser = GaussianDenoiser(torch.zeros(8), covariance, p, 1e-10 * torch.eye(len(p), dtype=torch.float64))
    at = GaussianField.of(torch.zeros(event), covariance).feature(feature).at(0.7)
    assert at.information == pytest.approx(denoiser.information(0.7), abs=1e-6)


def test_the_chain_rule_adds_up_to_the_whole():
    """Σ_k I(band k; Y | lower bands) = I(V; Y), each term by the dense form of the law given the lower bands."""
    event, covariance = (1, 5, 4), general(20, 3)
    field, sigma, bands = GaussianField.of(torch.zeros(event), covariance), 0.6, parse_features(["bands:4"])
    given, terms = covariance, []
    for feature in bands:
        p = projection(feature, event)
        terms.append(dense_information(given, p, sigma))
        cross = given @ p.T
        given = given - cross @ torch.linalg.pinv(p @ cross, hermitian=True, rtol=1e-11) @ cross.T
    whole = field.total(sigma)
    assert sum(terms) == pytest.approx(whole, abs=1e-9)
    assert field.feature(bands[0]).at(sigma).information == pytest.approx(terms[0], abs=1e-9)
    assert field.chain(bands, sigma) == pytest.approx(terms, abs=1e-9)
    assert sum(field.feature(f).at(sigma).information for f in bands) != pytest.approx(whole, abs=1e-3)


def test_constant_directions_carry_nothing():
    """Gray pictures stored in three channels: the constant differences are left out."""
    one = general(9, 4)
    covariance = torch.kron(torch.ones(3, 3, dtype=torch.float64), one)
    thrice, single = GaussianField.of(torch.zeros(3, 3, 3), covariance), GaussianField.of(torch.zeros(1, 3, 3), 3 * one)
    for feature in parse_features(["bands:2", "gray"]):
        assert thrice.feature(feature).at(0.3).information == pytest.approx(
            single.feature(feature).at(0.3).information, abs=1e-9
        )


def field_items(event, items, seed, alpha=1.5):
    _, covariance = spectrum_of(event, alpha)
    values, vectors = torch.linalg.eigh(covariance)
    g = torch.Generator().manual_seed(seed)
    white = torch.randn(items, len(values), generator=g, dtype=torch.float64)
    pictures = (white * values.clamp_min(0).sqrt()) @ vectors.T
    return from_array(pictures.reshape(-1, *event).float().numpy(), {"half": np.arange(items) % 2}), covariance


@pytest.mark.parametrize("structure", ["full", "spectrum"])
def test_the_fitted_field_is_within_its_interval_and_the_plug_in_is_not(structure):
    """Coverage over 64 data sets of a known field, at three levels and three bands; the counter-test is the plug-in."""
    event, items, seeds = (1, 4, 4), 160, 64
    features, sigmas = parse_features(["bands:3"]), (0.5, 3.0, 8.0)
    held, plug_in, z = [], [], []
    for seed in range(seeds):
        data, covariance = field_items(event, items, 1000 + seed)
        truth = GaussianField.of(torch.zeros(event), covariance)
        field = fit_field(data, structure)
        sample = data.source.read(0, len(data))
        for f, sigma in itertools.product(features, sigmas):
            true = truth.feature(f).at(sigma).information
            got = field.corrected(f, sigma, sample)
            error = np.hypot(got.stderr, got.further)
            held.append(abs(got.value - true) <= 1.96 * error)
            plug_in.append(abs(got.plug_in - true) <= 1.96 * got.stderr)
            z.append((got.value - true) / error)
    rate = np.mean(held)
    spread = 3 * (0.95 * 0.05 / seeds) ** 0.5  # levels and bands of one data set are not independent
    assert 0.95 - spread < rate
    assert rate > np.mean(plug_in) or structure == "spectrum"
    assert abs(np.mean(z)) < 3 / seeds**0.5 + 0.1
    if structure == "full":
        assert np.mean(plug_in) < 0.9


def test_a_few_items_fall_back_to_the_spectrum():
    data, _ = field_items((1, 4, 4), 60, 0)
    assert fit_field(data).structure == "spectrum"
    data, _ = field_items((1, 4, 4), 200, 0)
    assert fit_field(data).structure == "full"
    assert "16" in fit_field(data).words


def test_the_resolved_share_of_a_gaussian_denoiser():
    event = (1, 5, 4)
    power, covariance = spectrum_of(event)
    features = parse_features(["bands:3"])
    p = projection(features[0], event)
    denoiser = GaussianDenoiser(torch.zeros(event).flatten(), covariance, p, torch.eye(len(p), dtype=torch.float64))

    class Shaped(torch.nn.Module):
        def forward(self, y, sigma, known=None):
            return denoiser(y.flatten(1), sigma).reshape(y.shape)

    draws = denoiser.draw(1500, 5)[0]
    shaped = Draws(draws.items, draws.v.reshape(-1, *event), draws.noise.reshape(-1, *event))
    result = resolved_shares(Shaped(), shaped, features, [4.0, 1.0])
    wrong = 0
    for i, f in enumerate(features):
        s = power[f.frequencies(5, 4)]
        for j, sigma in enumerate((4.0, 1.0)):
            truth = float((s**2 / (s + sigma**2)).sum() / s.sum())
            assert abs(result.share[i, j] - truth) < 4 * result.stderr[i, j]
            mean_of_shares = float((s / (s + 1.3 * sigma**2)).mean())  # the counter-test: another law
            wrong += abs(result.share[i, j] - mean_of_shares) > 4 * result.stderr[i, j]
    assert wrong >= 4


def test_the_resolved_share_of_the_exact_filter_by_brute_force():
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(30, 2, 3, 4)).astype(np.float32)
    data = from_array(pictures, {"half": np.arange(30) % 2})
    features, sigma = parse_features(["bands:2", "gray"]), 2.5
    v = data.source.read(0, 12)
    draws = Draws(torch.arange(12), v, torch.from_numpy(rng.normal(size=v.shape).astype(np.float32)))
    result = resolved_shares(FiniteDenoiser(data), draws, features, [sigma])
    x, y = pictures.reshape(30, -1).astype(np.float64), (v + sigma * draws.noise).reshape(12, -1).double().numpy()
    log_p = -((y[:, None] - x[None]) ** 2).sum(2) / (2 * sigma**2)
    p = np.exp(log_p - log_p.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    miss = torch.from_numpy(v.reshape(12, -1).double().numpy() - p @ x)
    for i, f in enumerate(features):
        matrix = projection(f, (2, 3, 4))
        np.testing.assert_allclose(result.error[i, 0], ((miss @ matrix.T) ** 2).sum(1), rtol=1e-5, atol=1e-6)


def test_intervals_of_the_resolved_share_cover():
    """96 sets of 48 draws of a scalar-like field; the counter-test halves the standard error."""
    event = (1, 2, 2)
    _, covariance = spectrum_of(event)
    (feature,) = parse_features(["band:2/2"])
    values, vectors = torch.linalg.eigh(covariance)
    truth = GaussianField.of(torch.zeros(event), covariance).feature(feature).at(12.0).share

    class Wiener(torch.nn.Module):
        def forward(self, y, sigma, known=None):
            shrink = values / (values + sigma[:, None].double() ** 2)
            return ((y.double().flatten(1) @ vectors * shrink) @ vectors.T).reshape(y.shape)

    g, z = torch.Generator().manual_seed(1), []
    for _ in range(96):
        v = (torch.randn(48, 4, generator=g, dtype=torch.float64) * values.sqrt()) @ vectors.T
        noise = torch.randn(48, *event, generator=g, dtype=torch.float64)
        draws = Draws(torch.arange(48), v.reshape(-1, *event), noise)
        result = resolved_shares(Wiener(), draws, [feature], [12.0])
        z.append(abs(result.share[0, 0] - truth) / result.stderr[0, 0])
    assert np.mean(np.array(z) < 1.96) > 0.95 - 3 * (0.95 * 0.05 / 96) ** 0.5
    assert np.mean(np.array(z) < 0.98) < 0.85
    # Not too wide either: 96 squares have a relative spread of (2/96)^½, and the error alone, without the power that it
    # is divided by, gives other ones.
    assert abs(np.mean(np.square(z)) - 1) < 3 * (2 / 96) ** 0.5


def test_an_interrupted_job_goes_on():
    data, _ = field_items((1, 4, 4), 40, 3)
    draws, features, sigma = draw_items(data, 6, 0), parse_features(["bands:2"]), np.array([4.0, 2.0, 1.0])

    def job():
        return ResolvedJob(FiniteDenoiser(data), draws, features, sigma)

    whole, begun, later = job(), job(), job()
    while not whole.done:
        whole.step()
    begun.step()
    later.restore(begun.state())
    assert later.position == 1
    while not later.done:
        later.step()
    np.testing.assert_array_equal(later.errors(), whole.errors())
    with pytest.raises(InputError, match="not of this study"):
        job().restore({"resolved": np.zeros((1, 3, 6))})


@pytest.mark.parametrize(
    ("entry", "words"),
    [("band:9/8", "numbered from 1"), ("band:0/8", "numbered from 1"), ("lowpass:1.5", "at most 1"),
     ("bands:0", "numbered"), ("digit", "no feature of pictures"), ("lowpass:x", "no feature")],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(entry, words):
    with pytest.raises(InputError, match=words):
        parse_features([entry])


def test_short_ways():
    assert [f.name for f in parse_features(["band:2-3/4", "gray"])] == ["band:2/4", "band:3/4", "gray"]
    with pytest.raises(InputError, match="twice"):
        parse_features(["bands:2", "band:1/2"])
    with pytest.raises(InputError, match="holds no frequency"):
        Feature("band:2/9", band=(2, 9)).frequencies(2, 2)
    with pytest.raises(InputError, match="feature of pictures"):
        picture_shape((7,), "gray")
