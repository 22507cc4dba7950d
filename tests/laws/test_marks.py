"""The main curve of a study of a model is none that is biased; the bound of the data alone binds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from sigmascope.analysis.trust import Trust
from sigmascope.data import from_array
from sigmascope.information.jobs.data_bound import DataBound, bound_size
from sigmascope.noise import sigma_grid
from sigmascope.studies.marks import against, with_marks

SIGMA = np.array([4.0, 2.0, 1.0, 0.5, 0.25])


def marked(biased, usual=("bound", "score_gap", "heldout"), among=("score_gap", "heldout"), why="it is off"):
    """Results of two attributes: ``biased`` are the levels, from below, at which the score gap of b is biased."""
    r = xr.Dataset(coords={"attribute": ["a", "b"], "estimator": list(among), "sigma": SIGMA})
    good = np.arange(len(SIGMA)) < len(SIGMA) - biased
    trusts = [
        Trust("a", "score_gap", SIGMA, np.ones(5, dtype=bool), ("",) * 5),
        Trust("b", "score_gap", SIGMA, good, tuple("" if g else why for g in good)),
    ]
    return with_marks(r, trusts, usual)


@pytest.mark.parametrize(
    ("biased", "among", "main", "why"),
    [
        (0, ("score_gap", "heldout"), "score_gap", ""),
        (1, ("score_gap", "heldout"), "score_gap", ""),
        (2, ("score_gap", "heldout"), "heldout", "score_gap is biased (it is off): heldout is shown instead"),
        (5, ("score_gap", "bound", "heldout"), "bound", ""),
        (5, ("score_gap",), "score_gap", "score_gap is biased (it is off), and so is every other curve"),
    ],
)
def test_the_main_curve_is_none_that_is_biased(biased, among, main, why):
    r = marked(biased, among=among)
    assert r.attrs["main_estimator"] == main
    assert r.attrs["main_reason"].startswith(why)
    assert bool(r.attrs["main_reason"]) == bool(why)


def test_reasons_are_read_level_by_level():
    r = marked(2)
    assert against(r, "b", "score_gap") == against(r, "b", "score_gap", high=0.5, low=0.25) == "it is off"
    assert against(r, "b", "score_gap", low=0.9) == against(r, "b", "heldout") == against(r, "a", "score_gap") == ""
    assert against(r.drop_vars("reason"), "b", "score_gap") == str(
        r.verdict.sel(attribute="b", estimator="score_gap").values
    )
    assert against(r.drop_vars(["reason", "verdict", "trusted"]), "b", "score_gap") == ""


def population(n, seed):
    """Three classes of points about corners, whose information is known by many draws and Bayes' rule."""
    g = torch.Generator().manual_seed(seed)
    a = torch.randint(3, (n,), generator=g)
    v = torch.eye(3)[a] + 0.3 * torch.randn(n, 3, generator=g)
    return v, a


def truth(sigma, n=40_000):
    v, a = population(n, 10**6)
    y = v + sigma * torch.randn(v.shape, generator=torch.Generator().manual_seed(5))
    log = -((y[:, None] - torch.eye(3)) ** 2).sum(2) / 2 / (0.09 + sigma**2)
    return float(np.log(3) + log.log_softmax(1).gather(1, a[:, None]).mean())


def bound_of(data, seed, sigma, columns=32):
    work = DataBound(data, bound_size(data, columns, len(sigma)), sigma, seed)
    while not work.done:
        work.step()
    return work.curve(data.attributes[0], columns)


def test_the_bound_of_the_data_binds_and_is_not_idle():
    """Of 24 data sets from one population: lower ends above its information in no more than chance explains."""
    sigma = sigma_grid(4.0, 0.1, 6)
    exact = np.array([truth(float(s)) for s in sigma])
    above, values = 0, []
    for seed in range(24):
        v, a = population(300, seed)
        curve = bound_of(from_array(v.numpy(), {"a": a.numpy()}), seed, sigma)
        assert curve.per_draw.shape == (6, 32)
        assert (curve.estimator, curve.kind) == ("heldout", "lower bound")
        above += int((curve.value - 1.96 * curve.error > exact)[exact > 0.05].sum())
        values.append(curve.value)
    assert above <= 7  # 24 sets, 5 levels: 2.5 % are 3, and levels go together
    mean = np.mean(values, 0)
    assert (mean < exact + 0.01).all()
    assert mean[-1] > 0.7 * exact[-1]


def test_an_item_on_both_sides_tells_nothing():
    """Labels at random: copies of what is judged are left out of the filter; near copies show what they would do."""
    sigma, g = sigma_grid(1.0, 0.1, 4), torch.Generator().manual_seed(0)
    v, a = torch.randn(150, 20, generator=g), torch.randint(3, (150,), generator=g)
    near = v.repeat(2, 1) + 1e-4 * torch.randn(300, 20, generator=g)
    once = bound_of(from_array(v.numpy(), {"a": a.numpy()}), 0, sigma)
    twice, nearly = (
        bound_of(from_array(x.numpy(), {"a": a.repeat(2).numpy()}), 0, sigma) for x in (v.repeat(2, 1), near)
    )
    assert once.value[-1] < 0.1
    assert twice.value[-1] < 0.1
    assert nearly.value[-1] > 0.3


def test_the_work_stays_within_bounds():
    v, a = population(400, 0)
    data = from_array(v.numpy(), {"a": a.numpy()})
    assert bound_size(from_array(v[:40].numpy(), {"a": a[:40].numpy()}), 32, 8) is None
    many = replace(data, attributes=(replace(data.attributes[0], values=tuple(map(str, range(10**5))),
                                               prior=torch.full((10**5,), 1e-5, dtype=torch.float64)),))  # fmt: skip
    assert bound_size(many, 32, 40) is None
    for levels, columns in ((2, 32), (40, 32), (2000, 32), (40, 4096)):
        size = bound_size(data, columns, levels)
        assert size.exponentials <= 1e9
        assert size.draws % columns == 0
        assert size.levels[0] == 0
        assert size.levels[-1] == levels - 1
