"""A learned classifier of noisy data: bounds below the truth and near it at every level; it resumes, and is kept."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

import sigmascope.distributed as distributed
from problems import Mixture, four_points, mixture, points
from sigmascope.core import Attribute, Draws, HasAllPosteriors, HasPosterior, InputError, generator
from sigmascope.data import from_array
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.probes import classifier_bound
from sigmascope.learn.classifier import CLASSIFIER, NoisyClassifier, classifier_architecture
from sigmascope.learn.classifying import ClassifierTrainer
from sigmascope.learn.frames import directions
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Items, Law

SETTINGS = Settings(
    steps=700, batch=512, width=64, depth=2, learning_rate=2e-3, warmup=50, average=100, sigma_min=0.02, sigma_max=60.0
)
SIGMA = np.array([50.0, 30.0, 16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.05])
PROBLEMS = {"mixture": mixture(), "four points": points(four_points())}


def law(m: Mixture, null: int = 8) -> Law:
    weights, means, spread = (torch.from_numpy(x) for x in (m.weights, m.means, m.spread))
    attributes = tuple(
        Attribute(n, tuple(map(str, np.unique(a))), torch.from_numpy(np.bincount(a, weights=m.weights)))
        for n, a in m.labels.items()
    )

    def sampler(n, g):
        k = torch.multinomial(weights, n, True, generator=g)
        v = means[k] + spread[k] * torch.randn(n, generator=g, dtype=torch.float64)
        return v[:, None].float(), {name: torch.from_numpy(a)[k] for name, a in m.labels.items()}

    return Law((1,), sampler, attributes, null=null)


def draws_of(source, n, seed=5):
    v, labels = source.held_out(n, generator(seed))
    return Draws(torch.arange(n), v, torch.randn(v.shape, generator=generator(seed, 1)), labels)


@pytest.fixture(scope="module", params=PROBLEMS)
def learned(request):
    m = PROBLEMS[request.param]
    trainer = ClassifierTrainer(law(m), SETTINGS)
    for _ in range(SETTINGS.steps):
        trainer.step()
    return m, trainer


class Sharpened:
    """A classifier that is too sure of itself."""

    def __init__(self, of, by):
        self.of, self.by = of, by

    def all_log_posteriors(self, y, sigma):
        return {k: (self.by * q).log_softmax(1) for k, q in self.of.all_log_posteriors(y, sigma).items()}


class Truth:
    """The exact posterior of a mixture."""

    def __init__(self, m):
        self.exact, self.names = m.denoiser(), list(m.labels)

    def all_log_posteriors(self, y, sigma):
        return {a: self.exact.log_posterior(y.double(), sigma.double(), a) for a in self.names}


def losses_of(m, classifier, source):
    """Of each attribute: what the classifier's bound lacks, as a share of the truth, and its standard error."""
    attributes = [a for a in source.attributes if a.name != "null"]
    draws = draws_of(source, 10_000)
    bound = classifier_bound(classifier, attributes, draws, SIGMA)
    exact = classifier_bound(Truth(m), attributes, draws, SIGMA)
    for a in attributes:
        truth = np.array([m.information(a.name, s) for s in SIGMA])
        lost = exact[a.name].per_draw - bound[a.name].per_draw
        yield a, truth, lost.mean(1), lost.std(1, ddof=1) / lost.shape[1] ** 0.5, bound[a.name]


@pytest.fixture(scope="module")
def measured(learned):
    m, trainer = learned
    return list(losses_of(m, trainer.averaged, trainer.source))


def test_bounds_are_below_the_truth_and_within_5_percent(measured):
    for a, truth, lost, error, bound in measured:
        assert bound.kind == "lower bound"
        assert np.all(bound.value <= truth + 4 * bound.stderr)
        assert np.all(lost >= -4 * error)
        seen = truth > 0.05 * a.entropy
        assert seen.sum() >= 5
        assert np.all(lost[seen] + 2 * error[seen] < 0.05 * truth[seen]), a.name


def test_where_little_is_known_the_bound_is_not_negative(measured):
    for _, truth, lost, error, bound in measured:
        high = SIGMA >= 8
        # A classifier at the prior loses the truth itself; beside that nothing.
        assert np.all(lost[high] <= truth[high] + 4 * error[high])
        assert np.all(bound.value[high] >= -4 * bound.stderr[high])


def test_the_check_would_see_a_classifier_that_is_too_sure(learned):
    m, trainer = learned
    found = losses_of(m, Sharpened(trainer.averaged, 2.0), trainer.source)
    assert any(np.any(lost - 2 * error > 0.05 * truth) for _, truth, lost, error, _ in found)


def test_random_labels_have_no_information(learned):
    _, trainer = learned
    null = [a for a in trainer.source.attributes if a.name == "null"]
    curve = classifier_bound(trainer.averaged, null, draws_of(trainer.source, 10_000), SIGMA)["null"]
    assert np.all(curve.value <= 4 * curve.stderr)
    assert np.all(curve.value > -2e-3)


