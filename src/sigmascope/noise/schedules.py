r"""Schedules: linear noising processes in their own time, read and written as noise levels.

One coordinate serves every linear noising process: :math:`y = v + \sigma n`.  The signal-to-noise ratio
:math:`\lambda = \sigma^{-2}` is the time of the filter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float64

from sigmascope.errors import InputError
from sigmascope.noise.grids import check_ends, expect

Values = float | np.ndarray  # of any shape


class Schedule(ABC):
    r"""A linear noising process :math:`x = \alpha(t) (v + \sigma(t) n)`, :math:`n \sim N(0, I)`, in its own time t.

    Methods take a number or an array and return float64 of its shape.  The ends of the range are included.  Where the
    range reaches the data, sigma is 0 and the snr infinite there; where it reaches pure noise, sigma is infinite, the
    snr and alpha are 0, and x has the scale of n.  A value within a millionth of an end (the rounding of float32) is
    moved to the end.  Methods raise InputError for values out of range or NaN, constructors for numbers that make no
    schedule.  Near an infinite sigma(1) (cosine, flow) float64 times are coarse: sigma of time(sigma) has a relative
    error of 1e-16 sigma.  A new schedule defines ``name``, ``_sigma``, ``_time`` and ``_alpha``, which receive values
    in range.

    Attributes:
        name: of the schedule, by which :data:`SCHEDULES` lists it.
        data_time: the end of its time with the least noise.
        noise_time: the end of its time with the most noise; either end may be the larger number.
    """

    name: str
    data_time: float = 0.0
    noise_time: float = 1.0
    _alpha: ClassVar[staticmethod[[np.ndarray], np.ndarray]]  # of sigma

    @abstractmethod
    def _sigma(self, time: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _time(self, sigma: np.ndarray) -> np.ndarray: ...

    @final
    def sigma(self, time: Values) -> Float64[np.ndarray, "..."]:
        r"""The noise level :math:`\sigma(t)` of x/alpha, in the unit of v."""
        return self._at(self._sigma, "time", time, self.data_time, self.noise_time)

    @final
    def alpha(self, time: Values) -> Float64[np.ndarray, "..."]:
        r"""The scale :math:`\alpha(t)` of v in x."""
        return self._at(self._alpha, "sigma", self.sigma(time))

    @final
    def time(self, sigma: Values) -> Float64[np.ndarray, "..."]:
        """The time at which the noise level is sigma: the inverse of ``sigma``."""
        ends = np.array([self.data_time, self.noise_time])
        return np.asarray(np.clip(self._at(self._time, "sigma", sigma, *self.sigma(ends)), ends.min(), ends.max()))

    @final
    def snr(self, time: Values) -> Float64[np.ndarray, "..."]:
        r"""The signal-to-noise ratio :math:`\lambda = \sigma(t)^{-2}`."""
        return self._at(lambda sigma: (1 / sigma) ** 2, "sigma", self.sigma(time))

    @final
    def noise_scale(self, time: Values) -> Float64[np.ndarray, "..."]:
        r"""The standard deviation :math:`\alpha \sigma` of the noise in x; 1 where x is noise alone."""
        alpha = self.alpha(time)
        return self._at(lambda sigma: np.where(alpha > 0, alpha * sigma, 1.0), "sigma", self.sigma(time))

    def _at(
        self, function: Callable[[np.ndarray], np.ndarray], name: str, value: Values, a: float = 0.0, b: float = np.inf
    ) -> np.ndarray:
        """The function of a value between a and b, without numpy's warnings about limits at the ends."""
        (low, high), given = sorted((a, b)), np.asarray(value, dtype=np.float64)
        outside = ~((given >= low - 1e-6 * abs(low)) & (given <= high + 1e-6 * abs(high)))  # NaN is outside
        if outside.any():
            received, limits = f"{name} is {given[outside].flat[0]:.8g}", f"{name} from {low:.8g} to {high:.8g}"
            advice = "leave out what is outside, or take another"
            raise InputError(f"{received}: the schedule {self.name!r} has {limits}; {advice}")
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.reshape(function(np.atleast_1d(np.clip(given, low, high))), given.shape)


def _preserving(sigma: np.ndarray) -> np.ndarray:
    return np.asarray(1 / np.hypot(1, sigma))


@final
@dataclass(frozen=True)
class VarianceExploding(Schedule):
    r"""The variance-exploding process: noise is added to values that keep their scale.

    .. math:: \sigma(t) = \sigma_{min} (\sigma_{max}/\sigma_{min})^t, \qquad \alpha = 1, \qquad t \in [0, 1]

    Args:
        sigma_min: the noise level at time 0, in the unit of v.
        sigma_max: the noise level at time 1.

    Raises: InputError unless 0 < sigma_min < sigma_max < inf.

    References: Song et al. (2021).
    """

    sigma_min: float = 0.01
    sigma_max: float = 90.0
    name, _alpha = "ve", staticmethod(np.ones_like)

    def __post_init__(self) -> None:
        check_ends(self.sigma_max, self.sigma_min)

    def _sigma(self, time: np.ndarray) -> np.ndarray:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** time

    def _time(self, sigma: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(sigma / self.sigma_min) / np.log(self.sigma_max / self.sigma_min))


