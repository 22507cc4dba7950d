r"""A learned denoiser: one network that is conditional on any subset of the attributes.

.. math:: D(y, \sigma, c) = m + w (y - m) + c_{out} F\!\left(c_{in}(y - m), \ln\tfrac{\sigma}{s}, c\right)

with the coordinates and their w, c_in and c_out from a frame, so that input and output of F have unit scale at every
level.  c is the condition, the embedding of the known attributes; unknown attributes enter through the posterior of a
classifier of y, where there is one.

References: Karras, Aittala, Aila, Laine (2022).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigmascope.core import UNKNOWN, Attribute, Denoiser, InputError
from sigmascope.learn.calling import Calling
from sigmascope.learn.classifier import CLASSIFIER, NoisyClassifier
from sigmascope.learn.conditions import Conditions, Continuous
from sigmascope.learn.files import attributes_of_json, attributes_to_json, check_format, read_model, write_model
from sigmascope.learn.frames import Frame, empty_frame
from sigmascope.learn.networks import (
    WAVES,
    Architecture,
    ImageNet,
    LevelPerRow,
    Values,
    VectorNet,
    check_batch,
    is_image,
    waves,
)

WEIGHTS, CARD = "model.safetensors", "model.json"
_FORMAT = 3
_CONDITION = 128  # width of the embedding of the condition, in a perceptron
_CHUNK = 4096  # rows of one call of the network, at most, where nothing else was tried


def architecture(kind: str, width: int, depth: int, event: tuple[int, ...]) -> Architecture:
    """The network for values of this shape, with defaults in place of ``auto`` and 0."""
    if kind == "auto":
        kind = "unet" if is_image(event) else "mlp"
    default = 32 if kind == "unet" else 128 if math.prod(event) < 64 else 448
    return Architecture(kind, width or default, depth or 3)


class NeuralDenoiser(Denoiser):
    r"""A denoiser that is learned: one network, conditional on any subset of the attributes.

    .. math:: D(y, \sigma, c) = m + w (y - m) + c_{out} F\!\left(c_{in}(y - m), \ln\tfrac{\sigma}{s}, c\right)

    F is the network.  Its frame holds the mean m and the scale s of the data and computes w, :math:`c_{in}` and
    :math:`c_{out}` from them, so that input and output of F have unit scale at every level.  c is the sum of the
    embeddings of the known attributes.  A classifier, where there is one, gives its posterior for unknown ones.

    A training makes it (:class:`Trainer`, ``sigmascope train``), and :meth:`load` reads it.

    Args:
        event: shape of a value.
        attributes: discrete attributes that it can be conditional on.
        network: kind and size of the network.
        frame: coordinates of the network.
        continuous: attributes with vectors as values.
        card: record of the training, kept with the weights: data, settings, losses.
        classifier: its posteriors replace unknown discrete attributes; its weights are fixed.

    References: Karras, Aittala, Aila, Laine (2022).
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
        self.calling = Calling(_CHUNK)
        self.architecture, self.frame, self.card = network, frame, dict(card or {})
        self.network: VectorNet | ImageNet
        if network.kind == "unet":
            self.network = ImageNet(self.event, network.width, network.depth)
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            size = self.network.condition
        else:
            size = _CONDITION
            self.network = VectorNet(frame.shape, size, network.width, network.depth)
        self.conditions = Conditions(attributes, continuous, size)
        # The condition matters less and less as sigma falls: one gate switches it off for the whole network.
        self.gate = nn.Linear(WAVES, size)
        self.classifier = None if classifier is None else classifier.eval().requires_grad_(False)

    @property
    def scale(self) -> float:
        """Scale of the data: the root of their mean squared distance from the mean, per coordinate."""
        return self.frame.scale

    def forward(self, y: Values, sigma: LevelPerRow, known: Mapping[str, Tensor] | None = None) -> Values:
        """The network's estimate of E[V | Y_sigma = y, known attributes], in the dtype of y.

        Args:
            y: noisy values, shape (batch, *event); the network itself works in float32.
            sigma: one noise level per row, shape (batch,), in the unit of the data.
            known: by name, the index of the value of each row, int64, shape (batch,), -1 where unknown; of continuous
                attributes the value, shape (batch, dim), NaN where unknown.

        Returns: the estimates, shape (batch, *event).

        Raises: InputError for shapes that do not fit, unknown names or values.
        """
        check_batch(y, sigma, self.event)
        return self._in_parts(y, sigma, known or {}, None)

    def _in_parts(
        self, y: Tensor, sigma: Tensor, known: Mapping[str, Tensor], probabilities: Mapping[str, Tensor] | None
    ) -> Tensor:
        most = self.calling.rows
        if torch.is_grad_enabled() or len(y) <= most:
            return self._rows(y, sigma, known, probabilities)
        parts = []
        for i in range(0, len(y), most):
            part = slice(i, i + most)
            q_part = None if probabilities is None else {k: q[part] for k, q in probabilities.items()}
            parts.append(self._rows(y[part], sigma[part], {k: x[part] for k, x in known.items()}, q_part))
        return torch.cat(parts)

    def _rows(
        self,
        y: Tensor,
        sigma: Tensor,
        known: Mapping[str, Tensor] | None,
        probabilities: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        log_sigma = (sigma.to(self.frame.mean) / self.scale).log()
        probabilities = self._probabilities(y, sigma) if probabilities is None else probabilities
        condition = self.conditions(known, len(y), probabilities) * torch.sigmoid(self.gate(waves(log_sigma)))

        def network(x: Tensor) -> Tensor:
            with self.calling.precision(x.device):
                f: Tensor = self.network(x, log_sigma, condition)
            return f

        out: Tensor = self.frame(y, sigma, network)
        return out

    def _probabilities(self, y: Tensor, sigma: Tensor) -> dict[str, Tensor]:
        """The classifier's posterior of every attribute."""
        if self.classifier is None:
            return {}
        log_q = self.classifier.split(self.classifier.logits(y, sigma).float())
        return {name: q.exp() for name, q in log_q.items()}

    def together(self, y: Values, sigma: LevelPerRow, questions: Sequence[Mapping[str, Tensor] | None]) -> list[Values]:
        """Estimates under several conditions for the same noisy values, whose posteriors are computed once.

        Args:
            y: noisy values.
            sigma: one noise level per row.
            questions: the known attributes of each condition, as in a call.

        Returns: the estimates of each condition, each of the shape of y.
        """
        check_batch(y, sigma, self.event)
        count = len(questions)
        probabilities = {name: q.repeat(count, 1) for name, q in self._probabilities(y, sigma).items()}
        like = {name: x for known in questions for name, x in (known or {}).items()}
        unknown = {n: torch.full_like(x, math.nan if x.is_floating_point() else UNKNOWN) for n, x in like.items()}
        in_one = {n: torch.cat([(known or {}).get(n, unknown[n]) for known in questions]) for n in like}
        rows = y.repeat(count, *[1] * len(self.event))
        return list(torch.split(self._in_parts(rows, sigma.repeat(count), in_one, probabilities), len(y)))

    def means_by_value(self, y: Values, sigma: LevelPerRow, attribute: str) -> Float[Tensor, "values batch *event"]:
        """The estimates given each value of an attribute, for the same noisy values.

        Args:
            y: noisy values, shape (batch, *event).
            sigma: one noise level per row, shape (batch,).
            attribute: its name.

        Returns: the estimates, shape (values, batch, *event).

        Cost: one row of the network for each value and row.
        """
        values = len(next(a for a in self.attributes if a.name == attribute).values)
        check_batch(y, sigma, self.event)
        probabilities = {name: q.repeat(values, 1) for name, q in self._probabilities(y, sigma).items()}
        each = y.repeat(values, *[1] * len(self.event))
        known = {attribute: torch.arange(values, device=y.device).repeat_interleave(len(y))}
        return self._in_parts(each, sigma.repeat(values), known, probabilities).reshape(values, *y.shape)

    def features(self, y: Values, sigma: LevelPerRow) -> dict[str, Float[Tensor, "batch channels"]]:
        """The output of each block of the network given y alone, averaged over pixels, on which probes are trained.

        Args:
            y: noisy values, shape (batch, *event).
            sigma: one noise level per row, shape (batch,).

        Returns: by the name of the block, float32, shape (batch, channels).
        """
        check_batch(y, sigma, self.event)
        self.network.features = {}
        try:
            with torch.no_grad():
                self._rows(y, sigma, None)
            pooled = {k: x.flatten(2).mean(2) if x.ndim > 2 else x for k, x in self.network.features.items()}
            return {k: x.to(y.device) for k, x in pooled.items()}
        finally:
            self.network.features = None

    def count(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def description(self) -> dict[str, Any]:
        """The description of the model without its weights, as JSON can hold it."""
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
        """Write the weights, with the description of the denoiser in the header of the file.

        A classifier has a file of its own, :data:`~sigmascope.learn.classifier.CLASSIFIER`, in the same folder.

        Args:
            path: a .safetensors file.
            half: round weights to float16.
        """
        write_model(
            self, path, self.description(), half=half, exact=("frame.mean", "frame.spread"), excluded="classifier."
        )

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> NeuralDenoiser:
        """Load the denoiser of a folder that a training has made.

        Args:
            folder: of ``sigmascope train``; ``bundled`` is the one that comes with the package.
            device: where to compute.

        Raises: InputError for a path that holds none.
        """
        path = model_folder(folder)

        def make(described: Mapping[str, Any]) -> NeuralDenoiser:
            check_format(described["format"], _FORMAT)
            event, network = tuple(described["event"]), Architecture(**described["network"])
            continuous = tuple(
                Continuous(c["name"], c["dim"], tuple(c["mean"]), tuple(c["scale"])) for c in described["continuous"]
            )
            classifier = NoisyClassifier.load(path) if described["classifier"] else None
            attributes, frame = attributes_of_json(described["attributes"]), empty_frame(event, described["frame"])
            return cls(event, attributes, network, frame, continuous, described["card"], classifier)

        return read_model(path / WEIGHTS, "model", make, device, excluded="classifier.")


def model_folder(name: str | Path) -> Path:
    """The folder of a model; for ``bundled``, the one that comes with the package."""
    path = Path(__file__).with_name("bundled") if str(name) == "bundled" else Path(name)
    if not (path / WEIGHTS).exists():
        raise InputError(f"{path}: it holds no {WEIGHTS}: pass a folder that sigmascope train has made, or 'bundled'")
    return path


def weights_digest(folder: Path) -> str:
    """Digest of all weights of a folder of ``sigmascope train``."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (WEIGHTS, CLASSIFIER):
        if (folder / name).exists():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()