def test_falls_back_to_the_prior_as_the_noise_grows(learned):
    _, trainer = learned
    y = torch.randn(512, 1, generator=generator(1))
    for sigma, most in ((1e3, 0.1), (1e5, 1e-3)):
        log_q = trainer.averaged.all_log_posteriors(sigma * y, torch.full((512,), sigma))
        for a in trainer.source.attributes:
            assert float((log_q[a.name] - a.prior.log()).abs().max()) < most


def test_begins_at_the_prior():
    model = ClassifierTrainer(law(mixture()), SETTINGS).model
    log_q = model.all_log_posteriors(torch.randn(9, 1, generator=generator(2)), torch.full((9,), 0.3))
    for a in model.attributes:
        assert torch.allclose(log_q[a.name], a.prior.log().expand(9, -1), atol=1e-6)


def test_is_a_posterior_row_by_row(learned):
    model = learned[1].averaged
    assert isinstance(model, HasPosterior)
    assert isinstance(model, HasAllPosteriors)
    y = 3 * torch.randn(5000, 1, generator=generator(3), dtype=torch.float64)  # more rows than one call of the network
    sigma = torch.linspace(0.03, 20.0, 5000, dtype=torch.float64)
    for name, log_q in model.all_log_posteriors(y, sigma).items():
        assert log_q.dtype == torch.float64
        assert torch.allclose(log_q.exp().sum(1), torch.ones(5000, dtype=torch.float64), atol=1e-12)
        assert torch.equal(model.log_posterior(y, sigma, name), log_q)
        for i in (0, 4095, 4096, 4999):
            alone = model.log_posterior(y[i : i + 1], sigma[i : i + 1], name)
            assert torch.allclose(alone, log_q[i : i + 1], atol=2e-4)  # float32 logits of up to some hundreds


def test_resumes_to_the_same_losses(tmp_path):
    settings = replace(SETTINGS, batch=64, steps=14)
    whole = ClassifierTrainer(law(mixture()), settings)
    losses = [whole.step() for _ in range(14)]
    first = ClassifierTrainer(law(mixture()), settings)
    for _ in range(6):
        first.step()
    first.store(tmp_path / "state")
    again = ClassifierTrainer(law(mixture()), settings)
    again.restore(tmp_path / "state")
    assert again.done == 6
    assert [again.step() for _ in range(8)] == losses[6:]
    for a, b in zip(again.averaged.parameters(), whole.averaged.parameters(), strict=True):
        assert torch.equal(a, b)
    mine, theirs = again.losses(), whole.losses()
    assert mine["held_out"] == theirs["held_out"]
    assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-12, nan_ok=True)
    assert len(mine["loss"]) == len(again.decades)


def test_refuses_the_state_of_another_training(tmp_path):
    settings = replace(SETTINGS, batch=8)
    ClassifierTrainer(law(mixture()), settings).store(tmp_path / "state")
    with pytest.raises(InputError, match="another training"):
        ClassifierTrainer(law(mixture()), replace(settings, seed=1)).restore(tmp_path / "state")
    (tmp_path / "junk").write_bytes(b"no such thing")
    with pytest.raises(InputError, match="delete it to begin anew"):
        ClassifierTrainer(law(mixture()), settings).restore(tmp_path / "junk")


def test_processes_add_up_to_one(monkeypatch):
    """The gradients of the halves of a batch, added, are those of the batch."""
    settings = replace(SETTINGS, batch=64, steps=3)

    def gradient():
        trainer = ClassifierTrainer(law(mixture()), settings)
        torch.manual_seed(0)
        for p in trainer.model.parameters():  # away from the silent start
            p.data += 0.1 * torch.randn(p.shape)
        with monkeypatch.context() as m:
            m.setattr("torch.nn.utils.clip_grad_norm_", lambda *_: None)
            trainer.step()
        return torch.cat([p.grad.reshape(-1) for p in trainer.model.parameters()])

    whole = gradient()
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "add_up", lambda x: x)
    halves = []
    for r in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda r=r: r)
        halves.append(gradient())
    assert float(whole.norm()) > 0.01
    assert torch.allclose(halves[0] + halves[1], whole, atol=1e-5 * float(whole.norm()))


def test_kept_and_read_again(learned, tmp_path):
    model = learned[1].averaged
    y, sigma = 3 * torch.randn(300, 1, generator=generator(4)), torch.linspace(0.03, 20.0, 300)
    before = model.all_log_posteriors(y, sigma)
    model.save(tmp_path / CLASSIFIER)
    again = NoisyClassifier.load(tmp_path)
    assert [a.name for a in again.attributes] == [a.name for a in model.attributes]
    for name, log_q in again.all_log_posteriors(y, sigma).items():
        assert torch.equal(log_q, before[name])
        assert not log_q.requires_grad
    whole = (tmp_path / CLASSIFIER).stat().st_size
    model.save(tmp_path / CLASSIFIER, half=True)
    assert (tmp_path / CLASSIFIER).stat().st_size < 0.6 * whole
    for name, log_q in NoisyClassifier.load(tmp_path / CLASSIFIER).all_log_posteriors(y, sigma).items():
        assert float((log_q.exp() - before[name].exp()).abs().max()) < 0.02


