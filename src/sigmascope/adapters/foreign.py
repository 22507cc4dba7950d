r"""A network of another program as a denoiser of :math:`y = v + \sigma n`.

.. math:: x = \alpha(t)\,(v + \sigma(t)\, n), \qquad D(y, \sigma, a) = E[V \mid Y_\sigma = y, A = a]

with t the schedule's time of sigma.  What networks say of x, and the D that follows (s = alpha sigma):

=================== =============================== =========================================
prediction          the network's target            D
=================== =============================== =========================================
``epsilon``         n                               :math:`y - \sigma f`
``sample``          v                               :math:`f`
``v_prediction``    :math:`\alpha n - s v`          :math:`(\alpha x - s f) / (\alpha^2 + s^2)`
``flow_prediction`` :math:`n - v`                   :math:`(x - s f) / (\alpha + s)`
``denoiser``        v, told y itself                :math:`f`
=================== =============================== =========================================

References: Ho et al. (2020); Salimans & Ho (2022) for v; Karras et al. (2022); Lipman et al. (2023) for the flow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sigmascope.core import UNKNOWN, Attribute, Denoiser, InputError
from sigmascope.noise import Schedule

PREDICTIONS = ("epsilon", "sample", "v_prediction", "flow_prediction", "denoiser")
"""What a network may have been trained to say."""

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""From x, shape (batch, *event), a time for each row, and the index of each row's class (None: no classes)."""
_CHUNK = 256  # rows of one call, at most


@dataclass(frozen=True)
class Unit:
    """The network's values are ``scale`` times ours plus ``offset``: of pixels from -1 to 1, 2 and -1.

    Args:
        scale: above 0; our noise level times it is the network's.
        offset: likewise of values.
    """

    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InputError(f"the unit's scale is {self.scale:g}: it must be above 0")


