r"""A learned classifier of noisy data, which gives the posteriors of all attributes at any noise level.

.. math:: \ln q(a \mid y, \sigma) = \ln p(a) + g(\sigma) F_a(x, \ln\sigma) + c, \qquad
          g = \sqrt{\tfrac{k}{1 + k}}, \; k(\sigma) = \sum_j \frac{\lambda_j}{\lambda_j + \sigma^2}

with :math:`\lambda_j` the variances of the data along their principal directions.  k counts the directions that stand
out of the noise, and falls as :math:`\sigma^{-2}`; g is the size of the logits of classes whose means differ by a
standard deviation.  So weights of order one serve every level, and the posterior becomes the prior as the noise grows.
The input of a perceptron is y along these directions, each shrunk by Wiener's gain and whitened,

.. math:: x_j = \frac{1}{\sqrt{k / J}} \frac{\sqrt{\lambda_j}}{\lambda_j + \sigma^2} \langle u_j, y - m \rangle,

in which the best linear rule for Gaussian classes has weights that do not depend on the noise.  The input of a
convolutional network is the pixels, :math:`(y - m) / \sqrt{s^2 + \sigma^2}`.

References: Barber & Agakov (2003) for the bound that such a classifier gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigmascope.core import Attribute, InputError
from sigmascope.learn.files import attributes_of_json, attributes_to_json, check_format, read_model, write_model
from sigmascope.learn.frames import directions
from sigmascope.learn.networks import (
    Architecture,
    LevelPerRow,
    Values,
    check_batch,
    is_image,
    modulated,
    small_weights,
    waves,
)
from sigmascope.learn.sources import Source, mean_and_scale

CLASSIFIER = "classifier.safetensors"
_FORMAT = 1
_DIRECTIONS = 256  # largest number of principal directions in the input of a perceptron
_EMBEDDING = 32  # width of the embedding of the noise level
_CHUNK = 4096  # rows of one call of the network, at most
_KEPT = ("mean", "spread")  # tensors that are not rounded to half precision


def classifier_architecture(kind: str, width: int, depth: int, event: tuple[int, ...]) -> Architecture:
    """The network of a classifier for values of this shape, with defaults in place of ``auto`` and 0.

    ``unet`` stands for a convolutional network, whose depth is the number of halvings of the image.
    """
    if kind == "auto":
        kind = "unet" if is_image(event) else "mlp"
    if kind == "unet":
        if not is_image(event):
            raise InputError(f"values of shape {event} are no images of 4 x 4 or more: pass --network mlp")
        halvings = int(math.log2(min(event[1:]))) - 1
        return Architecture(kind, width or 32, min(depth or 3, halvings))
    return Architecture(kind, width or (64 if math.prod(event) < 64 else 320), depth or 3)


class VectorTrunk(nn.Module):
    r"""A residual perceptron with a linear path, with gains, from its first to its last layer.

    .. math:: h_0 = W x, \quad h_{i+1} = h_i + B_i\,\mathrm{silu}(C_i\,m_i(h_i)), \quad F = O\,(m(h_n) + e^{r} h_0)

    m normalises and modulates by the noise level; r is a function of the noise level, one number per unit.
    """

    def __init__(self, inputs: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.noise = _noise()
        self.modulate = nn.ModuleList(nn.Linear(_EMBEDDING, 2 * width) for _ in range(depth + 1))
        self.gain = nn.Linear(_EMBEDDING, width)
        self.up = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.leave = nn.Linear(width, outputs)
        small_weights([*self.modulate, *self.down, self.gain])
        _start_at_prior(self.leave)

    def forward(self, x: Float[Tensor, "batch inputs"], log_sigma: LevelPerRow) -> Tensor:
        """Logits F, shape (batch, outputs)."""
        e = self.noise(waves(log_sigma))
        first = h = self.enter(x)
        for k, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            h = h + down(nn.functional.silu(up(modulated(self.modulate[k], h, e))))
        out: Tensor = self.leave(modulated(self.modulate[-1], h, e) + self.gain(e).exp() * first)
        return out


class ImageTrunk(nn.Module):
    """A convolutional network: blocks that halve the image and double the channels, then a mean over pixels."""

    def __init__(self, channels: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        widths = [width * 2**k for k in range(depth + 1)]
        groups = math.gcd(width, 8)
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.noise = _noise()
        self.halve = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.modulate = nn.ModuleList(nn.Linear(_EMBEDDING, 2 * w) for w in widths[1:])
        self.norm = nn.ModuleList(nn.GroupNorm(groups, w) for w in widths[1:])
        self.same = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in widths[1:])
        self.leave = nn.Linear(widths[-1], outputs)
        small_weights(self.modulate)
        _start_at_prior(self.leave)

    def forward(self, x: Float[Tensor, "batch channels height width"], log_sigma: LevelPerRow) -> Tensor:
        """Logits F, shape (batch, outputs)."""
        e = self.noise(waves(log_sigma))
        h = self.enter(x)
        for halve, modulate, norm, same in zip(self.halve, self.modulate, self.norm, self.same, strict=True):
            h = halve(nn.functional.silu(h))
            scale, shift = modulate(e)[:, :, None, None].chunk(2, 1)
            h = h + same(nn.functional.silu(norm(h) * (1 + scale) + shift))
        out: Tensor = self.leave(nn.functional.silu(h).mean((2, 3)))
        return out


def _noise() -> nn.Module:
    inputs = waves(torch.zeros(1)).shape[1]
    return nn.Sequential(nn.Linear(inputs, _EMBEDDING), nn.SiLU(), nn.Linear(_EMBEDDING, _EMBEDDING), nn.SiLU())


def _start_at_prior(layer: nn.Linear) -> None:
    """Set the last layer to zero, so that the posterior starts as the prior."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


