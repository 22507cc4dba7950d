"""Learned denoisers: what they may be given, how they are kept, how they are trained and resumed."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from problems import law_of, measure_gaps, pictures, two_points
from sigmascope.core import InputError, generator
from sigmascope.data import from_array
from sigmascope.exact.gaussian import GaussianDenoiser
from sigmascope.learn.conditions import Continuous
from sigmascope.learn.frames import PrincipalFrame, RoundFrame
from sigmascope.learn.levels import Levels
from sigmascope.learn.networks import check_batch
from sigmascope.learn.neural import WEIGHTS, Architecture, NeuralDenoiser
from sigmascope.learn.settings import NULL, Settings
from sigmascope.learn.sources import Items, Law
from sigmascope.learn.training import Trainer
from sigmascope.noise import sigma_grid

SMALL = Settings(network="mlp", width=32, depth=1, steps=40, batch=32, warmup=5, sigma_min=0.05, sigma_max=20.0)


def frame_for(kind: str, event: tuple[int, ...]) -> RoundFrame | PrincipalFrame:
    """Of one scale, or of 16 random directions, a half of which are of little spread."""
    if kind == "unet":
        return RoundFrame(torch.rand(event), 0.3)
    basis, _ = torch.linalg.qr(torch.randn(math.prod(event), 16))
    return PrincipalFrame(torch.rand(event), 0.3, basis.T.reshape(16, *event), torch.logspace(0, -2, 16))


def denoiser(kind: str = "mlp", event=(3, 8, 8)) -> NeuralDenoiser:
    data = pictures()
    torch.manual_seed(0)
    made = NeuralDenoiser(event, data.attributes, Architecture(kind, 16, 2), frame_for(kind, event))
    for p in made.parameters():  # nothing is zero, so that all that is given is seen
        p.data += 0.05 * torch.randn(p.shape)
    return made.eval()


@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_any_subset_can_be_given(kind):
    d = denoiser(kind)
    y, sigma = torch.rand(4, 3, 8, 8), torch.tensor([0.1, 1.0, 3.0, 10.0])
    a, b = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        free, given, both = d(y, sigma), d(y, sigma, {"where": a}), d(y, sigma, {"where": a, "other": b})
        unknown = d(y, sigma, {"where": torch.full((4,), -1), "other": torch.full((4,), -1)})
        mixed = d(y, sigma, {"where": torch.where(torch.tensor([1, 0, 1, 0]).bool(), a, -1)})
        singly = torch.cat([d(y[i : i + 1], sigma[i : i + 1], {"where": a[i : i + 1]}) for i in range(4)])
        values = d.means_by_value(y, sigma, "where")
    assert torch.equal(free, unknown)
    assert not torch.allclose(free, given, atol=1e-6)
    assert not torch.allclose(both, given, atol=1e-6)
    assert torch.allclose(mixed[::2], given[::2], atol=1e-6)
    assert torch.allclose(mixed[1::2], free[1::2], atol=1e-6)
    assert torch.allclose(singly, given, atol=1e-5)
    assert torch.allclose(values[a, torch.arange(4)], given, atol=1e-5)


def test_continuous_attributes_may_be_unknown():
    torch.manual_seed(0)
    c = Continuous("a", 3, (1.0, 2.0, 3.0), (2.0, 1.0, 0.5))
    d = NeuralDenoiser((5,), (), Architecture("mlp", 16, 1), RoundFrame(torch.zeros(5), 1.0), (c,)).eval()
    y, sigma, a = torch.randn(4, 5), torch.ones(4), torch.randn(4, 3)
    with torch.no_grad():
        free, given = d(y, sigma), d(y, sigma, {"a": a})
        half = d(y, sigma, {"a": torch.where(torch.tensor([True, False, True, False])[:, None], a, torch.nan)})
    assert torch.allclose(half[::2], given[::2], atol=1e-6)
    assert torch.allclose(half[1::2], free[1::2], atol=1e-6)
    assert not torch.allclose(free, given, atol=1e-5)


def test_without_a_word_of_the_network_the_estimate_is_the_best_linear_one():
    """F = 0 gives the denoiser of a Gaussian with the covariance of the directions and of the round rest."""
    torch.manual_seed(2)
    basis, _ = torch.linalg.qr(torch.randn(12, 5, dtype=torch.float64))
    spread = torch.tensor([3.0, 1.0, 0.5, 0.1, 0.0], dtype=torch.float64)
    beyond = 0.04  # variance in each of the other seven directions
    covariance = basis @ (spread**2 - beyond).diag() @ basis.T + beyond * torch.eye(12, dtype=torch.float64)
    mean = torch.randn(2, 6, dtype=torch.float64)
    frame = PrincipalFrame(mean, (float(covariance.trace()) / 12) ** 0.5, basis.T.reshape(5, 2, 6), spread)
    y = 3 * torch.randn(4, 2, 6, dtype=torch.float64)
    for sigma in (0.01, 0.3, 2.0, 50.0):
        found = frame(y, torch.full((4,), sigma, dtype=torch.float64), torch.zeros_like)
        gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(12, dtype=torch.float64))
        expected = mean + ((y - mean).flatten(1) @ gain.T).reshape(y.shape)
        assert float((found - expected).abs().max()) < 2e-6 * max(1.0, float(expected.abs().max()))


def test_the_network_speaks_in_units_of_the_error_of_the_linear_estimate():
    """F of unit variance moves each direction by the standard error that the linear estimate has there."""
    basis = torch.eye(3)
    frame = PrincipalFrame(torch.zeros(3), 1.0, basis, torch.tensor([2.0, 1.0, 0.1]))
    y, sigma = torch.tensor([[0.3, -1.0, 0.2]]), torch.tensor([0.5])
    seen = []
    change = frame(y, sigma, lambda x: seen.append(x) or torch.ones_like(x)) - frame(y, sigma, torch.zeros_like)
    s = frame.spread
    assert torch.allclose(change, (1 / (1 / s**2 + 4)).sqrt()[None], atol=1e-6)
    assert torch.allclose(seen[0] * s, y * s**2 / (s**2 + 0.25), atol=1e-6)  # the linear estimate, whitened


@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_preconditioning(kind):
    """At small noise it returns y, at large noise what F says; in float64 no digit of y is lost."""
    d = denoiser(kind)
    y = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        near = d(y, torch.full((3,), 1e-9, dtype=torch.float64))
        f = d(y, torch.full((3,), 1e6, dtype=torch.float64))
    assert float((near - y).abs().max()) < 1e-7  # float32 would leave 6e-8 of rounding alone
    assert near.dtype == torch.float64
    assert float(((near - y) / 1e-9).abs().max()) > 1e-3  # and yet not y itself
    assert float((f - d.frame.mean).abs().max()) < 50 * d.scale


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"size": torch.zeros(2, dtype=torch.int64)}, "no attribute is called 'size'"),
        ({"where": torch.zeros(3, dtype=torch.int64)}, "one index per row"),
        ({"where": torch.tensor([0, 3])}, "from 0 to 2"),
        ({"where": torch.zeros(2)}, "one index per row"),
    ],
)
def test_what_cannot_be_given(known, said):
    with pytest.raises(InputError, match=said):
        denoiser()(torch.rand(2, 3, 8, 8), torch.ones(2), known)


def test_rows_of_another_shape():
    with pytest.raises(InputError, match=r"expected \(3, 8, 8\)"):
        denoiser()(torch.rand(2, 3, 9, 8), torch.ones(2))
    with pytest.raises(InputError, match="one level per row"):
        check_batch(torch.rand(2, 3, 8, 8), torch.ones(3), (3, 8, 8))


@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_kept_and_read_again(tmp_path, kind):
    d = denoiser(kind)
    d.card = {"steps": 7}
    d.save(tmp_path / WEIGHTS)
    again = NeuralDenoiser.load(tmp_path)
    y, sigma, given = torch.rand(5, 3, 8, 8), torch.full((5,), 0.7), {"where": torch.tensor([0, 1, 2, -1, 0])}
    with torch.no_grad():
        assert torch.equal(d(y, sigma, given), again(y, sigma, given))
    assert again.card == {"steps": 7}
    assert [a.values for a in again.attributes] == [a.values for a in d.attributes]
    d.save(tmp_path / WEIGHTS, half=True)
    with torch.no_grad():
        apart = (NeuralDenoiser.load(tmp_path)(y, sigma, given) - d(y, sigma, given)).abs().max()
    assert 0 < float(apart) < 0.02


def test_a_file_that_is_no_model(tmp_path):
    with pytest.raises(InputError, match="holds no model"):
        NeuralDenoiser.load(tmp_path)
    path = tmp_path / WEIGHTS
    denoiser().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="no model of sigmascope"):
        NeuralDenoiser.load(tmp_path)
    path.write_bytes(b"\x80\x04\x95 a pickle")
    with pytest.raises(InputError, match="no model of sigmascope"):
        NeuralDenoiser.load(tmp_path)
    save_file({"a": torch.zeros(2)}, path, {"sigmascope": json.dumps({"format": 99})})
    with pytest.raises(InputError, match="format 99"):
        NeuralDenoiser.load(tmp_path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="no model of sigmascope"):
        NeuralDenoiser.load(tmp_path)


def test_held_out_items_are_never_trained_on():
    data = pictures()
    source = Items(data, holdout=0.25, null=4, seed=1)
    inside = set(source.pick(5000, generator(0, 1), False).tolist())
    outside = set(source.pick(5000, generator(0, 2), True).tolist())
    assert len(outside) == 75
    assert len(inside) == 225
    assert not inside & outside
    rows = data.source.read(0, 300).flatten(1)
    for draw, kept_out in ((source.draw, False), (source.held_out, True)):
        v, labels = draw(200, generator(0, 3))
        item = torch.cdist(v.flatten(1).double(), rows.double()).argmin(1)
        assert set(source.kept_out[item.numpy()].tolist()) == {kept_out}
        assert torch.equal(labels["where"], data.labels["where"][item])
    assert torch.equal(source.labels[NULL], Items(data, holdout=0.25, null=4, seed=1).labels[NULL])
    count = torch.bincount(source.labels[NULL], minlength=4).double()
    assert float(((count - 75) ** 2 / 75).sum()) < 16  # chi square of 3 degrees of freedom: below 11 in 99 %
    with pytest.raises(InputError, match="is called 'null'"):
        Items(from_array(data.source.read(0, 300).numpy(), {"null": np.arange(300) % 2}))


def test_items_are_drawn_by_weight():
    data = from_array(np.arange(4.0)[:, None], {"a": [0, 0, 1, 1]}, weights=np.array([0.0, 1.0, 2.0, 1.0]))
    count = torch.bincount(Items(data, holdout=0.0).pick(40_000, generator(3), False), minlength=4) / 40_000
    assert float((count - torch.tensor([0.0, 0.25, 0.5, 0.25])).abs().max()) < 4 * (0.25 / 40_000) ** 0.5
    assert int(count[0]) == 0


def test_levels_go_where_the_gap_lives():
    levels = Levels(0.01, 100.0, adaptive=True)
    assert np.allclose(levels.probability, 1 / 32)
    rate = np.where(np.arange(32) == 20, 1.0, 1e-12)
    levels.measured(rate)
    assert abs(levels.probability.sum() - 1) < 1e-12
    assert levels.probability[20] > 0.5
    drawn = np.log(levels.draw(4096, generator(0)).double().numpy())
    share = np.histogram(drawn, levels.edges)[0] / 4096
    assert np.abs(share - levels.probability).max() <= 1.01 / 4096 * 2  # stratified: off by a draw at each end
    again = Levels(0.01, 100.0, adaptive=True)
    again.restore(json.loads(json.dumps(levels.state())))
    assert np.array_equal(again.probability, levels.probability)
    normal = Levels(0.01, 100.0, adaptive=False, log_mean=0.0, log_std=1.0)
    found = np.log(normal.draw(8192, generator(1)).double().numpy())
    assert abs(found.mean()) < 0.02
    assert abs(found.std() - 1.0) < 0.03


def losses(trainer: Trainer, steps: int) -> list[float]:
    return [trainer.step() for _ in range(steps)]


@pytest.mark.parametrize("network", ["mlp", "unet"])
@pytest.mark.parametrize("noise", ["adaptive", "lognormal"])
def test_resumed_to_the_same_stream(tmp_path, network, noise, monkeypatch):
    """Stopped and restored twice, losses and weights are those of an unbroken run, to the last bit."""
    monkeypatch.setattr("sigmascope.learn.training._MEASURE_EVERY", 4)
    source = Items(pictures(), null=3)
    settings = replace(SMALL, network=network, noise=noise, width=8, steps=18)
    whole = Trainer(source, settings)
    expected = losses(whole, 10)
    whole.losses()
    expected += losses(whole, 8)
    found, path = [], tmp_path / "training.safetensors"
    for start, stop in ((0, 5), (5, 10), (10, 18)):
        part = Trainer(source, settings)
        if start:
            part.restore(path)
        assert part.done == start
        found += losses(part, stop - start)
        if stop == 10:
            part.losses()
        part.store(path)
    assert found == expected
    for one, two in ((whole.model, part.model), (whole.averaged, part.averaged)):
        for (name, p), q in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
            assert torch.equal(p, q), name
    assert part.history == whole.history
    assert np.array_equal(part.levels.probability, whole.levels.probability)


def test_state_of_another_training(tmp_path):
    source = Items(pictures(), null=0)
    path = tmp_path / "training.safetensors"
    trainer = Trainer(source, SMALL)
    trainer.step()
    trainer.store(path)
    with pytest.raises(InputError, match="of another training"):
        Trainer(source, replace(SMALL, batch=16)).restore(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="no checkpoint of this training"):
        Trainer(source, SMALL).restore(path)


def test_a_training_that_diverges_says_so():
    source = Items(pictures(), null=0)
    with pytest.raises(InputError, match="pass a smaller --learning-rate"):
        losses(Trainer(source, replace(SMALL, learning_rate=1e30, warmup=0)), 40)


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": "cnn"},
        {"steps": 0},
        {"learning_rate": -1.0},
        {"holdout": 0.95},
        {"null": 1},
        {"sigma_min": 9.0, "sigma_max": 3.0},
        {"noise": "even"},
        {"precision": "float16"},
        {"seed": -1},
        {"weight_decay": float("nan")},
    ],
)
def test_settings_that_train_nothing(wrong):
    with pytest.raises(InputError):
        replace(SMALL, **wrong).check()


def test_attributes_that_are_known_in_training():
    """No attribute is known in three tenths of the rows, exactly one in half of them, a random subset in the others."""
    source = Items(pictures(), null=3)
    trainer = Trainer(source, SMALL)
    _, labels = source.draw(20_000, generator(0))
    given = torch.stack([x >= 0 for x in trainer._random_subset(labels, generator(1)).values()]).sum(0)
    share = torch.bincount(given, minlength=4) / 20_000
    wanted = torch.tensor([0.3 + 0.2 / 8, 0.5 + 0.2 * 3 / 8, 0.2 * 3 / 8, 0.2 / 8])
    assert float((share - wanted).abs().max()) < 4 * (0.25 / 20_000) ** 0.5


@pytest.mark.filterwarnings("ignore::sigmascope.information.above.CoarseTopWarning")
def test_two_points_are_learned():
    """Within 5 % of the truth at every level where more than 5 % is known, after seconds."""
    problem = two_points()
    law = law_of(problem, null=2)
    settings = Settings(
        network="mlp", width=64, depth=2, steps=1200, batch=512, learning_rate=4e-3, warmup=50, average=300,
        sigma_min=0.05, sigma_max=60.0,
    )  # fmt: skip
    trainer = Trainer(law, settings)
    losses(trainer, settings.steps)
    sigma = sigma_grid(6.0, 0.2, 12)
    gaps = measure_gaps(
        trainer.averaged, law.draw, {"sign": np.log(2), NULL: np.log(2)}, sigma, target_stderr=0.001, batch=4096
    )
    true = np.array([problem.information("sign", s) for s in sigma])
    some = true > 0.05 * np.log(2)
    curve = gaps["sign"].score_gap
    assert float(np.abs(curve.value / true - 1)[some].max()) < 0.05
    assert some.sum() >= 10
    null = gaps[NULL].score_gap
    assert float(null.value.max()) < 0.02 * np.log(2)
    untrained = measure_gaps(Trainer(law, settings).averaged, law.draw, {"sign": np.log(2)}, sigma, budget=4000)
    assert float(np.abs(untrained["sign"].score_gap.value / true - 1)[some].max()) > 0.5


def test_linear_path_holds_a_gaussian():
    """What a perceptron learns of a Gaussian with a continuous attribute is its exact denoiser, nearly."""
    g = torch.Generator().manual_seed(0)
    root = torch.randn(3, 3, generator=g, dtype=torch.float64)
    exact = GaussianDenoiser(
        torch.zeros(3, dtype=torch.float64), root @ root.T, torch.eye(3, dtype=torch.float64)[:2],
        0.1 * torch.eye(2, dtype=torch.float64),
    )  # fmt: skip

    def draw(n, g):
        v = torch.randn(n, 3, generator=g, dtype=torch.float64) @ root.T
        return v.float(), {"a": (v[:, :2] + 0.1**0.5 * torch.randn(n, 2, generator=g, dtype=torch.float64)).float()}

    law = Law((3,), draw)
    settings = Settings(
        network="mlp", width=48, depth=1, steps=1200, batch=512, learning_rate=4e-3, warmup=50, average=300,
        sigma_min=0.05, sigma_max=40.0,
    )  # fmt: skip
    trainer = Trainer(law, settings)
    losses(trainer, settings.steps)
    sigma = sigma_grid(20.0, 0.1, 12)
    curve = measure_gaps(trainer.averaged, law.draw, {"a": float("nan")}, sigma, target_stderr=0.01, batch=4096)
    true = np.array([exact.information(s) for s in sigma])
    some = true > 0.05 * true[-1]
    assert float(np.abs(curve["a"].score_gap.value / true - 1)[some].max()) < 0.05