class Foreign(Denoiser):
    """A denoiser made of a network, its schedule and its parametrisation.

    Args:
        network: a callable or module; see :data:`Network`.
        event: shape of a value.
        schedule: the network's; noise levels in its own unit.
        prediction: one of :data:`PREDICTIONS`.
        clock: from the schedule's time to what the network is told of it; None tells the time itself.
        attribute: what it can be told, if it can: the class.
        null: index that stands for an unknown class; None: the network has none, and an unknown class is refused.
        unit: of the network's values.

    Raises: InputError for an unknown prediction.
    """

    def __init__(
        self,
        network: Network,
        event: tuple[int, ...],
        schedule: Schedule,
        prediction: str,
        *,
        clock: Callable[[Tensor], Tensor] | None = None,
        attribute: Attribute | None = None,
        null: int | None = None,
        unit: Unit | None = None,
    ) -> None:
        super().__init__()
        if prediction not in PREDICTIONS:
            raise InputError(f"prediction is {prediction!r}: expected {', '.join(PREDICTIONS)}")
        self.network = network  # a module becomes part of this one, a function does not
        self.event, self.schedule, self.prediction = tuple(event), schedule, prediction
        self.attributes = () if attribute is None else (attribute,)
        self.clock, self.null, self.unit = clock, null, unit or Unit()

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """E[V | Y_sigma = y, what is known] as the network has it, in the dtype of y.

        Args:
            y: noisy values, in our unit.
            sigma: one noise level per row, in our unit.
            known: of the class, its index in each row, -1 where unknown.

        Raises: InputError for shapes that do not fit, levels outside the schedule, a class that the network cannot be
            told, or an unknown one where it must be told.
        """
        if y.shape[1:] != self.event or sigma.shape != (len(y),):
            raise InputError(
                f"y has shape {tuple(y.shape)} and sigma {tuple(sigma.shape)}: expected rows of {self.event}, and one "
                "level per row"
            )
        labels = self._labels(known, len(y), y.device)
        parts = []
        for i in range(0, max(len(y), 1), _CHUNK):
            rows = slice(i, i + _CHUNK)
            parts.append(self._rows(y[rows], sigma[rows], None if labels is None else labels[rows]))
        return torch.cat(parts)

    def _labels(
        self, known: Mapping[str, Tensor] | None, rows: int, device: torch.device
    ) -> Int64[Tensor, " batch"] | None:
        if not self.attributes:
            if known:
                raise InputError(f"this network cannot be told {next(iter(known))!r}: it knows no classes")
            return None
        a = self.attributes[0]
        unknown = [n for n in known or {} if n != a.name]
        if unknown:
            raise InputError(f"this network cannot be told {unknown[0]!r}: only {a.name!r}")
        given = (known or {}).get(a.name)
        label = torch.full((rows,), UNKNOWN, device=device) if given is None else given.to(device)
        if label.shape != (rows,) or int(label.min()) < UNKNOWN or int(label.max()) >= len(a.values):
            raise InputError(
                f"labels of {a.name!r} have shape {tuple(label.shape)} and values from {int(label.min())} to "
                f"{int(label.max())}: expected one index of {len(a.values)} values per row, or -1"
            )
        missing = label == UNKNOWN
        if not bool(missing.any()):
            return label
        if self.null is None:
            raise InputError(
                f"this network must always be told {a.name!r}: it has no index for an unknown one. Measure it by forks "
                "and probes, or name the index of its empty class"
            )
        return torch.where(missing, self.null, label)

    def _rows(self, y: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        unit, shape = self.unit, (-1, *[1] * len(self.event))
        own = unit.scale * y.double() + unit.offset
        level = unit.scale * sigma.double()
        time = self.schedule.time(level.cpu().numpy())
        alpha = torch.from_numpy(self.schedule.alpha(time)).to(level).reshape(shape)
        told = torch.from_numpy(time).to(level)
        told = told if self.clock is None else self.clock(told)
        level = level.reshape(shape)
        # x = alpha y without a division: where nothing but noise is left, alpha y is the noise itself.
        x, s = alpha * own, alpha * level
        dtype = self._dtype()
        f = self.network((own if self.prediction == "denoiser" else x).to(dtype), told.to(dtype), label).double()
        if f.shape != y.shape:
            raise InputError(f"the network gave shape {tuple(f.shape)} for {tuple(y.shape)}: expected the same")
        if self.prediction == "epsilon":
            clean = own - level * f
        elif self.prediction == "v_prediction":
            clean = (alpha * x - s * f) / (alpha**2 + s**2)
        elif self.prediction == "flow_prediction":
            clean = (x - s * f) / (alpha + s)
        else:
            clean = f
        return ((clean - unit.offset) / unit.scale).to(y)

    def _dtype(self) -> torch.dtype:
        """In which the network works: that of its first parameter; float32 for a function."""
        of = next(self.network.parameters(), None) if isinstance(self.network, nn.Module) else None
        return torch.float32 if of is None else of.dtype


def try_out(denoiser: Foreign, name: str) -> None:
    """Ask a network once, so that one that cannot answer is refused before work starts.

    Args:
        denoiser: the network, as a denoiser.
        name: what to call it in complaints.

    Raises: InputError where it answers with what is not finite; and whatever the network raises.
    """
    own, scale = denoiser.schedule, denoiser.unit.scale
    low, high = sorted(float(own.sigma(t)) / scale for t in (own.data_time, own.noise_time))
    place = next(denoiser.parameters(), torch.empty(0)).device
    y = torch.full((1, *denoiser.event), 0.5, dtype=torch.float64, device=place)
    sigma = torch.tensor([min(max(1.0, low), high)], dtype=torch.float64, device=place)
    told = {a.name: torch.zeros(1, dtype=torch.int64, device=place) for a in denoiser.attributes}
    with torch.no_grad():
        said = denoiser(y, sigma, told)
    if not bool(torch.isfinite(said).all()):
        raise InputError(
            f"{name}: its network answers with what is not a finite number: its weights or its settings are damaged"
        )
