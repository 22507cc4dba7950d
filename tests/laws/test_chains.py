"""A chain of attributes against dense sums, and in a study."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import xarray as xr

from asked import study
from problems import Line, four_points
from sigmascope.cli import main
from sigmascope.core import Curve, InputError
from sigmascope.data import draw_items, from_array
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.chains import density, links, shapley, subsets
from sigmascope.information.jobs.chains import SubsetsJob, chain_memory, values_of_chain
from sigmascope.studies.prediction import predict
from sigmascope.studies.spec import read_spec, spec_of

DRAWS, LEVELS = 40, 12
NAMES = ("a", "b", "c")


def images(items: int = 500, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Small pictures of three attributes: two that agree often, one that is read with the help of the first."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 3, items)
    b = np.where(rng.random(items) < 0.7, a, (a + 1) % 3)
    c = rng.integers(0, 2, items)
    pixels = 0.2 * rng.normal(size=(items, 5, 5))
    pixels[:, 0] += a[:, None]
    pixels[:, 1] += 0.5 * b[:, None]
    pixels[:, 2] += 0.4 * (c ^ (a > 0))[:, None]
    return pixels.astype(np.float32), {"a": a, "b": b, "c": c}, rng.uniform(0.5, 1.0, items)


def entropy(p: np.ndarray) -> np.ndarray:
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(-1)


def dense(results: xr.Dataset) -> dict[tuple[int, ...], np.ndarray]:
    """H(A_S) − H(A_S | y) of each subset, draw and level, by a softmax over all items in float64."""
    pixels, labels, weights = images()
    data = from_array(pixels, labels, weights=weights)
    draws = draw_items(data, DRAWS, 0)
    x, w = pixels.reshape(len(pixels), -1).astype(np.float64), weights / weights.sum()
    columns = np.stack([labels[n] for n in NAMES], 1)
    gained = {}
    for s in subsets(3):
        _, code = np.unique(columns[:, list(s)], axis=0, return_inverse=True)
        one = np.eye(code.max() + 1)[code.reshape(-1)]
        rows = []
        for sigma in results.sigma.values:
            y = (draws.v.double() + sigma * draws.noise.double()).numpy().reshape(DRAWS, -1)
            logit = np.log(w) - ((y[:, None] - x) ** 2).sum(2) / (2 * sigma**2)
            p = np.exp(logit - logit.max(1, keepdims=True))
            rows.append(entropy(w @ one) - entropy(p / p.sum(1, keepdims=True) @ one))
        gained[s] = np.stack(rows)
    return gained


@pytest.fixture(scope="module")
def chained() -> xr.Dataset:
    pixels, labels, weights = images()
    return study(pixels, labels, weights=weights, chain=("b", "a", "c"), draws=DRAWS, levels=LEVELS)


def test_links_against_dense_sums(chained):
    truth = dense(chained)
    one, two, three = (1,), (0, 1), (0, 1, 2)  # b, a, c: the chain has an order of its own
    expected = [truth[one], truth[two] - truth[one], truth[three] - truth[two]]
    assert chained.link.values.tolist() == ["b", "a | b", "c | b, a"]
    for i, each in enumerate(expected):
        assert np.abs(chained.link_information[i].values - each.mean(1)).max() < 1e-9
        plain = each.std(1, ddof=1) / math.sqrt(DRAWS)
        assert np.all(chained.link_stderr[i].values > plain - 1e-9)
    whole = chained.link_information.sum("link").values
    assert np.abs(whole - truth[three].mean(1)).max() < 1e-9
    # The first link is the attribute's own curve, and a wrong order is seen.
    own = chained.information.sel(attribute="b", estimator="posterior").values
    assert np.abs(chained.link_information[0].values - own).max() < 1e-9
    assert np.abs(chained.link_information[1].values - truth[(0,)].mean(1)).max() > 0.05
    # The entropies left to learn add up, too.
    limit = entropy(np.bincount([0]))
    assert limit == 0.0
    assert float(chained.link_ceiling.sum()) > float(chained.link_information.sum("link").max()) - 1e-9


def test_shares_are_the_average_over_all_orders(chained):
    truth = dense(chained)
    truth[()] = np.zeros_like(truth[(0,)])
    wanted = {n: np.zeros(LEVELS) for n in NAMES}
    for order in itertools.permutations(range(3)):
        for place, i in enumerate(order):
            before, after = (tuple(sorted(order[:k])) for k in (place, place + 1))
            wanted[NAMES[i]] += (truth[after] - truth[before]).mean(1) / 6
    for name in NAMES:
        assert np.abs(chained.shapley_information.sel(member=name).values - wanted[name]).max() < 1e-9
    total = chained.shapley_information.sum("member") - chained.link_information.sum("link")
    assert float(np.abs(total).max()) < 1e-9
    assert float(chained.shapley_ceiling.sum() - chained.link_ceiling.sum()) == pytest.approx(0.0, abs=1e-9)


def curves_of(line: Line, names: tuple[str, ...], draws: int, levels: np.ndarray) -> dict[tuple[int, ...], Curve]:
    data = line.data()
    job = SubsetsJob(FiniteDenoiser(data), draw_items(data, draws, 1), levels, [data.attribute(n) for n in names])
    while not job.done:
        job.step()
    return job.curves()


def truth_of(line: Line, first: str, second: str, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """I(A; Y) and I(B; Y | A) by quadrature."""
    both = np.unique(line.labels[first] * 10 + line.labels[second], return_inverse=True)[1]
    whole = Line(line.points, {**line.labels, "both": both}, line.weights)
    alone, joint = (np.array([whole.information(n, s) for s in levels]) for n in (first, "both"))
    return alone, joint - alone


@pytest.mark.parametrize("draws", [64, 256])
def test_links_cover_the_truth(draws):
    """Of 200 blocks of draws, the intervals of a link and of a share hold the truth; half of them do not."""
    levels = np.geomspace(16.0, 1.6, 10)
    line, names = four_points(), ("coarse", "alternate")
    every, (alone, later) = curves_of(line, names, 200 * draws, levels), truth_of(line, *names, levels)
    swapped_alone, swapped_later = truth_of(line, *names[::-1], levels)
    shares = (0.5 * (alone + swapped_later), 0.5 * (swapped_alone + later))

    def part(c: Curve, k: int) -> Curve:
        return Curve.of_draws(c.attribute, "posterior", levels, c.per_draw[:, k::200], c.ceiling)

    held = {"link": [], "share": [], "half": []}
    for k in range(200):
        block = {s: part(c, k) for s, c in every.items()}
        for chain, expected, name in ((links, (alone, later), "link"), (shapley, shares, "share")):
            for curve, wanted in zip(chain(block, names), expected, strict=True):
                off = np.abs(curve.value - wanted)
                held[name].append(off <= 1.96 * curve.error)
                held["half"].append(off <= 0.98 * curve.error)
    chance = 3.1 * math.sqrt(0.92 * 0.08 / 200)
    for name in ("link", "share"):
        by_level = np.stack(held[name]).reshape(200, 2, len(levels)).mean(0)
        assert np.all(by_level > 0.92 - chance), (name, by_level)
    assert np.stack(held["half"]).mean() < 0.9


def test_density_is_the_slope():
    """−dI/d ln σ of a curve in closed form, to the accuracy of parabolas; it integrates to the information."""
    for count, close in ((40, 3e-3), (80, 8e-4)):
        sigma = np.geomspace(20.0, 0.05, count)
        value = 0.5 * np.log1p(1.0 / sigma**2)
        curve = Curve.of_draws("x", "posterior", sigma, np.stack([value, value * 1.5], 1), 1.25 * value.max())
        slope = density(curve)
        exact = 1.25 / (1.0 + sigma**2)
        assert np.abs(slope.value - exact).max() < close
        assert np.allclose(slope.stderr, 0.25 / (1.0 + sigma**2), atol=close)
        total = -np.trapezoid(slope.value, np.log(sigma))
        assert total == pytest.approx(curve.value[-1] - curve.value[0], abs=close)


def test_what_is_determined_adds_nothing():
    """An attribute that is a function of one before it: no entropy, no level, and the page says so."""
    pixels, labels, _ = images()
    labels["double"] = labels["a"] * 2
    results = study(pixels, labels, attributes=["a", "double"], chain=("a", "double"), draws=16, levels=6)
    assert float(np.abs(results.link_information[1]).max()) < 1e-9
    assert math.isnan(float(results.link_half[1]))
    assert not math.isnan(float(results.link_half[0]))


def test_combinations_and_memory():
    pixels, labels, weights = images()
    data = from_array(pixels, labels, weights=weights)
    kept, code = values_of_chain(data, data.attributes)
    assert len(kept) == 12  # a third of the combinations of a and b does not occur
    assert np.array_equal(kept[code], np.stack([labels[n] for n in NAMES], 1))
    wide = from_array(pixels, {"u": np.arange(500) % 50, "v": np.arange(500) % 49, **labels})
    spec, more = (spec_of(data="x", draws=256, levels=200, chain=c) for c in ((), ("u", "v", "a")))
    assert predict(wide, more).products == 2 * predict(wide, spec).products
    assert predict(wide, more).additional > predict(wide, spec).additional
    assert chain_memory(wide, wide.attributes, 40, 256) > 10 * chain_memory(data, data.attributes, 40, 256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sigmascope.information.jobs.chains.MOST_VALUES", 400)
        with pytest.raises(InputError, match=r"joint values, more than 400: leave one out of --chain"):
            values_of_chain(wide, wide.attributes)


def test_one_joint_pass_serves_blocks(monkeypatch):
    pixels, labels, weights = images()
    data = from_array(pixels, labels, weights=weights)
    draws, levels = draw_items(data, 64, 3), np.geomspace(5.0, 0.2, 6)
    whole = SubsetsJob(FiniteDenoiser(data), draws, levels, data.attributes)
    monkeypatch.setattr("sigmascope.information.jobs.pairs._LARGEST_BLOCK", 16)
    parts = SubsetsJob(FiniteDenoiser(data), draws, levels, data.attributes)
    assert parts.total == 4 * whole.total
    for job in (whole, parts):
        while not job.done:
            job.step()
    for s, curve in whole.curves().items():
        assert np.abs(curve.per_draw - parts.curves()[s].per_draw).max() < 1e-9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chain": ("a",)}, "chain has 1 attributes: expected 2 to 5"),
        ({"chain": ("a", "a")}, "name each attribute once"),
        ({"chain": ("a", "nothing")}, "the chain has 'nothing', which is not studied: choose among a, b, c"),
        ({"chain": ("a", "b"), "law": "heldout"}, "--chain cannot be used with lower bounds"),
        ({"chain": ("a", "b"), "model": "bundled"}, "leave them out with --model"),
    ],
)
def test_chains_that_are_none(options, words):
    pixels, labels, _ = images()
    with pytest.raises(InputError, match=words):
        study(pixels, labels, draws=16, levels=6, **options)


def test_a_hierarchy_has_no_chain():
    with pytest.raises(InputError, match="leave out --chain for a hierarchy"):
        study("hierarchy", chain=("level 0", "level 1"), draws=16, levels=6)


def test_a_chain_from_the_command(tmp_path):
    """The page shows it, the file has it, the specification repeats it."""
    pixels, labels, _ = images()
    np.savez(tmp_path / "set.npz", images=pixels, **labels)
    command = ["study", str(tmp_path / "set.npz"), "--chain", "a,b,c", "--draws", "24", "--levels", "8"]
    assert main([*command, "--estimators", "posterior", "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h2>A chain of attributes</h2>" in page
    assert "c | a, b" in page
    assert (tmp_path / "out" / "figures" / "chain.svg").exists()
    assert read_spec(tmp_path / "out" / "spec.toml").chain == ("a", "b", "c")
    rows = (tmp_path / "out" / "chain.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("link,sigma,information,")
    assert len(rows) == 1 + 3 * 8
    again = xr.load_dataset(tmp_path / "out" / "results.nc", engine="h5netcdf")
    assert float(rows[1].split(",")[2]) == pytest.approx(float(again.link_information[0, 0]), abs=1e-6)
    assert torch.isfinite(torch.from_numpy(again.link_density.values)).all()
