r"""The score gap that a draw can be expected to have, before a network is called: that of Gaussians fitted to the data.

Draws cost little beside network calls, so of many candidates those are measured that are likely to have a large gap
(:mod:`sigmascope.information.allocation`).  The law of the data is replaced by one Gaussian for each value a of the
attribute, with the moments of a sample along its leading principal axes.  Its posterior means are

.. math:: \tilde D(y) = \sum_a q(a \mid y)\,\tilde D_a(y), \qquad
          q(a \mid y) \propto p_a\,N(y; \mu_a, \Sigma_a + \sigma^2 I), \qquad
          \tilde D_a(y) = \mu_a + \Sigma_a (\Sigma_a + \sigma^2 I)^{-1} (y - \mu_a) .

A continuous attribute and the value share one Gaussian.  Then e of a draw is its score gap over σ² in that law.  A
poor fit costs network calls only: the weights of importance sampling keep the estimate unbiased.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import InputError
from sigmascope.information.above import spread

Draw = Callable[[int, torch.Generator], tuple[Tensor, Mapping[str, Tensor]]]
"""Gives n independent draws v, shape (n, *event), and labels by attribute: indices, (n,), or real values, (n, dim)."""

ITEMS = 4096  # draws that the principal axes are fitted to: enough for 64 axes, and in memory at 64 x 64 pixels
AXES = 64  # each costs a product for every candidate; directions beyond them change e by little
_PARTS = 4  # times as many draws for the moments: an attribute of 200 values then has some 80 draws of each
_PRODUCTS = 1 << 22  # numbers held at a time, 16 MB
_POOLED = 4.0  # draws that the covariance within all values counts for in that of each: no value's is singular
_CROSS = 0.1  # share in e of 2<D_A - D, v - D_A>, by which the gap of squared errors exceeds the score gap


class Surrogate:
    r"""The Gaussians fitted to a law, and the gaps that they expect of its draws.

    ``frobenius`` is :math:`\|\Sigma_V\|_F` of the sample, and ``spread`` has :math:`E\|E[V|A] - E V\|^2` by name.
    Without ``informed`` the same is expected of every draw.  A draw costs two products of a vector with an axes × axes
    matrix for each value of the attribute.
    """

    def __init__(
        self, draw: Draw, names: Sequence[str], generator: torch.Generator, items: int = ITEMS, informed: bool = True
    ) -> None:
        v, labels = draw(items, generator)
        if missing := [n for n in names if n not in labels]:
            raise InputError(f"draws came with {', '.join(labels) or 'no labels'}: expected {missing[0]!r} among them")
        self.names, self._informed = tuple(names), informed
        flat = v.flatten(1).double()
        self._centre = flat.mean(0)
        flat = flat - self._centre
        self._axes, self.frobenius = _principal(flat)
        self.spread = {n: spread(flat, labels[n]) for n in names}
        z, known = [flat @ self._axes], {n: [labels[n]] for n in names}
        for _ in range(_PARTS - 1 if informed else 0):
            v, labels = draw(items, generator)
            z.append((v.flatten(1).double() - self._centre) @ self._axes)
            for n in names:
                known[n].append(labels[n])
        pooled = {n: torch.cat(x) for n, x in known.items()} if informed else {}
        self._laws = {n: (_Linear if x.is_floating_point() else _Classes)(torch.cat(z), x) for n, x in pooled.items()}

    def expected(
        self, v: Tensor, labels: Mapping[str, Tensor], noise: Tensor, sigma: Float[Tensor, " draws"], k: int
    ) -> Float[np.ndarray, " draws"]:
        """The gap over sigma squared that the k-th attribute may have at each draw; never negative."""
        if not self._informed:
            return np.ones(len(v))
        axes, name = self._axes.to(v.dtype), self.names[k]
        own = ((v.flatten(1) - self._centre.to(v)) @ axes).double()
        y = own + sigma[:, None] * (noise.flatten(1).to(v) @ axes).double()
        unconditional, conditional = self._laws[name].means(y, own, labels[name], sigma)
        gap = conditional - unconditional
        cross = 2.0 * (gap * (own - conditional)).sum(1).abs()
        size = ((gap**2).sum(1) + _CROSS * cross) / sigma**2
        return size.nan_to_num(0.0, 0.0, 0.0).numpy()


def _principal(flat: Float[Tensor, "items size"]) -> tuple[Float[Tensor, "size axes"], float]:
    """Leading principal axes of centred draws, and the Frobenius norm of their covariance."""
    # The smaller of the two products of the draws has the same eigenvalues as their covariance.
    wide = flat.shape[1] > 4 * AXES and flat.shape[1] > 1024
    sketch = flat[torch.linspace(0, len(flat) - 1, min(len(flat), 1024)).long()] if wide else flat
    values, vectors = torch.linalg.eigh(sketch @ sketch.T if wide else sketch.T @ sketch)
    keep = min(AXES, int((values > 1e-9 * values[-1]).sum()))
    leading = vectors[:, len(values) - keep :]
    return torch.linalg.qr(sketch.T @ leading)[0] if wide else leading, float(values.norm()) / len(sketch)


class _Classes:
    """One Gaussian for each value of a discrete attribute, in float32: an expectation needs no more."""

    def __init__(self, z: Tensor, label: Tensor) -> None:
        values, size = int(label.max()) + 1, z.shape[1]
        count = torch.bincount(label, minlength=values)
        mean = torch.zeros(values, size, dtype=z.dtype).index_add_(0, label, z) / count.clamp_min(1)[:, None]
        centred = z - mean[label]
        pooled = centred.T @ centred / len(z)
        within = torch.stack([centred[label == a].T @ centred[label == a] for a in range(values)])
        covariance = (within + _POOLED * pooled) / (count + _POOLED)[:, None, None]
        power, axes = torch.linalg.eigh(covariance)
        self._power, self._axes = power.clamp_min(1e-9 * power.max()).float()[:, None], axes.float()
        self._mean, self._log_weight, self._seen = mean.float()[:, None], count.log().float()[:, None], count > 0
        self._block = max(1, _PRODUCTS // mean.numel())

    def means(self, y: Tensor, own: Tensor, label: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means, unconditional and given the label, float64."""
        means = []
        for rows in torch.split(torch.arange(len(y)), self._block):
            level, a = sigma[rows, None].float(), label[rows]
            along = torch.bmm(y[rows].float() - self._mean, self._axes)  # (values, rows, axes)
            total = self._power + level**2
            logit = self._log_weight - 0.5 * (along**2 / total + total.log()).sum(2)
            each = torch.baddbmm(self._mean, along * (self._power / total), self._axes.mT)
            # A value that the sample lacks has no Gaussian: the mean given it is taken to be the draw itself.
            seen = a < len(self._seen)
            seen = seen & self._seen[a.where(seen, 0)]
            given = torch.where(seen[:, None], each[a.where(seen, 0), torch.arange(len(rows))], own[rows].float())
            means.append(torch.stack([torch.einsum("ar,arz->rz", torch.softmax(logit, 0), each), given]))
        unconditional, conditional = torch.cat(means, 1).double()
        return unconditional, conditional


class _Linear:
    """One Gaussian of the value and a continuous attribute: given the attribute, the value follows a regression."""

    def __init__(self, z: Tensor, attribute: Tensor) -> None:
        self._middle = attribute.double().mean(0)
        centred = attribute.double() - self._middle
        self._slope = torch.linalg.lstsq(centred, z).solution
        residual = z - centred @ self._slope
        self._whole, self._within = (torch.linalg.eigh(x.T @ x / len(x)) for x in (z, residual))

    def means(self, y: Tensor, _: Tensor, attribute: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means, unconditional and given the attribute, float64."""
        mean = (attribute.double() - self._middle) @ self._slope
        return _shrunk(self._whole, y, sigma), mean + _shrunk(self._within, y - mean, sigma)


def _shrunk(parts: tuple[Tensor, Tensor], y: Tensor, sigma: Tensor) -> Tensor:
    """Posterior mean of a centred Gaussian, from the eigenvalues and eigenvectors of its covariance."""
    values, vectors = parts[0].clamp_min(0.0), parts[1]
    return ((y @ vectors) * (values / (values + sigma[:, None] ** 2))) @ vectors.T
