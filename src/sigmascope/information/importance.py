r"""Where a gap will be large, guessed before a network is called: the exact filter of a sample of the data, projected.

Network calls are dear, draws are free.  So more draws are made than are measured, a cheap filter says what to expect of
each, and those of which more is expected are more likely to be measured, with the inverse of that likelihood as their
weight.  A bad guess costs calls; it cannot bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import InputError

Draw = Callable[[int, torch.Generator], tuple[Tensor, Mapping[str, Tensor]]]
"""Gives n independent draws: v, float, shape (n, *event), and for each abstraction its labels, int64, shape (n,), or
the values of a continuous one, float, shape (n, dim)."""

ITEMS = 4096
AXES = 64
_PRODUCTS = 1 << 22  # with the items, held at a time
_CALIBRATION = 0.1  # share of the inner product 2<D_A - D, v - D_A> in what is expected of a draw


class Surrogate:
    r"""The filter of a sample of the data on its leading principal axes.

    .. math:: \tilde D(y) = \frac{\sum_k e^{\ell_k} z_k}{\sum_k e^{\ell_k}}, \qquad
              \ell_k = \frac{\langle y, z_k\rangle - \tfrac12\|z_k\|^2}{\sigma^2},

    over the sample and the draw's own value: at small noise nothing but itself explains it.  Of a continuous attribute
    it is the filter of a Gaussian with the sample's moments.

    Args:
        draw: the law.
        names: of the abstractions.
        generator: of the sample.
        items: size of the sample.
        axes: number of principal axes at most.
        informed: if not, the same is expected of every draw.

    Attributes:
        items: how many different ones the sample has.
        frobenius: :math:`\|\Sigma_V\|_F` of the sample.

    Raises: InputError where a draw lacks one of the abstractions.
    """

    def __init__(
        self,
        draw: Draw,
        names: Sequence[str],
        generator: torch.Generator,
        items: int = ITEMS,
        axes: int = AXES,
        informed: bool = True,
    ) -> None:
        v, labels = draw(items, generator)
        for name in names:
            if name not in labels:
                raise InputError(f"draws came with {', '.join(labels) or 'no labels'}: expected {name!r} among them")
        self.names, self._informed = tuple(names), informed
        flat = v.flatten(1).double()
        self._centre = flat.mean(0)
        flat = flat - self._centre
        # The smaller of the two products has the same eigenvalues.
        wide = flat.shape[1] > 4 * axes and flat.shape[1] > 1024
        sketch = flat[torch.linspace(0, items - 1, min(items, 1024)).long()] if wide else flat
        values, vectors = torch.linalg.eigh(sketch @ sketch.T if wide else sketch.T @ sketch)
        keep = min(axes, int((values > 1e-9 * values[-1]).sum()))
        self.frobenius = float(torch.linalg.vector_norm(values)) / len(sketch)
        leading = vectors[:, len(values) - keep :]
        self._axes = torch.linalg.qr(sketch.T @ leading)[0] if wide else leading
        z = flat @ self._axes
        whole = {n: x for n, x in labels.items() if n in names and not x.is_floating_point()}
        self._gaussian = {n: _Regression(z, x.double()) for n, x in labels.items() if n in names and n not in whole}
        # Copies of an item are one item of more weight: a law of two points costs two.
        rows = torch.cat([z, *(x.double()[:, None] for x in whole.values())], 1)
        rows, count = torch.unique(rows, dim=0, return_counts=True)
        # A guess needs no more than float32.
        self._z, self._log_weight = rows[:, :keep].float().contiguous(), count.log()
        self.items = len(rows)
        self._labels = {n: rows[:, keep + i].long() for i, n in enumerate(whole)}

    def expected(
        self, v: Tensor, labels: Mapping[str, Tensor], noise: Tensor, sigma: Float[Tensor, " draws"]
    ) -> Float[np.ndarray, "abstractions draws"]:
        """What the gap over sigma squared may be at each draw: a guess of its size, not negative."""
        if not self._informed:
            return np.ones((len(self.names), len(v)))
        own = (v.flatten(1).double() - self._centre) @ self._axes
        y = own + sigma[:, None] * (noise.flatten(1).double() @ self._axes)
        out = torch.zeros(len(self.names), len(y), dtype=torch.float64)
        block = max(1, _PRODUCTS // len(self._z))
        for start in range(0, len(y) if self._labels else 0, block):
            part = slice(start, start + block)
            of = {n: labels[n][part] for n in self._labels}
            self._filtered(y[part].float(), own[part].float(), of, sigma[part].float(), out[:, part])
        for name, regression in self._gaussian.items():
            free, told = regression.means(y, labels[name].double(), sigma)
            out[self.names.index(name)] = _size(free, told, own, sigma)
        return out.nan_to_num(0.0, 0.0, 0.0).numpy()

    def _filtered(
        self,
        y: Tensor,
        own: Tensor,
        labels: Mapping[str, Tensor],
        level: Tensor,
        out: Float[Tensor, "abstractions rows"],
    ) -> None:
        logit = torch.addmm(-0.5 * (self._z**2).sum(1), y, self._z.T).div_(level[:, None] ** 2).add_(self._log_weight)
        mine = ((own * y).sum(1) - 0.5 * (own**2).sum(1)) / level**2
        told = {name: torch.empty_like(own) for name in labels}
        for name, label in labels.items():
            for a in label.unique():
                rows, items = torch.nonzero(label == a)[:, 0], torch.nonzero(self._labels[name] == a)[:, 0]
                told[name][rows] = _mean(logit[rows[:, None], items], mine[rows], self._z[items], own[rows])
        free = _mean(logit, mine, self._z, own)
        for name, mean in told.items():
            out[self.names.index(name)] = _size(free, mean, own, level)


def _mean(logit: Tensor, mine: Tensor, items: Tensor, own: Tensor) -> Tensor:
    """Posterior mean over the items and the draw's own value; the logits are overwritten."""
    top = torch.maximum(logit.max(1).values, mine) if logit.shape[1] else mine
    weight, self_weight = logit.sub_(top[:, None]).exp_(), (mine - top).exp()
    total = weight.sum(1) + self_weight
    return torch.addcmul(weight @ items, self_weight[:, None], own) / total[:, None]


def _size(free: Tensor, told: Tensor, own: Tensor, sigma: Tensor) -> Tensor:
    gap = told - free
    return ((gap**2).sum(1) + _CALIBRATION * 2.0 * (gap * (own - told)).sum(1).abs()) / sigma**2


class _Regression:
    """Posterior means of a Gaussian with the moments of a sample, with and without a continuous attribute."""

    def __init__(self, z: Tensor, attribute: Tensor) -> None:
        self._middle = attribute.mean(0)
        told = attribute - self._middle
        self._slope = torch.linalg.lstsq(told, z).solution
        rest = z - told @ self._slope
        self._free = torch.linalg.eigh(z.T @ z / len(z))
        self._told = torch.linalg.eigh(rest.T @ rest / len(z))

    def means(self, y: Tensor, attribute: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """E[z | y] and E[z | y, a]."""
        mean = (attribute - self._middle) @ self._slope
        return _shrunk(self._free, y, sigma), mean + _shrunk(self._told, y - mean, sigma)


def _shrunk(parts: tuple[Tensor, Tensor], y: Tensor, sigma: Tensor) -> Tensor:
    values, vectors = parts[0].clamp_min(0.0), parts[1]
    return ((y @ vectors) * (values / (values + sigma[:, None] ** 2))) @ vectors.T
