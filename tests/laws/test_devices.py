"""Every denoiser, sampler and job with weights on a GPU and draws on the CPU, on a device that is pretended."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn

import sigmascope
from pretended import DeviceError, pretended_cuda
from problems import pictures, random_set
from sigmascope.adapters import ByPosterior, Featured, Foreign, Unit
from sigmascope.core import (
    Attribute,
    Denoiser,
    HasAllPosteriors,
    HasMeansByValue,
    HasPosterior,
    InputError,
    SamplesPosterior,
    generator,
)
from sigmascope.data.hierarchy import random_hierarchy
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.screened import ScreenedDenoiser
from sigmascope.exact.gaussian import GaussianDenoiser, MixtureDenoiser
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.divergence import _Pair
from sigmascope.information.mixture import Mixture
from sigmascope.information.probes import HasFeatures
from sigmascope.learn.classifier import NoisyClassifier
from sigmascope.learn.conditions import Continuous
from sigmascope.learn.frames import PrincipalFrame, RoundFrame
from sigmascope.learn.networks import Architecture
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.noise import Discrete
from sigmascope.sample import Guided
from sigmascope.studies.subjects.conditional_pipeline import AttributeOfClasses

EVENT = (3, 8, 8)
WHERE, OTHER = pictures(60).attributes


def stirred(made: nn.Module) -> nn.Module:
    """With no parameter at zero."""
    torch.manual_seed(1)
    for p in made.parameters():
        p.data += 0.05 * torch.randn(p.shape)
    return made.eval()


def classifier(kind: str = "unet") -> NoisyClassifier:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(192, 8))[0].T.reshape(8, *EVENT).contiguous()
    return stirred(
        NoisyClassifier(EVENT, (WHERE, OTHER), Architecture(kind, 8, 1), torch.rand(EVENT), 0.3, basis, torch.rand(8))
    )


def neural(kind: str = "unet", frame: str = "round", told: bool = False) -> NeuralDenoiser:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(192, 8))[0].T.reshape(8, *EVENT).contiguous()
    coordinates = (
        RoundFrame(torch.rand(EVENT), 0.3)
        if frame == "round"
        else PrincipalFrame(torch.rand(EVENT), 0.3, basis, torch.logspace(0, -2, 8))
    )
    more = (Continuous("angle", 2, (0.0, 1.0), (1.0, 2.0)),)
    return stirred(
        NeuralDenoiser(
            EVENT, (WHERE, OTHER), Architecture(kind, 8, 1), coordinates, more, None, classifier() if told else None
        )
    )


class Network(nn.Module):
    """A network of classes as another program has it."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.classes = nn.Conv2d(3, 3, 3, padding=1), nn.Embedding(4, 3)

    def forward(self, x, time, label):
        h = self.enter(x) * torch.cos(time)[:, None, None, None]
        return h if label is None else h + self.classes(label)[:, :, None, None]


def foreign(network=None, null: int | None = 3, prediction: str = "epsilon") -> Foreign:
    torch.manual_seed(0)
    return Foreign(
        network or Network(), EVENT, Discrete.linear(), prediction, attribute=WHERE, null=null, unit=Unit(2.0, -1.0)
    ).eval()


def gaussian() -> GaussianDenoiser:
    torch.manual_seed(0)
    a = torch.randn(3, 3)
    return GaussianDenoiser(torch.randn(3), a @ a.T, torch.randn(2, 3), torch.eye(2))


def mixture() -> MixtureDenoiser:
    torch.manual_seed(0)
    a = torch.randn(4, 3, 3)
    return MixtureDenoiser(
        torch.ones(4), torch.randn(4, 3), a @ a.transpose(1, 2), {"side": [0, 0, 1, 1], "odd": [0, 1, 0, 1]}
    )


def hierarchy() -> HierarchyDenoiser:
    grammar = random_hierarchy(4, 2, 2, 2, 0)
    return HierarchyDenoiser(grammar.rules, grammar.vectors, grammar.attributes)


def finite() -> FiniteDenoiser:
    return FiniteDenoiser(random_set(0, items=80))