def test_a_file_that_is_no_classifier(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / CLASSIFIER).write_bytes(b"junk")
    save_file({"x": torch.zeros(2)}, tmp_path / "other", {"sigmascope": '{"format": 1, "event": [1]}'})
    save_file({"x": torch.zeros(2)}, tmp_path / "bare")
    small = ClassifierTrainer(law(mixture()), SETTINGS).model
    small.basis.data = torch.zeros(2, 1)
    small.save(tmp_path / "wrong")
    for path in (tmp_path, tmp_path / "other", tmp_path / "bare", tmp_path / "wrong"):
        with pytest.raises(InputError, match="no classifier of sigmascope") as found:
            NoisyClassifier.load(path)
        assert "\n" not in str(found.value)
    with pytest.raises(InputError, match="there is no such file"):
        NoisyClassifier.load(tmp_path / "absent")


def test_what_cannot_be_used():
    model = ClassifierTrainer(law(mixture()), SETTINGS).model
    with pytest.raises((InputError, TypeCheckError), match=r"pass one level per row|sigma"):
        model.log_posterior(torch.zeros(3, 1), torch.ones(2), "side")
    with pytest.raises(InputError, match=r"expected \(1,\)"):
        model.log_posterior(torch.zeros(3, 2), torch.ones(3), "side")
    with pytest.raises(InputError, match="choose among side, width, null"):
        model.log_posterior(torch.zeros(3, 1), torch.ones(3), "colour")
    with pytest.raises(InputError, match="at least one"):
        ClassifierTrainer(Law((1,), lambda n, g: (torch.randn(n, 1, generator=g), {})), SETTINGS)
    with pytest.raises(InputError, match="no images"):
        classifier_architecture("unet", 0, 0, (7,))


def test_attributes_that_are_vectors_are_left_out():
    def sampler(n, g):
        a = torch.randint(2, (n,), generator=g)
        return (2.0 * a - 1)[:, None], {"sign": a, "place": torch.randn(n, 2, generator=g)}

    sign = Attribute("sign", ("-", "+"), torch.tensor([0.5, 0.5], dtype=torch.float64))
    trainer = ClassifierTrainer(Law((1,), sampler, (sign,)), replace(SETTINGS, batch=16))
    assert trainer.step() == pytest.approx(math.log(2), abs=1e-6)
    assert list(trainer.bounds()) == ["sign"]


def bars():
    """Bars of 8 x 8, upright or lying, at one of eight places; and where they are."""
    images = np.zeros((16, 1, 8, 8), dtype=np.float32)
    for i in range(8):
        images[i, 0, :, i] = 1
        images[8 + i, 0, i] = 1
    return from_array(images, {"lies": np.arange(16) // 8, "far": (np.arange(16) % 8) // 4})


@pytest.mark.parametrize(("network", "easy"), [("unet", "lies"), ("mlp", "far")])
def test_images(network, easy):
    """A convolution sees at once how a bar lies, wherever it is; a perceptron where it is, which is a linear rule."""
    data = bars()
    source = Items(data, holdout=0.0, null=0)
    settings = replace(SETTINGS, network=network, steps=120, batch=64, width=16, depth=2, sigma_max=10.0, average=30)
    trainer = ClassifierTrainer(source, settings)
    assert trainer.model.architecture.kind == network
    for _ in range(settings.steps):
        trainer.step()
    sigma = np.array([3.0, 1.0, 0.5, 0.1])
    draws = draws_of(source, 2000)
    exact = classifier_bound(FiniteDenoiser(data), data.attributes, draws, sigma)
    bound = classifier_bound(trainer.averaged, data.attributes, draws, sigma)
    for a in data.attributes:
        lost = exact[a.name].per_draw - bound[a.name].per_draw
        assert np.all(lost.mean(1) >= -4 * lost.std(1, ddof=1) / 2000**0.5)
    assert bound[easy].value[-1] > 0.9 * np.log(2)
    assert bound[easy].value[0] > -4 * bound[easy].stderr[0]


def test_directions_of_large_values_are_those_of_their_covariance():
    loadings = torch.linalg.qr(torch.randn(1100, 5, generator=generator(7))).Q * torch.tensor([9.0, 7.0, 5.0, 3.0, 2.0])
    source = Law((1100,), lambda n, g: (torch.randn(n, 5, generator=g) @ loadings.T, {}))
    before = torch.random.get_rng_state()
    basis, spread = directions(source, 0, 256)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(basis) == 256
    # 8,192 rows: a standard deviation is known to 1 / sqrt(2 · 8192) of itself.
    assert torch.allclose(spread[:5], torch.tensor([9.0, 7.0, 5.0, 3.0, 2.0]), rtol=4 / (2 * 8192) ** 0.5)
    assert float(spread[5:].max()) < 1e-3
    inside = (basis[:5] @ loadings / loadings.norm(dim=0)).square().sum(1)
    assert torch.allclose(inside, torch.ones(5), atol=1e-3)
