r"""A network of another program as a denoiser of :math:`y = v + \sigma n`.

What a network predicts, and the denoiser that follows from it, is the table of :class:`Foreign`.

References: Ho et al. (2020); Salimans & Ho (2022) for v; Karras et al. (2022); Lipman et al. (2023) for the flow.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigmascope.core import UNKNOWN, Attribute, Denoiser, InputError
from sigmascope.learn.calling import Calling
from sigmascope.noise import Schedule

PREDICTIONS = ("epsilon", "sample", "v_prediction", "flow_prediction", "denoiser")
"""Names of what a network may have been trained to predict; the table of :class:`Foreign` says what each means."""

Values = Float[Tensor, "batch *event"]
"""Values, one per row."""
LevelPerRow = Float[Tensor, " batch"]
"""Noise levels, one per row."""
Network = Callable[..., Tensor]
"""From x, shape (batch, *event), the time of each row, and the index of each row's class (None: no classes).

A network without classes may also take x and the times alone.  A module gets x in the type of its parameters, or in
that of its attribute ``takes``, and the times in float32 where its parameters are in half precision.
"""
_CHUNK = 256  # largest number of rows of one call, where nothing else was tried


@dataclass(frozen=True)
class Unit:
    """The unit of a network's values, from that of the data.

    A value of the network is ``scale`` · v + ``offset``, and its noise level is ``scale`` · sigma.  For data from 0 to
    1 and a network of values from -1 to 1 they are 2 and -1.

    Args:
        scale: above 0.
        offset: added to values.

    Raises: InputError for a scale that is not above 0.
    """

    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InputError(f"the unit's scale is {self.scale:g}: it must be above 0")


class Foreign(Denoiser):
    r"""A denoiser made of a network of another program, its schedule and the name of what it predicts.

    The network gets :math:`x = \alpha(t)\,(v + \sigma(t)\, n)` at the schedule's time t of the noise level.  With
    :math:`s = \alpha\sigma` and f the output of the network,

    =================== =============================== =========================================
    prediction          target of the network           D
    =================== =============================== =========================================
    ``epsilon``         n                               :math:`y - \sigma f`
    ``sample``          v                               :math:`f`
    ``v_prediction``    :math:`\alpha n - s v`          :math:`(\alpha x - s f) / (\alpha^2 + s^2)`
    ``flow_prediction`` :math:`n - v`                   :math:`(x - s f) / (\alpha + s)`
    ``denoiser``        v, from y instead of x          :math:`f`
    =================== =============================== =========================================

    Args:
        network: a function or module f(x, time, label): x of shape (batch, *event), time of shape (batch,), label the
            index of each row's class, int64, shape (batch,), or None without classes.  It returns a tensor of the shape
            of x.  Without classes it may take (x, time) alone.  A module gets x in the type of its parameters (or of
            its attribute ``takes``) and a function in float32; times are in float32 or better.
        event: shape of a value.
        schedule: alpha and sigma of the network's time, with sigma in the unit of the network's own values.
        prediction: target of the network, one of :data:`PREDICTIONS`.
        clock: from the schedule's time, shape (batch,), to the time that the network takes; None: they are equal.
        attribute: the class, of a conditional network.
        null: index that stands for an unknown class; None: there is none, and an unknown class is refused.
        unit: from the unit of the data to that of the network's values; None: they are the same.
        device: where a function computes; None: where the modules that it uses are, else where y is.  A module computes
            where its parameters are.

    Raises: InputError for an unknown prediction.

    References: Ho et al. (2020); Salimans & Ho (2022) for v; Karras et al. (2022); Lipman et al. (2023) for the flow.
    """

    mixes_conditions = True  # a row of a call may have a class, or none, whatever the others have
    device: torch.device | None

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
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if prediction not in PREDICTIONS:
            raise InputError(f"prediction is {prediction!r}: expected {', '.join(PREDICTIONS)}")
        self.network = network  # a module becomes part of this one, a function does not
        self.event, self.schedule, self.prediction = tuple(event), schedule, prediction
        self.attributes = () if attribute is None else (attribute,)
        self.clock, self.null, self.unit = clock, null, unit or Unit()
        self.device = None if device is None else torch.device(device)
        self.calling = Calling(_CHUNK)
        self._takes_label = attribute is not None or _takes_three(network)

    def forward(self, y: Values, sigma: LevelPerRow, known: Mapping[str, Tensor] | None = None) -> Values:
        """The network's estimate of E[V | Y_sigma = y, class], in the dtype of y.

        Args:
            y: noisy values, shape (batch, *event), in the unit of the data.
            sigma: one noise level per row, shape (batch,), in the unit of the data.
            known: under the name of the attribute, the index of each row's class, int64, shape (batch,), -1 where
                unknown.

        Returns: the posterior means, of the shape of y and in the unit of the data.

        Raises: InputError for shapes that do not fit, levels outside the schedule, a class that the network does not
            have, or an unknown one where it needs one.
        """
        if y.shape[1:] != self.event or sigma.shape != (len(y),):
            raise InputError(
                f"y has shape {tuple(y.shape)} and sigma {tuple(sigma.shape)}: expected rows of {self.event}, and one "
                "level per row"
            )
        home = self._home(y)
        own, level, labels = y.to(home), sigma.to(home), self._labels(known, len(y), home)
        parts = []
        for i in range(0, max(len(y), 1), self.calling.rows):
            rows = slice(i, i + self.calling.rows)
            parts.append(self._rows(own[rows], level[rows], None if labels is None else labels[rows]))
        return torch.cat(parts).to(y.device)

    def _home(self, y: Tensor) -> torch.device:
        """The device of the network; of a function, the one said, that of the modules that it uses, or that of y."""
        for module in (self, *(modules_of(self.network) if self.device is None else ())):
            held: Tensor | None = next(itertools.chain(module.parameters(), module.buffers()), None)
            if held is not None:
                return held.device
        return y.device if self.device is None else self.device

    def _labels(self, known: Mapping[str, Tensor] | None, rows: int, device: torch.device) -> Tensor | None:
        names = [a.name for a in self.attributes]
        unknown = next((n for n in known or {} if n not in names), None)
        if unknown is not None:
            remedy = f"pass {names[0]!r}" if names else "it is unconditional, pass none"
            raise InputError(f"this network has no attribute {unknown!r}: {remedy}")
        if not self.attributes:
            return None
        a = self.attributes[0]
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
                f"this network always needs {a.name!r}: it has no index for an unknown one. Measure it by forks and "
                "probes, or name the index of its empty class"
            )
        return torch.where(missing, self.null, label)

    def _rows(self, y: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        unit, shape = self.unit, (-1, *[1] * len(self.event))
        own = unit.scale * y.double() + unit.offset
        level = unit.scale * sigma.double()
        schedule_time = self.schedule.time(level.cpu().numpy())
        alpha = torch.from_numpy(self.schedule.alpha(schedule_time)).to(level).reshape(shape)
        time = torch.from_numpy(schedule_time).to(level)
        time = time if self.clock is None else self.clock(time)
        level = level.reshape(shape)
        # x = alpha y without a division: at noise alone, alpha y is the noise itself.
        x, s = alpha * own, alpha * level
        parameter = next(self.network.parameters(), None) if isinstance(self.network, nn.Module) else None
        dtype = torch.float32 if parameter is None else parameter.dtype
        # In half precision the time 501 would be 500 or 502: the network rounds what it makes of it, not the time.
        exact = time.to(torch.promote_types(dtype, torch.float32))
        dtype = getattr(self.network, "takes", dtype)  # of x, where it is not that of the weights
        given = (own if self.prediction == "denoiser" else x).to(dtype), exact
        with self.calling.precision(y.device):
            f = self.network(*given, label) if self._takes_label else self.network(*given)
        f = f.to(y.device).double()
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


def _takes_three(network: Network) -> bool:
    """Whether a network can be called with three arguments, as far as its signature tells."""
    try:
        inspect.signature(network.forward if isinstance(network, nn.Module) else network).bind(None, None, None)
    except (TypeError, ValueError) as error:
        return isinstance(error, ValueError)  # it has no signature
    return True


def modules_of(network: object) -> list[nn.Module]:
    """The modules that a plain function uses: those it closes over, globals that it names, and its own object."""
    if isinstance(network, nn.Module):
        return []
    bound: list[object] = []
    while isinstance(network, functools.partial):
        bound += [*network.args, *network.keywords.values()]
        network = network.func
    code, cells = getattr(network, "__code__", None), getattr(network, "__closure__", None) or ()
    named = getattr(network, "__globals__", {})
    used = [*bound, network, getattr(network, "__self__", None), *(c.cell_contents for c in cells)]
    used += [named[n] for n in (code.co_names if code is not None else ()) if n in named]
    return [x for x in used if isinstance(x, nn.Module)]


def require_finite_output(denoiser: Foreign, name: str) -> None:
    """Call a network once, so that one whose output is not finite is refused before a study starts."""
    own, scale = denoiser.schedule, denoiser.unit.scale
    low, high = sorted(float(own.sigma(t)) / scale for t in (own.data_time, own.noise_time))
    y = torch.full((1, *denoiser.event), 0.5, dtype=torch.float64)
    sigma = torch.tensor([min(max(1.0, low), high)], dtype=torch.float64)
    known = {a.name: torch.zeros(1, dtype=torch.int64) for a in denoiser.attributes}
    with torch.no_grad():
        out = denoiser(y, sigma, known)
    if not bool(torch.isfinite(out).all()):
        raise InputError(f"{name}: the output of its network is not finite: its weights or its settings are damaged")
