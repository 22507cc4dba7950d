r"""Where in an image an attribute shows: the score gap pixel by pixel, not summed.

.. math:: r_i(\sigma) = E_n \frac{\left(D_a(y, \sigma) - D(y, \sigma)\right)_i^2}{\sigma^2}, \qquad y = v + \sigma n
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Denoiser, InputError, generator
from sigmascope.information.likelihood import attribute_of
from sigmascope.information.pointwise import check_image
from sigmascope.information.problem import checked_levels
from sigmascope.information.together import together
from sigmascope.noise import integral_from_the_top
from sigmascope.sample.schemes import home_of


@dataclass(frozen=True, eq=False)
class InformationMap:
    r"""The score gap of one image by pixel, in nats, float64; its sum over pixels is the score gap of the image.

    .. math:: m_i(\sigma) = \int_{\ln\sigma}^{\infty} r_i \, d\ln\sigma', \qquad
              E_{(V, A)} \sum_i m_i(\sigma) = I(A; Y_\sigma)

    The mean is over images, each with its own label, and holds for exact denoisers.  A map is a density over pixels:
    how much of the difference between the conditional and the unconditional denoiser falls on each.  It is not the
    information that the pixel alone has about A (pixels may carry the same information), nor is its sum the pointwise
    information :math:`\ln p(a|y)/p(a)` of the image; only the means over images agree.  It is never negative, but for
    the rounding of a spline.

    Args:
        attribute: name of A.
        sigma: decreasing levels, shape (levels,).
        rate: :math:`r_i`, nats per pixel and unit of ln sigma, shape (levels, *pixels): channels are summed.
        rate_stderr: its standard error over noises.
        information: :math:`m_i`, nats per pixel, shape (levels, *pixels).
        stderr: its standard error over noises (a noise is shared by all levels).
        total_per_noise: the sum of m over pixels for each noise, shape (levels, noises).
    """

    attribute: str
    sigma: Float[np.ndarray, " levels"]
    rate: Float[np.ndarray, "levels *pixels"]
    rate_stderr: Float[np.ndarray, "levels *pixels"] = field(repr=False)
    information: Float[np.ndarray, "levels *pixels"]
    stderr: Float[np.ndarray, "levels *pixels"] = field(repr=False)
    total_per_noise: Float[np.ndarray, "levels noises"] = field(repr=False)

    @property
    def total(self) -> Float[np.ndarray, " levels"]:
        """The sum over pixels: the contribution of this image and label to the score gap's I(A; Y_sigma)."""
        return np.asarray(self.total_per_noise.mean(1))

    @property
    def total_stderr(self) -> Float[np.ndarray, " levels"]:
        """Its standard error over noises."""
        return np.asarray(self.total_per_noise.std(1, ddof=1) / self.total_per_noise.shape[1] ** 0.5)


