"""Denoisers, classifiers and samplers with weights on a GPU that is pretended, and values on either device."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch

import sigmascope
from denoisers import MADE, classifier, finite, foreign, gaussian, mixture, neural
from pretended import DeviceError, pretended_cuda
from sigmascope.adapters import Foreign
from sigmascope.adapters.models import load_model
from sigmascope.core import (
    Denoiser,
    HasAllPosteriors,
    HasMeansByValue,
    HasPosterior,
    SamplesPosterior,
    generator,
)
from sigmascope.exact.finite.items import ItemBelief
from sigmascope.exact.gaussian import GaussianDenoiser
from sigmascope.information.divergence import _Pair
from sigmascope.information.probes import HasFeatures
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.noise import Discrete
from sigmascope.sample import (
    Ancestral,
    Bridge,
    Churn,
    Euler,
    EulerMaruyama,
    Guided,
    Heun,
    OwnPathBelief,
    Scheme,
    StochasticHeun,
    Streams,
    ValueBelief,
    final,
    fork,
    joint,
    rows,
    sample,
    start,
)


def subclasses(of: type) -> set[type]:
    """The classes of the package that are of this kind and can be made."""
    for module in pkgutil.walk_packages(sigmascope.__path__, "sigmascope."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, ahead = set(), [of]
    while ahead:
        kind = ahead.pop()
        ahead += kind.__subclasses__()
        if kind.__module__.startswith("sigmascope") and not inspect.isabstract(kind):
            found.add(kind)
    return found


def test_no_denoiser_is_forgotten():
    assert {name.partition(",")[0] for name in MADE} == {kind.__name__ for kind in subclasses(Denoiser)}


def asked(event: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Five noisy values and their levels."""
    y = torch.randn(5, *event, generator=generator(3), dtype=torch.float64)
    return y, torch.linspace(0.3, 3.0, 5, dtype=torch.float64)


def known_to(d: Denoiser) -> Iterator[dict[str, torch.Tensor] | None]:
    """What a denoiser may be given: nothing, each attribute, and each where some are unknown."""
    if not isinstance(d, Guided):
        yield None
    if isinstance(d, (GaussianDenoiser, NeuralDenoiser)):
        name = "a" if isinstance(d, GaussianDenoiser) else "angle"
        yield {name: torch.randn(5, 2, generator=generator(4))}
    for a in d.attributes:
        label = torch.arange(5) % len(a.values)
        yield {a.name: label}
        if not isinstance(d, _Pair):
            yield {a.name: torch.where(torch.arange(5) % 2 == 0, -1, label)}


def answers(d: Denoiser, device: str) -> Iterator[torch.Tensor]:
    """Everything that a denoiser says of values on a device."""
    y, sigma = (x.to(device) for x in asked(d.event))
    for known in known_to(d):
        on_device = known and {k: x.to(device) for k, x in known.items()}
        with torch.no_grad():
            yield d(y, sigma, on_device)
            yield d(y.float(), sigma.float(), on_device)
    for a in d.attributes:
        if isinstance(d, HasMeansByValue):
            yield d.means_by_value(y, sigma, a.name)
        if isinstance(d, HasPosterior):
            yield d.log_posterior(y, sigma, a.name)
    if isinstance(d, HasAllPosteriors):
        yield from d.all_log_posteriors(y, sigma).values()
    if isinstance(d, SamplesPosterior):
        yield d.sample_posterior(y, sigma, 3, generator(7))
    if isinstance(d, HasFeatures):
        yield from d.features(y, sigma).values()
    if isinstance(d, NeuralDenoiser):
        yield from d.together(y, sigma, [None, {"where": torch.arange(5).to(device) % 3}])


def same(found: list[torch.Tensor], wanted: list[torch.Tensor], device: str) -> None:
    """Each on the device, with the values of the CPU."""
    assert {x.device.type for x in found} == {device}
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a.detach().cpu(), b.detach(), atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", MADE)
def test_denoisers(name):
    """Values may be on either device: the answer is there too, and is that of the CPU."""
    wanted = list(answers(MADE[name](), "cpu"))
    with pretended_cuda():
        d = MADE[name]().to("cuda")
        for device in ("cpu", "cuda"):
            same(list(answers(d, device)), wanted, device)


