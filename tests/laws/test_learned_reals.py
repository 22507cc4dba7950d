"""Networks that are conditional on real-valued attributes: what they are trained on, and studies of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sigmascope import from_array
from sigmascope.analysis.trust import TOLERANCE
from sigmascope.core import Denoiser, InputError, RealAttribute, generator
from sigmascope.exact.gaussian import GaussianDenoiser
from sigmascope.information.reals import ceiling
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.learn.reals import condition_of, continuous_of, noisy_of
from sigmascope.learn.settings import NULL, NULL_NUMBER, Settings
from sigmascope.learn.sources import Items
from sigmascope.learn.training import Trainer
from sigmascope.studies.run import measure
from sigmascope.studies.spec import spec_of
from sigmascope.studies.subjects.model import ConditionalModel, Network

RNG = np.random.default_rng(5)
N = 3000
V = RNG.normal(size=(N, 2)).astype(np.float32) * [1.0, 0.5] + [0.2, -0.3]
ANGLE = np.degrees(np.arctan2(V[:, 1], V[:, 0])) % 360
COLUMNS = {"x": V[:, 0].astype(float), "y": V[:, 1].astype(float), "angle": ANGLE, "sign": (V[:, 0] > 0).astype(int)}
TURN = "angle:resolution=20:period=360"
ENTRIES = ("sign", "x:resolution=0.3", TURN, "both=x+y:resolution=0.5")


@pytest.fixture(scope="module")
def data():
    return from_array(V.astype(np.float32), COLUMNS, attributes=ENTRIES)


def test_conditions_are_the_noisy_values_and_points_of_a_circle():
    line, circle = RealAttribute("a", 0.1, ("a", "b")), RealAttribute("t", 5.0, ("t",), 360.0)
    x = torch.tensor([[1.0, 2.0], [-3.0, 0.5]], dtype=torch.float64)
    assert torch.equal(condition_of(line, x), x)
    assert torch.equal(noisy_of(line, x), x)
    t = torch.tensor([[0.0], [90.0], [-30.0], [730.0]], dtype=torch.float64)
    assert torch.allclose(condition_of(circle, t)[:2], torch.eye(2, dtype=torch.float64), atol=1e-15)
    back = noisy_of(circle, condition_of(circle, t))
    assert torch.allclose((back - t + 180) % 360, torch.tensor(180.0, dtype=torch.float64))


def test_mean_and_scale_of_conditions(data):
    """Against a large sample of the labels themselves; without the noise of the resolution they are others."""
    source = Items(data, holdout=0.0, null=0)
    _, labels = source.draw(200_000, generator(1))
    for c in source.continuous:
        x = labels[c.name].double()
        assert np.allclose(c.mean, x.mean(0), atol=5 * float(x.std()) / len(x) ** 0.5)
        assert np.allclose(c.scale, x.std(0), rtol=0.01)
    turn = source.reals[1]
    clean = continuous_of(RealAttribute("angle", 1e-9, ("angle",), 360.0), data.numbers["angle"], data.weights)
    assert turn.period == 360
    assert not np.allclose(clean.scale, source.continuous[1].scale, rtol=0.01)


def test_labels_have_fresh_noise_of_the_resolution(data):
    source = Items(data, holdout=0.2, null=4, seed=3)
    v, labels = source.draw(40_000, generator(7))
    residual = labels["x"][:, 0] - v[:, 0].double()
    assert float(residual.std()) == pytest.approx(0.3, rel=0.02)
    assert abs(float(residual.mean())) < 5 * 0.3 / len(v) ** 0.5
    assert labels["both"].shape == (40_000, 2)
    assert labels["angle"].shape == (40_000, 2)
    assert len(torch.unique(labels["x"])) == len(v)
    # The control has the same law, and nothing to do with the item.
    null = labels[NULL_NUMBER][:, 0]
    assert float(null.std()) == pytest.approx(float(labels["x"].std()), rel=0.03)
    together = torch.corrcoef(torch.stack([null, v[:, 0].double()]))[0, 1]
    assert abs(float(together)) < 5 / N**0.5
    assert float(torch.corrcoef(torch.stack([labels["x"][:, 0], v[:, 0].double()]))[0, 1]) > 0.9
    again = source.draw(40_000, generator(7))[1]
    assert all(torch.equal(labels[k], again[k]) for k in labels)


def test_the_split_and_the_discrete_labels_are_those_of_data_without_real_attributes(data):
    alone = Items(from_array(V.astype(np.float32), {"sign": COLUMNS["sign"]}), seed=2)
    both = Items(data, seed=2)
    assert np.array_equal(alone.kept_out, both.kept_out)
    first, second = (s.draw(500, generator(9)) for s in (alone, both))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1][k], second[1][k]) for k in ("sign", NULL))
    assert alone.reals == ()
    only = Items(from_array(V.astype(np.float32), COLUMNS, attributes=("x:resolution=0.3",)), seed=2)
    assert only.attributes == ()
    assert [a.name for a in only.reals] == ["x", NULL_NUMBER]
    with pytest.raises(InputError, match="'null number'"):
        Items(from_array(V.astype(np.float32), {"null number": COLUMNS["x"]}, attributes=("null number:resolution=1",)))


def test_a_network_keeps_its_continuous_conditions(data, tmp_path):
    settings = Settings(network="mlp", width=16, depth=1, steps=4, batch=32, warmup=1, sigma_max=20.0)
    trainer = Trainer(Items(data, seed=1), settings)
    while trainer.done < settings.steps:
        trainer.step()
    model = trainer.averaged
    assert [c.name for c in model.continuous] == ["x", "angle", "both", NULL_NUMBER]
    assert [c.dim for c in model.continuous] == [1, 2, 2, 1]
    model.save(tmp_path / "model.safetensors")
    loaded = NeuralDenoiser.load(tmp_path)
    assert loaded.continuous == model.continuous
    v, labels = Items(data, seed=1).draw(8, generator(0))
    known = {n: labels[n] for n in ("x", "angle", "sign")}
    sigma = torch.full((8,), 0.7)
    with torch.no_grad():
        assert torch.equal(loaded(v, sigma, known), model(v, sigma, known))
        assert not torch.allclose(loaded(v, sigma, known), model(v, sigma))
        unknown = {"x": torch.full((8, 1), math.nan)}
        assert torch.equal(loaded(v, sigma, unknown), model(v, sigma))


def test_the_ceiling_of_the_items():
    r"""Gaussian values: :math:`\tfrac12 \ln(1 + s^2/r^2)` a column.  Values far apart: their entropy."""
    x = torch.randn(2000, 2, generator=generator(3), dtype=torch.float64).numpy()
    columns = {"a": x[:, 0], "b": 3 * x[:, 1], "turn": RNG.uniform(0, 360, 2000), "few": np.arange(2000) % 4 * 10.0}
    many = from_array(
        x.astype(np.float32), columns,
        attributes=("a:resolution=0.1", "ab=a+b:resolution=1", "turn:resolution=10:period=360", "few:resolution=0.5"),
    )  # fmt: skip
    a, ab, turn, few = many.reals
    # A uniform angle: ln 360 less the entropy of the noise, which hardly wraps.
    truth = {
        a: 0.5 * math.log(101), ab: 0.5 * math.log(2 * 10),
        turn: math.log(360 / 10) - 0.5 * math.log(2 * math.pi * math.e), few: math.log(4),
    }  # fmt: skip
    for attribute, value in truth.items():
        found, error = ceiling(many, attribute)
        # The values are themselves a sample, whose spread and gaps change the ceiling by some hundredths.
        assert abs(found - value) < 4 * error + 0.03, attribute.name
        assert error < 0.03
    assert abs(ceiling(many, replace(a, resolution=0.2))[0] - truth[a]) > 0.5


class _Exact(Denoiser):
    """An exact Gaussian denoiser under the names of attributes of data; a wrecked one ignores or exaggerates them."""

    def __init__(self, exact: GaussianDenoiser, name: str, share: float = 1.0) -> None:
        super().__init__()
        self.exact, self.name, self.share, self.event = exact, name, share, exact.event
        self.attributes = ()

    def forward(self, y, sigma, known=None):
        free = self.exact(y, sigma)
        value = (known or {}).get(self.name)
        return free if value is None else free + self.share * (self.exact(y, sigma, {"a": value}) - free)


def gaussian_study(share: float = 1.0, seed: int = 0, draws: int = 4000, estimators=("score_gap", "mmse_gap")):
    """A study of a law of two coordinates, by the denoiser that is exact for it, and the information in closed form.

    The items are a large sample of the law, so that the exact denoiser of the law is nearly theirs.
    """
    rng = np.random.default_rng(8)
    root = np.array([[1.0, 0.0], [0.6, 0.5]])
    v = rng.normal(size=(draws, 2)) @ root.T
    mean, covariance = torch.from_numpy(v.mean(0)), torch.from_numpy(np.cov(v.T))
    gain, noise = torch.tensor([[1.0, -0.5]], dtype=torch.float64), torch.tensor([[0.04]], dtype=torch.float64)
    law = GaussianDenoiser(mean, covariance, gain, noise)
    data = from_array(v.astype(np.float32), {"a": v @ gain[0].numpy()}, attributes=("a:resolution=0.2",))
    network = Network(_Exact(law, "a", share), None, None, None, "exact", 0)
    source = Items(data, holdout=0.0, null=0)
    subject = ConditionalModel(network, source, data, (), real_attributes=data.reals, held_out=False, scale=1.0)
    spec = spec_of(
        data="<a>", model="<m>", estimators=estimators, draws=64, levels=10, sigma_max=20.0, sigma_min=0.05,
        budget=20_000, seed=seed,
    )  # fmt: skip
    return subject, replace(spec.resolve(), fingerprint=data.fingerprint), law


def measured_of(subject, spec):
    return measure(subject, subject.problem(spec), spec, None, False)


def test_gaps_of_an_exact_denoiser_are_the_closed_form():
    """I(A_r; Y) = ½ ln det(Σ + σ²) − ½ ln det(Σ_{V|A_r} + σ²), and the ceiling is ½ ln(1 + var A / r²)."""
    subject, spec, law = gaussian_study()
    results = measured_of(subject, spec)
    truth = np.array([law.information(s) for s in results.sigma.values])
    for name in ("score_gap", "mmse_gap"):
        curve = results.sel(attribute="a", estimator=name)
        off = np.abs(curve.information.values - truth)
        assert (off < 4 * np.hypot(curve.stderr.values, curve.quadrature_error.values) + 0.003).all(), name
        assert float(curve.stderr.max()) < 0.1
    variance = float(law.gain[0] @ law.covariance @ law.gain[0])
    most = 0.5 * math.log(1 + variance / 0.04)
    assert float(results.ceiling[0]) == pytest.approx(most, abs=4 * float(results.ceiling_stderr[0]) + 0.01)
    assert float(results.resolution[0]) == 0.2
    assert bool(results.trusted.all())
    assert results.attrs["main_estimator"] == "score_gap"


def test_a_network_that_exaggerates_its_condition_is_marked():
    """‖D_a − D‖² is four times too large, and the squared errors say so."""
    results = measured_of(*gaussian_study(share=2.0)[:2])
    marked = ~results.trusted.sel(attribute="a", estimator="score_gap").values.astype(bool)
    assert marked[results.information.sel(attribute="a", estimator="score_gap").values > 0.5].all()
    assert float(abs(results.calibration).max()) > 0.5


class _Restless(_Exact):
    """It is exact given A, and adds a tenth of the number in random order that it is given."""

    def forward(self, y, sigma, known=None):
        value = (known or {}).get(NULL_NUMBER)
        mean = super().forward(y, sigma, known)
        return mean if value is None else mean + 0.1 * value[:, :1].nan_to_num().to(y)


def test_a_network_that_answers_numbers_in_random_order_is_marked():
    subject, spec, law = gaussian_study()
    source = Items(subject.data, holdout=0.0, null=8)
    network = Network(_Restless(law, "a"), None, None, None, "restless", 0, null_number=True)
    restless = ConditionalModel(
        network, source, subject.data, (), real_attributes=subject.data.reals, held_out=False, scale=1.0
    )
    results = measured_of(restless, spec)
    gap = results.sel(attribute="a", estimator="score_gap")
    marked = ~gap.trusted.values.astype(bool)
    off = results.null_number_score_gap.values > TOLERANCE * float(results.ceiling[0])
    assert np.array_equal(marked, off)
    assert off.any()
    assert not off.all()
    assert all("the gap of random labels" in str(r) for r in gap.reason.values[off])


def test_what_a_network_learns_of_a_gaussian():
    """A = V_1: within 5 % of the ceiling of the closed form at all levels; numbers in random order give nothing."""
    rng = np.random.default_rng(4)
    v = rng.normal(size=(3000, 3)) @ np.array([[1.0, 0.0, 0.3], [0.6, 0.5, 0.0], [0.0, 0.2, 0.4]])
    data = from_array(v.astype(np.float32), {"a": v[:, 0]}, attributes=("a:resolution=0.3",))
    settings = Settings(
        network="mlp", width=48, depth=1, steps=1000, batch=512, learning_rate=4e-3, warmup=50, average=300,
        sigma_min=0.05, sigma_max=40.0,
    )  # fmt: skip
    trainer = Trainer(Items(data), settings)
    while trainer.done < settings.steps:
        trainer.step()
    kept = ~trainer.source.kept_out
    gain, noise = torch.eye(3, dtype=torch.float64)[:1], torch.tensor([[0.09]], dtype=torch.float64)
    law = GaussianDenoiser(torch.from_numpy(v[kept].mean(0)), torch.from_numpy(np.cov(v[kept].T)), gain, noise)
    model = trainer.averaged
    network = Network(model, None, None, settings.sigma_max, "mlp", 0, null_number=True)
    subject = ConditionalModel(
        network, trainer.source, data, (), real_attributes=data.reals, held_out=True, scale=model.scale
    )
    spec = spec_of(
        data="<a>", model="<m>", estimators=("score_gap", "mmse_gap"), draws=64, levels=12, sigma_max=20.0,
        sigma_min=0.06, budget=20_000,
    )  # fmt: skip
    results = measured_of(subject, replace(spec.resolve(), fingerprint=data.fingerprint))
    ceiling_of_law = 0.5 * math.log(1 + float(law.covariance[0, 0]) / 0.09)
    truth = np.array([law.information(s) for s in results.sigma.values])
    curve = results.sel(attribute="a", estimator="score_gap")
    assert np.abs(curve.information.values - truth).max() < 0.05 * ceiling_of_law
    assert bool(curve.trusted.all())
    null, error = results.null_number_score_gap.values, results.null_number_score_gap_stderr.values
    assert (null < 0.03 * ceiling_of_law + 3 * error).all()
    assert (truth > 0.5 * ceiling_of_law).any()