MADE = {
    "GaussianDenoiser": gaussian,
    "MixtureDenoiser": mixture,
    "HierarchyDenoiser": hierarchy,
    "FiniteDenoiser": finite,
    "ScreenedDenoiser": lambda: ScreenedDenoiser(finite(), (4, 16)),
    "NeuralDenoiser": neural,
    "NeuralDenoiser, perceptron": lambda: neural("mlp"),
    "NeuralDenoiser, principal": lambda: neural("mlp", "principal"),
    "NeuralDenoiser, told by a classifier": lambda: neural(told=True),
    "Foreign": foreign,
    "Foreign, v": lambda: foreign(prediction="v_prediction"),
    "Foreign, flow": lambda: foreign(prediction="flow_prediction"),
    "Foreign, denoiser": lambda: foreign(prediction="denoiser"),
    "ByPosterior": lambda: ByPosterior(neural("mlp"), classifier()),
    "ByPosterior, exact": lambda: ByPosterior(mixture(), mixture()),
    "Featured": lambda: Featured(foreign(), ["enter"], cells=2),
    "Mixture": lambda: Mixture(foreign(null=None), "where", span=3.0, nodes=2),
    "Guided": lambda: Guided(neural(), 1.5, 0.5, 2.0),
    "AttributeOfClasses": lambda: AttributeOfClasses(foreign(), Attribute("hue", ("a", "b"), torch.tensor([0.5, 0.5])), [2, 0]),
    "_Pair": lambda: _Pair(neural(), WHERE, (2, 0)),
}  # fmt: skip
"""Every denoiser of the package, by its class, some in several kinds."""


def classes() -> set[str]:
    """Names of the classes of denoisers in the package that can be made."""
    for module in pkgutil.walk_packages(sigmascope.__path__, "sigmascope."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, ahead = set(), [Denoiser]
    while ahead:
        kind = ahead.pop()
        ahead += kind.__subclasses__()
        if kind.__module__.startswith("sigmascope") and not inspect.isabstract(kind):
            found.add(kind.__name__)
    return found


def test_no_denoiser_is_forgotten():
    assert {name.partition(",")[0] for name in MADE} == classes()


def asked(d: Denoiser, rows: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator(3)
    return torch.randn(rows, *d.event, generator=g, dtype=torch.float64), torch.linspace(0.3, 3.0, rows).double()


def known_to(d: Denoiser, rows: int = 5):
    """What a denoiser may be told: nothing, each attribute, and each where some are unknown."""
    if not isinstance(d, Guided):
        yield None
    if isinstance(d, GaussianDenoiser):
        yield {"a": torch.randn(rows, 2, generator=generator(4))}
    if isinstance(d, NeuralDenoiser):
        yield {"angle": torch.randn(rows, 2, generator=generator(4))}
    for a in d.attributes:
        label = torch.arange(rows) % len(a.values)
        yield {a.name: label}
        if not isinstance(d, _Pair):
            yield {a.name: torch.where(torch.arange(rows) % 2 == 0, -1, label)}


def answers(d: Denoiser, device: str):
    """Everything that a denoiser says of rows on a device, on the CPU, with the devices on which it said so."""
    y, sigma = (x.to(device) for x in asked(d))
    said, where = [], []

    def hear(x):
        for t in x.values() if isinstance(x, dict) else x if isinstance(x, list) else [x]:
            where.append(t.device.type)
            said.append(t.detach().cpu())

    for known in known_to(d):
        on_device = known and {k: x.to(device) for k, x in known.items()}
        with torch.no_grad():
            hear(d(y, sigma, on_device))
            hear(d(y.float(), sigma.float(), on_device))
    for a in d.attributes:
        if isinstance(d, HasMeansByValue):
            hear(d.means_by_value(y, sigma, a.name))
        if isinstance(d, HasPosterior):
            hear(d.log_posterior(y, sigma, a.name))
    if isinstance(d, HasAllPosteriors):
        hear(d.all_log_posteriors(y, sigma))
    if isinstance(d, SamplesPosterior):
        hear(d.sample_posterior(y, sigma, 3, generator(7)))
    if isinstance(d, HasFeatures):
        hear(d.features(y, sigma))
    if isinstance(d, NeuralDenoiser):
        hear(d.together(y, sigma, [None, {"where": torch.arange(5).to(device) % 3}]))
    return said, where


@pytest.mark.parametrize("name", MADE)
def test_denoisers(name):
    """Rows may be on either device: the answer is on theirs, and is that of the CPU."""
    wanted, _ = answers(MADE[name](), "cpu")
    with pretended_cuda():
        d = MADE[name]().to("cuda")
        for device in ("cpu", "cuda"):
            found, where = answers(d, device)
            assert set(where) == {device}, where
            assert all(torch.allclose(a, b, atol=1e-6, equal_nan=True) for a, b in zip(found, wanted, strict=True))
