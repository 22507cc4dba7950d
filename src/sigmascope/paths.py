"""Seeded Brownian paths on explicit, possibly irregular time grids, and their refinement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def check_times(times: Tensor) -> Float[Tensor, " times"]:
    """The grid in float64.

    Raises: ValueError if it is not finite and strictly increasing, or has fewer than two times.
    """
    grid = torch.as_tensor(times, dtype=torch.float64)
    if grid.ndim != 1 or len(grid) < 2:
        raise ValueError(f"times have shape {tuple(grid.shape)}: expected (times,) with at least two")
    if not bool(torch.isfinite(grid).all()) or not bool((grid.diff() > 0).all()):
        raise ValueError("times must be finite and increase strictly: sort them and remove duplicates")
    return grid


def places_in(finer: Float[Tensor, " finer"], times: Float[Tensor, " times"]) -> Int64[Tensor, " times"]:
    """Indices of the times of a grid in a finer grid with the same ends.

    Raises: ValueError if one is missing or the ends differ.
    """
    place = torch.searchsorted(finer, times)
    if bool((place >= len(finer)).any()) or not torch.equal(finer[place], times):
        raise ValueError("the finer grid must contain every time of the old one: join the two grids")
    if finer[0] != times[0] or finer[-1] != times[-1]:
        raise ValueError("the finer grid must begin and end where the old one does")
    return place


@dataclass(frozen=True, eq=False)
class BrownianPath:
    """Standard Brownian motions that start at zero.

    Args:
        times: grid, shape (times,).
        values: shape (times, paths, dim).
    """

    times: Float[Tensor, " times"]
    values: Float[Tensor, "times paths dim"]

    @property
    def increments(self) -> Float[Tensor, "steps paths dim"]:
        return self.values.diff(dim=0)

    def refined(self, times: Tensor, generator: torch.Generator) -> BrownianPath:
        r"""The same paths on a finer grid, by Brownian bridges; the values at the old times stay as they are.

        .. math:: W_t \mid W_l, W_r \sim N\!\left(W_l + \tfrac{t-l}{r-l}(W_r - W_l), \tfrac{(t-l)(r-t)}{r-l} I\right)

        Args:
            times: a grid that contains all times of this one, with the same ends.
            generator: draws the new points.

        Raises: ValueError if an old time is missing or the ends differ.
        """
        fine = check_times(times).to(self.times.device)
        place = places_in(fine, self.times)
        values = self.values.new_empty(len(fine), *self.values.shape[1:])
        values[place] = self.values
        old = torch.zeros(len(fine), dtype=torch.bool, device=fine.device)
        old[place] = True
        right = torch.searchsorted(self.times, fine, right=False)
        for k in torch.nonzero(~old)[
            :, 0
        ].tolist():  # from left to right: each point is conditioned on the point before it
            t, end = fine[k], self.times[right[k]]
            start, w, w_end = fine[k - 1], values[k - 1], self.values[right[k]]
            share = (t - start) / (end - start)
            noise = torch.randn(w.shape, generator=generator, dtype=w.dtype).to(w.device)
            values[k] = w + share * (w_end - w) + ((t - start) * (end - t) / (end - start)).sqrt() * noise
        return BrownianPath(fine, values)


def brownian(
    times: Tensor, paths: int, dim: int, generator: torch.Generator, *, device: torch.device | str = "cpu"
) -> BrownianPath:
    """Independent standard Brownian motions, float64.

    Args:
        times: grid, finite and strictly increasing.
        paths: number of paths.
        dim: number of coordinates of a path.
        generator: draws the increments, on the CPU, so that they do not depend on the device.
    """
    grid = check_times(times)
    steps = torch.randn(len(grid) - 1, paths, dim, generator=generator, dtype=torch.float64)
    steps *= grid.cpu().diff().sqrt()[:, None, None]
    values = torch.cat([steps.new_zeros(1, paths, dim), steps.cumsum(0)])
    return BrownianPath(grid.to(device), values.to(device))
