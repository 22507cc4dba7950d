"""A conditional denoiser made of a denoiser and a posterior: the true one, if both are true; near it, if learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from problems import law_of, measure_gaps, mixture, two_points
from sigmascope.adapters import ByPosterior
from sigmascope.core import InputError
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.learn.classifying import ClassifierTrainer
from sigmascope.learn.settings import Settings
from sigmascope.noise import sigma_grid


def test_with_the_true_posterior_it_is_the_true_denoiser():
    exact = mixture().denoiser()
    bridged = ByPosterior(exact, exact)
    y = torch.linspace(-8, 8, 41, dtype=torch.float64)[:, None]
    for sigma in (0.3, 1.0, 4.0):
        level = torch.full((41,), sigma, dtype=torch.float64)
        for a in exact.attributes:
            for k in range(len(a.values)):
                known = {a.name: torch.full((41,), k)}
                sure = exact.log_posterior(y, level, a.name)[:, k] > -200  # beyond, the posterior underflows
                found, wanted = bridged(y, level, known)[sure], exact(y, level, known)[sure]
                assert torch.allclose(found, wanted, atol=1e-6), (a.name, sigma)
        some = {exact.attributes[0].name: torch.where(torch.arange(41) % 2 == 0, -1, 0)}
        assert torch.equal(bridged(y, level, some)[::2], exact(y, level)[::2])


def test_a_learned_classifier_tells_an_exact_denoiser():
    """Two points: the score gap of D and D + σ²∇ ln q, with q learned in seconds, is the information within 5 %."""
    problem = two_points()
    law = law_of(problem)
    settings = Settings(network="mlp", width=64, depth=2, steps=2000, batch=512, learning_rate=2e-3, warmup=50,
                        average=100, sigma_min=0.1, sigma_max=60.0)  # fmt: skip
    trainer = ClassifierTrainer(law, settings)
    for _ in range(settings.steps):
        trainer.step()
    bridged = ByPosterior(FiniteDenoiser(problem.data()), trainer.averaged)
    sigma = sigma_grid(6.0, 0.4, 8)
    gaps = measure_gaps(bridged, law.draw, {"sign": np.log(2)}, sigma, target_stderr=0.005, batch=4096)
    true = np.array([problem.information("sign", s) for s in sigma])
    some = true > 0.05 * np.log(2)
    assert np.abs(gaps["sign"].score_gap.value / true - 1)[some].max() < 0.05


def test_what_cannot_be_bridged():
    exact = FiniteDenoiser(two_points().data())
    y, level = torch.zeros(2, 1, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    with pytest.raises(InputError, match="has no attribute 'hue'"):
        ByPosterior(exact, exact)(y, level, {"hue": torch.zeros(2, dtype=torch.int64)})

    class Silent:
        def log_posterior(self, y, sigma, attribute):
            return torch.zeros(len(y), 2, dtype=torch.float64)

    with pytest.raises(InputError, match="pass attributes="):
        ByPosterior(exact, Silent())
    with pytest.raises(InputError, match="no gradient in y"):
        ByPosterior(exact, Silent(), exact.attributes)(y, level, {"sign": torch.zeros(2, dtype=torch.int64)})
