"""Verdicts on learned curves, and the best of several bounds."""

from __future__ import annotations

import numpy as np
import pytest

from sigmascope.analysis.trust import judge, rule
from sigmascope.core import Curve, InputError
from sigmascope.information.bounds import best_bound, grouped

SIGMA = np.geomspace(10.0, 0.1, 8)
TRUE = 2.0 / (1.0 + SIGMA**2)  # of an entropy of 2 nats


def curve(value, name="score_gap", error=0.01, kind="estimate") -> Curve:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(SIGMA), 64))
    noise -= noise.mean(1, keepdims=True)
    noise *= error * 8 / noise.std(1, ddof=1, keepdims=True)
    return Curve.of_draws("a", name, SIGMA, np.asarray(value)[:, None] + noise, 2.0, kind=kind)


ZERO = curve(np.zeros(8), "calibration")


def test_a_right_curve_is_trusted():
    verdict = judge(curve(TRUE), bound=curve(TRUE - 0.1), calibration=ZERO, null=ZERO)
    assert verdict.trusted.all()
    assert verdict.words == "trusted at all levels"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"curve": curve(TRUE + np.where(SIGMA < 1, 0.5, 0.0))}, "above the entropy"),
        ({"curve": curve(TRUE * np.where(SIGMA < 1, 0.6, 1.0))}, "below a lower bound"),
        ({"calibration": curve(np.where(SIGMA < 1, -0.5, 0.0))}, "calibration"),
        ({"calibration": curve(np.where(SIGMA < 1, 0.5, 0.0))}, "calibration"),
        ({"null": curve(np.where(SIGMA < 1, 0.4, 0.0))}, "random labels"),
        (
            {"bound": curve(TRUE - np.where(SIGMA < 1, 0.6, 0.0)), "null": curve(np.where(SIGMA < 1, 0.15, 0.0))},
            "does not confirm",
        ),
        ({"curve": curve(TRUE - np.where(SIGMA < 1, 0.2, 0.0))}, "below a lower bound"),
    ],
)
def test_each_sign_of_bias(change, said):
    given = {"curve": curve(TRUE), "bound": curve(TRUE - 0.05), "calibration": ZERO, "null": ZERO} | change
    verdict = judge(given.pop("curve"), **given)
    assert np.array_equal(verdict.trusted, SIGMA >= 1) or (said == "above the entropy" and not verdict.trusted[-1])
    assert said in verdict.reasons[-1]
    assert verdict.words.startswith("trusted at σ 10 to")
    assert said in verdict.words


def test_a_weak_sign_alone_is_none():
    """A quarter of a tolerance below the bound, calibration or random labels off by half: none counts by itself."""
    off = curve(0 * TRUE - 0.15)
    assert judge(curve(TRUE - 0.1), bound=curve(TRUE - 0.05), calibration=ZERO, null=ZERO).trusted.all()
    assert judge(curve(TRUE), bound=curve(TRUE - 0.05), calibration=off, null=ZERO).trusted.all()
    assert judge(curve(TRUE), bound=curve(TRUE - 0.05), calibration=ZERO, null=off).trusted.all()


def test_what_chance_explains_is_no_sign():
    """The same numbers with an error as large as they are: nothing is said."""
    wide = {"error": 0.3}
    verdict = judge(
        curve(TRUE + 0.5, **wide), bound=curve(TRUE + 0.6, **wide), calibration=curve(0 * TRUE + 0.5, **wide),
        null=curve(0 * TRUE + 0.5, **wide),
    )  # fmt: skip
    assert verdict.trusted.all()


def test_the_rule_in_words_is_the_one_that_was_applied():
    """A quarter above H(A): biased where that is sure, trusted with a note where three standard errors excuse it."""
    words = rule()
    for said in (
        "above H(A) by more than 10 % of H(A) and by more than 3 standard errors",
        "5 % of H(A)",
        "calibration",
    ):
        assert said in words
    above = TRUE + np.where(SIGMA < 0.2, 0.52, 0.0)
    sure, wide = judge(curve(above)), judge(curve(above, error=0.2))
    assert not sure.trusted[-1]
    assert "note" not in sure.words
    assert "% above H(A)" not in sure.words
    assert wide.trusted.all()
    assert wide.words.startswith("trusted at all levels; at σ 0.1 it lies 25 % above H(A), within 3 standard errors")
    assert "bound" not in rule(bound=False)
    assert "random labels" not in rule(null=False)
    assert rule(bound=False, null=False, calibration=False).count("where") == 1
    assert "20 % of H(A)" in rule(tolerance=0.2)


def test_a_bound_of_the_data_alone_marks_what_lies_below_it():
    """A tenth of H(A) below it by six joint errors is biased; by two, or by less than a hundredth of H(A), is not."""
    bound = curve(TRUE, "heldout")
    low = curve(TRUE - np.where(SIGMA < 1, 0.2, 0.0))
    assert judge(low).trusted.all()
    marked = judge(low, data_bound=bound)
    assert np.array_equal(marked.trusted, SIGMA >= 1)
    assert "biased elsewhere: it lies below a lower bound that the data give without any network" in marked.words
    assert judge(curve(low.value, error=0.1), data_bound=bound).trusted.all()
    assert judge(curve(TRUE - 0.015, error=0.001), data_bound=curve(TRUE, error=0.001)).trusted.all()
    assert "bound of the data alone by more than 1 % of H(A) and by more than 3 standard" in rule(data_bound=True)
    assert "data alone" not in rule()


