"""A denoiser that takes a classifier's probabilities for an unknown value: where they are certain, they replace it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from problems import law_of, measure_gaps, pictures, two_points
from sigmascope.core import InputError, generator
from sigmascope.information.adaptive import GapJob
from sigmascope.information.together import together
from sigmascope.learn.classifier import CLASSIFIER
from sigmascope.learn.classifying import ClassifierTrainer
from sigmascope.learn.conditions import Conditions
from sigmascope.learn.neural import WEIGHTS, NeuralDenoiser
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Items
from sigmascope.learn.training import Trainer
from sigmascope.noise import sigma_grid

SMALL = Settings(network="mlp", width=32, depth=1, steps=40, batch=32, warmup=5, sigma_min=0.02, sigma_max=20.0)
QUICK = Settings(
    network="mlp", width=64, depth=2, steps=600, batch=512, learning_rate=4e-3, warmup=50, average=200, sigma_min=0.05,
    sigma_max=60.0,
)  # fmt: skip


def trained(source, settings, classifier_steps=300, steps=None):
    classifier = ClassifierTrainer(source, replace(settings, steps=classifier_steps))
    for _ in range(classifier_steps):
        classifier.step()
    trainer = Trainer(source, settings, classifier=classifier.averaged)
    for _ in range(settings.steps if steps is None else steps):
        trainer.step()
    return trainer


@pytest.fixture(scope="module")
def of_pictures():
    return trained(Items(pictures(), null=3), SMALL)


def test_a_classifier_input_is_the_mean_over_what_could_be_given():
    data = pictures()
    c = Conditions(data.attributes, (), 5)
    q = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])
    known = {"where": torch.tensor([-1, -1, 1])}
    table = c.tables[0].weight
    expected = torch.stack([table[0], q[1] @ table, table[1]])
    assert torch.allclose(c(known, 3, {"where": q}), expected)
    assert torch.allclose(c(None, 3, {"where": q})[2], q[2] @ table)
    assert torch.equal(c(None, 3, {}), torch.zeros(3, 5))


def test_where_the_classifier_is_certain_conditioning_changes_nothing(of_pictures):
    """At small noise the three pictures cannot be confused: the gap is zero, which two answers of a network never are.

    Random labels cannot be recognised: knowing them must still change the answer, so that the null shows error.
    """
    model, source = of_pictures.averaged, of_pictures.source
    v, labels = source.held_out(64, generator(1))
    y, sigma = v + 0.02 * torch.randn(v.shape, generator=generator(2)), torch.full((64,), 0.02)
    own = model.classifier.all_log_posteriors(y, sigma)["where"].gather(1, labels["where"][:, None])
    assert float(own.exp().min()) > 0.99
    plain = Trainer(source, of_pictures.settings)
    for _ in range(SMALL.steps):
        plain.step()
    with torch.no_grad():
        free, conditional, null = (
            model(y, sigma, k) for k in ({}, {"where": labels["where"]}, {"null": labels["null"]})
        )
        apart = plain.averaged(y, sigma, {"where": labels["where"]}) - plain.averaged(y, sigma)
    gap = float(((conditional - free) ** 2).mean())
    assert gap < 0.02 * float((apart**2).mean())
    assert float(((null - free) ** 2).mean()) > 100 * gap


def test_all_values_at_once_are_each_given_alone(of_pictures):
    model = of_pictures.averaged
    y, sigma = torch.rand(6, 3, 8, 8), torch.linspace(0.1, 3.0, 6)
    with torch.no_grad():
        found = model.means_by_value(y, sigma, "where")
        for k in range(3):
            assert torch.allclose(found[k], model(y, sigma, {"where": torch.full((6,), k)}), atol=1e-6)


def test_a_draw_is_classified_once(of_pictures, monkeypatch):
    """Conditional nothing and conditional one thing share the guess of the same noisy value."""
    model, source, rows = of_pictures.averaged, of_pictures.source, []
    logits = model.classifier.logits
    monkeypatch.setattr(model.classifier, "logits", lambda y, sigma: rows.append(len(y)) or logits(y, sigma))
    work = GapJob(model, source.held_out, {"where": np.log(3)}, sigma_grid(8.0, 0.05, 8), budget=4000)
    while not work.done:
        work.step()
    assert 2 * sum(rows) == work.calls


def test_questions_asked_together_share_one_classification(of_pictures, monkeypatch):
    """They are answered as calls are; a guess is an argument, so no other call can come upon it."""
    model, asked, logits = of_pictures.averaged, [], of_pictures.averaged.classifier.logits
    monkeypatch.setattr(model.classifier, "logits", lambda *given: asked.append(1) or logits(*given))
    y, sigma, where = torch.rand(4, 3, 8, 8), torch.full((4,), 0.3), torch.tensor([0, 2, 1, 0])
    with torch.no_grad():
        free, conditional = together(model, y, sigma, [None, {"where": where}])
        assert len(asked) == 1
        assert torch.equal(free, model(y, sigma))
        assert torch.equal(conditional, model(y, sigma, {"where": where}))
        assert not torch.equal(free, conditional)
        y.mul_(0.2)
        assert not torch.equal(model(y, sigma), free)
        assert len(asked) == 4
    given = y.clone().requires_grad_()
    model(given, sigma).sum().backward()
    assert float(given.grad.abs().sum()) > 0


def test_the_classifier_stays_as_it_is_and_is_not_stepped(of_pictures):
    trainer = of_pictures
    source = trainer.source
    again = ClassifierTrainer(source, replace(trainer.settings, steps=300))
    for _ in range(300):
        again.step()
    for p, q, r in zip(
        again.averaged.parameters(), trainer.model.classifier.parameters(), trainer.averaged.classifier.parameters(),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(p, q)
        assert torch.allclose(p, r, rtol=1e-6)
        assert not q.requires_grad
    stepped = {id(p) for group in trainer.optimiser.param_groups for p in group["params"]}
    assert not stepped & {id(p) for p in trainer.model.classifier.parameters()}


def test_resumed_to_the_same_weights(tmp_path):
    source, settings = Items(pictures(), null=3), replace(SMALL, steps=8)
    whole, part = trained(source, settings, 20), trained(source, settings, 20, steps=4)
    part.store(tmp_path / "state.safetensors")
    again = trained(source, settings, 20, steps=0)
    again.restore(tmp_path / "state.safetensors")
    for _ in range(4):
        again.step()
    for (name, p), q in zip(whole.averaged.state_dict().items(), again.averaged.state_dict().values(), strict=True):
        assert torch.equal(p, q), name


@pytest.mark.parametrize("half", [False, True])
def test_kept_beside_its_classifier(of_pictures, tmp_path, half):
    model = of_pictures.averaged
    with pytest.raises(InputError, match="holds no model"):
        NeuralDenoiser.load(tmp_path)
    model.save(tmp_path / WEIGHTS, half=half)
    with pytest.raises(InputError, match=f"{CLASSIFIER}: there is no such file"):
        NeuralDenoiser.load(tmp_path)
    model.classifier.save(tmp_path / CLASSIFIER, half=half)
    read = NeuralDenoiser.load(tmp_path)
    assert read.count() == model.count() > read.classifier.count() > 0
    y, sigma = torch.rand(5, 3, 8, 8), torch.full((5,), 0.7)
    with torch.no_grad():
        for known in (None, {"where": torch.tensor([0, 1, 2, -1, 0])}):
            apart = float((read(y, sigma, known) - model(y, sigma, known)).abs().max())
            assert (0 < apart < 0.02) if half else apart == 0


def test_two_points_are_learned():
    """Within 5 % of the truth wherever more than 5 % is known, and where the sign is plain the integrand is zero."""
    problem = two_points()
    law = law_of(problem, null=2)
    model = trained(law, QUICK, 400).averaged
    sigma = sigma_grid(6.0, 0.1, 14)
    gaps = measure_gaps(model, law.draw, {"sign": np.log(2)}, sigma, target_stderr=0.004, batch=4096)
    true = np.array([problem.information("sign", s) for s in sigma])
    some = true > 0.05 * np.log(2)
    value = gaps["sign"].score_gap.value
    assert float(np.abs(value / true - 1)[some].max()) < 0.05
    assert 0 <= value[-1] - value[sigma > 0.15][-1] < 2e-3
