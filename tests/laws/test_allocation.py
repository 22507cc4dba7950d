"""Gaps by adaptive allocation against closed forms, with errors that are honest and calls that can be broken off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from problems import Line, four_points, measure_gaps, two_points
from sigmascope.core import Curve, Denoiser, InputError, generator
from sigmascope.exact.gaussian import GaussianDenoiser, MixtureDenoiser
from sigmascope.information import allocation
from sigmascope.information.adaptive import GapJob
from sigmascope.information.allocation import Allocation, choose
from sigmascope.information.importance import Surrogate
from sigmascope.noise import sigma_grid

GRID = sigma_grid(90.0, 0.01, 24)


def exact(line: Line) -> MixtureDenoiser:
    labels = {n: x.tolist() for n, x in line.labels.items()}
    return MixtureDenoiser(
        torch.from_numpy(line.weights),
        torch.from_numpy(line.points[:, None]),
        torch.zeros(4)[: len(line.points)],
        labels,
    )


def points(denoiser: MixtureDenoiser):
    def draw(n, g):
        k = torch.multinomial(denoiser.log_weight.exp(), n, replacement=True, generator=g)
        return denoiser.means[k], {name: label[k] for name, label in denoiser.labels.items()}

    return draw


def gaussian(size: int, dim: int, noise: float) -> GaussianDenoiser:
    g = torch.Generator().manual_seed(0)
    gain = torch.randn(dim, size, generator=g, dtype=torch.float64) / 5
    eye = torch.eye(size, dtype=torch.float64)
    return GaussianDenoiser(torch.ones(size, dtype=torch.float64), eye, gain, noise * eye[:dim, :dim])


def normal(denoiser: GaussianDenoiser):
    values, vectors = torch.linalg.eigh(denoiser.covariance)
    half = vectors * values.clamp_min(0).sqrt()
    rest = torch.linalg.cholesky(denoiser.noise)

    def draw(n, g):
        v = denoiser.mean + torch.randn(n, len(values), generator=g, dtype=torch.float64) @ half.T
        extra = torch.randn(n, len(rest), generator=g, dtype=torch.float64) @ rest.T
        return v, {denoiser.name: v @ denoiser.gain.T + extra}

    return draw


class Wrong(Denoiser):
    """An exact denoiser that errs by a share of its knowledge, and only where it is given."""

    def __init__(self, inner: Denoiser, shrink: float) -> None:
        super().__init__()
        self.inner, self.shrink = inner, shrink
        self.event, self.attributes = inner.event, inner.attributes

    def forward(self, y, sigma, known=None):
        free = self.inner(y, sigma)
        return free if known is None else free + self.shrink * (self.inner(y, sigma, known) - free)


class Counting(Wrong):
    """An exact denoiser that counts its calls."""

    rows = 0

    def forward(self, y, sigma, known=None):
        self.rows += len(y)
        return self.inner(y, sigma, known)


def ceilings(line: Line, *names: str) -> dict[str, float]:
    return {n: line.entropy(n) for n in names}


def finished(work: GapJob) -> GapJob:
    while not work.done:
        work.step()
    return work


def check(curve, truth, ceiling, most):
    """Within four standard errors of the truth at every level, and the errors are small."""
    assert np.all(np.abs(curve.value - truth) < 4 * curve.stderr + 1e-5 * ceiling)
    assert curve.stderr.max() < most * ceiling


@pytest.mark.parametrize("line", [two_points(), four_points()], ids=["two", "four"])
def test_curves_of_points_on_a_line(line):
    denoiser, names = exact(line), [n for n in line.labels if n != "alternate"]
    options = {"target_stderr": 0.007, "seed": 3}
    found, wide = (
        measure_gaps(denoiser, points(denoiser), ceilings(line, *names), GRID, goal=goal, **options)
        for goal in ("score_gap", "mmse_gap")
    )
    for name in names:
        truth = np.array([line.information(name, s) for s in GRID])
        check(found[name].score_gap, truth, line.entropy(name), 0.015)
        check(wide[name].mmse_gap, truth, line.entropy(name), 0.02)
        check(wide[name].calibration, 0 * truth, line.entropy(name), 0.02)
        assert found[name].score_gap.kind == "estimate"


def test_truths_of_two_points_and_of_the_coarse_split():
    """TRUTHS.md: two points at SNR .25 ... 9; four points, half of the coarse information at sigma 6.163."""
    two = exact(two_points())
    snr = np.array([0.25, 0.5, 1, 2, 4, 9])
    truth = np.array([0.11142, 0.20135, 0.33683, 0.50007, 0.63272, 0.68930])
    found = measure_gaps(two, points(two), {"sign": np.log(2)}, snr**-0.5, target_stderr=0.004)["sign"]
    check(found.score_gap, truth, np.log(2), 0.008)
    four = exact(four_points())
    sigma = np.array([6.163])
    found = measure_gaps(four, points(four), {"coarse": np.log(2)}, sigma, target_stderr=0.003)["coarse"]
    check(found.score_gap, np.array([np.log(2) / 2]), np.log(2), 0.006)


def test_a_continuous_attribute_of_a_gaussian():
    """TRUTHS.md: the difference of log-determinants; 25 and 15 dimensions, some 20 nats."""
    denoiser = gaussian(25, 15, 0.05)
    truth = np.array([denoiser.information(s) for s in GRID])
    found = measure_gaps(denoiser, normal(denoiser), {"a": float("nan")}, GRID, target_stderr=0.1)["a"]
    assert 15 < truth[-1] < 25
    check(found.score_gap, truth, truth[-1], 0.01)
    check(found.mmse_gap, truth, truth[-1], 0.02)


def test_the_tail_above_a_low_first_level():
    """All the information of four points lies above the first level, or in the one cell of the tail."""
    line = four_points()
    denoiser, name = exact(line), "coarse"
    for first, top in ((2.0, None), (30.0, 30.0 * 2**0.5)):
        sigma = np.array([first, 0.9 * first])
        options = {"target_stderr": 0.01 * line.information(name, first), "top": top}
        work = finished(GapJob(denoiser, points(denoiser), ceilings(line, name), sigma, **options))
        truth = np.array([line.information(name, s) for s in sigma])
        check(work.curves()[name].score_gap, truth, truth.max(), 0.02)


@pytest.mark.parametrize("informed", [True, False], ids=["surrogate", "levels"])
def test_the_standard_error_covers(informed):
    """Columns are independent, so that one long measurement is as many as there are groups of 32."""
    line, runs = two_points(), 300
    denoiser, names = exact(line), ceilings(line, "sign")
    sigma = np.array([1.5, 0.7, 0.2])
    truth = np.array([line.information("sign", s) for s in sigma])
    draw = points(exact(line))
    first = finished(GapJob(denoiser, draw, names, sigma, budget=4000, informed=informed)).allocation
    many = replace(first, columns=first.columns * runs)
    work = finished(GapJob(denoiser, draw, names, sigma, allocation=many, batch=16384, informed=informed))
    per_run = np.split(work.curves()["sign"].score_gap.per_draw, runs, 1)
    curves = [Curve.of_draws("sign", "score_gap", sigma, x, np.log(2)) for x in per_run]
    off = np.stack([np.abs(c.value - truth) / c.stderr for c in curves])
    spread = 4 * np.sqrt(0.95 * 0.05 / runs)
    assert np.all(np.abs((off < 1.96).mean(0) - 0.95) < spread)
    assert np.all((off < 1.3).mean(0) < 0.95 - spread)  # errors two thirds as large would be found out
    means = np.stack([c.value for c in curves])
    error = means.std(0) / runs**0.5
    assert np.all(np.abs(means.mean(0) - truth) < 4 * error)
    assert np.all(error < (0.001 if informed else 0.004))


def test_the_pilot_predicts_the_error():
    line = four_points()
    denoiser = exact(line)
    found = []
    for seed in range(8):
        work = finished(
            GapJob(denoiser, points(denoiser), ceilings(line, "point"), GRID, target_stderr=0.02, seed=seed)
        )
        found.append(work.curves()["point"].score_gap.stderr.max())
    assert 0.5 * 0.02 < np.sqrt(np.mean(np.square(found))) < 1.3 * 0.02


def test_a_wrong_denoiser_is_measured_for_what_it_is():
    """A shrunk difference: score gap times the square, and a calibration that is not zero, where the guess is wrong."""
    line, shrink = two_points(), 1.5
    denoiser = Wrong(exact(line), shrink)
    found = measure_gaps(denoiser, points(denoiser.inner), ceilings(line, "sign"), GRID, target_stderr=0.01)["sign"]
    truth = np.array([line.information("sign", s) for s in GRID])
    check(found.score_gap, shrink**2 * truth, np.log(2), 0.03)
    # r2 = |v - D|² - |v - D - s Delta|² = 2 s <v - D, Delta> - s² |Delta|², of mean (2 s - s²) E|Delta|²
    check(found.mmse_gap, (2 * shrink - shrink**2) * truth, np.log(2), 0.05)
    check(found.calibration, (2 * shrink - 2 * shrink**2) * truth, np.log(2), 0.08)
    assert abs(found.calibration.value[-1]) > 10 * found.calibration.stderr[-1]


class Spurious(Wrong):
    """One that claims to see the attribute where nothing is left to see: at small noise."""

    def forward(self, y, sigma, known=None):
        free = self.inner(y, sigma, known)
        if known is None:
            return free
        return free + torch.where(sigma < 0.1, 0.5 * sigma, 0.0)[:, None] * torch.sign(free)


def test_gaps_where_none_are_expected_are_not_missed():
    line = two_points()
    denoiser = Spurious(exact(line), 1.0)
    work = finished(GapJob(denoiser, points(denoiser.inner), ceilings(line, "sign"), GRID, target_stderr=0.01))
    extra = 0.25 * np.maximum(np.log(0.1 / GRID), 0.0)
    truth = np.array([line.information("sign", s) for s in GRID]) + extra
    check(work.curves()["sign"].score_gap, truth, np.log(2), 0.03)
    assert extra[-1] > 0.5


def test_one_allocation_pairs_two_denoisers():
    line = two_points()
    denoiser, other = exact(line), Wrong(exact(line), 1.05)
    work = finished(GapJob(denoiser, points(denoiser), ceilings(line, "sign"), GRID, target_stderr=0.02))
    stored = Allocation.from_state(work.allocation.state())
    again = finished(GapJob(other, points(denoiser), ceilings(line, "sign"), GRID, allocation=stored))
    a, b = (w.curves()["sign"].score_gap for w in (work, again))
    assert a.same_draws(b)
    assert np.allclose(b.per_draw, 1.05**2 * a.per_draw, rtol=1e-9)
    # more columns leave the earlier ones as they are
    more = replace(stored, columns=stored.columns + 8, rounds=stored.rounds[:1])
    fewer = replace(more, columns=stored.columns)
    some, longer = (
        finished(GapJob(denoiser, points(denoiser), ceilings(line, "sign"), GRID, allocation=x)) for x in (fewer, more)
    )
    some, longer = (w.curves()["sign"].score_gap.per_draw for w in (some, longer))
    assert np.allclose(longer[:, :32], some, rtol=1e-12)
    assert longer.shape[1] == 40


def test_what_cannot_be_held_is_measured_in_rounds(monkeypatch):
    """As many columns as ever, each the mean of its rounds; the error is what was asked for."""
    monkeypatch.setattr(allocation, "_HELD", 6000)
    line = four_points()
    denoiser, names = exact(line), ceilings(line, "point", "coarse")
    work = finished(GapJob(denoiser, points(denoiser), names, GRID, target_stderr=0.005))
    a = work.allocation
    assert len(a.rounds) > 2
    assert np.ceil(a.rounds * a.ratio).max() <= 6000 + a.ratio.max()
    for name, gaps in work.curves().items():
        assert gaps.score_gap.per_draw.shape[1] == 32
        check(gaps.score_gap, np.array([line.information(name, s) for s in GRID]), line.entropy(name), 0.01)
        assert gaps.score_gap.stderr.max() < 1.5 * 0.005


def test_interruptions_leave_the_numbers():
    line = four_points()
    denoiser = exact(line)

    def work(batch=128):
        options = {"target_stderr": 0.06, "batch": batch, "pilot": 256}
        return GapJob(denoiser, points(denoiser), ceilings(line, "point", "coarse"), GRID, **options)

    whole, count = finished(work()), 0
    broken = work()
    while not broken.done:
        state = {k: v.copy() for k, v in broken.state().items()}
        broken = work()
        broken.restore(state)
        assert broken.position == count
        broken.step()
        count = broken.position
    assert broken.position == broken.total
    for name, gaps in whole.curves().items():
        for way in ("score_gap", "mmse_gap", "calibration"):
            assert np.array_equal(getattr(gaps, way).per_draw, getattr(broken.curves()[name], way).per_draw)
    wider = finished(work(4096)).curves()  # several replicates a step
    for name, gaps in whole.curves().items():
        assert np.allclose(wider[name].score_gap.per_draw, gaps.score_gap.per_draw, rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="not of this study"):
        GapJob(denoiser, points(denoiser), ceilings(line, "point"), GRID, budget=9999).restore(whole.state())


def test_calls_are_counted_and_stay_within_the_budget():
    line = four_points()
    denoiser = Counting(exact(line), 1.0)
    names = ceilings(line, "point", "coarse", "alternate")
    work = finished(GapJob(denoiser, points(denoiser.inner), names, GRID, budget=9000, batch=100))
    assert denoiser.rows == work.calls == work.allocation.pilot_calls + work.allocation.calls
    assert 8500 < work.calls <= 9000
    assert all(np.isfinite(g.score_gap.value).all() for g in work.curves().values())


def test_fewer_calls_than_levels_drawn_evenly():
    """At equal standard error, against one plain draw of ln sigma over the grid: at least ten times fewer calls."""
    line = two_points()
    denoiser = exact(line)
    draw, span, n = points(denoiser), np.log(GRID[0] / GRID[-1]), 100_000
    g = generator(0, 1)
    v, labels = draw(n, g)
    sigma = GRID[-1] * torch.exp(span * torch.rand(n, generator=g, dtype=torch.float64))
    y = v + sigma[:, None] * torch.randn(v.shape, generator=g, dtype=torch.float64)
    plain = span * ((denoiser(y, sigma, labels) - denoiser(y, sigma)) ** 2).sum(1) / sigma**2
    assert abs(float(plain.mean()) - np.log(2)) < 4 * float(plain.std()) / n**0.5
    work = finished(GapJob(denoiser, draw, ceilings(line, "sign"), GRID, target_stderr=0.007))
    calls_of_plain = 2 * float(plain.var()) / work.curves()["sign"].score_gap.stderr[-1] ** 2
    assert calls_of_plain > 10 * work.calls
    # without the informed at a level, with levels allocated alone, the gain is smaller
    levels = finished(GapJob(denoiser, draw, ceilings(line, "sign"), GRID, target_stderr=0.014, informed=False))
    of_levels = 2 * float(plain.var()) / levels.curves()["sign"].score_gap.stderr[-1] ** 2 / levels.calls
    assert 2 < of_levels < 0.7 * calls_of_plain / work.calls


def test_weights_are_inverse_probabilities():
    """Summed, the weights of a column give the width of the cells above any level, whatever is expected of draws."""
    line = two_points()
    denoiser = exact(line)
    work = finished(GapJob(denoiser, points(denoiser), ceilings(line, "sign"), GRID, target_stderr=0.02))
    a = work.allocation
    assert a.defence.min() < 1.0
    surrogate = Surrogate(points(denoiser), ["sign"], generator(0))
    columns = [choose(surrogate, points(denoiser), a, 3, range(k, k + 1)) for k in range(400)]
    for edge in a.edges[[5, 20, -1]]:
        wide = [c.weight[c.sigma.numpy() >= np.exp(edge)].sum() for c in columns]
        assert abs(np.mean(wide) - (1.0 + a.edges[0] - edge)) < 4 * np.std(wide) / 20
    first = columns[0]
    assert np.allclose(choose(surrogate, points(denoiser), a, 3, range(1)).weight, first.weight)
    assert not np.allclose(choose(surrogate, points(denoiser), a, 3, range(1, 2)).weight, first.weight)


def test_surrogate_of_many_values_is_a_gaussian_for_each():
    """Of a law that is one, its filter: the gaps that the exact one has."""
    means = torch.tensor([[-2.0, 0.0, 0.0], [2.0, 1.0, 0.0], [0.0, -1.0, 1.0]], dtype=torch.float64)
    spread = torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64)
    denoiser = MixtureDenoiser(torch.tensor([0.5, 0.25, 0.25]), means, spread, {"which": [0, 1, 2]})

    def draw(n, g):
        k = torch.multinomial(denoiser.log_weight.exp(), n, replacement=True, generator=g)
        v = means[k] + spread[k, None].sqrt() * torch.randn(n, 3, generator=g, dtype=torch.float64)
        return v, {"which": k}

    surrogate = Surrogate(draw, ["which"], generator(0), 16384)
    v, labels = draw(400, generator(1))
    noise = torch.randn(v.shape, generator=generator(2), dtype=torch.float64)
    sigma = torch.linspace(0.2, 8, 400, dtype=torch.float64)
    y = v + sigma[:, None] * noise
    free, given = denoiser(y, sigma), denoiser(y, sigma, labels)
    gap = (given - free) / sigma[:, None]
    size = ((gap**2).sum(1) + 0.2 * (gap * (v - given) / sigma[:, None]).sum(1).abs()).numpy()
    found = surrogate.expected(v, labels, noise, sigma, 0)
    assert np.corrcoef(found, size)[0, 1] > 0.995
    assert np.abs(found - size).mean() < 0.05 * size.mean()
    # a value that the sample lacks: its draws are their own explanation
    lost = surrogate.expected(v, {"which": labels["which"] + 3}, noise, sigma, 0)
    off = ((v - free) ** 2).sum(1) / sigma**2
    assert np.abs(lost - off.numpy()).mean() < 0.05 * off.mean()


def test_bad_input():
    line = two_points()
    denoiser = exact(line)
    draw, names = points(denoiser), ceilings(line, "sign")
    with pytest.raises(InputError, match="decrease"):
        GapJob(denoiser, draw, names, GRID[::-1].copy(), budget=5000)
    with pytest.raises(InputError, match="pass one of them"):
        GapJob(denoiser, draw, names, GRID)
    with pytest.raises(InputError, match="pass one of them"):
        GapJob(denoiser, draw, names, GRID, budget=5000, target_stderr=0.1)
    with pytest.raises(InputError, match="'colour' among them"):
        GapJob(denoiser, draw, {"colour": 1.0}, GRID, budget=5000)
    with pytest.raises(InputError, match="first level, 127"):
        GapJob(denoiser, draw, names, GRID, budget=5000, top=90.0)
    with pytest.raises(InputError, match="pass at least"):
        finished(GapJob(denoiser, draw, names, GRID, budget=600))
    with pytest.raises(InputError, match="step"):
        GapJob(denoiser, draw, names, GRID, budget=5000).curves()
    work = finished(GapJob(denoiser, draw, names, GRID, budget=5000))
    with pytest.raises(InputError, match="other levels"):
        GapJob(denoiser, draw, names, GRID[1:], allocation=work.allocation)
    with pytest.raises(InputError, match="without share"):
        Allocation.from_state({k: v for k, v in work.allocation.state().items() if k != "share"})
