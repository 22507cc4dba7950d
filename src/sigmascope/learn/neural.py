r"""A learned denoiser: one network that can be told any subset of the attributes.

.. math:: D(y, \sigma, c) = m + w (y - m) + c_{out} F\!\left(c_{in}(y - m), \ln\tfrac{\sigma}{s}, c\right)

with the coordinates and their w, c_in and c_out from a frame, so that F sees and gives numbers of unit scale at every
level.  c says what is known; what is not known a classifier, where there is one, guesses from y.

References: Karras, Aittala, Aila, Laine (2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigmascope.core import Attribute, Denoiser, InputError
from sigmascope.learn.classifier import NoisyClassifier
from sigmascope.learn.conditions import Conditions, Continuous
from sigmascope.learn.files import attributes_of_json, attributes_to_json, check_format, read_model, write_model
from sigmascope.learn.frames import Frame, empty_frame
from sigmascope.learn.networks import WAVES, Architecture, ImageNet, VectorNet, waves

WEIGHTS, CARD = "model.safetensors", "model.json"
_FORMAT = 3
_CONDITION = 128  # width of the embeddings that a perceptron is told
_CHUNK = 4096  # rows of one call of the network, at most


def architecture(kind: str, width: int, depth: int, event: tuple[int, ...]) -> Architecture:
    """The network for values of this shape; what is left open (``auto``, 0) is filled in."""
    if kind == "auto":
        kind = "unet" if len(event) == 3 and min(event[1:]) >= 4 else "mlp"
    if kind == "unet":
        return Architecture(kind, width or 32, depth or 3)
    return Architecture(kind, width or (128 if int(np.prod(event)) < 64 else 448), depth or 3)


class NeuralDenoiser(Denoiser):
    """A network as a denoiser.

    Args:
        event: shape of a value.
        attributes: discrete attributes that it can be told.
        network: which.
        frame: in which coordinates the network works.
        continuous: attributes with vectors as values.
        card: what is known of its making, kept with it: data, settings, losses.
        classifier: guesses the discrete attributes that the network is not told; its weights stay as they are.
    """

    def __init__(
        self,
        event: tuple[int, ...],
        attributes: tuple[Attribute, ...],
        network: Architecture,
        frame: Frame,
        continuous: tuple[Continuous, ...] = (),
        card: Mapping[str, Any] | None = None,
        classifier: NoisyClassifier | None = None,
    ) -> None:
        super().__init__()
        self.event, self.attributes, self.continuous = tuple(event), attributes, continuous
        self.architecture, self.frame, self.card = network, frame, dict(card or {})
        self.network: VectorNet | ImageNet
        if network.kind == "unet":
            self.network = ImageNet(self.event, network.width, network.depth)
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            told = self.network.condition
        else:
            told = _CONDITION
            self.network = VectorNet(frame.seen, told, network.width, network.depth)
        self.conditions = Conditions(attributes, continuous, told)
        # What is known matters less and less as sigma falls: one gate lets the whole network forget it.
        self.gate = nn.Linear(WAVES, told)
        self.classifier = None if classifier is None else classifier.eval().requires_grad_(False)

    @property
    def scale(self) -> float:
        """Of the data: the root of their mean squared distance from the mean, per coordinate."""
        return self.frame.scale

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """The network's estimate of E[V | Y_sigma = y, what is known], in the dtype of y.

        Args:
            y: noisy values, on any device; the network itself works in float32, on its own.
            sigma: one noise level per row.
            known: of discrete attributes the index of the value of each row, int64, -1 where unknown; of continuous
                ones the value, NaN where unknown.

        Raises: InputError for shapes that do not fit, unknown names or values.
        """
        self._check(y, sigma)
        return self._in_parts(y, sigma, known or {}, None)

    def _in_parts(
        self, y: Tensor, sigma: Tensor, known: Mapping[str, Tensor], probabilities: Mapping[str, Tensor] | None
    ) -> Tensor:
        if torch.is_grad_enabled() or len(y) <= _CHUNK:
            return self._rows(y, sigma, known, probabilities)
        parts = []
        for i in range(0, len(y), _CHUNK):
            part = slice(i, i + _CHUNK)
            mine = None if probabilities is None else {k: q[part] for k, q in probabilities.items()}
            parts.append(self._rows(y[part], sigma[part], {k: x[part] for k, x in known.items()}, mine))
        return torch.cat(parts)

    def _check(self, y: Tensor, sigma: Tensor) -> None:
        if y.shape[1:] != self.event:
            raise InputError(f"y has rows of shape {tuple(y.shape[1:])}: expected {self.event}")
        if sigma.shape != (len(y),):
            raise InputError(f"sigma has shape {tuple(sigma.shape)}, y has batch {len(y)}: pass one level per row")

    def _rows(
        self,
        y: Tensor,
        sigma: Tensor,
        known: Mapping[str, Tensor] | None,
        probabilities: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        log_sigma = (sigma.to(self.frame.mean) / self.scale).log()
        probabilities = self._probabilities(y, sigma) if probabilities is None else probabilities
        told = self.conditions(known, len(y), probabilities) * torch.sigmoid(self.gate(waves(log_sigma)))
        return self.frame(y, sigma, lambda x: self.network(x, log_sigma, told))

    def _probabilities(self, y: Tensor, sigma: Tensor) -> dict[str, Tensor]:
        """The classifier's probabilities of every attribute."""
        if self.classifier is None:
            return {}
        log_q = self.classifier.split(self.classifier.logits(y, sigma).float())
        return {name: q.exp() for name, q in log_q.items()}

    def together(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        questions: Sequence[Mapping[str, Tensor] | None],
    ) -> list[Float[Tensor, "batch *event"]]:
        """Estimates for several questions about the same noisy values, whose probabilities are computed once.

        Args:
            y: noisy values.
            sigma: one noise level per row.
            questions: what is known in each, as in a call.
        """
        self._check(y, sigma)
        probabilities = self._probabilities(y, sigma)
        return [self._in_parts(y, sigma, known or {}, probabilities) for known in questions]

    def means_by_value(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"], attribute: str
    ) -> Float[Tensor, "values batch *event"]:
        """The estimate told each value of an attribute; cost: as many calls as it has values."""
        values = len(next(a for a in self.attributes if a.name == attribute).values)
        self._check(y, sigma)
        probabilities = {name: q.repeat(values, 1) for name, q in self._probabilities(y, sigma).items()}
        each = y.repeat(values, *[1] * len(self.event))
        told = torch.arange(values, device=y.device).repeat_interleave(len(y))
        return self._in_parts(each, sigma.repeat(values), {attribute: told}, probabilities).reshape(values, *y.shape)

    def features(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"]
    ) -> dict[str, Float[Tensor, "batch channels"]]:
        """What each block of the network sees in y when it is told nothing, averaged over pixels, float32."""
        self._check(y, sigma)
        self.network.features = {}
        try:
            with torch.no_grad():
                self._rows(y, sigma, None)
            return {k: x.flatten(2).mean(2) if x.ndim > 2 else x for k, x in self.network.features.items()}
        finally:
            self.network.features = None

    def count(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def description(self) -> dict[str, Any]:
        """All but the weights, as JSON can hold it."""
        return {
            "format": _FORMAT,
            "event": list(self.event),
            "network": asdict(self.architecture),
            "frame": self.frame.description(),
            "attributes": attributes_to_json(self.attributes),
            "continuous": [asdict(c) for c in self.continuous],
            "classifier": self.classifier is not None,
            "card": self.card,
        }

    def save(self, path: Path, *, half: bool = False) -> None:
        """Write the weights, and in the file's header all that is needed to make the denoiser again.

        A classifier has a file of its own, :data:`~sigmascope.learn.classifier.CLASSIFIER`, in the same folder.

        Args:
            path: a .safetensors file.
            half: round weights to float16.
        """
        write_model(
            self, path, self.description(), half=half, exact=("frame.mean", "frame.spread"), apart="classifier."
        )

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> NeuralDenoiser:
        """The denoiser of a folder that a training has made; ``bundled`` is the one that comes with the package.

        Raises: InputError for a path that holds none.
        """
        path = model_folder(folder)
        return read_model(path / WEIGHTS, "model", lambda of: cls._described(of, path), device, apart="classifier.")

    @classmethod
    def _described(cls, of: Mapping[str, Any], folder: Path) -> NeuralDenoiser:
        check_format(of["format"], _FORMAT)
        continuous = tuple(
            Continuous(c["name"], c["dim"], tuple(c["mean"]), tuple(c["scale"])) for c in of["continuous"]
        )
        event, network = tuple(of["event"]), Architecture(**of["network"])
        attributes = attributes_of_json(of["attributes"])
        classifier = NoisyClassifier.load(folder) if of["classifier"] else None
        return cls(event, attributes, network, empty_frame(event, of["frame"]), continuous, of["card"], classifier)


def model_folder(name: str | Path) -> Path:
    """The folder of a model; of ``bundled``, that which comes with the package.

    Raises: InputError where there is none.
    """
    path = Path(__file__).with_name("bundled") if str(name) == "bundled" else Path(name)
    if not (path / WEIGHTS).exists():
        raise InputError(f"{path}: it holds no {WEIGHTS}: pass a folder that sigmascope train has made, or 'bundled'")
    return path
