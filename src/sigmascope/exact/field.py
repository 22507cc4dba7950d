r"""A Gaussian model of pictures, and the information that a noisy picture carries about linear features of it.

For :math:`V \sim N(m, \Sigma)`, :math:`\Sigma = U \Lambda U^T`, a projection B = P V and
:math:`W = \sigma^2 (\Lambda + \sigma^2)^{-1}`, let the columns of Q be an orthonormal basis of the range of
:math:`\Lambda^{1/2} U^T P^T`.  B given Y has the covariance
:math:`P \sigma^2 \Sigma (\Sigma + \sigma^2)^{-1} P^T`, so

.. math:: I(B; Y_\sigma) = \tfrac12 \ln\det(\Sigma + \sigma^2) - \tfrac12 \ln\det(\Sigma_{V|B} + \sigma^2)
                         = -\tfrac12 \ln\det(Q^T W Q)

.. math:: -\frac{dI}{d\ln\sigma} = \operatorname{rank} Q - \operatorname{tr}[(Q^T W Q)^{-1} Q^T W^2 Q]

Directions in which B is constant have no column in Q and carry nothing.  Where the basis pictures of a feature have
variances S and are uncorrelated with all others, these are ½ Σ ln(1 + S/σ²) and Σ S/(S + σ²).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.core import InputError, LabelledData
from sigmascope.exact.features import Feature, picture_shape, radii, to_frequencies

FULL_ITEMS = 8
"""Items for each coordinate from which the full covariance is estimated; with fewer, the spectrum alone."""
FULL_SIZE = 4096
"""Coordinates up to which the full covariance is estimated."""
STRUCTURES = ("full", "spectrum")
_CONSTANT = 1e-12  # share of the largest variance below which a direction counts as constant
_BLOCK = 1 << 22  # coordinates read at once


@dataclass(frozen=True)
class AtLevel:
    """A feature at a noise level, by a Gaussian model.

    Attributes:
        information: I(B; Y_sigma), nats.
        rate: -dI/d ln sigma, nats.
        share: resolved share of the feature's power, 1 - E|B - E[B | Y]|² / E|B - E[B]|².
        whitened: :math:`W^{1/2} Q L^{-T}` with :math:`L L^T = Q^T W Q`, shape (blocks, c, r).
        kept: W, shape (blocks, c).
    """

    information: float
    rate: float
    share: float
    whitened: Float[Tensor, "blocks c r"]
    kept: Float[Tensor, "blocks c"]


@dataclass(frozen=True)
class Corrected:
    """The information of a feature by a fitted field, corrected for the bias of an estimated covariance.

    Attributes:
        value: the plug-in estimate less its bias, nats.
        plug_in: that of the fitted covariance as it is.
        bias: of the plug-in, to first order in 1/items.
        stderr: standard error from the chance of the items.
        further: error of the correction.
        per_item: the value's contributions of the items of the sample, whose standard deviation by the square root of
            their number is ``stderr``.
    """

    value: float
    plug_in: float
    bias: float
    stderr: float
    further: float
    per_item: Float[Tensor, " items"]


class FieldFeature:
    """A feature in the coordinates of a Gaussian field, ready for every noise level."""

    def __init__(self, values: Float[Tensor, "blocks c"], columns: Float[Tensor, "blocks c r"], least: float) -> None:
        self.values = values
        scaled = values.sqrt()[:, :, None] * columns
        self.power = scaled.square().sum(2)
        of, turned = torch.linalg.eigh(scaled.mT @ scaled)
        alive = of > least
        q = scaled @ turned * torch.where(alive, of.clamp_min(1e-300).rsqrt(), 0.0)[:, None]
        self.constant = torch.diag_embed((~alive).double())
        root = torch.linalg.cholesky(q.mT @ q + self.constant)  # once more: the columns become orthonormal to rounding
        self.q = torch.linalg.solve_triangular(root, q.mT, upper=False).mT
        self.rank = alive.sum(1).double()

    def at(self, sigma: float) -> AtLevel:
        """The information, its rate and the resolved share at a level.  Cost: blocks · c · r² operations."""
        kept = sigma**2 / (self.values + sigma**2)
        weighted = kept.sqrt()[:, :, None] * self.q
        root = torch.linalg.cholesky(weighted.mT @ weighted + self.constant)
        whitened = torch.linalg.solve_triangular(root, weighted.mT, upper=False).mT
        unexplained = (kept[:, :, None] * whitened.square()).sum((1, 2))
        power = float(self.power.sum())
        return AtLevel(
            information=-float(root.diagonal(dim1=1, dim2=2).log().sum()),
            rate=float((self.rank - unexplained).sum()),
            share=1.0 - float((kept * self.power).sum()) / power if power > 0 else 1.0,
            whitened=whitened,
            kept=kept,
        )


class GaussianField:
    r"""A Gaussian law of pictures, with a full covariance or with independent frequencies.

    Args:
        event: shape of a picture.
        mean: in the coordinates of :func:`~sigmascope.exact.features.to_frequencies`, shape (frequencies, channels).
        covariance: shape (1, size, size) over all coordinates, or (frequencies, channels, channels), one for each
            frequency, which is then independent of the others.
        items: number of items that it was fitted to, by their weights; infinity: it is known.
    """

    def __init__(
        self,
        event: Sequence[int],
        mean: Float[Tensor, "frequencies channels"],
        covariance: Float[Tensor, "blocks c c"],
        items: float = float("inf"),
    ) -> None:
        self.event, self.mean, self.items = tuple(event), mean, items
        values, self.axes = torch.linalg.eigh(covariance)
        self.values = values.clamp_min(0.0)
        self._least = _CONSTANT * float(self.values.max())

    @classmethod
    def of(cls, mean: Float[Tensor, " *event"], covariance: Float[Tensor, "size size"]) -> GaussianField:
        """The field of a known law of pixels.

        Args:
            mean: of the pictures, in their shape.
            covariance: of the pixels, in the order of ``mean.flatten()``.
        """
        event, size = tuple(mean.shape), mean.numel()
        basis = to_frequencies(torch.eye(size, dtype=torch.float64).reshape(size, *event)).flatten(1)
        return cls(event, to_frequencies(mean[None])[0], (basis.T @ covariance.double() @ basis)[None])

    @property
    def structure(self) -> str:
        """``full`` or ``spectrum``."""
        return STRUCTURES[0] if len(self.values) == 1 and len(self.mean) > 1 else STRUCTURES[1]

    @property
    def words(self) -> str:
        """What is modelled, in words."""
        size = self.mean.numel()
        if self.structure == "full":
            return f"a Gaussian model with the mean and the covariance of all {size:,} coordinates"
        return f"a Gaussian model with the mean and the power spectrum of {size:,} coordinates, frequencies independent"

    def feature(self, feature: Feature) -> FieldFeature:
        """A feature in the coordinates of the field.

        Raises: InputError where the pictures do not have it.
        """
        channels, height, width = picture_shape(self.event, feature.name)
        held = feature.frequencies(height, width)
        if self.structure == "full":
            axes = self.axes[0].reshape(-1, channels, self.values.shape[1])[held]
            rows = axes.sum(1) / channels**0.5 if feature.gray else axes.flatten(0, 1)
            return FieldFeature(self.values, rows.mT[None], self._least)
        axes = self.axes[held]
        columns = axes.sum(1)[:, :, None] / channels**0.5 if feature.gray else axes.mT
        return FieldFeature(self.values[held], columns, self._least)

    def total(self, sigma: float) -> float:
        r"""I(V; Y_sigma) = ½ Σ ln(1 + λ/σ²), nats."""
        return 0.5 * float(torch.log1p(self.values / sigma**2).sum())

    def chain(self, bands: Sequence[Feature], sigma: float) -> list[float]:
        """I(B_k; Y_sigma | B_1, ..., B_(k-1)) of bands in their order, nats; over all n bands they add to the total.

        Raises: InputError for features that are no bands, one after the other from the first.
        """
        below, terms = 0.0, []
        for k, feature in enumerate(bands, 1):
            if feature.band is None or feature.band[0] != k:
                raise InputError(f"{feature.name!r} is not band {k} of a chain: pass band:1/n, band:2/n, ... in order")
            together = self._up_to(k / feature.band[1], feature)
            terms.append(together.at(sigma).information - below)
            below += terms[-1]
        return terms

    def _up_to(self, share: float, last: Feature) -> FieldFeature:
        """The bands up to one of them, together."""
        _, height, width = picture_shape(self.event, last.name)
        cutoff = 2.0 * float(radii(height, width).max()) * share
        edge = cutoff if share >= 1.0 else cutoff - 4e-9  # a band is open at its upper end
        return self.feature(Feature(f"up to {last.name}", cutoff=edge))

    def whiten(self, pictures: Float[Tensor, "batch *event"], held: Tensor | None = None) -> Tensor:
        """Coordinates of pictures with unit variance along the axes of the field, shape (batch, blocks, c).

        Args:
            pictures: values of the field.
            held: for a spectrum, the frequencies wanted; None: all.
        """
        x = to_frequencies(pictures) - self.mean
        values, axes = self.values, self.axes
        if self.structure == "full":
            x = x.flatten(1)[:, None]
        elif held is not None:
            x, values, axes = x[:, held], values[held], axes[held]
        along = torch.einsum("nbi,bij->nbj", x, axes)
        return along * torch.where(values > self._least, values.clamp_min(1e-300).rsqrt(), 0.0)

    def corrected(self, feature: Feature, sigma: float, sample: Float[Tensor, "batch *event"]) -> Corrected:
        """The information of a feature, corrected for the bias of an estimated covariance; :func:`correct` for many."""
        _, height, width = picture_shape(self.event, feature.name)
        whitened = self.whiten(sample, feature.frequencies(height, width))
        return correct(self, self.feature(feature), sigma, whitened)


def correct(
    field: GaussianField, feature: FieldFeature, sigma: float, sample: Float[Tensor, "items blocks c"]
) -> Corrected:
    r"""The information of a feature by a fitted field, with its standard error, less the bias of the plug-in.

    The influence of an item x on I is :math:`\tfrac12(q_1 - q_2)` less its mean, with
    :math:`q_1 = x^T(\Sigma + \sigma^2)^{-1}x` and :math:`q_2` the same of the residual of x given B and
    :math:`\Sigma_{V|B}`.  With :math:`q_B = b^T \Sigma_B^{-1} b`, to first order in 1/n the plug-in is too large by

    .. math:: \frac{1}{4n}\left(2 E[q_2 q_B] + E[q_2^2] - \operatorname{tr} M_2^2
              - E[q_1^2] + \operatorname{tr} M_1^2\right),

    :math:`M_1 = \Sigma(\Sigma + \sigma^2)^{-1}`, :math:`M_2 = \Sigma_{V|B}(\Sigma_{V|B} + \sigma^2)^{-1}`.  The moments
    are those of the sample, so the correction holds for items that are not Gaussian, too.  It is negative at small
    noise, about r(r + 1)/4n for r coordinates, and positive at large noise, where chance correlations of the feature
    with all other coordinates count as information about it.

    Args:
        field: fitted to items.
        feature: of the field.
        sigma: noise level.
        sample: items by :meth:`GaussianField.whiten`, for the blocks of the feature.
    """
    at = feature.at(sigma)
    if field.items == float("inf"):
        zero = torch.full((len(sample),), at.information, dtype=torch.float64)
        return Corrected(at.information, at.information, 0.0, 0.0, 0.0, zero)
    kept, explained = at.kept, 1.0 - at.kept
    of_feature = torch.einsum("nbc,bcr->nbr", sample, feature.q).square().sum(2)
    noisy = torch.einsum("nbc,bcr->nbr", sample * kept.sqrt(), at.whitened).square().sum(2)
    first = (explained * sample.square()).sum(2)
    second = first - of_feature + noisy
    # tr M_2 and tr M_2² follow from the rate and its derivative.
    m = at.whitened.mT @ (kept[:, :, None] * at.whitened)
    m2 = (kept.square()[:, :, None] * at.whitened.square()).sum((1, 2))
    trace, square = m.diagonal(dim1=1, dim2=2).sum(1), m.square().sum((1, 2))
    rate, slope = feature.rank - trace, -2.0 * trace - 2.0 * square + 4.0 * m2
    t1, t1_square = explained.sum(1), explained.square().sum(1)
    t2 = t1 - rate
    t2_square = t2 - (t1 - t1_square) - 0.5 * slope
    n = field.items - 1.0
    moments = 2.0 * (second * of_feature).mean(0) + second.square().mean(0) - first.square().mean(0)
    bias = float((moments - t2_square + t1_square).sum()) / (4.0 * n)
    influence = 0.5 * (of_feature - noisy).sum(1)
    influence = (influence - influence.mean()) * (len(sample) / field.items) ** 0.5
    value = at.information - bias
    error = float(influence.std()) / len(sample) ** 0.5
    further = abs(bias) * min(1.0, 2.0 * sample.shape[2] / n)
    return Corrected(value, at.information, bias, error, further, value + influence)


class Moments:
    """Sums over items from which a field is fitted, block by block.

    Args:
        event: shape of a picture.
        structure: ``full`` or ``spectrum``.
    """

    def __init__(self, event: Sequence[int], structure: str) -> None:
        channels, height, width = picture_shape(event, "band")
        size = channels * height * width
        blocks = (1, size, size) if structure == "full" else (height * width, channels, channels)
        self.event, self.structure = tuple(event), structure
        self.weight = torch.zeros((), dtype=torch.float64)
        self.squared_weight = torch.zeros((), dtype=torch.float64)
        self.first = torch.zeros(height * width, channels, dtype=torch.float64)
        self.second = torch.zeros(blocks, dtype=torch.float64)

    def add(self, pictures: Float[Tensor, "batch *event"], weights: Float[Tensor, " batch"], about: Tensor) -> None:
        """Add a batch of items, about a fixed picture's coordinates (any near the mean, against rounding)."""
        x = to_frequencies(pictures) - about
        w = weights.to(x)
        self.weight += w.sum()
        self.squared_weight += w.square().sum()
        self.first += torch.einsum("n,nfc->fc", w, x)
        x = x * w.sqrt()[:, None, None]
        blocks = x.flatten(1)[None] if self.structure == "full" else x.transpose(0, 1)
        self.second += blocks.mT @ blocks

    def field(self, about: Tensor) -> GaussianField:
        """The fitted field; every rank must call it."""
        parts = self.weight, self.squared_weight, self.first, self.second
        weight, squares, first, second = (distributed.add_up(p.clone()) for p in parts)
        items = float(weight**2 / squares)
        mean = first / weight
        flat = mean.flatten()[None] if self.structure == "full" else mean
        centred = second / weight - flat[:, :, None] * flat[:, None]
        return GaussianField(self.event, mean + about, centred * (items / (items - 1.0)), items)


