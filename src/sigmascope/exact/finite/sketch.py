r"""Directions along which squared norms of differences of posterior means are measured.

Only :math:`\|D_A - D\|^2` is needed, so the means may be projected: exactly along the leading principal directions,
and along random directions for the part orthogonal to these,

.. math:: \|x\|^2 = \|P x\|^2 + \|R x\|^2, \qquad \|R x\|^2 = E_\omega\,(\omega^\top R x)^2 .

Draws that share random directions share their error, which is estimated from the spread over directions, not over
draws.  So every 32 draws have random directions of their own (:meth:`Sketch.of_draws`): few for each draw, many for the
mean over all draws.

At large sigma a few principal directions hold nearly all of the difference: there the first exact directions suffice,
with random ones on *their* complement.  Both kinds of random directions are made from the same Gaussian vectors, so
the means along one kind give those along the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import generator as stream

_PART = 32  # draws that share random directions
_VECTOR = 8  # numbers that a processor handles at a time


@dataclass(frozen=True, eq=False)
class Sketch:
    """Directions as columns, shape (size, exact + random); a random one is scaled by ``random ** -0.5``.

    The sum of squares of a projection is then an unbiased estimate of the squared norm.

    Args:
        directions: the exact ones, then random ones on their complement (those of the first part of the draws).
        exact: how many are exact.
        wide: random directions of each part of the draws, on the complement of the first ``coarse_exact`` exact ones,
            shape (size, parts * random); None before the draws are given.
        coarse_exact: how many exact directions suffice at large sigma.
        coarse_above: the sigma from which upward they do.
        random_per_part: how many random directions every part of the draws has.
        seed: of the random directions.
        parts: how many parts the draws have, consecutive and of equal size but for the last.
    """

    directions: Float[Tensor, "size directions"]
    exact: int
    wide: Float[Tensor, "size parts_random"] | None = None
    coarse_exact: int = 0
    coarse_above: float = float("inf")
    random_per_part: int = 0
    seed: int = 0
    parts: int = 1

    @property
    def random(self) -> int:
        return self.directions.shape[1] - self.exact

    @property
    def coarse(self) -> int:
        """How many of a draw's directions serve large sigma; all of them, before the draws are given."""
        return self.directions.shape[1] if self.wide is None else self.coarse_exact + self.random

    @property
    def mixed(self) -> Float[Tensor, "size mixed"]:
        """The first exact directions, the wide random ones of all parts, the other exact ones."""
        if self.wide is None:
            return self.directions
        exact = self.directions[:, : self.exact]
        return torch.cat([exact[:, : self.coarse_exact], self.wide, exact[:, self.coarse_exact :]], 1)

    @property
    def exact_columns(self) -> Int64[Tensor, " exact"]:
        """The indices of the exact directions among the :attr:`mixed` ones."""
        after = 0 if self.wide is None else self.wide.shape[1]
        return torch.arange(self.exact) + after * (torch.arange(self.exact) >= self.coarse_exact)

    def of_draws(self, draws: int, block: int = 0) -> Sketch:
        """The same exact directions, and independent random ones for every 32 draws.

        Args:
            draws: how many.
            block: the number of this block of draws: each block has random directions of its own.
        """
        if not self.random:
            return self
        parts = -(-draws // _PART)
        exact = self.directions[:, : self.exact].double()
        omega = torch.randn(
            len(exact), parts * self.random_per_part, generator=stream(self.seed, block), dtype=torch.float64
        )
        wide = _without(omega.to(exact) / self.random_per_part**0.5, exact[:, : self.coarse_exact])
        along = _without(wide[:, : self.random_per_part], exact[:, self.coarse_exact :])
        directions = torch.cat([exact, along], 1).float()
        return replace(self, directions=directions, wide=wide.float(), parts=parts)

    def part_of(self, draws: int) -> Int64[Tensor, " draws"]:
        """The part to which each draw belongs."""
        return torch.arange(draws) // -(-draws // self.parts)

    def columns(self, draws: int) -> Int64[Tensor, "draws directions_and_one"]:
        """The columns of each draw, among the :attr:`mixed` directions with a one after the first ``coarse``."""
        mixed = torch.arange(self.mixed.shape[1])
        mixed += mixed >= self.coarse
        first, randoms = self.coarse - self.random, self.parts * self.random
        own = mixed[first + self.part_of(draws)[:, None] * self.random + torch.arange(self.random)]
        before, after = (x.expand(draws, -1) for x in (mixed[:first], mixed[first + randoms :]))
        return torch.cat([before, own, torch.full((draws, 1), self.coarse), after], 1)

    def sorted(
        self, along: Float[Tensor, "*shape known"], part: int | None = None
    ) -> Float[Tensor, "*shape directions"]:
        """Coordinates along the :attr:`mixed` directions, as coordinates along the exact and then the random ones.

        Args:
            along: the coordinates, with the random directions of one part or of all.
            part: the number of that part; None: all.
        """
        if self.wide is None:
            return along
        own = slice(None) if part is None else slice(part * self.random, (part + 1) * self.random)
        inner = self._inner[:, own].to(along)
        counts = [self.coarse_exact, inner.shape[1], self.exact - self.coarse_exact]
        first, random, others = torch.split(along, counts, -1)
        return torch.cat([first, others, random - others @ inner], -1)

    @cached_property
    def _inner(self) -> Float[Tensor, "others parts_random"]:
        """Products of the exact directions after the first ones with the wide random ones."""
        others = self.directions[:, self.coarse_exact : self.exact].double()
        return others.T @ (others[:, :0] if self.wide is None else self.wide.double())


def pooled(estimates: Sequence[Float[Tensor, "... _"]], weights: Sequence[float]) -> Float[Tensor, "... all"]:
    r"""Estimates from independent sets of directions, each for its own draws, as estimates for all draws.

    The mean of the result is the weighted mean m of the sets' means.  Its spread is such that the usual squared error
    of a mean is that of m, :math:`\sum_g w_g^2 \mathrm{var}_g / n_g`: only directions of one set are compared with each
    other, so the spread of the draws does not enter.  Weights are the sets' shares of the draws.
    """
    total = sum(s.shape[-1] for s in estimates)
    means = [s.mean(-1, keepdim=True) for s in estimates]
    mean = torch.stack([w * m for w, m in zip(weights, means, strict=True)]).sum(0)
    parts = []
    for s, m, w in zip(estimates, means, weights, strict=True):
        n = s.shape[-1]
        parts.append(mean + w * (total * (total - 1) / max(n * (n - 1), 1)) ** 0.5 * (s - m))
    return torch.cat(parts, -1)


def _without(x: Float[Tensor, "size k"], basis: Float[Tensor, "size n"]) -> Float[Tensor, "size k"]:
    """The part of x that is orthogonal to an orthonormal basis."""
    return x - basis @ (basis.T @ x)


def make_sketch(
    items: Float[Tensor, "items size"], exact: int, random: int, generator: torch.Generator, each: int | None = None
) -> Sketch:
    """Principal directions of a sample of items, and Gaussian directions orthogonal to them.

    Args:
        items: a sample of the data.
        exact: how many leading principal directions.
        random: how many random directions on their complement.
        generator: of the random directions.
        each: how many random directions every part of the draws of a pass has; None: ``random``.

    Returns: the sketch; the whole space, exactly, where it has no more than ``exact + random`` dimensions.
    """
    size, each = items.shape[1], random if each is None else each
    if size <= exact + random:
        return Sketch(torch.eye(size, device=items.device), size)
    centred = items.float() - items.float().mean(0)
    gram = (centred @ centred.T).double()
    values, vectors = torch.linalg.eigh(gram)
    keep = min(exact, int((values > 1e-9 * values[-1]).sum()))
    leading = torch.flip(vectors[:, len(values) - keep :], (1,))  # the largest variance first
    basis, _ = torch.linalg.qr(centred.T.double() @ leading)
    omega = torch.randn(size, random, generator=generator, dtype=torch.float64).to(items.device) / random**0.5
    seed = int(torch.randint(2**62, (), generator=generator))
    first = keep // 4
    first = min(first + -(first + each + 1) % _VECTOR, keep)
    # From there the posterior mean keeps less than 1/400 of an item along the next direction, a small share of a gap.
    above = float((400.0 * values[-first - 1] / len(items)) ** 0.5) if first else float("inf")
    directions = torch.cat([basis, _without(omega, basis)], 1).float()
    return Sketch(directions, keep, coarse_exact=first, coarse_above=above, random_per_part=each, seed=seed)
