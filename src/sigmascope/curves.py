"""Curves of information over noise levels, and their differences.  All information is in nats."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int64

from sigmascope.rare import beyond_draws, lower_allowance


@dataclass(frozen=True)
class Agreement:
    """The difference of another estimator's curve from the one by the posterior, on the same draws.

    Args:
        attribute: name of A.
        estimator: name of the other estimator.
        sigma: decreasing levels, shape (levels,).
        difference: that estimator minus the posterior's, nats, shape (levels,).
        stderr: standard error of the paired difference, with the errors of random directions and of the quadrature,
            shape (levels,).
        ceiling: H(A) in nats.
    """

    attribute: str
    estimator: str
    sigma: Float[np.ndarray, " levels"]
    difference: Float[np.ndarray, " levels"]
    stderr: Float[np.ndarray, " levels"]
    ceiling: float

    @property
    def largest(self) -> tuple[float, float, float]:
        """The largest difference and its standard error as shares of H(A), and its level."""
        j = int(np.abs(self.difference).argmax())
        return self.difference[j] / self.ceiling, self.stderr[j] / self.ceiling, float(self.sigma[j])

    @property
    def errors_apart(self) -> float:
        """The largest difference in standard errors; differences and errors below 1e-6 H(A) do not count."""
        return float(np.abs(self._errors).max(initial=0.0))

    @property
    def errors_above(self) -> float:
        """The same, only where the estimator lies above; a lower bound must not."""
        return float(self._errors.max(initial=0.0))

    @property
    def _errors(self) -> np.ndarray:
        counted = np.maximum(np.abs(self.difference), self.stderr) > 1e-6 * self.ceiling
        return np.asarray(self.difference[counted] / np.maximum(self.stderr[counted], 1e-300))


@dataclass(frozen=True, eq=False)
class Curve:
    r"""I(A; Y_sigma) over noise levels, in nats, float64.

    Args:
        attribute: name of A.
        estimator: name of the estimator.
        sigma: decreasing noise levels, shape (levels,).
        value: the estimates, shape (levels,).
        stderr: their standard errors, shape (levels,): those of the draws, and of random directions that all draws
            share (:attr:`common_variance`).
        ceiling: H(A), which I(A; Y_sigma) cannot exceed.
        per_draw: independent contributions, shape (levels, columns), whose mean is ``value``.  A column is one draw, or
            the mean of ``draws_per_column`` draws.
        quadrature_error: an error that all draws share and that ``stderr`` lacks, shape (levels,): of the integral over
            levels and of its part above the highest level; of a lower bound, the allowance for losses that are too
            rare to have been drawn (:func:`~sigmascope.rare.lower_allowance`).  None where there is none.
        kind: ``exact`` (the only error is that of the draws), ``estimate`` (with other errors), or ``lower bound``.
        draws_per_column: number of draws that each column of ``per_draw`` is the mean of.

    :attr:`error` holds all errors together: ``value`` ± 1.96 ``error`` is a 95 % interval.

    Raises: ValueError for an unknown kind, or levels that do not decrease.
    """

    attribute: str
    estimator: str
    sigma: Float[np.ndarray, " levels"]
    value: Float[np.ndarray, " levels"]
    stderr: Float[np.ndarray, " levels"]
    ceiling: float
    per_draw: Float[np.ndarray, "levels draws"] = field(repr=False)
    kind: str = "exact"
    quadrature_error: Float[np.ndarray, " levels"] | None = field(default=None, repr=False)
    draws_per_column: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("exact", "estimate", "lower bound"):
            raise ValueError(f"kind is {self.kind!r}: expected 'exact', 'estimate' or 'lower bound'")
        if np.any(np.diff(self.sigma) >= 0):
            raise ValueError("sigma must decrease strictly")

    @classmethod
    def of_draws(
        cls,
        attribute: str,
        estimator: str,
        sigma: Float[np.ndarray, " levels"],
        per_draw: Float[np.ndarray, "levels draws"],
        ceiling: float,
        *,
        kind: str = "exact",
        common_variance: Float[np.ndarray, " levels"] | float = 0.0,
        quadrature_error: Float[np.ndarray, " levels"] | None = None,
        draws_per_column: int = 1,
    ) -> Curve:
        """A curve from contributions of independent draws: their mean, with its standard error.

        Args:
            attribute: name of A.
            estimator: name of the estimator.
            sigma: decreasing noise levels, shape (levels,).
            per_draw: as of the class, nats, with two columns at least.
            ceiling: H(A) in nats.
            kind: as of the class.
            common_variance: variance of an error that all draws share, so that their spread does not show it, nats²,
                one number or shape (levels,); it is added to the square of ``stderr``.
            quadrature_error: as of the class; a lower bound adds :func:`~sigmascope.rare.lower_allowance` to it.
            draws_per_column: as of the class.

        Raises: ValueError for an unknown kind, or levels that do not decrease.
        """
        if kind == "lower bound":
            allowance = lower_allowance(per_draw, ceiling)
            quadrature_error = np.hypot(allowance, 0.0 if quadrature_error is None else quadrature_error)
        stderr = np.sqrt(per_draw.var(1, ddof=1) / per_draw.shape[1] + common_variance)
        levels, value, error = np.asarray(sigma, dtype=np.float64), per_draw.mean(1), quadrature_error
        return cls(attribute, estimator, levels, value, stderr, ceiling, per_draw, kind, error, draws_per_column)

    @property
    def common_variance(self) -> Float[np.ndarray, " levels"]:
        """Part of the squared standard error that does not come from the spread of the draws, nats²."""
        drawn = self.per_draw.var(1, ddof=1) / self.per_draw.shape[1]
        return np.asarray(np.maximum(self.stderr**2 - drawn, 0.0))

    @property
    def beyond_draws(self) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " levels"]]:
        """Errors beyond the spread of the draws, nats: the one that all draws share, and the allowance for rare draws.

        The second is negative where rare draws may lie below the others (:func:`~sigmascope.rare.tail_allowance`).
        """
        return self._beyond(even=False)

    def _beyond(self, even: bool) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " levels"]]:
        shared = self.common_variance, self.quadrature_error
        return beyond_draws(self.per_draw, *shared, self.kind, self.draws_per_column, even=even)

    @property
    def error(self) -> Float[np.ndarray, " levels"]:
        """All errors together: half the width of the symmetric 95 % interval, divided by 1.96, nats."""
        shared, tail = self._beyond(even=True)
        return np.asarray(np.sqrt(np.maximum(self.stderr**2 - self.common_variance, 0.0) + shared**2 + tail**2))

    def at_levels(self, levels: Int64[np.ndarray, " kept"]) -> Curve:
        """The curve at some of its levels, whose indices are passed in increasing order."""
        quadrature = None if self.quadrature_error is None else self.quadrature_error[levels]
        kept = {name: getattr(self, name)[levels] for name in ("sigma", "value", "stderr", "per_draw")}
        return replace(self, quadrature_error=quadrature, **kept)

    def same_draws(self, other: Curve) -> bool:
        """Whether this curve and another are over the same levels and number of columns."""
        return self.per_draw.shape == other.per_draw.shape and np.array_equal(self.sigma, other.sigma)
