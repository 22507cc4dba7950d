"""Where the filter has identified the item: levels from known profiles, and the closed form for normal items."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sigmascope.analysis.memorisation import collapse, gaussian_collapse, identified_at
from sigmascope.core import Draws, InputError
from sigmascope.data import draw_items, from_array
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.noise import sigma_grid


def falling(levels: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Effective items that are 2 at given levels, linear in logarithms down to the 1 that ends them."""
    return np.maximum(2.0 * (levels[:, None] / at) ** 0.7, 1.0)


def test_level_of_each_draw():
    levels, at = sigma_grid(10.0, 0.01, 60), np.geomspace(0.05, 5.0, 30)
    found = identified_at(levels, falling(levels, at))
    # Linear in logarithms between the levels on both sides of the crossing, unless the lower one is cut off at 1.
    assert np.all(levels[1:] / levels[:-1] > 2 ** (-1 / 0.7))
    assert np.allclose(found, at, rtol=1e-12)


def test_a_draw_is_recognised_once_it_stays_so():
    levels = np.array([8.0, 4.0, 2.0, 1.0])
    many = np.array([[9.0, 1.5, 9.0], [1.2, 1.2, 8.0], [8.0, 1.1, 7.0], [1.0, 1.0, 6.0]])
    found = identified_at(levels, many)
    assert found[0] == pytest.approx(2.0 * 2.0 ** -(2.0 / 3.0))  # ln 8 to ln 1: ln 2 is reached after two thirds
    assert found[1] == np.inf
    assert found[2] == 0.0


def test_interval_of_the_level_holds_it_as_often_as_the_binomial_says():
    levels, draws, repeats = sigma_grid(100.0, 0.001, 80), 41, 1500
    rng = np.random.default_rng(0)
    within = 0
    for _ in range(repeats):
        found = collapse(levels, falling(levels, np.exp(rng.normal(0.3, 0.8, draws))))
        assert found.low <= found.value <= found.high
        within += found.low <= math.exp(0.3) <= found.high
    rank = int(stats.binom.ppf(0.025, draws, 0.5))
    promised = 1.0 - 2.0 * stats.binom.cdf(rank - 1, draws, 0.5)
    assert 0.95 <= promised < 0.975
    assert abs(within / repeats - promised) < 4 * math.sqrt(promised * (1 - promised) / repeats)


def test_few_draws_have_no_interval_and_levels_may_be_left():
    levels = np.array([8.0, 4.0, 2.0, 1.0])
    five = collapse(levels, falling(levels, np.array([1.5, 2.5, 3.0, 5.0, 6.0])))
    assert five.value == pytest.approx(3.0)
    assert (five.low, five.high) == (0.0, np.inf)
    assert collapse(levels, np.full((4, 9), 3.0)).value == 0.0
    assert collapse(levels, np.full((4, 9), 1.0)).value == np.inf


def effective(items: np.ndarray, levels: np.ndarray, draws: Draws) -> np.ndarray:
    data = from_array(items.astype(np.float32), {"any": np.arange(len(items)) % 2})
    work = PosteriorPass(FiniteDenoiser(data), draws, levels)
    while not work.done:
        work.step()
    return work.effective_items()[:-1].numpy()


def normal_items(items: int, dim: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Levels about the closed form, and effective items there of 600 draws."""
    v = scale * np.random.default_rng(dim).normal(size=(items, dim))
    data = from_array(v.astype(np.float32), {"any": np.arange(items) % 2})
    levels = gaussian_collapse(items, dim, scale) * np.geomspace(4.0, 0.15, 34)
    return levels, effective(v, levels, draw_items(data, 600, 1))


@pytest.fixture(scope="module")
def growing():
    """n = exp(d/2) normal items of scale 3 in d dimensions."""
    return {d: normal_items(round(math.exp(d / 2)), d, 3.0) for d in (8, 12, 16)}


def test_normal_items_are_recognised_at_the_closed_form(growing):
    for d in (12, 16):
        items = round(math.exp(d / 2))
        found, expected = collapse(*growing[d]), gaussian_collapse(items, d, 3.0)
        # The interval is of the draws of one set; a set of n items moves the level by less than 1/sqrt(n).
        assert found.low / 1.03 < expected < found.high * 1.03
        assert abs(math.log(found.value / expected)) < 0.04
        assert found.high / found.low < 1.2


def test_what_the_threshold_matters_falls_as_one_over_the_dimension(growing):
    apart = {}
    for d, (levels, effective_items) in growing.items():
        at_two, at_four = (collapse(levels, effective_items, t).value for t in (2.0, 4.0))
        apart[d] = math.log(at_four / at_two)
    assert apart[8] > apart[12] > apart[16] > 0
    assert apart[16] < 0.65 * apart[8]  # a half, but for chance


def test_single_draws_scatter_less_in_more_dimensions(growing):
    spread = {}
    for d, (levels, effective_items) in growing.items():
        each = np.log(identified_at(levels, effective_items))
        spread[d] = float(np.diff(np.quantile(each, [0.25, 0.75]))[0])
    assert spread[8] > spread[16]
    # d^-1/2 gives 1.41; the relative error of a quartile distance of 600 draws is some 5 %.
    assert 1.41 / 1.25 < spread[8] / spread[16] < 1.41 * 1.25


def test_closed_form_is_where_the_channel_carries_the_name_of_the_item():
    for items, dim, scale in [(10, 3, 1.0), (50_000, 3072, 0.25), (1e200, 64, 2.0)]:
        sigma = gaussian_collapse(items, dim, scale)
        assert 0.5 * dim * math.log1p((scale / sigma) ** 2) == pytest.approx(math.log(items), rel=1e-12)
        time = 0.5 * math.log1p(scale**2 / math.expm1(2 * math.log(items) / dim))  # Biroli et al., with s^2 = scale^2
        assert sigma == pytest.approx(math.sqrt(math.expm1(2 * time)), rel=1e-12)


def test_copies_are_never_distinguished():
    v = np.repeat(np.random.default_rng(0).normal(size=(20, 4)), 3, 0)
    draws = Draws(torch.arange(60), torch.tensor(v).float(), torch.ones(60, 4))
    rows = effective(v, np.array([1.0, 0.1, 0.001]), draws)
    assert np.allclose(rows[-1], 3.0)
    assert collapse(np.array([1.0, 0.1, 0.001]), rows).value == 0.0


@pytest.mark.parametrize(
    "bad",
    [
        lambda: collapse(np.array([1.0, 2.0]), np.ones((2, 3))),
        lambda: collapse(np.array([2.0, 1.0]), np.ones((3, 3))),
        lambda: collapse(np.array([2.0, 1.0]), np.full((2, 3), 0.5)),
        lambda: collapse(np.array([2.0, 1.0]), np.full((2, 3), np.nan)),
        lambda: collapse(np.array([2.0, 1.0]), np.ones((2, 3)), 1.0),
        lambda: gaussian_collapse(1, 3),
        lambda: gaussian_collapse(10, 0),
        lambda: gaussian_collapse(10, 3, -1.0),
        lambda: gaussian_collapse(math.inf, 3),
    ],
)
def test_what_fits_nothing_is_refused(bad):
    with pytest.raises(InputError, match=r"^[^\n]+$"):
        bad()