@pytest.mark.parametrize("kind", ["unet", "mlp"])
def test_classifiers(kind):
    y, sigma = asked((3, 8, 8))
    wanted = list(classifier(kind).all_log_posteriors(y, sigma).values())
    with pretended_cuda():
        c = classifier(kind).to("cuda")
        for device in ("cpu", "cuda"):
            same(list(c.all_log_posteriors(y.to(device), sigma.to(device)).values()), wanted, device)


def test_functions():
    """A network that is a function computes where it was said to, else where the values are."""
    y, sigma = asked((3,))

    def by(device: str | None, weight: torch.Tensor) -> Foreign:
        return Foreign(lambda x, time, label: x * weight, (3,), Discrete.linear(), "epsilon", device=device)

    weight = torch.tensor([1.0, 2.0, 3.0])
    wanted = [by(None, weight)(y, sigma)]
    with pretended_cuda():
        same([by("cuda", weight.to("cuda"))(y, sigma)], wanted, "cpu")
        same([by(None, weight)(y, sigma)], wanted, "cpu")
        same([by(None, weight.to("cuda"))(y.to("cuda"), sigma.to("cuda"))], wanted, "cuda")
        with pytest.raises(DeviceError, match="same device"):
            by(None, weight.to("cuda"))(y, sigma)


class Called(torch.nn.Linear):
    """A network that is reached through functions."""

    def read(self, x, time, label):
        return self(x)


def test_functions_that_use_a_module():
    """The function computes where the module is; a model that is loaded for a device is moved there, module and all."""
    y, sigma = asked((3,))
    for wrapped in (lambda net: lambda x, time, label: net(x), lambda net: net.read, lambda net: partial(_called, net)):
        torch.manual_seed(0)
        net = Called(3, 3)
        wanted = [Foreign(wrapped(net), (3,), Discrete.linear(), "epsilon")(y, sigma).detach()]
        with pretended_cuda():
            there = load_model(Foreign(wrapped(net), (3,), Discrete.linear(), "epsilon"), device=torch.device("cuda"))
            assert next(net.parameters()).device.type == "cuda"
            for device in ("cpu", "cuda"):
                same([there.denoiser(y.to(device), sigma.to(device))], wanted, device)


def _called(net, x, time, label):
    return net(x)


def test_what_a_law_tells_of_itself():
    """Draws are on the CPU wherever the law computes, and are the same."""
    for make in (gaussian, mixture):
        here = make().draw(6, 0)
        with pretended_cuda():
            there = make().to("cuda").draw(6, 0)
        for a, b in zip(here, there, strict=True) if isinstance(here, tuple) else [(here, there)]:
            for x, y in zip(*([d] if isinstance(d, torch.Tensor) else [d.v, d.noise] for d in (a, b)), strict=True):
                assert torch.allclose(x, y, atol=1e-12)
    wanted = gaussian().information(0.7)
    with pretended_cuda():
        assert gaussian().to("cuda").information(0.7) == pytest.approx(wanted)


SCHEMES = {
    "EulerMaruyama": EulerMaruyama(), "Ancestral": Ancestral(), "StochasticHeun": StochasticHeun(), "Churn": Churn(0.5),
    "Euler": Euler(), "Heun": Heun(), "Bridge": Bridge(),
}  # fmt: skip
LEVELS = [3.0, 1.0, 0.4, 0.0]


def test_no_scheme_is_forgotten():
    assert set(SCHEMES) == {kind.__name__ for kind in subclasses(Scheme)}


def sampled(d: Denoiser, scheme: Scheme, device: str) -> list[torch.Tensor]:
    """The end of a generation, conditional where the scheme can be, and of forks of its first state."""
    exact = isinstance(scheme, Bridge)
    known = None if exact else {d.attributes[0].name: (torch.arange(4) % 2).to(device)}
    noise = Streams(0, rows(4), d.event)
    y = start(d, LEVELS[0], noise().to(device), known)
    ends = [y, final(sample(d, y, LEVELS, scheme, noise=noise, known=known, generator=generator(1))).y]
    renoise = None if scheme.stochastic else 4.0
    return [*ends, final(fork(d, y, LEVELS, 2, 0, scheme, known=known, renoise=renoise)).y]