def structure_of(data: LabelledData) -> str:
    """``full`` where the items are enough for the covariance of all coordinates, else ``spectrum``."""
    effective = float(data.weights.sum() ** 2 / data.weights.square().sum())
    return "full" if data.size <= FULL_SIZE and effective >= FULL_ITEMS * data.size else "spectrum"


def block_rows(size: int) -> int:
    """Items that are read at once, for items of this many coordinates."""
    return max(_BLOCK // max(size, 1), 1)


def fit_field(data: LabelledData, structure: str = "") -> GaussianField:
    """A Gaussian model of the pictures of a data set, by one pass over the items.

    Args:
        data: pictures; items of weight 0 do not count.
        structure: ``full``, the covariance of all coordinates; ``spectrum``, covariances of the channels at each
            frequency, frequencies independent; empty: ``full`` from 8 items for each coordinate on and up to 4096
            coordinates, else ``spectrum``.

    Returns: the field with the unbiased covariance of the items by their weights.

    Raises: InputError for values that are no pictures, or fewer than 4 items.

    Cost: items · size² operations and 8 · size² bytes for ``full``, and an eigendecomposition; next to nothing for
    ``spectrum``.  An estimated covariance biases the information; :func:`correct` corrects it.
    """
    if len(data) < 4:
        raise InputError(f"{data.name}: {len(data)} items came: a Gaussian model needs at least 4")
    moments, rows = Moments(data.event, structure or structure_of(data)), block_rows(data.size)
    about = to_frequencies(data.source.read(0, 1))[0]
    for start in range(0, len(data), rows):
        stop = min(start + rows, len(data))
        moments.add(data.source.read(start, stop), data.weights[start:stop], about)
    return moments.field(about)
