r"""Where a gap will be large, guessed before a network is called: a cheap filter of a sample of the data, projected.

Network calls are dear, draws are free.  So more draws are made than are measured, a cheap filter says what to expect of
each, and those of which more is expected are more likely to be measured, with the inverse of that likelihood as their
weight.  A bad guess costs calls; it cannot bias.

References: Hansen & Hurwitz (1943).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import InputError
from sigmascope.information.above import spread

Draw = Callable[[int, torch.Generator], tuple[Tensor, Mapping[str, Tensor]]]
"""Gives n independent draws: v, float, shape (n, *event), and for each abstraction its labels, int64, shape (n,), or
the values of a continuous one, float, shape (n, dim)."""

ITEMS = 4096
AXES = 64
_LARGER = 4  # times as many items, where their Gaussians are what is kept
_PRODUCTS = 1 << 22  # numbers held at a time
_CALIBRATION = 0.1  # share of the inner product 2<D_A - D, v - D_A> in what is expected of a draw
_POOLED = 4.0  # items that the covariance of all values counts for in that of each


class Surrogate:
    r"""Filters of a sample of the data on its leading principal axes.

    Where the sample meets most items of the data again and again, these are the data, and their filter is

    .. math:: \tilde D(y) = \frac{\sum_k e^{\ell_k} z_k}{\sum_k e^{\ell_k}}, \qquad
              \ell_k = \frac{\langle y, z_k\rangle - \tfrac12\|z_k\|^2}{\sigma^2} + \ln w_k.

    Where it does not, the rivals of a value are hardly ever in the sample, and the law of the values of an attribute is
    a Gaussian for each, with the moments of the sample, which knows the values between:

    .. math:: \tilde D(y) = \sum_a q(a \mid y)\,\tilde D_a(y), \qquad
              q(a \mid y) \propto p_a\,N(y; \mu_a, \Sigma_a + \sigma^2), \qquad
              \tilde D_a(y) = \mu_a + \Sigma_a (\Sigma_a + \sigma^2)^{-1} (y - \mu_a).

    Of a continuous attribute it is the filter of a Gaussian with the sample's moments.

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
        spread: :math:`E\|E[V|A] - E V\|^2` of the sample, by name.

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
        labels = {n: labels[n] for n in names}
        self.spread = {n: spread(flat, x) for n, x in labels.items()}
        whole = {n: x for n, x in labels.items() if not x.is_floating_point()}
        # Copies of an item are one item of more weight: a law of two points costs two.
        rows, count = torch.unique(
            torch.cat([z, *(x.double()[:, None] for x in whole.values())], 1), dim=0, return_counts=True
        )
        self.items = len(rows)
        self._laws: dict[str, _Filter | _Mixture | _Regression] = {}
        if not informed:
            return
        few = len(rows) <= items / 2
        for _ in range(0 if few or not whole else _LARGER - 1):
            v, more = draw(items, generator)
            z = torch.cat([z, (v.flatten(1).double() - self._centre) @ self._axes])
            labels = {n: torch.cat([x, more[n]]) for n, x in labels.items()}
        # A guess needs no more than float32.
        kept = rows[:, :keep].float().contiguous()
        for name, x in labels.items():
            if x.is_floating_point():
                self._laws[name] = _Regression(z, x.double())
            elif few:
                self._laws[name] = _Filter(kept, count.log(), rows[:, keep + list(whole).index(name)].long())
            else:
                self._laws[name] = _Mixture(z, x)

    def expected(
        self, v: Tensor, labels: Mapping[str, Tensor], noise: Tensor, sigma: Float[Tensor, " draws"], k: int
    ) -> Float[np.ndarray, " draws"]:
        """What the gap of the k-th abstraction over sigma squared may be at each draw: a guess, not negative."""
        if not self._informed:
            return np.ones(len(v))
        axes, name = self._axes.to(v.dtype), self.names[k]
        own = ((v.flatten(1) - self._centre.to(v)) @ axes).double()
        y = own + sigma[:, None] * (noise.flatten(1).to(v) @ axes).double()
        return self._laws[name].sizes(y, own, labels[name], sigma).double().nan_to_num(0.0, 0.0, 0.0).numpy()


class _InBlocks(ABC):
    """A law of a discrete attribute that works on so many rows at a time, in float32."""

    block: int

    def sizes(self, y: Tensor, own: Tensor, label: Tensor, sigma: Tensor) -> Tensor:
        parts = (x.split(self.block) for x in (y.float(), own.float(), label, sigma.float()))
        return torch.cat([self._part(*part) for part in zip(*parts, strict=True)])

    @abstractmethod
    def _part(self, y: Tensor, own: Tensor, label: Tensor, level: Tensor) -> Tensor: ...


