r"""Directions along which squared norms of differences of posterior means are measured.

Only :math:`\|D_A - D\|^2` is wanted, so the values may be projected: the leading principal directions are kept exactly,
and of what is orthogonal to them random directions are taken,

.. math:: \|x\|^2 = \|P x\|^2 + \|R x\|^2, \qquad \|R x\|^2 = E_\omega\,(\omega^\top R x)^2 .

The random directions are shared by all draws, so their error is common to them: it must be judged over directions, not
over draws.

At large sigma few directions hold nearly all of it: there the first exact ones suffice, with random ones on *their*
complement.  Both kinds of random directions come from the same Gaussian ones, so that means along one kind give those
along the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sketch:
    """Directions as columns, shape (size, exact + random); a random one is scaled by ``random ** -0.5``.

    The sum of squares of a projection is then an unbiased estimate of the squared norm.

    Args:
        directions: the exact ones, and random ones on their complement.
        exact: how many are exact.
        wide: the same random ones, on the complement of the first ``first`` exact ones alone, shape (size, random).
        first: how many exact directions suffice at large sigma.
        first_above: where: from this sigma upward.
    """

    directions: Float[Tensor, "size directions"]
    exact: int
    wide: Float[Tensor, "size random"] | None = None
    first: int = 0
    first_above: float = float("inf")

    @property
    def random(self) -> int:
        return self.directions.shape[1] - self.exact

    @property
    def few(self) -> int:
        """How many of the columns of :attr:`mixed` serve large sigma; all, where there is no such choice."""
        return self.directions.shape[1] if self.wide is None else self.first + self.random

    @property
    def mixed(self) -> Float[Tensor, "size directions"]:
        """The first exact directions, the wide random ones, the other exact ones."""
        if self.wide is None:
            return self.directions
        exact = self.directions[:, : self.exact]
        return torch.cat([exact[:, : self.first], self.wide, exact[:, self.first :]], 1)

    def sorted(self, along: Float[Tensor, "*shape directions"]) -> Float[Tensor, "*shape directions"]:
        """What is known along the :attr:`mixed` directions, along :attr:`directions`."""
        if self.wide is None:
            return along
        first, wide, rest = along.split([self.first, self.random, self.exact - self.first], -1)
        others = self.directions[:, self.first : self.exact].to(along)
        return torch.cat([first, rest, wide - rest @ (others.T @ self.wide.to(along))], -1)


def make_sketch(items: Float[Tensor, "items size"], exact: int, random: int, generator: torch.Generator) -> Sketch:
    """Principal directions of a sample of items, and Gaussian directions orthogonal to them.

    Args:
        items: a sample of the data.
        exact: how many leading principal directions.
        random: how many random directions on the rest.
        generator: of the random directions.

    Returns: the whole space, exactly, where it has no more than ``exact + random`` dimensions.
    """
    size = items.shape[1]
    if size <= exact + random:
        return Sketch(torch.eye(size, device=items.device), size)
    centred = items.float() - items.float().mean(0)
    gram = (centred @ centred.T).double()
    values, vectors = torch.linalg.eigh(gram)
    keep = min(exact, int((values > 1e-9 * values[-1]).sum()))
    leading = torch.flip(vectors[:, len(values) - keep :], (1,))  # the largest variance first
    basis, _ = torch.linalg.qr(centred.T.double() @ leading)
    omega = torch.randn(size, random, generator=generator, dtype=torch.float64).to(items.device) / random**0.5
    first = keep // 4
    wide = omega - basis[:, :first] @ (basis[:, :first].T @ omega)
    along = wide - basis[:, first:] @ (basis[:, first:].T @ wide)
    # There the posterior mean keeps less than 1/400 of an item along the next direction: its share of a gap is small.
    above = float((400.0 * values[-first - 1] / len(items)) ** 0.5) if first else float("inf")
    return Sketch(torch.cat([basis, along], 1).float(), keep, wide.float(), first, above)
