"""Attributes of data: discrete ones with a prior, and real-valued ones with a resolution."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.errors import InputError


@dataclass(frozen=True, eq=False)
class Attribute:
    r"""A discrete attribute A of the data, with its prior.

    Args:
        name: name of the attribute.
        values: names of its values.
        prior: p(a), shape (values,), float64, sums to one; none: all values are equally frequent.
        parts: names of the attributes that a joint attribute combines; empty for others.

    Raises:
        InputError: fewer than two values, or a prior that is not a distribution over them.
    """

    name: str
    values: tuple[str, ...]
    prior: Float[Tensor, " values"] = field(default_factory=lambda: torch.empty(0))
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise InputError(
                f"attribute {self.name!r} has {len(self.values)} value: at least 2 are needed; leave it out with "
                "--attributes"
            )
        count = len(self.values)
        prior = self.prior.double() if len(self.prior) else torch.full((count,), 1.0 / count, dtype=torch.float64)
        if prior.shape != (len(self.values),):
            raise InputError(f"{self.name!r}: the prior has shape {tuple(prior.shape)}, expected ({len(self.values)},)")
        if not bool((prior >= 0).all()) or abs(float(prior.sum()) - 1.0) > 1e-9:
            raise InputError(f"attribute {self.name!r}: the prior must be non-negative and sum to one")
        object.__setattr__(self, "prior", prior)

    @property
    def entropy(self) -> float:
        """H(A) in nats: the ceiling of I(A; Y)."""
        return float(torch.special.entr(self.prior).sum())


@dataclass(frozen=True)
class RealAttribute:
    r"""A real-valued attribute A of the data, known up to a resolution r.

    On a finite set every distinct real label names its items, so I(A; Y) would be the information about the item.
    The attribute that is measured is therefore :math:`A_r = A + r N`, with N standard normal and independent of all
    else; on a circle, A_r is taken modulo the period.

    Args:
        name: name of the attribute.
        resolution: r, in the unit of the attribute.
        columns: names of the columns that hold its coordinates.
        period: length of the circle that A lies on; None: A lies on a line, or in the space of its columns.
        unit: unit of the attribute, for figures and tables; empty: not named.

    Raises: InputError for a resolution or a period that cannot be used.
    """

    name: str
    resolution: float
    columns: tuple[str, ...]
    period: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if not 0.0 < self.resolution < float("inf"):
            raise InputError(
                f"attribute {self.name!r} has resolution {self.resolution:g}: expected a number greater than 0"
            )
        if self.period is None:
            return
        if not 0.0 < self.period < float("inf"):
            raise InputError(f"attribute {self.name!r} has period {self.period:g}: expected a number greater than 0")
        if len(self.columns) > 1:
            raise InputError(f"attribute {self.name!r} has {len(self.columns)} columns: a period is of one column only")
        if 2.0 * self.resolution >= self.period:
            raise InputError(
                f"attribute {self.name!r} has resolution {self.resolution:g} and period {self.period:g}: the "
                "resolution must be below half of the period"
            )
