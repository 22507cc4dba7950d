"""The filter along paths of a finite set, in one pass, against the denoiser given each value at every level."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from problems import four_points, random_set
from sigmascope.data import draw_items
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.path import PathPass
from sigmascope.exact.finite.sketch import Sketch, make_sketch
from sigmascope.information.path import markov_path, path_bound, path_posterior
from sigmascope.noise import sigma_grid
from sigmascope.sample import Streams, rows


def finished(denoiser, draws, path, sigma, sketch, stop=None):
    work = PathPass(denoiser, draws.items, path, sigma, sketch)
    while not work.done and work.position != stop:
        work.step()
    return work


@pytest.mark.parametrize("tile", [7, 400])
def test_one_pass_is_the_filter_given_each_value(tile, monkeypatch):
    """Along all directions, with duplicates, near-duplicates and unequal weights, down to where classes are lost."""
    monkeypatch.setattr("sigmascope.exact.finite.path.ROWS", tile)
    data = random_set(4, items=120, event=(1, 3, 4))
    denoiser, draws, sigma = FiniteDenoiser(data), draw_items(data, 9, 2), sigma_grid(12.0, 0.05, 14)
    path = markov_path(draws.v, sigma, Streams(0, rows(9), (1, 3, 4)))
    found = finished(denoiser, draws, path, sigma, Sketch(torch.eye(12), 12)).log_q()
    for name in ("even", "many", "word"):
        for mine, wanted in zip(found[name], path_posterior(denoiser, name, path, sigma), strict=True):
            # The first belief takes the means of the law for what the denoiser says at the highest level.
            gap = (mine[0] - wanted[0]).exp() - 1
            assert float(gap.abs().max()) < 2e-3
            assert float((mine.exp() - wanted.exp()).abs().max()) < 1e-2
            steps = [x - x[:1] for x in (mine[:6], wanted[:6])]
            assert float((steps[0] - steps[1]).abs().max()) < 1e-2
        own = data.labels[name][draws.items]
        a = data.attribute(name)
        one = path_bound(a, sigma, *found[name], own)
        two = path_bound(a, sigma, *path_posterior(denoiser, name, path, sigma), own)
        assert np.abs(one.value - two.value).max() < 5e-3
        assert float(found[name][0][-1].exp().max(1).values.mean()) > 0.7


def test_the_first_belief_is_a_step_from_the_prior():
    """ln p(a) + ⟨μ_a, λy⟩ − ½λ‖μ_a‖², with the means of the law itself."""
    data = random_set(4, items=120, event=(1, 3, 4))
    denoiser, draws, sigma = FiniteDenoiser(data), draw_items(data, 9, 2), sigma_grid(1.5, 0.5, 3)
    path = markov_path(draws.v, sigma, Streams(0, rows(9), (1, 3, 4)))
    found = finished(denoiser, draws, path, sigma, Sketch(torch.eye(12), 12)).log_q()
    v, y, snr = data.source.read(0, 120).double().flatten(1), path[0].flatten(1), sigma[0] ** -2
    for a in data.attributes:
        mine = torch.stack([data.weights * (data.labels[a.name] == k) for k in range(len(a.values))])
        mean = mine @ v / mine.sum(1, keepdim=True)
        wanted = (a.prior.log() + snr * (y @ mean.T) - 0.5 * snr * (mean**2).sum(1)).log_softmax(1)
        assert torch.allclose(found[a.name][0][0], wanted, atol=1e-6)


def test_a_broken_pass_goes_on():
    data = random_set(4, items=1200, event=(1, 3, 4))
    denoiser, draws, sigma = FiniteDenoiser(data), draw_items(data, 5, 2), sigma_grid(12.0, 0.1, 8)
    path = markov_path(draws.v, sigma, Streams(0, rows(5), (1, 3, 4)))
    sketch = make_sketch(data.source.read(0, 300).flatten(1), 5, 3, torch.Generator().manual_seed(0))
    whole = finished(denoiser, draws, path, sigma, sketch).log_q()
    broken = finished(denoiser, draws, path, sigma, sketch, stop=2)
    again = PathPass(denoiser, draws.items, path, sigma, sketch)
    again.restore(broken.state())
    assert again.position == 2
    while not again.done:
        again.step()
    for name, both in again.log_q().items():
        for a, b in zip(both, whole[name], strict=True):
            assert torch.equal(a, b)


def test_information_of_four_points_by_one_pass():
    line = four_points()
    data = line.data()
    denoiser, draws, sigma = FiniteDenoiser(data), draw_items(data, 4000, 1), sigma_grid(60.0, 0.5, 30)
    path = markov_path(draws.v, sigma, Streams(1, rows(4000), (1,)))
    found = finished(denoiser, draws, path, sigma, Sketch(torch.eye(1), 1)).log_q()
    for name in ("point", "coarse", "alternate"):
        curve = path_bound(data.attribute(name), sigma, *found[name], draws.labels[name])
        truth = np.array([line.information(name, s) for s in sigma])
        common = truth < 0.99 * curve.ceiling  # above, the few that are undecided carry what is missing
        assert np.all((np.abs(curve.value - truth) < 4 * curve.stderr + curve.quadrature_error + 1e-4)[common])
        assert curve.stderr.max() < 0.02