def information_maps(
    denoiser: Denoiser,
    v: Tensor,
    labels: Mapping[str, int | Tensor],
    sigma: Float[np.ndarray, " levels"],
    *,
    noises: int = 32,
    seed: int = 0,
    batch: int = 256,
) -> dict[str, InformationMap]:
    r"""Where in an image, and at which noise level, its attributes show.

    The drawn-label score gap :math:`\|D_a - D\|^2/\sigma^2` of this image and these labels, not summed over pixels,
    and its integral over ln sigma from the top down: of the cubic spline through the levels, with the part above the
    first of them as the series in :math:`\sigma^{-2}` that its first two levels give, pixel by pixel.

    Args:
        denoiser: exact or learned.
        v: the image, an item or not, shape (*event); of an event of three axes the first is taken for channels.
        labels: for each attribute to map, the index of the image's value (for a continuous one its value, float,
            shape (dim,)).  With another value than the image's own the map shows the effect of that condition.
        sigma: decreasing levels, near enough for an integral (steps of ln sigma of 0.3 or less), from one at which
            little is known down.
        noises: standard normal noises, shared by all levels and attributes; more of them leave the earlier ones as
            they are.
        seed: of the noises.
        batch: rows of one call of the denoiser.

    Returns: by attribute, its :class:`InformationMap`.

    Raises: InputError for an unknown attribute or value, an image of another shape or that is not finite, fewer than
        two levels or noises, or levels that do not fall or are not positive.

    Valid when: the denoisers are exact; the map of a learned one can be biased in either direction.

    Cost: levels · noises · (attributes + 1) rows of the denoiser; memory of five maps of all levels for each attribute,
        and of a batch.

    References: Guo, Shamai, Verdú (2005); Franzese et al. (2025); Kong et al. (2024) for maps of a learned model.
    """
    levels = _checked(denoiser, v, labels, sigma, noises, batch)
    sums = {name: _Sums(levels, tuple(v.shape[1:] if v.ndim == 3 else v.shape)) for name in labels}
    for numbers in torch.split(torch.arange(noises), max(1, batch // len(levels))):
        noise = torch.stack([torch.randn(*v.shape, generator=generator(seed, j)) for j in numbers.tolist()])
        for name, gap in _gaps(denoiser, v, labels, levels, noise, batch).items():
            sums[name].add(gap)
    return {name: s.map(name) for name, s in sums.items()}


class _Sums:
    """Sums over noises, and of squares, of rates and of their integrals."""

    def __init__(self, sigma: Float[np.ndarray, " levels"], pixels: tuple[int, ...]) -> None:
        self._sigma, self._pixels, self._weights = sigma, pixels, from_infinity(sigma)
        self._sums = np.zeros((4, len(sigma), int(np.prod(pixels))))
        self._totals: list[np.ndarray] = []

    def add(self, gap: Float[np.ndarray, "noises levels pixels"]) -> None:
        rate = gap / self._sigma[:, None] ** 2
        above = np.matmul(self._weights, rate)
        self._sums += np.stack([rate.sum(0), (rate**2).sum(0), above.sum(0), (above**2).sum(0)])
        self._totals.extend(above.sum(2))

    def map(self, name: str) -> InformationMap:
        n, maps = len(self._totals), []
        for total, squares in (self._sums[:2], self._sums[2:]):
            variance = np.maximum(squares - total**2 / n, 0.0) / (n - 1)
            maps += [x.reshape(-1, *self._pixels) for x in (total / n, np.sqrt(variance / n))]
        rate, rate_stderr, information, stderr = maps
        return InformationMap(name, self._sigma, rate, rate_stderr, information, stderr, np.stack(self._totals, 1))


def _gaps(
    denoiser: Denoiser,
    v: Tensor,
    labels: Mapping[str, int | Tensor],
    levels: Float[np.ndarray, " levels"],
    noise: Float[Tensor, "noises *event"],
    batch: int,
) -> dict[str, Float[np.ndarray, "noises levels pixels"]]:
    """(D_a - D)^2, channels summed; rows of all levels share calls, D is shared by the attributes."""
    device, dtype = home_of(denoiser, v.device)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in labels}
    for rows in torch.split(torch.arange(len(noise) * len(levels)), batch):
        level = torch.from_numpy(levels)[rows % len(levels)]
        y = v.cpu().double() + level.view(-1, *[1] * v.ndim) * noise[rows // len(levels)].double()
        y, level = y.to(device, dtype), level.to(device, dtype)
        with torch.no_grad():
            known = {name: torch.as_tensor(value).to(device) for name, value in labels.items()}
            each = [{name: x.expand(len(rows), *x.shape).contiguous()} for name, x in known.items()]
            unconditional, *conditional = (mean.double() for mean in together(denoiser, y, level, [None, *each]))
            for name, mean in zip(labels, conditional, strict=True):
                gap = (mean - unconditional) ** 2
                parts[name].append((gap.sum(1) if v.ndim == 3 else gap).flatten(1).cpu().numpy())
    return {name: np.concatenate(x).reshape(len(noise), len(levels), -1) for name, x in parts.items()}


def from_infinity(sigma: Float[np.ndarray, " levels"]) -> Float[np.ndarray, "levels levels"]:
    r"""Weights of the integral of a rate in ln sigma from each level up to infinity.

    Above the first level the gap is :math:`s_0 + F (\lambda_0 - \lambda)` with F from the first two, so the integral is
    :math:`\tfrac12 \lambda_0 s_0 + \tfrac14 \lambda_0^2 F`.
    """
    snr = sigma[:2] ** -2.0
    slope = np.array([1.0, -1.0]) / (snr[1] - snr[0])
    of_gap = 0.25 * snr[0] ** 2 * slope + np.array([0.5 * snr[0], 0.0])
    weights = integral_from_the_top(sigma)
    weights[:, :2] += of_gap / snr
    return weights


def _checked(
    denoiser: Denoiser,
    v: Tensor,
    labels: Mapping[str, int | Tensor],
    sigma: Float[np.ndarray, " levels"],
    noises: int,
    batch: int,
) -> Float[np.ndarray, " levels"]:
    """The levels, once all arguments are valid."""
    if noises < 2 or batch < 1:
        raise InputError(f"noises is {noises}, batch {batch}: at least 2 noises and rows are needed; pass noises=32")
    check_image(denoiser, v)
    if not labels:
        raise InputError("labels name no attribute: pass e.g. labels={'shape': 2}, the value of the image")
    for name, value in labels.items():
        if isinstance(value, Tensor) and value.ndim:  # of a continuous attribute, which the denoiser itself checks
            continue
        values = len(attribute_of(denoiser, name).values)
        if not 0 <= int(value) < values:
            raise InputError(f"labels[{name!r}] is {int(value)}: expected 0 to {values - 1}")
    return checked_levels(sigma, 2)
