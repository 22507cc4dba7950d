r"""Features of the picture itself: frequency bands, low-pass parts and gray, as projections with orthonormal rows.

Pictures are read in a real orthonormal Fourier basis: products of cosines and sines along the two axes, in which the
mean and the highest frequency of an even side (Nyquist's) have one member and every other frequency two.  A basis
picture has one pair of frequencies :math:`(f_y, f_x)` in cycles a pixel and one radius
:math:`\rho = \sqrt{f_y^2 + f_x^2}`.

- ``band:k/n``: all channels at :math:`(k-1)/n \le \rho / \rho_{max} < k/n`, the last band with its end; the n bands
  part the picture into orthogonal components.
- ``lowpass:c``: all channels at :math:`\rho \le c / 2`, where 1/2 cycle a pixel is Nyquist's frequency; 0 < c ≤ 1.
- ``gray``: the mean over the channels, at all frequencies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sigmascope.core import InputError

_BAND = re.compile(r"band:(\d{1,6})(?:-(\d{1,6}))?/(\d{1,6})")
_BANDS = re.compile(r"bands:(\d{1,6})")
_LOWPASS = re.compile(r"lowpass:(\d*\.?\d+)")
_ROUNDING = 1e-9  # of a radius at the edge of a band
MOST_BANDS = 256
NYQUIST = 0.5
"""The highest frequency along an axis, in cycles a pixel."""


@dataclass(frozen=True)
class Feature:
    """A linear feature of pictures, B = P V with orthonormal rows of P.

    Args:
        name: as in ``--attributes``.
        band: (k, n) of ``band:k/n``; None: no band.
        cutoff: c of ``lowpass:c``; None: no low-pass.
        gray: whether it is the mean over the channels instead of all of them.
    """

    name: str
    band: tuple[int, int] | None = None
    cutoff: float | None = None
    gray: bool = False

    def frequencies(self, height: int, width: int) -> Bool[Tensor, " frequencies"]:
        """Which basis pictures of :func:`to_frequencies` it holds.

        Raises: InputError where it holds none.
        """
        rho = radii(height, width)
        held = torch.ones_like(rho, dtype=torch.bool)
        if self.band is not None:
            k, n = self.band
            share = rho / rho.max().clamp_min(1e-300) * n
            held = (share >= k - 1 - _ROUNDING) & ((share < k - _ROUNDING) | (k == n))
        if self.cutoff is not None:
            held = rho <= self.cutoff * NYQUIST + _ROUNDING
        if not bool(held.any()):
            raise InputError(
                f"attribute {self.name!r} holds no frequency of pictures of {width} × {height} pixels: use fewer bands"
            )
        return held

    def size(self, event: Sequence[int]) -> int:
        """Number of coordinates of the feature, in pictures of this shape."""
        channels, height, width = picture_shape(event, self.name)
        return int(self.frequencies(height, width).sum()) * (1 if self.gray else channels)

    def of(self, coefficients: Float[Tensor, "batch frequencies channels"], height: int, width: int) -> Tensor:
        """The feature's coordinates, from those of :func:`to_frequencies`; shape (batch, size)."""
        own = coefficients[:, self.frequencies(height, width)]
        return (own.sum(2) / own.shape[2] ** 0.5 if self.gray else own).flatten(1)


def parse_features(entries: Sequence[str]) -> tuple[Feature, ...]:
    """The features that entries of ``--attributes`` name.

    ``bands:n`` stands for all n bands, ``band:j-k/n`` for those from j to k.

    Raises: InputError for an entry that names no feature, or one that is named twice.
    """
    features = [f for entry in entries for f in _parsed(entry.strip())]
    names = [f.name for f in features]
    doubled = next((n for n in names if names.count(n) > 1), None)
    if doubled is not None:
        raise InputError(f"attribute {doubled!r} is asked for twice: name each once")
    return tuple(features)


def _parsed(entry: str) -> list[Feature]:
    if entry == "gray":
        return [Feature("gray", gray=True)]
    if match := _LOWPASS.fullmatch(entry):
        cutoff = float(match[1])
        if not 0.0 < cutoff <= 1.0:
            raise InputError(f"attribute {entry!r}: the share of Nyquist's frequency must be above 0 and at most 1")
        return [Feature(entry, cutoff=cutoff)]
    if match := _BANDS.fullmatch(entry):
        first, last, n = 1, int(match[1]), int(match[1])
    elif match := _BAND.fullmatch(entry):
        first, last, n = int(match[1]), int(match[2] or match[1]), int(match[3])
    else:
        raise InputError(
            f"attribute {entry!r} is no feature of pictures: write band:1/8, band:2-4/8, bands:8, lowpass:.25 or gray"
        )
    if not 1 <= first <= last <= n <= MOST_BANDS:
        raise InputError(
            f"attribute {entry!r}: bands are numbered from 1 to their number, at most {MOST_BANDS}: write e.g. band:1/8"
        )
    return [Feature(f"band:{k}/{n}", band=(k, n)) for k in range(first, last + 1)]


def picture_shape(event: Sequence[int], name: str) -> tuple[int, int, int]:
    """Channels, height and width of pictures of this shape.

    Raises: InputError for values that are no pictures.
    """
    shape = tuple(event)
    if len(shape) == 2:
        return 1, shape[0], shape[1]
    if len(shape) != 3:
        raise InputError(
            f"attribute {name!r} is a feature of pictures and an item has shape {shape}: expected (channels, height, "
            "width) or (height, width)"
        )
    return shape[0], shape[1], shape[2]


def real_fourier(n: int) -> tuple[Float[Tensor, "n n"], Float[Tensor, " n"]]:
    r"""The real orthonormal Fourier basis of n points, in rows, and the frequency of each in cycles a point.

    .. math:: n^{-1/2}, \quad (2/n)^{1/2} \cos(2\pi f x), \quad (2/n)^{1/2} \sin(2\pi f x), \quad
              n^{-1/2} (-1)^x \text{ where n is even}
    """
    x = torch.arange(n, dtype=torch.float64)
    rows, frequencies = [torch.full((n,), n**-0.5, dtype=torch.float64)], [0.0]
    for k in range(1, (n - 1) // 2 + 1):
        angle = 2.0 * torch.pi * k * x / n
        rows += [(2.0 / n) ** 0.5 * angle.cos(), (2.0 / n) ** 0.5 * angle.sin()]
        frequencies += [k / n, k / n]
    if n % 2 == 0:
        rows.append(n**-0.5 * (1.0 - 2.0 * (x % 2)))
        frequencies.append(NYQUIST)
    return torch.stack(rows), torch.tensor(frequencies, dtype=torch.float64)


def radii(height: int, width: int) -> Float[Tensor, " frequencies"]:
    """The radius of every basis picture in cycles a pixel, in the order of :func:`to_frequencies`."""
    (_, of_rows), (_, of_columns) = real_fourier(height), real_fourier(width)
    return torch.hypot(of_rows[:, None], of_columns[None]).flatten()


def to_frequencies(pictures: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch frequencies channels"]:
    """Coefficients of pictures in the real orthonormal Fourier basis, float64, on the device of the pictures.

    Raises: InputError for values that are no pictures.
    """
    channels, height, width = picture_shape(tuple(pictures.shape[1:]), "band")
    x = pictures.reshape(len(pictures), channels, height, width).double()
    rows, columns = (real_fourier(n)[0].to(x.device) for n in (height, width))
    return (rows @ x @ columns.T).flatten(2).transpose(1, 2)