def test_a_network_that_is_wrapped_wrongly_is_biased_at_all_levels():
    verdict = judge(curve(TRUE), bound=curve(TRUE), wrapping="it denoises worse than a linear denoiser")
    assert verdict.words == "biased at all levels: it denoises worse than a linear denoiser"
    assert rule(losses=True).startswith("A gap is called biased at all levels if the network denoises worse")


def test_a_bound_far_below_is_no_sign_by_itself():
    assert judge(curve(TRUE), bound=curve(0 * TRUE), calibration=ZERO, null=ZERO).trusted.all()
    assert judge(curve(TRUE)).trusted.all()


def noisy(rng, mean, draws=40) -> Curve:
    return Curve.of_draws("a", "filter", SIGMA, mean[:, None] + rng.normal(size=(8, draws)), 2.0, kind="lower bound")


def test_the_choice_of_a_bound_is_not_biased_upward():
    """Bounds that are nothing but noise about a truth: chosen on other draws the mean stays at or below it."""
    rng = np.random.default_rng(1)
    mean = np.full(8, 0.3)
    honest, same = [], []
    for _ in range(300):
        fits, bounds = ([noisy(rng, mean) for _ in range(3)] for _ in range(2))
        honest.append(best_bound(fits, bounds).value[-1])
        same.append(best_bound(bounds, bounds).value[-1])
    error = np.std(honest) / 300**0.5
    assert np.mean(honest) <= 0.3 + 4 * error
    assert np.mean(same) > 0.3 + 4 * error  # what the other draws are for


def test_a_lucky_choice_is_mended_by_the_other_half():
    """Few draws to choose on saw one estimator better than it is: the other half of the draws knows."""
    good = curve(np.full(8, 0.9), error=0.01)
    poor, lucky = curve(np.full(8, 0.5), error=0.01), curve(np.full(8, 1.1), error=0.01)
    assert np.allclose(best_bound([good, lucky], [good, poor]).value, 0.9, atol=0.02)


def test_the_halves_do_not_follow_their_own_noise():
    """A strong bound that is noisy and a weaker one that is not: never far below what both halves have.

    The share of levels at which the best bound lies below the worst single one by more than that one's own error; with
    a choice of its own for each half it is 0.14.
    """
    rng, below, lost = np.random.default_rng(0), [], []
    rise = 1 / (1 + np.exp(-2.5 * (np.log(1.5) - np.log(SIGMA))))
    mean, size = np.stack([2.2 * rise, 1.9 * rise]), np.array([2.0, 0.4])[:, None, None]

    def drawn(n: int) -> list[Curve]:
        shared, level, own = rng.normal(size=(1, 1, n)), rng.normal(size=(1, 8, n)), rng.normal(size=(2, 1, n))
        each = mean[:, :, None] + size * (0.4**0.5 * shared + 0.3**0.5 * level + 0.3**0.5 * own)
        return [Curve.of_draws("a", f"b{i}", SIGMA, x, 2.3, kind="lower bound") for i, x in enumerate(each)]

    for _ in range(200):
        fits, bounds = drawn(32), drawn(32)
        best = best_bound(fits, bounds).value
        value, error = np.stack([b.value for b in bounds]), np.stack([b.stderr for b in bounds])
        worst = value.argmin(0), np.arange(8)
        below.append(best < value[worst] - error[worst])
        lost.append(mean.max(0) - best)
    assert np.mean(below) < 0.08
    assert np.mean(lost) < 0.15


def test_the_best_bound_takes_the_better_estimator_and_higher_levels():
    low, high = curve(np.linspace(0.1, 1.0, 8), error=0.001), curve(np.full(8, 0.5), error=0.001)
    best = best_bound([low, high], [low, high])
    assert np.allclose(best.value, np.maximum(np.linspace(0.1, 1.0, 8), 0.5), atol=0.002)
    falling = curve(np.linspace(1.0, 0.1, 8), error=0.001)
    assert np.allclose(best_bound([falling], [falling]).value, 1.0)
    below = curve(np.full(8, -1.0))
    assert np.array_equal(best_bound([below], [below]).value, np.zeros(8))
    assert best.kind == "lower bound"


def test_groups_keep_mean_and_error():
    rng = np.random.default_rng(2)
    one = Curve.of_draws("a", "x", SIGMA, rng.normal(size=(8, 4096)), 2.0)
    few = grouped(one, 32)
    assert few.per_draw.shape == (8, 32)
    assert np.allclose(few.value, one.value)
    assert np.allclose(few.value, few.per_draw.mean(1))
    assert float(np.abs(few.stderr / one.stderr - 1).max()) < 4 / (2 * 31) ** 0.5
    with pytest.raises(InputError, match="multiple"):
        grouped(one, 31)


def test_bounds_over_different_levels():
    other = Curve.of_draws("a", "x", SIGMA[1:], np.zeros((7, 4)), 2.0)
    with pytest.raises(InputError, match="different levels"):
        best_bound([curve(TRUE)], [other])
    with pytest.raises(InputError, match="as many of each"):
        best_bound([], [])