@dataclass(frozen=True)
class _LinearBeta(Schedule):
    beta_min: float = 0.1
    beta_max: float = 20.0
    _level: ClassVar[staticmethod[[np.ndarray], np.ndarray]]  # sigma of B
    _inverse: ClassVar[staticmethod[[np.ndarray], np.ndarray]]  # B of sigma

    def __post_init__(self) -> None:
        values = f"beta_min is {self.beta_min:g} and beta_max {self.beta_max:g}"  # above 700, e^B overflows
        expect(0 < self.beta_min <= self.beta_max < 700, f"{values}: pass 0 < beta_min <= beta_max < 700, as .1 and 20")

    def _sigma(self, time: np.ndarray) -> np.ndarray:
        return self._level(time * (self.beta_min + (self.beta_max - self.beta_min) * time / 2))

    def _time(self, sigma: np.ndarray) -> np.ndarray:
        # this form of the root is accurate for small B and for equal betas
        b = self._inverse(sigma)
        return 2 * b / (self.beta_min + np.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * b))


@final
class VariancePreserving(_LinearBeta):
    r"""The variance-preserving process: the SDE :math:`dx = -\beta x\, dt/2 + \sqrt\beta\, dW`, beta linear in time.

    .. math:: \alpha = e^{-B/2}, \quad \sigma^2 = e^B - 1, \quad B = \beta_{min} t + (\beta_{max} - \beta_{min}) t^2/2,
              \quad t \in [0, 1]

    Args:
        beta_min: beta at time 0, above 0.
        beta_max: beta at time 1, below 700.

    Raises: InputError unless 0 < beta_min <= beta_max < 700.

    References: Song et al. (2021).
    """

    name, _alpha = "vp", staticmethod(_preserving)
    _level = staticmethod(lambda b: np.sqrt(np.expm1(b)))
    _inverse = staticmethod(lambda sigma: np.log1p(sigma**2))


@final
class SubVariancePreserving(_LinearBeta):
    r"""The sub-variance-preserving process: the scale of :class:`VariancePreserving` with less noise.

    .. math:: \alpha = e^{-B/2}, \quad \alpha\sigma = 1 - e^{-B}, \quad \sigma = 2 \sinh(B/2),
              \quad B = \beta_{min} t + (\beta_{max} - \beta_{min}) t^2/2, \quad t \in [0, 1]

    Args:
        beta_min: beta at time 0, above 0.
        beta_max: beta at time 1, below 700.

    Raises: InputError unless 0 < beta_min <= beta_max < 700.

    References: Song et al. (2021).
    """

    name, _alpha = "sub-vp", staticmethod(lambda sigma: 1 / (np.hypot(1, sigma / 2) + sigma / 2))
    _level = staticmethod(lambda b: 2 * np.sinh(b / 2))
    _inverse = staticmethod(lambda sigma: 2 * np.arcsinh(sigma / 2))


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    r"""The cosine schedule in continuous time: the scale falls like a cosine, to pure noise at time 1.

    .. math:: \alpha = \cos b(t) / \cos b(0), \quad \sigma^2 = \alpha^{-2} - 1, \quad b = \tfrac\pi2 (t + s)/(1 + s),
              \quad t \in [0, 1]

    Args:
        s: a small offset, which keeps the first steps from being too small; not negative.

    Raises: InputError for an s that is negative or not finite.

    References: Nichol & Dhariwal (2021).
    """

    s: float = 0.008
    name, _alpha = "cosine", staticmethod(_preserving)

    def __post_init__(self) -> None:
        expect(0 <= self.s < np.inf, f"s is {self.s:g}: it must be finite and not negative; pass e.g. s=0.008")

    def _sigma(self, time: np.ndarray) -> np.ndarray:
        # cos^2 b(0) - cos^2 b = sin(b - b(0)) sin(b + b(0)), cos b = sin(pi/2 - b): accurate at both ends
        rate = np.pi / 2 / (1 + self.s)
        above = np.sin(rate * time) * np.sin(rate * (time + 2 * self.s))
        return np.asarray(np.sqrt(above) / np.sin(rate * (1 - time)))

    def _time(self, sigma: np.ndarray) -> np.ndarray:
        # tan(b - b(0)) = (h - sine) cosine / (cosine^2 + sine h), h^2 = sigma^2 + sine^2: all divided by sigma
        rate = np.pi / 2 / (1 + self.s)
        sine, cosine = np.sin(rate * self.s), np.cos(rate * self.s)
        q = sine / sigma if self.s > 0 else np.zeros_like(sigma)
        h = np.hypot(1, q)
        return np.asarray(np.arctan2(cosine / (h + q), cosine**2 / sigma + sine * h) / rate)


@final
@dataclass(frozen=True)
class Karras(Schedule):
    """EDM (Karras et al. 2022): its time is sigma itself, alpha = 1; ``karras_grid`` gives its steps."""

    name, noise_time, _alpha = "edm", float("inf"), staticmethod(np.ones_like)

    def _sigma(self, time: np.ndarray) -> np.ndarray:
        return time

    def _time(self, sigma: np.ndarray) -> np.ndarray:
        return sigma


