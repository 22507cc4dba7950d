"""Cheap draws make costly ones sharper: the mean stays, the error falls as it is said to, and is covered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from problems import mixture
from sigmascope.checks.systems import two_points_information
from sigmascope.core import Attribute, Curve, Draws, InputError
from sigmascope.information.bounds import best_bound, grouped
from sigmascope.information.controls import classifier_controls, controlled
from sigmascope.information.estimator import CONDITIONAL, named
from sigmascope.information.joining import Joining
from sigmascope.information.posterior import entropy_of
from sigmascope.information.problem import joined
from sigmascope.information.problems import ModelProblem
from sigmascope.learn.classifier import NoisyClassifier
from sigmascope.learn.networks import Architecture

SIGMA = np.array([2.0, 1.0, 0.6])
TRUTH = np.array([two_points_information(1 / s**2) for s in SIGMA])
HALF = Attribute("side", ("left", "right"), torch.tensor([0.5, 0.5]))
DRAWS, MORE, GROUPS, RUNS = 64, 16, 32, 400


def sides(n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels, and y at all levels with a noise that they share: V = -1 or 1."""
    own = torch.from_numpy(rng.integers(0, 2, n))
    noise = torch.from_numpy(rng.normal(size=n))
    return own, (2.0 * own - 1.0) + torch.from_numpy(SIGMA)[:, None] * noise