class NoisyClassifier(nn.Module):
    r"""A classifier of noisy values: one network that gives the posterior of every attribute at every noise level.

    .. math:: q(a \mid y, \sigma) \propto p(a)\, e^{\sqrt{k/(1 + k)}\, F_a(y, \sigma)}, \qquad
              k = \sum_i \frac{s_i^2}{s_i^2 + \sigma^2}

    F is the network and :math:`s_i` the standard deviations of the data along principal directions: k, the number of
    directions that stand out of the noise, falls to zero at high noise, where q becomes the prior.  It has posteriors
    (:class:`~sigmascope.core.HasPosterior`), so it gives a lower bound of the information, and a conditional denoiser
    by :class:`~sigmascope.adapters.ByPosterior`.

    Args:
        event: shape of a value.
        attributes: the attributes, one at least.
        network: kind and size of the network.
        mean: of the data, shape (*event).
        scale: of the data: the root of their mean squared distance from the mean, per coordinate.
        basis: principal directions of the data, shape (directions, *event); a perceptron trains them.
        spread: standard deviations of the data along them, shape (directions,).
        card: record of the training, kept with the weights.

    Raises: InputError where there is no attribute.
    """

    mean: Tensor
    spread: Tensor
    log_prior: Tensor

    def __init__(
        self,
        event: tuple[int, ...],
        attributes: tuple[Attribute, ...],
        network: Architecture,
        mean: Tensor,
        scale: float,
        basis: Float[Tensor, "directions *event"],
        spread: Float[Tensor, " directions"],
        card: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not attributes:
            raise InputError("no attribute with a list of values came: a classifier needs at least one")
        self.event, self.attributes, self.architecture = tuple(event), tuple(attributes), network
        self.scale, self.card = float(scale), dict(card or {})
        self._sizes = [len(a.values) for a in self.attributes]
        outputs = sum(self._sizes)
        self.network: VectorTrunk | ImageTrunk
        if network.kind == "unet":
            self.network = ImageTrunk(self.event[0], network.width, network.depth, outputs)
            self.basis = None
        else:
            self.network = VectorTrunk(len(basis), network.width, network.depth, outputs)
            self.basis = nn.Parameter(basis.float().clone())
        self.register_buffer("mean", mean.float())
        self.register_buffer("spread", spread.float())
        prior = torch.cat([a.prior for a in self.attributes]).log().float()
        self.register_buffer("log_prior", prior, persistent=False)

    def logits(self, y: Values, sigma: LevelPerRow) -> Float[Tensor, "batch all_values"]:
        """Logits of all values of all attributes side by side, not normalised, float32."""
        level = sigma.to(self.mean)
        centred = (y.to(self.mean) - self.mean).flatten(1)
        total = self.spread**2 + level[:, None] ** 2
        k = (self.spread**2 / total).sum(1, keepdim=True)  # directions that stand out of the noise
        if self.basis is None:
            x = centred.reshape(y.shape) / (self.scale**2 + level**2).sqrt().reshape(-1, 1, 1, 1)
        else:
            x = centred @ self.basis.flatten(1).T * (self.spread / total) / (k / len(self.spread)).sqrt()
        f: Tensor = self.network(x, (level / self.scale).log())
        return self.log_prior + (k / (1 + k)).sqrt() * f

    def split(self, logits: Float[Tensor, "batch all_values"]) -> dict[str, Float[Tensor, "batch values"]]:
        """Normalised log-probabilities of each attribute."""
        parts = torch.split(logits, self._sizes, 1)
        return {a.name: x.log_softmax(1) for a, x in zip(self.attributes, parts, strict=True)}

    def all_log_posteriors(self, y: Values, sigma: LevelPerRow) -> dict[str, Float[Tensor, "batch values"]]:
        """ln q(a | y) of every attribute, float64, normalised.

        Args:
            y: noisy values, shape (batch, *event); the network itself works in float32.
            sigma: one noise level per row, shape (batch,), in the unit of the data.

        Returns: by attribute, the log-probabilities of its values, shape (batch, values).

        Raises: InputError for shapes that do not fit.
        """
        check_batch(y, sigma, self.event)
        rows = range(0, max(len(y), 1), _CHUNK)
        logits = torch.cat([self.logits(y[i : i + _CHUNK], sigma[i : i + _CHUNK]) for i in rows])
        return self.split(logits.to(y.device).double())

    def log_posterior(self, y: Values, sigma: LevelPerRow, attribute: str) -> Float[Tensor, "batch values"]:
        """ln q(a | y) of one attribute, float64, normalised; InputError for an unknown name."""
        names = [a.name for a in self.attributes]
        if attribute not in names:
            raise InputError(f"no attribute is called {attribute!r}: choose among {', '.join(names)}")
        return self.all_log_posteriors(y, sigma)[attribute]

    forward = all_log_posteriors

    def count(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def description(self) -> dict[str, Any]:
        """The description of the model without its weights, as JSON can hold it."""
        return {
            "classifier": _FORMAT,
            "event": list(self.event),
            "network": asdict(self.architecture),
            "scale": self.scale,
            "directions": len(self.spread),
            "attributes": attributes_to_json(self.attributes),
            "card": self.card,
        }

    def save(self, path: Path, *, half: bool = False) -> None:
        """Write the weights, with the description of the classifier in the header of the file.

        Args:
            path: a .safetensors file.
            half: round weights to float16.
        """
        write_model(self, path, self.description(), half=half, exact=_KEPT)

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> NoisyClassifier:
        """Load the classifier of a folder that a training has made, or of its .safetensors file, with fixed weights.

        Args:
            folder: of ``sigmascope train --classifier-steps``, or the path of the file.
            device: where to compute.

        Raises: InputError for a path that holds none.
        """
        path = Path(folder)
        path = path / CLASSIFIER if path.is_dir() else path

        def make(described: Mapping[str, Any]) -> NoisyClassifier:
            check_format(described["classifier"], _FORMAT)
            event, kept = tuple(described["event"]), int(described["directions"])
            attributes, network = attributes_of_json(described["attributes"]), Architecture(**described["network"])
            mean, basis, spread = torch.zeros(event), torch.zeros(kept, *event), torch.ones(kept)
            return cls(event, attributes, network, mean, described["scale"], basis, spread, described["card"])

        return read_model(path, "classifier", make, device).requires_grad_(False)


def new_classifier(source: Source, network: Architecture, seed: int) -> NoisyClassifier:
    """An untrained classifier of all discrete attributes of a source; its posteriors are the priors."""
    mean, scale = mean_and_scale(source, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        basis, spread = directions(source, seed, _DIRECTIONS)
        return NoisyClassifier(source.event, source.attributes, network, mean, scale, basis, spread)
