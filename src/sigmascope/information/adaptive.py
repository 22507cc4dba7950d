r"""Score gap and MMSE gap of any denoiser, learned or exact, with network calls where they count.

A draw is a value v with its label a, a level and a noise; the denoiser is called without knowledge and, on the same y,
with knowledge of a.  It gives

.. math:: r_1 = \|D_a - D\|^2, \qquad r_2 = \|v - D\|^2 - \|v - D_a\|^2,
          \qquad r_2 - r_1 = 2\langle D_a - D, v - D_a\rangle .

References: Guo, Shamai, Verdú (2005); Franzese et al. (2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from sigmascope.core import Curve, Denoiser, InputError, generator
from sigmascope.information.above import left_out
from sigmascope.information.allocation import MAIN, PILOT, Allocation, Chosen, allocate, choose, further, plan
from sigmascope.information.importance import Draw, Surrogate
from sigmascope.information.together import together
from sigmascope.streams import Use

GOALS = ("score_gap", "mmse_gap")
_OUT_OF_PROPORTION = 8  # the first round over the pilot, at most: a pilot of an eighth of it or more
_PILOT = 512  # draws of each attribute in the pilot, at first
_LITTLE = 128  # of a small budget's pilot at least: one column of it


@dataclass(frozen=True)
class Gaps:
    """Curves of one attribute, on the same draws; the columns of ``per_draw`` are independent replicates.

    Args:
        score_gap: integral of r1; a bound in neither direction where the denoiser is learned.
        mmse_gap: integral of r2.
        calibration: integral of r2 - r1, with the standard error of the paired difference: 0 if the denoisers are
            true conditional means (and not only then).
    """

    score_gap: Curve
    mmse_gap: Curve
    calibration: Curve


class GapJob:
    r"""Gaps of several attributes at all levels, a batch of network calls at a time; resumable between batches.

    A pilot, on draws of its own, says where the integrand lies (:mod:`sigmascope.information.allocation`); calls go
    there, as many as ``target_stderr`` or ``budget`` asks for, and more where the standard error that was found is
    larger.  There is no quadrature: levels are drawn.

    Args:
        denoiser: any; rows are float32 or float64 as its parameters are, float64 where it has none, on their device.
        draw: n independent draws of v with labels, from a generator.
        ceilings: H(A) of each attribute that is measured, by name; NaN of a continuous one.
        sigma: decreasing levels of the curves; they may be few.
        target_stderr: largest standard error of any curve of the goal at any level, nats.
        budget: network calls at most, the pilot's among them; a row of a batch, told nothing or one thing, is one.
        allocation: of another measurement, in place of a pilot: two denoisers are then measured on the same draws.
        goal: which of ``score_gap`` and ``mmse_gap`` calls are allocated for; the latter takes several times as many.
        seed: of all draws.
        batch: rows of one call of the denoiser.
        pilot: draws of each attribute in the pilot, at first: it grows to a twentieth of the measurement.  Of a small
            budget it takes a quarter, if that is 128 draws.
        top: the highest level at which the denoiser is called, at least the square root of 2 times the first level; for
            a network, within what it was trained on.  None: where the integral above is known to third order.
        informed: whether draws of which a large gap is expected are likelier to be measured, or only levels allocated.

    Raises: InputError for levels, names or an aim that do not fit, or an allocation of other levels or attributes.

    Valid when: for a learned denoiser, never as a bound; the standard errors hold the error of the draws alone.

    Cost: two calls a draw of an attribute; between calls, what a
    :class:`~sigmascope.information.importance.Surrogate` asks for each of at least 16 candidates.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        draw: Draw,
        ceilings: Mapping[str, float],
        sigma: Float[np.ndarray, " levels"],
        *,
        target_stderr: float | None = None,
        budget: int | None = None,
        allocation: Allocation | None = None,
        goal: str = "score_gap",
        seed: int = 0,
        batch: int = 256,
        pilot: int = _PILOT,
        top: float | None = None,
        informed: bool = True,
    ) -> None:
        levels = _checked(sigma)
        if not ceilings or batch < 1 or pilot < 16 or goal not in GOALS:
            raise InputError(
                f"{len(ceilings)} attributes, batch {batch}, pilot {pilot}, goal {goal} came: expected at least 1, 1 "
                "and 16, and a goal among score_gap and mmse_gap"
            )
        self._denoiser, self._draw, self._ceilings, self._batch = denoiser, draw, dict(ceilings), batch
        self._target, self._budget, self._goal, self._sigma = target_stderr, budget, GOALS.index(goal), levels
        if allocation is None:
            aims = [x for x in (target_stderr, budget) if x is not None]
            if len(aims) != 1 or not aims[0] > 0:
                raise InputError(f"target_stderr is {target_stderr} and budget {budget}: pass one of them, above 0")
        else:
            seed = allocation.seed
            if len(allocation.share) != len(ceilings) or not np.array_equal(allocation.sigma, levels):
                raise InputError("the allocation is of other levels or attributes: pass those it was made for")
        self._surrogate = Surrogate(draw, list(ceilings), generator(seed, Use.GAPS), informed=informed)
        self._piloted: list[np.ndarray] = []  # of each column of the pilot, score and mmse, (2, draws)
        # Of each column of each round: score, mmse and their difference, (3, attributes, levels), the last of the
        # levels one that the cell above all levels alone is above.
        self._done: list[np.ndarray] = []
        self._pilot: Allocation | None = None
        self._curves: dict[str, Gaps] | None = None
        self.allocation = allocation
        if allocation is None:
            if budget is not None:
                pilot = max(min(pilot, _LITTLE), min(pilot, budget // (8 * len(ceilings))))
            self._pilot = plan(self._surrogate, draw, seed, levels, top, pilot)

    @property
    def total(self) -> int:
        """Columns, the pilot's among them, as far as is known: until the pilot is done the others count as one."""
        first = 0 if self._pilot is None else self._pilot.columns
        return first + (1 if self.allocation is None else self.allocation.measurements)

    @property
    def position(self) -> int:
        """Columns done."""
        return len(self._piloted) + len(self._done)

    @property
    def done(self) -> bool:
        return self.allocation is not None and len(self._done) >= self.allocation.measurements

    @property
    def calls(self) -> int:
        """Network calls made, the pilot's among them."""
        made = 0 if self._pilot is None else int(self._pilot.rounds.sum()) * len(self._piloted)
        if self.allocation is not None:
            each = np.repeat(self.allocation.rounds.sum(1), self.allocation.columns)
            made += int(each[: len(self._done)].sum())
        return 2 * made

    def step(self) -> None:
        """Measure the next columns of a round: as many as make one batch, or one that is larger."""
        if self.allocation is None:
            assert self._pilot is not None
            chosen, columns = self._next(self._pilot, PILOT, len(self._piloted))
            found = np.stack(self._gaps(chosen))
            self._piloted += [found[:, chosen.column == column] for column in columns]
            self._advise()
            return
        use, first = divmod(len(self._done), self.allocation.columns)
        chosen, columns = self._next(self.allocation, MAIN + use, first)
        score, mmse = self._gaps(chosen)
        values = np.stack([score, mmse, mmse - score]) * chosen.weight
        levels = np.append(self._sigma * (1 - 1e-12), np.exp(self.allocation.edges[0]) * (1 + 1e-9))
        above, attributes = chosen.sigma.numpy() >= levels[:, None], np.arange(len(self._ceilings))[:, None]
        for column in columns:
            of = (attributes == chosen.attribute) & (column == chosen.column)
            self._done.append(np.einsum("wd,ad,ld->wal", values, of, above))
        self._top_up()

    def _next(self, allocation: Allocation, use: int, first: int) -> tuple[Chosen, range]:
        """Draws of columns of one round, as many as make a batch."""
        draws = int(allocation.rounds[max(use - MAIN, 0)].sum())
        columns = range(first, min(first + max(1, self._batch // draws), allocation.columns))
        return choose(self._surrogate, self._draw, allocation, use, columns), columns

    def _advise(self) -> None:
        """Allocate from the pilot; double it first while the measurement would be out of proportion to it."""
        while self.allocation is None and self._pilot and len(self._piloted) >= self._pilot.columns:
            first = self._pilot
            chosen = choose(self._surrogate, self._draw, first, PILOT, range(first.columns))
            found = np.concatenate(self._piloted[: first.columns], 1)[self._goal]
            advised = allocate(first, chosen, found, self._target, self._budget)
            if advised.calls > _OUT_OF_PROPORTION * advised.pilot_calls:
                self._pilot = replace(first, columns=2 * first.columns)
            else:
                self.allocation = advised

    def _top_up(self) -> None:
        """One round more where all is measured and a standard error is larger than was asked for."""
        while self._target is not None and self._pilot is not None and self.done:
            assert self.allocation is not None
            more = further(self.allocation, self._columns()[:, self._goal, :, :-1], self._target)
            if more is None:
                return
            self.allocation = more

    def _columns(self) -> Float[np.ndarray, "columns ways attributes levels"]:
        assert self.allocation is not None
        return self.allocation.joined(np.stack(self._done[: self.allocation.measurements]))

    def _gaps(self, draws: Chosen) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
        """r1 and r2 over sigma squared of each draw's own attribute, a batch of one attribute at a time."""
        score, mmse = np.empty(len(draws.weight)), np.empty(len(draws.weight))
        first = next(self._denoiser.parameters(), None)
        place = first if first is not None else next(self._denoiser.buffers(), None)
        dtype = torch.float64 if first is None else first.dtype
        device = torch.device("cpu") if place is None else place.device
        for k, name in enumerate(self._ceilings):
            for rows in torch.from_numpy(np.flatnonzero(draws.attribute == k)).split(self._batch):
                if len(rows) == 0:
                    continue
                v, sigma = draws.v[rows].double(), draws.sigma[rows]
                noisy = v + sigma.reshape(-1, *[1] * (v.ndim - 1)) * draws.noise[rows]
                y, level = noisy.to(device, dtype), sigma.to(device, dtype)
                with torch.no_grad():
                    known = {name: draws.labels[name][rows].to(device)}
                    means = together(self._denoiser, y, level, [None, known])
                free, told = (mean.to("cpu", torch.float64).flatten(1) for mean in means)
                v = v.flatten(1)
                score[rows] = (((told - free) ** 2).sum(1) / sigma**2).numpy()
                mmse[rows] = ((((v - free) ** 2).sum(1) - ((v - told) ** 2).sum(1)) / sigma**2).numpy()
        return score, mmse

    def curves(self) -> dict[str, Gaps]:
        """The curves of each attribute, once all is done.

        The integral above the levels is corrected for what one level of it leaves out
        (:mod:`sigmascope.information.above`); the gauge of what is left is in ``quadrature_error``.

        Raises: InputError if it is not.
        Warns: CoarseTopWarning where the correction or the gauge is more than a hundredth of H(A).
        """
        if self.allocation is None or not self.done:
            raise InputError(f"{self.position} of {self.total} columns are done: call step() until done")
        if self._curves is None:
            self._curves = self._joined(self.allocation)
        return self._curves

    def _joined(self, allocation: Allocation) -> dict[str, Gaps]:
        """The same; made once, since several who ask would be warned several times."""
        columns, found = np.moveaxis(self._columns(), 0, -1), {}
        highest = float(np.exp(allocation.edges[0])) * 2**0.5
        for k, (name, ceiling) in enumerate(self._ceilings.items()):
            first = self._surrogate.spread[name] / highest**2
            more, gauge = left_out(name, float(columns[0, k, -1].mean()), first, ceiling, highest)
            score, mmse, calibration = (
                Curve.of_draws(
                    name,
                    way,
                    self._sigma,
                    columns[i, k, :-1] + (more if way in GOALS else 0.0),
                    ceiling,
                    kind="estimate",
                    quadrature_error=np.full(len(self._sigma), gauge) if gauge and way in GOALS else None,
                    draws_per_column=int(allocation.rounds[:, k].sum()),
                )
                for i, way in enumerate((*GOALS, "calibration"))
            )
            found[name] = Gaps(score, mmse, calibration)
        return found

    def state(self) -> dict[str, np.ndarray]:
        """What a later run needs to go on from here."""
        held = {"gaps.piloted": np.stack(self._piloted)} if self._piloted else {}
        held |= {"gaps.done": np.stack(self._done)} if self._done else {}
        return held | {"gaps.position": np.array([len(self._piloted), len(self._done)])}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same study.

        Raises: InputError if it is of another.
        """
        piloted, done = (list(state.get(f"gaps.{x}", ())) for x in ("piloted", "done"))
        draws = 0 if self._pilot is None else int(self._pilot.rounds.sum())
        fits = state.get("gaps.position", np.zeros(0)).tolist() == [len(piloted), len(done)]
        fits = fits and all(x.shape == (3, len(self._ceilings), len(self._sigma) + 1) for x in done)
        fits = fits and all(x.shape == (2, draws) for x in piloted)
        if fits:
            self._piloted, self._done = piloted, done
            self._advise()
            self._top_up()
        if not fits or (done and self.allocation is None) or (piloted and self._pilot is None):
            raise InputError("the checkpoint is not of this study: delete checkpoint*.npz and run again")


def _checked(sigma: Float[np.ndarray, " levels"]) -> Float[np.ndarray, " levels"]:
    """Levels in float64.

    Raises: InputError for none, or some that are not above 0 or do not decrease strictly.
    """
    levels: np.ndarray = np.asarray(sigma, dtype=np.float64)
    good = levels.ndim == 1 and len(levels) > 0 and bool(np.isfinite(levels).all()) and levels[-1] > 0
    if not good or np.any(np.diff(levels) >= 0):
        raise InputError(f"sigma has shape {levels.shape}: expected levels above 0 that decrease strictly")
    return levels