class _Filter(_InBlocks):
    """The exact filter of items; a draw's own value is one of them, for at small noise nothing else explains it."""

    def __init__(self, z: Tensor, log_weight: Tensor, labels: Tensor) -> None:
        self._z, self._log_weight, self._labels = z, log_weight, labels
        self.block = max(1, _PRODUCTS // len(z))

    def _part(self, y: Tensor, own: Tensor, label: Tensor, level: Tensor) -> Tensor:
        logit = torch.addmm(-0.5 * (self._z**2).sum(1), y, self._z.T).div_(level[:, None] ** 2).add_(self._log_weight)
        mine = ((own * y).sum(1) - 0.5 * (own**2).sum(1)) / level**2
        told = torch.empty_like(own)
        for a in label.unique():
            rows, items = torch.nonzero(label == a)[:, 0], torch.nonzero(self._labels == a)[:, 0]
            told[rows] = _mean(logit[rows[:, None], items], mine[rows], self._z[items], own[rows])
        return _size(_mean(logit, mine, self._z, own), told, own, level)


def _mean(logit: Tensor, mine: Tensor, items: Tensor, own: Tensor) -> Tensor:
    """Posterior mean over the items and the draw's own value; the logits are overwritten."""
    top = torch.maximum(logit.max(1).values, mine) if logit.shape[1] else mine
    weight, self_weight = logit.sub_(top[:, None]).exp_(), (mine - top).exp()
    total = weight.sum(1) + self_weight
    return torch.addcmul(weight @ items, self_weight[:, None], own) / total[:, None]


def _size(free: Tensor, told: Tensor, own: Tensor, sigma: Tensor) -> Tensor:
    gap = told - free
    return ((gap**2).sum(1) + _CALIBRATION * 2.0 * (gap * (own - told)).sum(1).abs()) / sigma**2


class _Mixture(_InBlocks):
    """One Gaussian for each value of a discrete attribute, with the moments of a sample."""

    def __init__(self, z: Tensor, label: Tensor) -> None:
        values, size = int(label.max()) + 1, z.shape[1]
        one = torch.nn.functional.one_hot(label, values).double()
        count = one.sum(0)
        mean = (one.T @ z) / count.clamp_min(1.0)[:, None]
        rest = z - mean[label]
        pooled = rest.T @ rest / len(z)
        spread = torch.empty(values, size, size, dtype=torch.float64)
        for a in range(values):
            of = rest[label == a]
            spread[a] = (of.T @ of + _POOLED * pooled) / (len(of) + _POOLED)
        power, axes = torch.linalg.eigh(spread)
        # A guess needs no more than float32.
        self._power, self._axes = power.clamp_min(1e-9 * power.max()).float(), axes.float()
        self._mean, self._log_weight, self._seen = mean.float(), count.log().float(), count > 0
        self.block = max(1, _PRODUCTS // mean.numel())

    def _part(self, y: Tensor, own: Tensor, label: Tensor, level: Tensor) -> Tensor:
        along = torch.bmm(y - self._mean[:, None], self._axes)  # (values, rows, axes)
        power = self._power[:, None]
        total = power + level[:, None] ** 2
        logit = self._log_weight[:, None] - 0.5 * (along**2 / total + total.log()).sum(2)
        means = torch.baddbmm(self._mean[:, None], along * (power / total), self._axes.mT)
        free = torch.einsum("ar,arz->rz", torch.softmax(logit, 0), means)
        # Of a value that the sample lacks, that it is the draw's own is all that is known.
        seen = label < len(self._seen)
        seen = seen & self._seen[label.where(seen, 0)]
        told = means[label.where(seen, 0), torch.arange(len(y))]
        return _size(free, torch.where(seen[:, None], told, own), own, level)


class _Regression:
    """Posterior means of a Gaussian with the moments of a sample, with and without a continuous attribute."""

    def __init__(self, z: Tensor, attribute: Tensor) -> None:
        self._middle = attribute.mean(0)
        told = attribute - self._middle
        self._slope = torch.linalg.lstsq(told, z).solution
        rest = z - told @ self._slope
        self._free = torch.linalg.eigh(z.T @ z / len(z))
        self._told = torch.linalg.eigh(rest.T @ rest / len(z))

    def sizes(self, y: Tensor, own: Tensor, attribute: Tensor, sigma: Tensor) -> Tensor:
        mean = (attribute.double() - self._middle) @ self._slope
        told = mean + _shrunk(self._told, y - mean, sigma)
        return _size(_shrunk(self._free, y, sigma), told, own, sigma)


def _shrunk(parts: tuple[Tensor, Tensor], y: Tensor, sigma: Tensor) -> Tensor:
    values, vectors = parts[0].clamp_min(0.0), parts[1]
    return ((y @ vectors) * (values / (values + sigma[:, None] ** 2))) @ vectors.T
