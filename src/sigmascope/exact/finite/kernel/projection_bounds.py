r"""Upper bounds of inner products from projections, for screening the items of a finite set.

With orthonormal directions split into leading ones P and bands :math:`P_b`, the last of them the whole complement,

.. math:: \langle y, v\rangle \le \langle Py, Pv\rangle + \sum_b |P_b y|\,|P_b v|

by Cauchy and Schwarz.  One norm for all that is not leading would give a loose bound, since the noise in y has most of
its norm where the items have least.

Every bound holds for the numbers as they are stored and multiplied, not only in exact arithmetic.  A sum of K products
in float32, in any order, errs by at most :math:`\gamma_K = Ku/(1-Ku)` times the sum of absolute products (u = 2^-24),
which is at most :math:`|y||v|`; projections are computed in float64 and rounded once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import InputError, ItemSource

HALF_EPS32 = 2.0**-24
HALF_EPS64 = 2.0**-53
TILE = 2048
"""Items whose bounds are computed at a time, so that they stay in the cache until their largest is known."""
BLOCK = 64
"""Items of a tile whose largest bound is kept."""
RUN = 128
"""Float32 products that are summed in float32; the sums are added in float64."""
_BANDS = 8
_SAMPLE = 8192
_LARGEST_MATRIX = 4096
_SAMPLE_BYTES = 1 << 28
_WIDE_BYTES = 1 << 30
_PADDING = 1e30


def rounding(terms: int, half_eps: float = HALF_EPS64) -> float:
    r"""The relative error :math:`\gamma_n` of a sum of n products, in any order."""
    return terms * half_eps / (1.0 - terms * half_eps)


@dataclass(frozen=True, eq=False)
class Projections:
    """Rows in the basis of the bands, float64.

    Args:
        along: coordinates along the directions.
        complement: an upper bound of the norm of the part orthogonal to them.
        square: squared norms, as rounded.
        norm: upper bounds of the norms.
    """

    along: Float[Tensor, "rows directions"]
    complement: Float[Tensor, " rows"]
    square: Float[Tensor, " rows"]
    norm: Float[Tensor, " rows"]


def principal_directions(source: ItemSource, centre: Float[Tensor, " size"], count: int) -> Float[Tensor, "size kept"]:
    """Leading principal directions of a sample of the items less ``centre``, orthonormal, float64: at most ``count``.

    Cost: one eigendecomposition of a matrix of at most 4,096 rows, and a sample of at most 256 MiB.
    """
    size, n = len(centre), len(source)
    wide = size > _LARGEST_MATRIX
    largest = min(_SAMPLE_BYTES // (8 * size), _LARGEST_MATRIX // 2 if wide else _SAMPLE)
    items = torch.linspace(0, n - 1, max(1, min(n, largest)), dtype=torch.float64).round().long()
    sample = source.take(items).reshape(len(items), size).double() - centre
    if len(sample) > size:
        directions = torch.linalg.eigh(sample.T @ sample).eigenvectors.flip(1)[:, :count]
    else:
        leading = torch.linalg.eigh(sample @ sample.T).eigenvectors.flip(1)[:, : min(count, size)]
        directions = sample.T @ leading
    basis: Tensor = torch.linalg.qr(directions).Q  # orthonormal even where the sample has fewer directions
    return basis.contiguous()


class Bands:
    """A basis in bands: columns orthonormal up to rounding, float64, the ``first`` ones leading; bounds on rounding.

    Raises: InputError where the columns are far from orthonormal.
    """

    def __init__(self, basis: Float[Tensor, "size directions"], first: int) -> None:
        size, self.directions = basis.shape
        self.basis, self.first = basis, min(first, self.directions)
        exact = torch.eye(self.directions, dtype=torch.float64)
        skew = float(torch.linalg.matrix_norm(basis.T @ basis - exact))
        skew += self.directions * rounding(size + 8)
        if not skew < 1e-8:  # the slacks include one half_eps of float32 for it
            raise InputError(f"the directions are orthonormal to {skew:.1g}: expected 1e-8, pass an orthonormal basis")
        # |x|² (1 + skew) - |Bᵀx|² bounds the complement; the coordinates err by gamma_size |x| each.
        self._doubt = skew + (2.0 * math.sqrt(self.directions) + 8.0) * rounding(
            size + self.directions + 16, HALF_EPS64
        )
        ratio = self.directions / self.first
        edges = [round(self.first * ratio ** (i / (_BANDS - 1))) for i in range(_BANDS)]
        self.edges = sorted(set(edges))
        self.columns = self.first + len(self.edges) + 3
        self.slack = rounding(self.columns + 12, HALF_EPS32)
        self.wide_slack = rounding(RUN + 12, HALF_EPS32)
        self.exact_slack = 4.0 * rounding(size + 16)

    def project(self, rows: Float[Tensor, "rows size"]) -> Projections:
        """Coordinates, and upper bounds of norms."""
        along = rows @ self.basis
        square = (rows**2).sum(1)
        norm = square.sqrt() * (1.0 + self._doubt)
        complement = (square - (along**2).sum(1)).clamp_min(0.0) + self._doubt * square
        return Projections(along, complement.sqrt() * (1.0 + 1e-12), square, norm)

    def norms(self, p: Projections) -> Float[Tensor, "rows bands"]:
        """Norms in every band, that of the complement last."""
        inner = [p.along[:, a:b].norm(dim=1) for a, b in zip(self.edges[:-1], self.edges[1:], strict=True)]
        return torch.stack([*inner, p.complement], 1) * (1.0 + 1e-12)


class ItemBounds:
    r"""Upper bounds of the scores of all items of a source.

    For the row y less the centre, the score of item k is

    .. math:: s_k = \langle y, v_k\rangle - |v_k|^2/2 + \sigma^2 \ln w_k, \qquad
              \ln w_k - |y - v_k|^2/2\sigma^2 = (s_k - |y|^2/2)/\sigma^2.

    Only the items of the given indices and log-weights (0 for the largest) enter; ``directions`` are the numbers of
    leading and of all directions.

    Attributes:
        tiles: for each tile, the factor that the rows of :meth:`left` are multiplied with, float32, (tiles, columns,
            TILE).
        wide: coordinates along all directions, float32, (items, runs, RUN), padded with zeros; None where there are
            only leading directions or memory would exceed 1 GiB.

    Cost: 2 · items · size · directions operations in float64; items · (leading + 11 + all directions) numbers of 4
        bytes are held, and the basis.
    """

    def __init__(
        self,
        source: ItemSource,
        items: Int64[Tensor, " items"],
        log_weight: Float[Tensor, " items"],
        centre: Float[Tensor, " size"],
        directions: tuple[int, int],
    ) -> None:
        basis = principal_directions(source, centre, directions[1])
        self.bands = bands = Bands(basis, directions[0])
        self.items, self.log_weight, self.centre = items, log_weight, centre
        n, runs = len(items), -(-bands.directions // RUN)
        self.half_square = torch.empty(n, dtype=torch.float64)
        self.norm, self.complement = torch.empty_like(self.half_square), torch.empty_like(self.half_square)
        self.tiles = torch.zeros(-(-n // TILE), bands.columns, TILE)
        self.tiles[:, -3] = _PADDING
        stage = bands.directions > bands.first and 4 * n * RUN * runs <= _WIDE_BYTES
        self.wide = torch.zeros(n, runs, RUN) if stage else None
        step = max(1, min(TILE, _SAMPLE_BYTES // (8 * len(centre))))
        for tile in range(len(self.tiles)):
            for start in range(tile * TILE, min(n, (tile + 1) * TILE), step):
                self._store(source, slice(start, min(start + step, (tile + 1) * TILE, n)))
        self.reach = float(self.norm.max()) * (1.0 + 1e-9)

    def _store(self, source: ItemSource, part: slice) -> None:
        values = source.take(self.items[part])
        p = self.bands.project(values.reshape(len(values), -1).double() - self.centre)
        self.half_square[part], self.norm[part], self.complement[part] = 0.5 * p.square, p.norm, p.complement
        tile, start = divmod(part.start, TILE)
        rows = self.tiles[tile, :, start : start + len(values)]
        rows[: self.bands.first] = p.along[:, : self.bands.first].T
        rows[self.bands.first : -3] = self.bands.norms(p).T
        rows[-3:] = torch.stack([0.5 * p.square, self.log_weight[part], p.norm])
        if self.wide is not None:
            self.wide[part].flatten(1)[:, : self.bands.directions] = p.along

    def left(self, p: Projections, variance: Float[Tensor, " rows"]) -> Float[Tensor, "rows columns"]:
        """Rows whose products with :attr:`tiles`, plus :meth:`least`, are not below the scores, rounding included."""
        less = 1.0 - self.bands.slack
        parts = [
            p.along[:, : self.bands.first],
            self.bands.norms(p),
            torch.full_like(variance, -less)[:, None],
            (less * variance)[:, None],
            (self.bands.slack * p.norm)[:, None],
        ]
        return torch.cat(parts, 1).float()

    def least(self, p: Projections, variance: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """How much the products may lose to numbers that are too small for float32."""
        largest = 1.0 + p.norm + self.reach + self.reach**2 + variance * (1.0 - float(self.log_weight.min()))
        return self.bands.columns * 2.0**-120 * largest

    def wide_scores(
        self,
        products: Float[Tensor, " pairs"],
        p: Projections,
        variance: Float[Tensor, " rows"],
        row: Int64[Tensor, " pairs"],
        item: Int64[Tensor, " pairs"],
    ) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
        """Scores from the products along all directions, and upper bounds of the exact scores."""
        score = products - self.half_square[item] + variance[row] * self.log_weight[item]
        reach = p.norm[row] * self.norm[item]
        doubt = self.bands.wide_slack * reach + self.bands.exact_slack * self.half_square[item]
        doubt += 1e-12 * variance[row] * self.log_weight[item].abs()
        return score, score + p.complement[row] * self.complement[item] + doubt
