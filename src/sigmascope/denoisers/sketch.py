r"""Directions along which squared norms of differences of posterior means are measured.

Only :math:`\|D_A - D\|^2` is wanted, so the values may be projected: the leading principal directions are kept exactly,
and of what is orthogonal to them random directions are taken,

.. math:: \|x\|^2 = \|P x\|^2 + \|R x\|^2, \qquad \|R x\|^2 = E_\omega\,(\omega^\top R x)^2 .

The random directions are shared by all draws, so their error is common to them: it must be judged over directions, not
over draws.
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
    """

    directions: Float[Tensor, "size directions"]
    exact: int

    @property
    def random(self) -> int:
        return self.directions.shape[1] - self.exact


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
    leading = torch.flip(vectors[:, -keep:], (1,))  # the largest variance first
    basis, _ = torch.linalg.qr(centred.T.double() @ leading)
    omega = torch.randn(size, random, generator=generator, dtype=torch.float64).to(items.device)
    omega = omega - basis @ (basis.T @ omega)
    return Sketch(torch.cat([basis, omega / random**0.5], 1).float(), keep)