@final
@dataclass(frozen=True)
class FlowMatching(Schedule):
    r"""Rectified flow :math:`x = (1 - t) v + t n` with the shift of SD3 and Flux (Esser et al. 2024, equation 23).

    .. math:: t = shift\, u / (1 + (shift - 1) u), \quad \alpha = 1 - t, \quad \sigma = t/(1 - t) = shift\, u/(1 - u)

    Its time is u in [0, 1], *before* the shift, in which samplers step evenly.  The share of noise t after the shift,
    the input of networks (often as 1000 t), is ``noise_scale(u)``, or the time of ``FlowMatching()``, where t = u.

    Args:
        shift: above 0; 1 leaves the time as it is, 3 is that of SD3.

    Raises: InputError for a shift that is not above 0 or not finite.
    """

    shift: float = 1.0
    name, _alpha = "flow", staticmethod(lambda sigma: 1 / (1 + sigma))

    def __post_init__(self) -> None:
        expect(0 < self.shift < np.inf, f"shift is {self.shift:g}: it must be finite and above 0; pass e.g. shift=3")

    def _sigma(self, time: np.ndarray) -> np.ndarray:
        return np.asarray(self.shift * time / (1 - time))

    def _time(self, sigma: np.ndarray) -> np.ndarray:
        return 1 / (1 + self.shift / sigma)


@final
@dataclass(frozen=True, eq=False)
class Discrete(Schedule):
    r"""A table of DDPM (Ho et al. 2020): :math:`\alpha^2 = (1 + \sigma^2)^{-1} = \prod_{i \le k} (1-\beta_i)`.

    Its time is the timestep 0 .. steps - 1; ln sigma is linear between integer timesteps.

    Args:
        alphas_cumprod: decreases strictly within (0, 1), shape (steps,); in float32 its lowest levels have 3 good
            digits.  Leave out the last entry of a table with zero terminal SNR (pure noise).
        name: of the schedule.

    Raises: InputError for a table that does not fall strictly within (0, 1).
    """

    alphas_cumprod: np.ndarray = field(repr=False)
    name: str = "discrete"
    _log_sigma: np.ndarray = field(init=False, repr=False)
    _alpha = staticmethod(_preserving)

    def __post_init__(self) -> None:
        table = np.array(self.alphas_cumprod, dtype=np.float64)
        expect(table.ndim == 1 and len(table) > 1, f"alphas_cumprod has shape {table.shape}: pass (steps,), 2 or more")
        received = f"alphas_cumprod goes from {table[0]:g} to {table[-1]:g}"
        expect(table[-1] != 0, f"{received} (zero terminal SNR, pure noise): pass alphas_cumprod[:-1]")
        good = np.all(np.diff(table, prepend=1.0, append=0.0) < 0)  # NaN is not
        expect(good, f"{received}: it must fall strictly, within (0, 1); pass the cumulative products of 1 - beta")
        object.__setattr__(self, "alphas_cumprod", table)
        object.__setattr__(self, "noise_time", len(table) - 1.0)
        object.__setattr__(self, "_log_sigma", (np.log1p(-table) - np.log(table)) / 2)

    @classmethod
    def linear(cls, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Discrete:
        """The table of DDPM: ``steps`` betas evenly spaced from ``beta_start`` to ``beta_end``."""
        return cls(np.cumprod(1 - np.linspace(beta_start, beta_end, steps)), "ddpm-linear")

    @classmethod
    def scaled_linear(cls, steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Discrete:
        """The table of Stable Diffusion: square roots of ``steps`` betas evenly spaced between those of the ends.

        Args:
            steps: number of timesteps.
            beta_start: the first beta.
            beta_end: the last beta.
        """
        return cls(np.cumprod(1 - np.linspace(beta_start**0.5, beta_end**0.5, steps) ** 2), "ddpm-scaled-linear")

    @classmethod
    def cosine(cls, steps: int = 1000, s: float = 0.008, cap: float = 0.999) -> Discrete:
        """The table of improved DDPM (``squaredcos_cap_v2``): betas of the cosine schedule.

        Args:
            steps: number of timesteps.
            s: offset of :class:`Cosine`.
            cap: the largest beta.
        """
        kept = Cosine(s).alpha(np.arange(steps + 1) / steps) ** 2
        return cls(np.cumprod(np.maximum(kept[1:] / kept[:-1], 1 - cap)), "ddpm-cosine")

    def _sigma(self, time: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(np.interp(time, np.arange(len(self._log_sigma)), self._log_sigma)))

    def _time(self, sigma: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(np.log(sigma), self._log_sigma, np.arange(len(self._log_sigma))))


_CONTINUOUS = (VarianceExploding, VariancePreserving, SubVariancePreserving, Cosine, Karras, FlowMatching)
_TABLES = (Discrete.linear, Discrete.scaled_linear, Discrete.cosine)
SCHEDULES: Mapping[str, Callable[[], Schedule]] = {make().name: make for make in (*_CONTINUOUS, *_TABLES)}
"""The schedules with their default parameters, by name."""