@pytest.mark.parametrize("name", SCHEMES)
def test_samplers(name):
    """States may be on either device, and stay there; noise comes from streams on the CPU."""
    for make in (mixture, finite) if name == "Bridge" else (neural, foreign, mixture):
        wanted = sampled(make(), SCHEMES[name], "cpu")
        with pretended_cuda():
            d = make().to("cuda")
            for device in ("cpu", "cuda"):
                same(sampled(d, SCHEMES[name], device), wanted, device)


BELIEFS = {
    "items": (finite, ItemBelief),
    "values": (finite, lambda d: ValueBelief(d, "even")),
    "values, each by a call": (foreign, lambda d: ValueBelief(d, "where")),
    "values, by a network": (neural, lambda d: ValueBelief(d, "where")),
    "own path": (neural, lambda d: OwnPathBelief(d, ["where", "other"])),
}


@pytest.mark.parametrize("name", BELIEFS)
def test_joint_generation(name):
    make, believe = BELIEFS[name]

    def ends(d: Denoiser, device: str) -> list[torch.Tensor]:
        noise = Streams(0, rows(4), d.event)
        last = final(joint(believe(d), start(d, LEVELS[0], noise().to(device)), LEVELS, noise))
        return [last.y, last.log_pi]

    wanted = ends(make(), "cpu")
    with pretended_cuda():
        d = make().to("cuda")
        for device in ("cpu", "cuda"):
            same(ends(d, device), wanted, device)


class Forgetful(Denoiser):
    """A denoiser with a mistake: it does not take the values to its weight."""

    event, attributes = (3,), ()

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(3))

    def forward(self, y, sigma, known=None):
        return y * self.weight


class Numpy(Forgetful):
    """A denoiser with another: it turns what may be on a GPU into an array."""

    def forward(self, y, sigma, known=None):
        return torch.from_numpy(np.tanh(y.numpy()))


def test_mistakes_are_seen():
    y, sigma = asked((3,))
    with pretended_cuda():
        with pytest.raises(DeviceError, match="same device"):
            Forgetful().to("cuda")(y, sigma)
        with pytest.raises(TypeError, match="cuda:0 device type tensor to numpy"):
            Numpy()(y.to("cuda"), sigma.to("cuda"))
        with pytest.raises(DeviceError, match="generator"):
            torch.randn(3, device="cuda", generator=generator(0))
        with pytest.raises(DeviceError, match="same device"):
            y[torch.zeros(2, dtype=torch.int64, device="cuda")]
        with pytest.raises(DeviceError, match="same device"):
            y.add_(torch.ones(3, device="cuda"))
        with pytest.raises(DeviceError, match="pointer"):
            y.to("cuda").data_ptr()


def test_what_a_gpu_allows():
    """A CPU scalar in a pointwise operation, indices on the CPU, copies; and control flow on values."""
    y, _ = asked((3,))
    with pretended_cuda():
        there = y.to("cuda")
        assert (there + torch.tensor(1.0)).device.type == "cuda"
        assert torch.equal(there[torch.tensor([0, 2])].cpu(), y[[0, 2]])
        assert float(there.sum()) == float(y.sum())
        here = torch.zeros(5, 3, dtype=torch.float64)
        here.copy_(there)
        here[0] = there[1]
        assert torch.equal(here[1:], y[1:])
        assert torch.equal(here[0], y[1])
        assert torch.cuda.is_available()
    assert not isinstance(torch.zeros(2), type(there))


def test_a_users_denoiser_is_called_where_it_is():
    """Schemes take the states to the weights of a denoiser that does not do so itself."""
    with pretended_cuda():
        ends = final(sample(Forgetful().to("cuda"), torch.ones(2, 3), LEVELS, Heun())).y
    assert ends.device.type == "cpu"
    assert torch.equal(ends, torch.ones(2, 3, dtype=torch.float64))
