r"""Score gap and MMSE gap of any denoiser, exact or learned, at draws that an allocation chooses.

A draw is a value v with its label a, a noise and a level.  At :math:`y = v + \sigma n` the denoiser is called twice,
unconditionally (D) and given a (:math:`D_a`):

.. math:: r_1 = \|D_a - D\|^2, \qquad r_2 = \|v - D\|^2 - \|v - D_a\|^2,
          \qquad r_2 - r_1 = 2\langle D_a - D, v - D_a\rangle .

For true conditional means :math:`r_1` and :math:`r_2` have the same mean.  The integral of either over σ², over ln σ,
is the information.  References: Guo, Shamai, Verdú (2005); Franzese et al. (2025).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float

import sigmascope.distributed as distributed
from sigmascope.core import Denoiser, InputError, generator
from sigmascope.information.allocation import MAIN, PILOT, Allocation, allocate, choose, further, plan
from sigmascope.information.direct import gaps_of_draws
from sigmascope.information.gaps import GAPS, Gaps, gaps_of_columns
from sigmascope.information.importance import Draw, Surrogate
from sigmascope.information.jobs.units import Units
from sigmascope.information.parts import Arrays, Parts
from sigmascope.information.problem import checked_levels
from sigmascope.streams import Use

_OUT_OF_PROPORTION = 8  # most calls of the first round for each of the pilot: beyond, the pilot is doubled
_PILOT = 512  # draws of each attribute in the pilot at first
_PHASE = "gaps.phase"  # in a checkpoint
_SHARED = 8  # units at least of the pilot and of a round
_LITTLE = 128  # fewest of them, one column; a small budget spends a quarter on the pilot


class GapJob:
    r"""Gaps of several attributes at all levels, a batch of network calls at a time; resumable between batches, and
    shared by the ranks of a run.

    A pilot shows where the integrand lies (:mod:`sigmascope.information.allocation`).  Then as many calls are made
    there as ``target_stderr`` or ``budget`` asks for, and more where the standard error comes out larger.

    Raises: InputError for levels, names or an aim that do not fit, or an allocation of other levels or attributes.

    Valid when: for a learned denoiser, never as a bound; the standard errors hold the error of the draws alone.

    Cost: two calls a draw of an attribute; between calls, e of at least 16 candidates.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        draw: Draw,
        ceilings: Mapping[str, float],  # H(A) of each attribute, NaN of a continuous one
        sigma: Float[np.ndarray, " levels"],  # decreasing; they may be few, since levels are drawn
        *,
        target_stderr: float | None = None,  # the largest of the goal's curves at any level, nats
        budget: int | None = None,  # most network calls, the pilot's among them; each row of a batch is one
        allocation: Allocation | None = None,  # of another measurement: both are then on the same draws
        goal: str = "score_gap",  # or mmse_gap, which takes several times as many calls
        seed: int = 0,
        batch: int = 256,  # rows of one call of the denoiser
        pilot: int = _PILOT,  # draws of each attribute at first; it grows to an eighth of the first round
        top: float | None = None,  # highest level of a call; None: where the integral above is known to third order
        informed: bool = True,  # whether draws with a large expected gap are likelier to be measured
    ) -> None:
        levels = checked_levels(sigma)
        if not ceilings or batch < 1 or pilot < 16 or goal not in GAPS:
            raise InputError(
                f"{len(ceilings)} attributes, batch {batch}, pilot {pilot}, goal {goal} came: expected at least 1, 1 "
                "and 16, and a goal among score_gap and mmse_gap"
            )
        self._denoiser, self._draw, self._ceilings, self._batch = denoiser, draw, dict(ceilings), batch
        self._target, self._budget, self._goal, self._sigma = target_stderr, budget, list(GAPS).index(goal), levels
        aims = [x for x in (target_stderr, budget) if x is not None]
        if allocation is None and (len(aims) != 1 or not aims[0] > 0):
            raise InputError(f"target_stderr is {target_stderr} and budget {budget}: pass one of them, above 0")
        if allocation and not (len(allocation.share) == len(ceilings) and np.array_equal(allocation.sigma, levels)):
            raise InputError("the allocation is of other levels or attributes: pass those it was made for")
        seed = allocation.seed if allocation else seed
        self._surrogate = Surrogate(draw, list(ceilings), generator(seed, Use.GAPS), informed=informed)
        self._piloted: list[np.ndarray] = []  # r1 and r2 over sigma squared in each column of the pilot, (2, draws)
        # In each column of each round: score gap, MMSE gap and their difference, (3, attributes, levels), the last of
        # the levels one that the cell above all levels alone is above.
        self._measured: list[np.ndarray] = []
        self._pilot: Allocation | None = None
        self._curves: dict[str, Gaps] | None = None
        self._phase: _Phase | None = None  # the pilot or the round under way
        self.allocation = allocation
        if allocation is None:
            if budget is not None:
                pilot = max(min(pilot, _LITTLE), min(pilot, budget // (8 * len(ceilings))))
            self._pilot = plan(self._surrogate, draw, seed, levels, top, pilot)

    restored_together = True

    @property
    def total(self) -> int:
        """Columns of the pilot and of the rounds; until the pilot is done the rounds count as one column."""
        first = 0 if self._pilot is None else self._pilot.columns
        return first + (1 if self.allocation is None else self.allocation.measurements)

    @property
    def position(self) -> int:
        """Columns done; those of a round that other ranks do count once the round is done."""
        return len(self._piloted) + len(self._measured) + (0 if self._phase is None else self._phase.columns_done)

    @property
    def done(self) -> bool:
        return self.allocation is not None and len(self._measured) >= self.allocation.measurements

    @property
    def calls(self) -> int:
        """Network calls made, the pilot's among them."""
        draws = 0 if self._pilot is None else int(self._pilot.rounds.sum()) * len(self._piloted)
        if self.allocation is not None:
            draws += int(np.repeat(self.allocation.rounds.sum(1), self.allocation.columns)[: len(self._measured)].sum())
        return 2 * draws

    def step(self) -> None:
        """Measure the next draws of this rank; at the end of the pilot or of a round, wait for the other ranks."""
        if self._phase is None:
            self._phase = self._next_phase()
        if not self._phase.done:
            self._phase.step()
        if not self._phase.done:
            return
        columns = [c for unit in self._phase.units() for c in unit["columns"]]
        self._phase = None
        if self.allocation is None:
            self._piloted += columns
            self._allocate()
        else:
            self._measured += columns
            self._top_up()

    def _next_phase(self) -> _Phase:
        """The columns of the pilot or of a round that are not yet measured."""
        pilot, a = self.allocation is None, self.allocation or self._pilot
        assert a is not None
        k, first = divmod(len(self._piloted if pilot else self._measured), a.columns)
        return _Phase(range(first, a.columns), int(a.rounds[k].sum()), self._batch, partial(self._measure, pilot, a, k))

    def _measure(self, pilot: bool, a: Allocation, k: int, columns: range, held: Arrays) -> Parts[Arrays]:
        """Some columns of the pilot or of the round k."""
        chosen = choose(self._surrogate, self._draw, a, PILOT if pilot else MAIN + k, columns)
        gaps = yield from gaps_of_draws(self._denoiser, chosen, list(self._ceilings), self._batch, held)
        score, mmse = gaps
        if pilot:
            return {"columns": np.stack([np.stack([score, mmse])[:, chosen.column == column] for column in columns])}
        values = np.stack([score, mmse, mmse - score]) * chosen.weight
        levels = np.append(self._sigma * (1 - 1e-12), np.exp(a.edges[0]) * (1 + 1e-9))
        above, attributes = chosen.sigma.numpy() >= levels[:, None], np.arange(len(self._ceilings))[:, None]
        each = []
        for column in columns:
            rows = (attributes == chosen.attribute) & (column == chosen.column)
            each.append(np.einsum("wd,ad,ld->wal", values, rows, above))
        return {"columns": np.stack(each)}

    def _allocate(self) -> None:
        """Allocate from the pilot; double it first while the measurement would be out of proportion to it."""
        while self.allocation is None and self._pilot and len(self._piloted) >= self._pilot.columns:
            pilot = self._pilot
            chosen = choose(self._surrogate, self._draw, pilot, PILOT, range(pilot.columns))
            gaps = np.concatenate(self._piloted[: pilot.columns], 1)[self._goal]
            advised = allocate(pilot, chosen, gaps, self._target, self._budget)
            if advised.calls > _OUT_OF_PROPORTION * advised.pilot_calls:
                self._pilot = replace(pilot, columns=2 * pilot.columns)
            else:
                self.allocation = advised

    def _top_up(self) -> None:
        """Add a round where all is measured and a standard error is above the target."""
        while self._target is not None and self._pilot is not None and self.allocation is not None and self.done:
            added = further(self.allocation, self._columns(self.allocation)[:, self._goal, :, :-1], self._target)
            if added is None:
                return
            self.allocation = added

    def _columns(self, a: Allocation) -> Float[np.ndarray, "columns ways attributes levels"]:
        """Means over rounds, weighted by draws."""
        each = np.stack(self._measured[: a.measurements])
        by_round = each.reshape(len(a.rounds), a.columns, *each.shape[1:])
        return np.asarray(np.einsum("ra,rcwal->cwal", a.rounds / a.rounds.sum(0), by_round))

    def curves(self) -> dict[str, Gaps]:
        """The curves of each attribute, with the correction and the gauge of :mod:`sigmascope.information.above`.

        Raises: InputError before all is done.
        Warns: CoarseTopWarning where the correction or the gauge is more than a hundredth of H(A).
        """
        if self.allocation is None or not self.done:
            raise InputError(f"{self.position} of {self.total} columns are done: call step() until done")
        if self._curves is None:  # made once: several estimators ask, and one warning is enough
            a, columns = self.allocation, np.moveaxis(self._columns(self.allocation), 0, -1)
            top, sizes = float(np.exp(a.edges[0])), a.rounds.sum(0).tolist()
            with warnings.catch_warnings():
                if distributed.rank():  # said once
                    warnings.simplefilter("ignore")
                self._curves = {
                    n: gaps_of_columns(
                        n, h, self._sigma, columns[:, k], sizes[k], self._surrogate.spread[n], top * 2**0.5
                    )
                    for k, (n, h) in enumerate(self._ceilings.items())
                }
        return self._curves

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which a later run goes on."""
        held = {"gaps.piloted": np.stack(self._piloted)} if self._piloted else {}
        held |= {"gaps.measured": np.stack(self._measured)} if self._measured else {}
        held |= {} if self._phase is None else self._phase.state()
        return held | {"gaps.position": np.array([len(self._piloted), len(self._measured)])}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same study; every rank must call it, with an empty state where it has none.

        What is done of the pilot and of the rounds every rank takes from the one that is furthest.

        Raises: InputError if it is of another.
        """
        piloted, measured = (list(state.get(f"gaps.{x}", ())) for x in ("piloted", "measured"))
        own = len(piloted) + len(measured)
        each = distributed.gathered(own)
        if min(each) != max(each):
            ahead = each.index(max(each))
            lists = distributed.gathered((piloted, measured) if distributed.rank() == ahead else ([], []))
            piloted, measured = lists[ahead]
        draws = 0 if self._pilot is None else int(self._pilot.rounds.sum())
        shapes = [(2, draws)] * len(piloted) + [(3, len(self._ceilings), len(self._sigma) + 1)] * len(measured)
        counts = [len(piloted), len(measured)]
        fits = not state or state.get("gaps.position", np.zeros(0)).tolist() == counts or own != sum(counts)
        fits = fits and [x.shape for x in (*piloted, *measured)] == shapes
        if fits:
            self._piloted, self._measured = piloted, measured
            self._allocate()
            self._top_up()
        if not fits or (measured and self.allocation is None) or (piloted and self._pilot is None):
            raise InputError("the checkpoint is not of this study: delete checkpoint*.npz and run again")
        if own == sum(counts) and f"{_PHASE}.units" in state and not self.done:
            self._phase = self._next_phase()
            self._phase.restore(state)


class _Phase(Units):
    """The pilot or a round: some of its columns at a time, in as many units as ranks may share.

    Args:
        columns: to be measured.
        draws: of each.
        batch: rows of a call of the network.
        measure: gives these columns in parts.
    """

    def __init__(
        self, columns: range, draws: int, batch: int, measure: Callable[[range, Arrays], Parts[Arrays]]
    ) -> None:
        size = int(np.clip(batch // (2 * draws), 1, -(-len(columns) // _SHARED)))
        self._columns = [columns[i : i + size] for i in range(0, len(columns), size)]
        self._measure = measure
        super().__init__(_PHASE, len(self._columns), [float(len(c)) for c in self._columns])

    def _unit(self, number: int, held: Arrays) -> Parts[Arrays]:
        return self._measure(self._columns[number], held)

    @property
    def columns_done(self) -> int:
        """Columns that this rank has measured."""
        return sum(len(unit["columns"]) for unit in self.results)