def log_posterior(y: torch.Tensor, heat: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    """The posterior by Bayes' rule, or a wrong one: too sure, and inclined to one side."""
    odds = heat * 2.0 * y / torch.from_numpy(SIGMA)[:, None] ** 2 + shift
    return torch.stack([-odds, odds], 2).div(2).log_softmax(2)


def clueless(y: torch.Tensor) -> torch.Tensor:
    """A classifier that reads what has nothing to do with the label."""
    return torch.stack([torch.zeros_like(y), torch.sin(1e4 * y)], 2).log_softmax(2)


def run(kind: str, classifier, rng: np.random.Generator) -> tuple[Curve, Curve]:
    """A curve of few draws, and the same with the controls' chance taken away."""
    own, y = sides(DRAWS, rng)
    if kind == "posterior":
        per_draw, of = (HALF.entropy - entropy_of(log_posterior(y))).numpy(), "exact"
    else:
        of = "lower bound"
        per_draw = (log_posterior(y, 0.8)[:, torch.arange(DRAWS), own] - HALF.prior.log()[own]).numpy()
    curve = Curve.of_draws("side", kind, SIGMA, per_draw, HALF.entropy, kind=of)
    others, y_others = sides(MORE * DRAWS, rng)
    many = classifier_controls(HALF, classifier(y_others), others).reshape(2, len(SIGMA), GROUPS, -1).mean(3)
    return grouped(curve, GROUPS), controlled(curve, classifier_controls(HALF, classifier(y), own), many)


def bound_of_many() -> np.ndarray:
    """The mean of the lower bound, by quadrature over the noise."""
    n = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    weight = torch.exp(-(n**2) / 2)
    y = 1.0 + torch.from_numpy(SIGMA)[:, None] * n
    gain = log_posterior(y, 0.8)[:, :, 1] - HALF.prior.log()[1]
    return ((gain * weight).sum(1) / weight.sum()).numpy()


@pytest.mark.parametrize("kind", ["posterior", "bound"])
def test_mean_error_and_coverage(kind):
    """Of the two points, whose information is known: a wrong classifier takes most of the chance away."""
    rng = np.random.default_rng(5)
    truth = TRUTH if kind == "posterior" else bound_of_many()
    pairs = [run(kind, lambda y: log_posterior(y, 1.6, 0.3), rng) for _ in range(RUNS)]
    plain, sharp = (np.stack([p[k].value for p in pairs]) - truth for k in (0, 1))
    assert np.all(np.abs(sharp.mean(0)) < 4 * sharp.std(0) / RUNS**0.5)
    assert np.all(plain.std(0) / sharp.std(0) > 1.7)
    stderr = np.stack([p[1].stderr for p in pairs])
    assert np.all(np.abs(np.sqrt((stderr**2).mean(0)) / sharp.std(0) - 1) < 0.12)
    covered = (np.abs(sharp) < 1.96 * stderr).mean(0)
    assert np.all((covered > 0.89) & (covered < 0.98))


def test_where_a_half_says_nothing():
    """Draws that are all decided alike but one: a bound follows the log-probability, a posterior nothing."""
    once = np.zeros((1, 64))
    once[0, 0] = -1.0
    for which, kind, left in ((0, "lower bound", -0.01), (1, "lower bound", -0.5), (0, "exact", -0.5)):
        controls, many = np.zeros((2, 1, 64)), np.zeros((2, 1, 32))
        controls[which, 0, 0], many[which] = -1.0, -0.01
        curve = Curve.of_draws("side", "x", SIGMA[:1], once, 1.0, kind=kind)
        assert np.isclose(controlled(curve, controls, many).per_draw[0, 0], left)


def test_a_choice_among_controlled_bounds_is_honest():
    """Bounds that are all alike but for chance, skewed: fitted on other draws, the best of them is not above the truth.

    With halves that fit each other, a choice by the other half would be: the coefficients of one half know of the
    other, which is judged.
    """
    rng, found, honest, wrong = np.random.default_rng(11), [], [], []
    for _ in range(1500):
        made = []
        for n in (32, 16):
            x, e = rng.exponential(size=(2, 4, n)) ** 2, np.empty((4, 4, n))
            for i in range(4):  # estimators
                e[i] = 1.0 + (x[0] - 2.0) ** 2 / 10 - 2.0 + rng.normal(size=(4, n))
            many = (rng.exponential(size=(2, 4, n // 2 if n == 32 else 4, 400)) ** 2).mean(3)
            made.append((x, e, many))
        (x, e, many), (x_fit, e_fit, many_fit) = made
        sigma = np.array([4.0, 3.0, 2.0, 1.0])
        for kept, given in ((honest, True), (wrong, False)):
            fits, bounds = [], []
            for i in range(4):
                one, other = (Curve.of_draws("a", "x", sigma, v[i], 1.0, kind="lower bound") for v in (e, e_fit))
                bounds.append(controlled(one, x, many, (e_fit[i], x_fit) if given else None))
                fits.append(controlled(other, x_fit, many_fit))
            kept.append(_by_the_other_half(bounds))
            if given:
                found.append(best_bound(fits, bounds).value[-1])
    assert np.mean(found) < 1.0 + 4 * np.std(found) / len(found) ** 0.5
    apart = np.array(wrong) - np.array(honest)
    assert apart.mean() > 3 * apart.std() / len(apart) ** 0.5


def _by_the_other_half(bounds: list[Curve]) -> float:
    """The mean of each half of the draws of the bound, and at the level, that is the best of the other half."""
    draws = np.concatenate([b.per_draw for b in bounds])
    half = np.arange(draws.shape[1]) % 2 == 0
    return float(np.mean([draws[draws[:, ~judged].mean(1).argmax(), judged].mean() for judged in (half, ~half)]))


def test_a_classifier_that_knows_nothing_does_no_harm():
    rng = np.random.default_rng(6)
    pairs = [run("posterior", clueless, rng) for _ in range(RUNS)]
    plain, sharp = (np.stack([p[k].value for p in pairs]) - TRUTH for k in (0, 1))
    assert np.all(np.abs(sharp.mean(0)) < 4 * sharp.std(0) / RUNS**0.5)
    assert np.all(sharp.std(0) / plain.std(0) < 1.2)


def test_coefficients_come_from_other_draws():
    """Fitted on the draws that they correct, they would bias the mean of what is skewed: here they do not."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(4000):
        x = rng.exponential(size=(2, 1, 8)) ** 2
        many = rng.exponential(size=(2, 1, 4, 400)) ** 2
        e = (x[0] - 2.0) ** 2 / 10
        curve = Curve.of_draws("a", "x", SIGMA[:1], e, 1.0)
        found.append(controlled(curve, x, many.mean(3)).value[0])
    # E (X^2 - 2)^2 = E X^4 - 4 E X^2 + 4 = 24 - 8 + 4, X exponential
    assert abs(np.mean(found) - 2.0) < 4 * np.std(found) / len(found) ** 0.5


def test_what_says_the_same_of_all_draws_changes_nothing():
    rng = np.random.default_rng(8)
    curve = Curve.of_draws("side", "x", SIGMA, rng.normal(size=(3, 64)), 1.0)
    same = controlled(curve, np.ones((2, 3, 64)), np.ones((2, 3, 32)))
    assert np.allclose(same.per_draw, grouped(curve, 32).per_draw)
    assert np.allclose(same.stderr, grouped(curve, 32).stderr)


def test_what_a_classifier_says():
    never = torch.tensor([[[0.0, -torch.inf], [-torch.inf, 0.0]]], dtype=torch.float64)
    found = classifier_controls(HALF, never, torch.tensor([1, 1]))
    assert found.shape == (2, 1, 2)
    assert np.allclose(found[0, 0], np.log([1e-3, 1e-3 + 2 * (1 - 1e-3)]))  # never, always
    assert np.allclose(found[1], np.log(2))
    own = torch.tensor([0, 1, 1, 0])
    assert np.allclose(classifier_controls(HALF, torch.full((3, 4, 2), np.log(0.5)), own), 0.0)
    broken = torch.full((3, 4, 2), np.log(0.5))
    broken[1, 2, 0] = torch.nan
    assert np.allclose(classifier_controls(HALF, broken, own), 0.0)


def test_where_hardly_a_draw_is_undecided():
    """One draw in a hundred is: a slope from a half without any would be wild."""
    rng, e, x = np.random.default_rng(10), [], []
    for _ in range(RUNS):
        rare = (rng.random(64 * 17) < 0.01) * rng.random(64 * 17)
        little = rng.random(64 * 17)
        costly, cheap = 1.0 - rare - 3e-3 * little, 1.0 - 0.7 * rare - 1e-4 * little
        curve = Curve.of_draws("side", "x", SIGMA[:1], costly[None, :64], 1.0)
        e.append(curve.value[0])
        two = np.stack([0 * cheap, cheap])[:, None]
        x.append(controlled(curve, two[:, :, :64], two[:, :, 64:].reshape(2, 1, 32, -1).mean(3)).value[0])
    assert abs(np.mean(x) - 0.9935) < 4 * np.std(x) / RUNS**0.5
    assert np.std(x) < np.std(e)


@pytest.mark.parametrize(
    ("controls", "many"), [((2, 3, 60), (2, 3, 32)), ((2, 3, 64), (2, 3, 31)), ((2, 3, 64), (2, 3, 2))]
)
def test_shapes_that_do_not_fit(controls, many):
    curve = Curve.of_draws("side", "x", SIGMA, np.zeros((3, 64)), 1.0)
    with pytest.raises(InputError, match="64 draws and 3 levels came with controls"):
        controlled(curve, np.zeros(controls), np.zeros(many))


def test_an_attribute_that_the_classifier_does_not_know():
    """Its curves are those of their draws alone, and it has no bound by the classifier."""
    g = torch.Generator().manual_seed(0)
    other = Attribute("other", ("a", "b", "c", "d"), torch.full((4,), 0.25))

    def draws(n: int) -> Draws:
        labels = {a.name: torch.randint(len(a.values), (n,), generator=g) for a in (HALF, other)}
        return Draws(torch.arange(n), torch.randn(n, 4, generator=g), torch.randn(n, 4, generator=g), labels)

    net = Architecture("mlp", 8, 1)
    classifier = NoisyClassifier((4,), (HALF,), net, torch.zeros(4), 1.0, torch.eye(4), torch.ones(4))
    bound, posterior = (named(n, CONDITIONAL) for n in ("classifier", "posterior"))
    problem = ModelProblem(
        attributes=(HALF, other), draws=joined(draws(64), draws(32)), sigma=SIGMA, seed=0, tested=64, null=None,
        classifier=classifier.requires_grad_(False), estimators=(bound,), scale=1.0, highest=1.0, begins_at=1.0,
        subject=None, model=mixture().denoiser(), data=None, train=lambda: draws(4), gap_job=lambda: None,
    )  # fmt: skip
    joining = Joining(problem, lambda n, of_fit, k: draws(n))
    jobs = {**joining.jobs(), **bound.jobs(problem)}
    for job in jobs.values():
        while not job.done:
            job.step()
    found = joining.curves([(bound, bound.curves(problem, jobs))], jobs)
    assert [(c.attribute, c.estimator) for c in found] == [("side", "classifier"), ("side", "bound")]
    curve = Curve.of_draws("other", "posterior", SIGMA, np.random.default_rng(0).normal(size=(3, 64)), 1.0)
    assert np.array_equal(joining.curves([(posterior, [curve])], jobs)[0].per_draw, grouped(curve, 32).per_draw)
