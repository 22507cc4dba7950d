r"""Score gap and MMSE gap of any denoiser, learned or exact, with calls where they count.

A sample is a value v with its label a, a level and a noise; the denoiser is called without knowledge and, on the same
y, with knowledge of a.  It gives

.. math:: r_1 = \|D_a - D\|^2, \qquad r_2 = \|v - D\|^2 - \|v - D_a\|^2,
          \qquad r_2 - r_1 = 2\langle D_a - D, v - D_a\rangle .

References: Guo, Shamai, Verdú (2005); Franzese et al. (2025).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Curve, Denoiser, InputError, generator
from sigmascope.information import roulette
from sigmascope.information.above import SHOWN, CoarseTopWarning, above
from sigmascope.information.allocation import Survey, allocate, check_aim, survey
from sigmascope.information.choice import DICE, PILOT, SAMPLE, USE, Allocation, Chosen, choose, widths
from sigmascope.information.importance import Draw, Surrogate
from sigmascope.information.topping import further

GOALS = ("score_gap", "mmse_gap")
_OUT_OF_PROPORTION = 20
_NOTHING = 1e-3  # nats: a correction that is not worth its own chance


@dataclass(frozen=True)
class Gaps:
    """Curves of one abstraction, on the same draws; the columns of ``per_draw`` are independent replicates.

    Args:
        score_gap: integral of r1; a bound in neither direction where the denoiser is learned.
        mmse_gap: integral of r2.
        calibration: integral of r2 - r1, with the standard error of the paired difference: 0 if the denoisers are
            true conditional means (and not only then).
    """

    score_gap: Curve
    mmse_gap: Curve
    calibration: Curve


@dataclass(frozen=True, eq=False)
class _Noisy:
    """Draws, in double precision on the CPU, and what a denoiser on a device is given of them."""

    v: Tensor
    y: Tensor
    sigma: Tensor
    labels: Mapping[str, Tensor]
    attribute: Tensor
    device: torch.device

    def of(self, rows: Tensor) -> _Noisy:
        labels = {n: x[rows] for n, x in self.labels.items()}
        return replace(
            self, v=self.v[rows], y=self.y[rows], sigma=self.sigma[rows], labels=labels, attribute=self.attribute[rows]
        )

    def given(self, part: slice) -> tuple[Tensor, Tensor]:
        y = self.y[part].to(self.device)
        return y, self.sigma[part].to(y)


class GapWork:
    r"""Gaps of several abstractions at all levels, a batch of network calls at a time; resumable between batches.

    A pilot, on draws of its own, says where the integrand lies (:mod:`sigmascope.information.allocation`); calls go
    there, as many as ``target_stderr`` or ``budget`` asks for, and more where the error that was found is larger
    (:mod:`sigmascope.information.topping`).  There is no quadrature: levels are drawn.

    Args:
        denoiser: any; rows are float32 or float64 as its parameters are, float64 where it has none, on their device.
        draw: n independent draws of v with labels, from a generator.
        ceilings: H(A) of each abstraction that is measured, by name; NaN of a continuous one.
        sigma: decreasing levels of the curves; they may be few.
        target_stderr: largest standard error of any curve of the goals at any level, nats.
        budget: network calls at most, the pilot's among them; a row of a batch, told nothing or one thing, is one.
        allocation: of another measurement, in place of a pilot: two denoisers are then measured on the same draws.
        goals: which of ``score_gap`` and ``mmse_gap`` calls are allocated for; the latter takes several times as many.
        seed: of all draws.
        batch: rows of one call of the denoiser.
        pilot: samples of each abstraction in the pilot, at first: it grows to a twentieth of the measurement.  Of a
            small budget it takes a quarter, if that is 128 samples.
        top: the highest level at which the denoiser is called, at least the square root of 2 times the first level; for
            a network, within what it was trained on.  None: where the integral above is known to third order.
        guess: whether draws of which a large gap is expected are likelier to be measured, or only levels allocated.

    Raises: InputError for levels, names or an aim that do not fit, or an allocation of other levels or abstractions.

    Valid when: for a learned denoiser, never as a bound; the standard errors hold the error of the draws alone.

    Where the denoiser guesses what it is not told (:mod:`sigmascope.information.roulette`), a guess alone counts for
    its share of a call.

    Cost: two calls a sample of an abstraction; between calls, for each of at least 16 candidates, two products of a
    vector with 64 x 64 numbers for each value of the abstraction.
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
        goals: Sequence[str] = ("score_gap",),
        seed: int = 0,
        batch: int = 256,
        pilot: int = 512,
        top: float | None = None,
        guess: bool = True,
    ) -> None:
        levels = np.asarray(sigma, dtype=np.float64)
        good = levels.ndim == 1 and len(levels) > 0 and bool(np.isfinite(levels).all()) and levels[-1] > 0
        if not good or np.any(np.diff(levels) >= 0):
            raise InputError(f"sigma has shape {levels.shape}: expected levels above 0 that decrease strictly")
        if not ceilings or batch < 1 or pilot < 16 or not goals or not set(goals) <= set(GOALS):
            raise InputError(
                f"{len(ceilings)} abstractions, batch {batch}, pilot {pilot}, goals {', '.join(goals)} came: expected "
                "at least 1, 1 and 16, and goals among score_gap and mmse_gap"
            )
        self._denoiser, self._draw, self._ceilings, self._batch = denoiser, draw, dict(ceilings), batch
        self._target, self._budget, self._goals, self._sigma = target_stderr, budget, tuple(goals), levels
        if allocation is None:
            check_aim(target_stderr, budget)
        else:
            seed = allocation.seed
            if len(allocation.draws) != len(ceilings) or not np.array_equal(allocation.sigma, levels):
                raise InputError("the allocation is of other levels or abstractions: pass those it was made for")
        self._guesser = roulette.guesser(denoiser)
        self._share = 0.0 if self._guesser is None else self._guesser.guess_share
        self._surrogate = Surrogate(draw, list(ceilings), generator(seed, USE, SAMPLE), informed=guess)
        self._done: list[np.ndarray] = []  # of the measurement, (3, abstractions, levels) for each replicate
        self._above: list[np.ndarray] = []  # the same of the cell above all levels alone, (3, abstractions)
        self._spent: list[float] = []  # calls of each of these
        self._piloted: list[np.ndarray] = []  # score, mmse and doubt, (3, draws) for each replicate
        self._survey: Survey | None = None
        self.allocation = allocation
        if allocation is None:
            if budget is not None:
                pilot = max(min(pilot, 128), min(pilot, budget // (8 * len(ceilings))))
            self._survey = survey(self._surrogate, draw, seed, levels, top, pilot)

    @property
    def total(self) -> int:
        """Replicates, the pilot's among them, as far as is known: until the pilot is done the others count as one."""
        first = 0 if self._survey is None else self._survey.pilot.replicates
        return first + (1 if self.allocation is None else self.allocation.measurements)

    @property
    def position(self) -> int:
        """Replicates done."""
        return len(self._piloted) + len(self._done)

    @property
    def done(self) -> bool:
        return self.allocation is not None and len(self._done) >= self.allocation.measurements

    @property
    def calls(self) -> int:
        """Network calls made, the pilot's among them."""
        pilot = 0 if self._survey is None else 2 * int(self._survey.pilot.draws.sum()) * len(self._piloted)
        return pilot + int(np.ceil(sum(self._spent)))

    def step(self) -> None:
        """Measure the next replicates: as many as make one batch, or one that is larger."""
        if self.allocation is None:
            assert self._survey is not None
            pilot = self._survey.pilot
            for k in self._next(len(self._piloted), pilot):
                draws = self._noisy([choose(self._surrogate, self._draw, pilot, PILOT, k)])
                doubt, guessed = self._doubts(draws)
                self._piloted.append(np.stack([*self._gaps(draws, guessed), doubt]))
            self._advise()
            return
        ways = [self.allocation.at(k) for k in self._next(len(self._done), self.allocation)]
        chosen = [choose(self._surrogate, self._draw, *way) for way in ways]
        draws, ends = self._noisy(chosen), np.cumsum([len(c.weight) for c in chosen])[:-1]
        doubts, guessed = self._doubts(draws)
        played = [self._played(*x) for x in zip(ways, chosen, np.split(doubts, ends), strict=True)]
        chance, kept = (np.concatenate(x) for x in zip(*played, strict=True))
        where = torch.from_numpy(np.flatnonzero(kept))
        values = np.zeros((3, len(kept)))
        score, mmse = self._gaps(draws.of(where), {n: q[where] for n, q in guessed.items()})
        values[:, kept] = np.stack([score, mmse, mmse - score]) / chance[kept]
        for c, mine, (_, told) in zip(chosen, np.split(values, ends, 1), played, strict=True):
            above = c.sigma.numpy() >= self._sigma[:, None] * (1 - 1e-12)
            of = np.arange(len(self._ceilings))[:, None] == c.attribute
            self._done.append(np.einsum("wd,ad,ld->wal", mine * c.weight, of, above))
            self._above.append(np.einsum("wd,ad->wa", mine * c.weight * (c.cell == ways[0][0].tail), of))
            self._spent.append(2.0 * told.sum() + self._share * (~told).sum())
        self._top_up()

    def _top_up(self) -> None:
        """One round more where all is measured and a standard error is larger than was asked for."""
        while self._target is not None and self._survey is not None and self.done:
            assert self.allocation is not None
            columns = self.allocation.joined(np.stack(self._done[: self.allocation.measurements]))
            more = further(self.allocation, columns[:, [GOALS.index(g) for g in self._goals]], self._target)
            if more is None:
                return
            self.allocation = more

    @staticmethod
    def _played(way: tuple[Allocation, int, int], c: Chosen, doubt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The chances of a replicate's draws to be measured, and which are."""
        a, use, replicate = way
        of = c.attribute, c.cell
        expected = roulette.expected(doubt, a.doubt[of], c.weight * a.draws[of[0]], (a.mass / widths(a.edges))[of])
        chance = roulette.chance(expected, a.rate[c.attribute])
        start = torch.rand(len(a.draws), generator=generator(a.seed, USE, use, replicate, DICE), dtype=torch.float64)
        return chance, roulette.kept(chance, c.attribute, start.numpy())

    def _next(self, first: int, allocation: Allocation) -> range:
        """Of the same draws each, as many as make a batch."""
        draws = int(allocation.at(first)[0].draws.sum())
        return range(first, min(first + max(1, self._batch // draws), allocation.alike(first)))

    def _advise(self) -> None:
        """Allocate from the pilot; double it first while the measurement would be out of proportion to it."""
        while self.allocation is None and self._survey and len(self._piloted) >= self._survey.pilot.replicates:
            pilot = self._survey.pilot
            chosen = [choose(self._surrogate, self._draw, pilot, PILOT, k) for k in range(pilot.replicates)]
            found = np.concatenate(self._piloted[: pilot.replicates], 1)
            goals = [GOALS.index(g) for g in self._goals]
            of = [np.concatenate([c.attribute for c in chosen]) == k for k in range(len(self._ceilings))]
            advised = allocate(
                self._survey,
                chosen,
                [found[goals][:, k] for k in of],
                [found[2, k] for k in of],
                share=self._share,
                target_stderr=self._target,
                budget=self._budget,
            )
            if advised.calls > _OUT_OF_PROPORTION * advised.pilot_calls:
                self._survey = replace(self._survey, pilot=replace(pilot, replicates=2 * pilot.replicates))
            else:
                self.allocation = advised

    def _noisy(self, chosen: Sequence[Chosen]) -> _Noisy:
        """Draws as the denoiser is given them."""
        draws = Chosen.together(chosen)
        v, sigma, labels = draws.v.double(), draws.sigma, {n: draws.labels[n] for n in self._ceilings}
        y = v + sigma.reshape(-1, *[1] * (v.ndim - 1)) * draws.noise
        attribute = torch.from_numpy(draws.attribute)
        first = next(self._denoiser.parameters(), None)
        dtype = torch.float64 if first is None else first.dtype
        place = first if first is not None else next(self._denoiser.buffers(), None)
        return _Noisy(
            v.flatten(1), y.to(dtype), sigma, labels, attribute, torch.device("cpu") if place is None else place.device
        )

    def _doubts(self, draws: _Noisy) -> tuple[np.ndarray, dict[str, Tensor]]:
        """Of the model's guess in each draw's own value, one and the same where it makes none; and the guesses."""
        right, parts = np.zeros(len(draws.y)), []
        if self._guesser is None:
            return roulette.doubted(right), {}
        for part in self._parts(draws):
            parts.append(self._guesser.guesses(*draws.given(part)))
        guessed = {n: torch.cat([q[n] for q in parts]) for n in parts[0]}
        for k, (n, label) in enumerate(draws.labels.items()):
            mine = torch.nonzero(draws.attribute == k)[:, 0]
            if n in guessed:
                right[mine.numpy()] = guessed[n].cpu().double()[mine, label[mine]].numpy()
        return roulette.doubted(right), guessed

    def _gaps(self, draws: _Noisy, guessed: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """r1 and r2 over sigma squared of each draw's own abstraction."""
        free, told = torch.empty_like(draws.v), torch.empty_like(draws.v)
        for part in self._parts(draws):
            rows = {n: torch.nonzero(draws.attribute[part] == k)[:, 0] for k, n in enumerate(draws.labels)}
            known = {n: (r, draws.labels[n][part][r]) for n, r in rows.items() if len(r)}
            y, sigma = draws.given(part)
            asked: list[tuple[Tensor, dict[str, Tensor]]] = [(torch.arange(len(y), device=y.device), {})]
            asked += [(r.to(y.device), {n: label.to(y.device)}) for n, (r, label) in known.items()]
            with torch.no_grad():
                if self._guesser is not None:
                    means = self._guesser.answers(y, sigma, asked, {n: q[part] for n, q in guessed.items()})
                else:
                    means = [self._denoiser(y[r], sigma[r], of or None) for r, of in asked]
            free[part], *means = [mean.to("cpu", torch.float64).flatten(1) for mean in means]
            for (r, _), mean in zip(known.values(), means, strict=True):
                told[part.start + r] = mean
        score = ((told - free) ** 2).sum(1) / draws.sigma**2
        mmse = (((draws.v - free) ** 2).sum(1) - ((draws.v - told) ** 2).sum(1)) / draws.sigma**2
        return score.numpy(), mmse.numpy()

    def _parts(self, draws: _Noisy) -> list[slice]:
        return [slice(i, i + self._batch) for i in range(0, len(draws.y), self._batch)]

    def curves(self) -> dict[str, Gaps]:
        """The curves of each abstraction, once all is done.

        The integral above the levels is corrected for what one level of it leaves out
        (:mod:`sigmascope.information.above`); the gauge of what is left is in ``quadrature_error``.

        Raises: InputError if it is not.
        Warns: CoarseTopWarning where the correction or the gauge is more than a hundredth of H(A).
        """
        if not self.done:
            raise InputError(f"{self.position} of {self.total} replicates are done: call step() until done")
        assert self.allocation is not None
        columns, found = np.moveaxis(self.allocation.joined(np.stack(self._done)), 0, -1), {}
        for k, (name, ceiling) in enumerate(self._ceilings.items()):
            more, gauge = self._left_out(k, name, ceiling)
            score, mmse = (
                Curve.of_draws(
                    name,
                    way,
                    self._sigma,
                    columns[i, k] + more,
                    ceiling,
                    kind="estimate",
                    quadrature_error=np.full(len(self._sigma), gauge) if gauge else None,
                )
                for i, way in enumerate(GOALS)
            )
            calibration = Curve.of_draws(name, "calibration", self._sigma, columns[2, k], ceiling, kind="estimate")
            found[name] = Gaps(score, mmse, calibration)
        return found

    def _left_out(self, k: int, name: str, ceiling: float) -> tuple[float, float]:
        """What the one level above the cells leaves out of the k-th abstraction's integral, and the gauge of that."""
        assert self.allocation is not None
        squared = 2.0 * np.exp(2.0 * self.allocation.edges[0])
        more, gauge = above(
            float(self.allocation.joined(np.stack(self._above)).mean(0)[0, k]),
            self._surrogate.spread[name] / squared,
            ceiling,
        )
        if max(more, gauge) < _NOTHING:
            return 0.0, 0.0
        if max(more, gauge) > SHOWN * ceiling:
            warnings.warn(
                f"{name}: the denoiser is asked at no level above {squared**0.5:.3g}, where {100 * more / ceiling:.1f} "
                f"± {100 * gauge / ceiling:.1f} % of H(A) is left out of the integral and was put in by its series: "
                "begin at a higher level, or train to one",
                CoarseTopWarning,
                stacklevel=3,
            )
        return more, gauge

    def state(self) -> dict[str, np.ndarray]:
        """What a later run needs to go on from here."""
        held = {"gaps.piloted": np.stack(self._piloted)} if self._piloted else {}
        if self._done:
            held |= {"gaps.done": np.stack(self._done), "gaps.spent": np.array(self._spent)}
            held |= {"gaps.above": np.stack(self._above)}
        return held | {"gaps.position": np.array([len(self._piloted), len(self._done)])}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same study.

        Raises: InputError if it is of another.
        """
        piloted, done, spent, over = (list(state.get(f"gaps.{x}", ())) for x in ("piloted", "done", "spent", "above"))
        shape = (3, len(self._ceilings), len(self._sigma))
        counts = state.get("gaps.position", np.zeros(0)).tolist()
        fits = counts == [len(piloted), len(done)] and len(spent) == len(done) == len(over)
        fits = fits and all(x.shape == shape for x in done)
        draws = 0 if self._survey is None else int(self._survey.pilot.draws.sum())
        fits = fits and all(x.shape == (3, draws) for x in piloted)
        if fits:
            self._piloted, self._done, self._spent, self._above = piloted, done, spent, over
            self._advise()
            self._top_up()
        if not fits or (done and self.allocation is None) or (piloted and self._survey is None):
            raise InputError("the checkpoint is not of this study: delete checkpoint*.npz and run again")


def measure_gaps(
    denoiser: Denoiser,
    draw: Draw,
    ceilings: Mapping[str, float],
    sigma: Float[np.ndarray, " levels"],
    *,
    target_stderr: float | None = None,
    budget: int | None = None,
    seed: int = 0,
    batch: int = 256,
) -> dict[str, Gaps]:
    """All of a :class:`GapWork`, at once; arguments as there."""
    work = GapWork(denoiser, draw, ceilings, sigma, target_stderr=target_stderr, budget=budget, seed=seed, batch=batch)
    while not work.done:
        work.step()
    return work.curves()
