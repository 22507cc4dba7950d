"""Small denoisers of every class of the package, with random weights."""

from __future__ import annotations

import torch
from torch import nn

from problems import pictures, random_set
from sigmascope.adapters import ByPosterior, Featured, Foreign, Unit
from sigmascope.core import Attribute
from sigmascope.data.hierarchy import random_hierarchy
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.screened import ScreenedDenoiser
from sigmascope.exact.gaussian import GaussianDenoiser, MixtureDenoiser
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.divergence import _Pair
from sigmascope.information.mixture import Mixture
from sigmascope.learn.classifier import NoisyClassifier
from sigmascope.learn.conditions import Continuous
from sigmascope.learn.frames import PrincipalFrame, RoundFrame
from sigmascope.learn.networks import Architecture
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.noise import Discrete
from sigmascope.sample import Guided
from sigmascope.studies.subjects.conditional import Matched

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


def neural(kind: str = "unet", frame: str = "round", classified: bool = False) -> NeuralDenoiser:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(192, 8))[0].T.reshape(8, *EVENT).contiguous()
    coordinates = (
        RoundFrame(torch.rand(EVENT), 0.3)
        if frame == "round"
        else PrincipalFrame(torch.rand(EVENT), 0.3, basis, torch.logspace(0, -2, 8))
    )
    more = (Continuous("angle", 2, (0.0, 1.0), (1.0, 2.0)),)
    reader, kinds = classifier() if classified else None, Architecture(kind, 8, 1)
    return stirred(NeuralDenoiser(EVENT, (WHERE, OTHER), kinds, coordinates, more, None, reader))


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


HUE = Attribute("hue", ("a", "b"), torch.tensor([0.5, 0.5]))
MADE = {
    "GaussianDenoiser": gaussian,
    "MixtureDenoiser": mixture,
    "HierarchyDenoiser": hierarchy,
    "FiniteDenoiser": finite,
    "ScreenedDenoiser": lambda: ScreenedDenoiser(finite(), (4, 16)),
    "NeuralDenoiser": neural,
    "NeuralDenoiser, perceptron": lambda: neural("mlp"),
    "NeuralDenoiser, principal": lambda: neural("mlp", "principal"),
    "NeuralDenoiser, with a classifier": lambda: neural(classified=True),
    "Foreign": foreign,
    "Foreign, v": lambda: foreign(prediction="v_prediction"),
    "Foreign, flow": lambda: foreign(prediction="flow_prediction"),
    "Foreign, denoiser": lambda: foreign(prediction="denoiser"),
    "ByPosterior": lambda: ByPosterior(neural("mlp"), classifier()),
    "ByPosterior, exact": lambda: ByPosterior(mixture(), mixture()),
    "Featured": lambda: Featured(foreign(), ["enter"], cells=2),
    "Mixture": lambda: Mixture(foreign(null=None), "where", span=3.0, nodes=2),
    "Guided": lambda: Guided(neural(), 1.5, 0.5, 2.0),
    "Matched": lambda: Matched(foreign(), [(HUE, "where", [2, 0])]),
    "_Pair": lambda: _Pair(neural(), WHERE, (2, 0)),
}  # fmt: skip
"""Every denoiser of the package, by its class, some in several kinds."""
