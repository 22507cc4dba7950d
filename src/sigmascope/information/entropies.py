r"""Entropy of a discrete law, in nats, from the counts of a few draws.

The plug-in entropy of K draws is low by about (C − 1)/2K, with C the number of values met.  All four corrections fail
where draws are fewer than values: for ten equally likely values and four draws, that of Miller and Madow is still 0.8
nats low.

References: Miller (1955); Grassberger (2003); Chao & Shen (2003); Zhang (2012); Paninski (2003) on why none is
unbiased.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Counts = Int64[Tensor, "*batch values"]


def plug_in(counts: Counts) -> Float[Tensor, "*batch"]:
    r""":math:`-\sum_a \hat p_a \ln \hat p_a` of the frequencies."""
    n = counts.double()
    return torch.special.entr(n / n.sum(-1, keepdim=True)).sum(-1)


def miller_madow(counts: Counts) -> Float[Tensor, "*batch"]:
    """Plug-in plus (values met − 1)/2K, the first order of its bias (Miller 1955)."""
    return plug_in(counts) + ((counts > 0).sum(-1) - 1) / (2.0 * counts.sum(-1))


def grassberger(counts: Counts) -> Float[Tensor, "*batch"]:
    r"""Grassberger's estimator of 2003.

    .. math:: \ln K - \frac1K \sum_a n_a G(n_a), \qquad
              G(n) = \psi(n) + \tfrac12 (-1)^n \left(\psi(\tfrac{n+1}2) - \psi(\tfrac n2)\right)

    It assumes Poisson counts; for a fixed number of draws it is high by about 1/2K.  Where one value is certain it is
    nearly right for even K, and high by 1/K for odd.
    """
    n = counts.double()
    some = n.clamp_min(1.0)
    sign = 1.0 - 2.0 * (counts % 2).double()
    g = torch.digamma(some) + 0.5 * sign * (torch.digamma((some + 1) / 2) - torch.digamma(some / 2))
    total = n.sum(-1)
    return total.log() - (n * g).sum(-1) / total


def chao_shen(counts: Counts) -> Float[Tensor, "*batch"]:
    r"""Frequencies shrunk by the estimated coverage, each divided by its probability of having been met.

    .. math:: -\sum_a \frac{\tilde p_a \ln \tilde p_a}{1 - (1 - \tilde p_a)^K}, \qquad
              \tilde p_a = (1 - f_1/K)\, n_a/K

    with :math:`f_1` the number of values met once (one less where that is all of them, so that the coverage is not
    zero).
    """
    n = counts.double()
    total = n.sum(-1, keepdim=True)
    once = (counts == 1).sum(-1, keepdim=True).double()
    once = torch.where(once == total, total - 1.0, once)
    p = (1.0 - once / total) * n / total
    met = 1.0 - (1.0 - p) ** total
    return (torch.special.entr(p) / met.clamp_min(1e-300)).sum(-1)


def zhang(counts: Counts, terms: int | None = None) -> Float[Tensor, "*batch"]:
    r"""Zhang's estimator: the part of the entropy's series that K draws can estimate without bias.

    .. math:: H = \sum_{v=1}^\infty \tfrac1v \sum_a p_a (1 - p_a)^v, \qquad
              \hat H = \sum_a \tfrac{n_a}{K} \left(\psi(K) - \psi(n_a)\right)

    It is exactly 0 where one value is met, and low by the rest of the series, at most :math:`e^{-K p}/Kp` for values no
    rarer than p.

    Args:
        counts: how often each value was met.
        terms: the series is cut to v < terms, as for so many draws; None keeps all.
    """
    n = counts.double()
    total = n.sum(-1, keepdim=True)
    if terms is None:
        return (n / total * (torch.digamma(total) - torch.digamma(n.clamp_min(1.0)))).sum(-1)
    power, series = n / total, torch.zeros_like(n)
    for v in range(1, min(terms, int(total.max()))):
        power = power * (1.0 - (n - 1.0) / (total - v)).clamp_min(0.0)
        series += power / v
    return series.sum(-1)


CORRECTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": plug_in,
    "miller-madow": miller_madow,
    "grassberger": grassberger,
    "chao-shen": chao_shen,
    "zhang": zhang,
}
"""The estimators by name."""
