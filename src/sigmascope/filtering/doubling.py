r"""The flow of a Riccati equation over long times, by doubling.

.. math:: \dot P = A P + P A^\top + Q - P M P, \qquad M, Q \ge 0

Over any time the solution is a map of its start, with three matrices that do not depend on the start,

.. math:: P \mapsto H + E\,P\,(1 + G P)^{-1} E^\top,

and two such maps in a row are one such map.  So a long time costs as many products as it has doublings of a short one.
G, H and P are kept as square roots, so that a strong measurement loses half as many digits, and E as E - 1 where it is
near 1, so that slow motions keep their digits over short times.

References: Anderson (1978), Int. J. Control 28, 295; Chu, Fan & Lin (2005), Linear Algebra Appl. 396, 55.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

Square = Float64[np.ndarray, "n n"]

_SHORT = 0.25  # norm of the generator times the first step: there its series converges in a few terms
_TERMS = 24
_GROWN = 1e4  # entries of E: maps that stretch more are applied one after another, else E P E^T would overflow
_SETTLED = 2e-15  # relative change of P over a map, after which it is called constant
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


class Flow(NamedTuple):
    r"""The map over a time: E, E - 1, square roots of G and H, the gain from P = 0, and how often it is applied.

    The gain is :math:`\int \mathrm{tr}(M P)\,ds`.
    """

    moved: Square
    change: Square
    measured: Square
    spread: Square
    gain: float
    times: int


def flow(free: Square, noise: np.ndarray, measured: np.ndarray, dt: float) -> Flow:
    """The map over ``dt`` of the equation with A ``free``, Q ``noise @ noise.T`` and M ``measured @ measured.T``.

    Raises: ArithmeticError where it overflows.
    """
    halvings = max(0, math.ceil(math.log2(max(_rate(free, noise, measured) * dt / _SHORT, 1e-300))))
    result = _short(free, noise, measured, dt / 2.0**halvings)
    for left in range(halvings, 0, -1):
        if float(np.abs(result.moved).max()) > _GROWN:
            return result._replace(times=2**left)
        result = _doubled(result)
    return result


def advance(step: Flow, root: Square) -> tuple[Square, float]:
    """A square root of the solution after a map, and the gain over it, from a square root of its start.

    Raises: ArithmeticError where it overflows.
    """
    gain, p = 0.0, root @ root.T
    for done in range(step.times):
        with np.errstate(over="ignore", invalid="ignore"):
            _, s, right = _parts(step.measured.T @ root)
            scaled = root @ (right / np.hypot(1.0, s))
            root = _joined(step.spread, step.moved @ scaled)
            gained = step.gain + _log_det(s)
            following = _finite(root @ root.T)
        if step.times > 1 and float(np.abs(following - p).max()) <= _SETTLED * float(np.abs(p).max()):
            return root, gain + gained * (step.times - done)
        p, gain = following, gain + gained
    return root, gain


def square_root(matrix: Square) -> Square:
    """A square root of a covariance; eigenvalues below zero, which are of rounding, are taken for zero."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    root: Square = vectors * np.sqrt(values.clip(min=0.0))
    return root


def _rate(free: Square, noise: np.ndarray, measured: np.ndarray) -> float:
    """Bound of the eigenvalues of the pair's generator, Q and M brought to one size first."""
    return float(np.linalg.norm(free, 2)) + float(np.linalg.norm(noise, 2)) * float(np.linalg.norm(measured, 2))


def _short(free: Square, noise: np.ndarray, measured: np.ndarray, dt: float) -> Flow:
    r"""The map over a short time, from the power series of the pair (U, V) with P = U/V.

    Its parts are :math:`G = \int E^\top M E\,ds` and :math:`H = \int E Q E^\top ds`, whose roots come from a
    quadrature without squaring, so that the root of a nearly singular G is accurate.
    """
    n, eye = len(free), np.eye(len(free))
    generator = np.block([[free, noise @ noise.T], [measured @ measured.T, -free.T]])
    terms, power = [], np.eye(2 * n)
    for k in range(1, _TERMS + 1):
        power = power @ generator * (dt / k)
        terms.append(power[:, n:])
    g, h, gain = [], [], 0.0
    for node, weight in zip(0.5 * (_NODES + 1.0), 0.5 * dt * _WEIGHTS, strict=True):
        pair = _series(terms, node)
        inverse = np.linalg.inv(eye + pair[n:])
        g.append(math.sqrt(weight) * inverse @ measured)
        h.append(math.sqrt(weight) * inverse.T @ noise)
        gain += weight * float(((measured.T @ pair[:n] @ inverse) * measured.T).sum())
    less = _series(terms, 1.0)[n:]
    change = -(less @ np.linalg.inv(eye + less)).T
    return Flow(eye + change, change, _joined(*g), _joined(*h), gain, 1)


def _series(terms: list[np.ndarray], share: float) -> np.ndarray:
    """Σ terms · share^k, k from 1, the smallest first."""
    total = np.zeros_like(terms[0])
    for k in range(len(terms), 0, -1):
        total = total + terms[k - 1] * share**k
    return total


def _doubled(short: Flow) -> Flow:
    e, d, eye = short.moved, short.change, np.eye(len(short.moved))
    with np.errstate(over="ignore", invalid="ignore"):
        left, s, right = _parts(short.measured.T @ short.spread)
        size = np.hypot(1.0, s)
        spread = _joined(short.spread, e @ (short.spread @ (right / size)))
        measured = _joined(short.measured, e.T @ (short.measured @ (left / size)))
        lost = (short.spread @ (right * (s / size**2))) @ (short.measured @ left).T  # 1 - (1 + HG)^-1
        change = _finite(2.0 * d + d @ d - e @ lost @ e)
        moved = _finite(e @ (eye - lost) @ e)
    near = np.abs(np.diagonal(change)) < 0.5
    np.fill_diagonal(moved, np.where(near, 1.0 + np.diagonal(change), np.diagonal(moved)))
    change = np.where(eye > 0, change, moved)
    return Flow(moved, change, measured, spread, 2.0 * short.gain + _log_det(s), 1)


def _log_det(s: Float64[np.ndarray, " n"]) -> float:
    """ln det(1 + G P) from the singular values of the product of their roots; accurate where it is small."""
    return float(np.where(s < 1.0, np.log1p(np.minimum(s, 1.0) ** 2), 2.0 * np.log(np.hypot(1.0, s))).sum())


def _parts(matrix: Square) -> tuple[Square, Float64[np.ndarray, " n"], Square]:
    left, s, right = np.linalg.svd(_finite(matrix))
    return left, s, right.T


def _joined(*roots: np.ndarray) -> Square:
    """A square root of the sum of the squares of some; square, whatever their shapes."""
    rows = _finite(np.concatenate([root.T for root in roots]))
    n = rows.shape[1]
    if len(rows) < n:
        rows = np.concatenate([rows, np.zeros((n - len(rows), n))])
    root: Square = np.asarray(np.linalg.qr(rows, mode="r")).T
    return root


def _finite(matrix: np.ndarray) -> np.ndarray:
    if not np.isfinite(matrix).all():
        raise ArithmeticError("the Riccati equation overflows")
    return matrix
