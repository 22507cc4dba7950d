r"""Score gap and MMSE gap of any denoiser, learned or exact, with calls where they count.

A sample is a value v with its label a, a level and a noise; the denoiser is called without knowledge and, on the same
y, with knowledge of a.  It gives

.. math:: r_1 = \|D_a - D\|^2, \qquad r_2 = \|v - D\|^2 - \|v - D_a\|^2,
          \qquad r_2 - r_1 = 2\langle D_a - D, v - D_a\rangle .

References: Guo, Shamai, Verdú (2005); Franzese et al. (2025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Curve, Denoiser, InputError, generator
from sigmascope.information.allocation import Survey, allocate, check_aim, survey
from sigmascope.information.choice import MAIN, PILOT, SAMPLE, USE, Allocation, Chosen, choose
from sigmascope.information.importance import Draw, Surrogate

GOALS = ("score_gap", "mmse_gap")
_OUT_OF_PROPORTION = 20


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


@runtime_checkable
class Answers(Protocol):
    """Denoisers that make something of y before they are told anything, and do so once for several questions."""

    def answers(
        self, y: Tensor, sigma: Tensor, questions: Sequence[tuple[Tensor, Mapping[str, Tensor]]]
    ) -> list[Tensor]:
        """E[V | Y_sigma = y, what is known] of the rows of each question."""
        ...


class GapWork:
    r"""Gaps of several abstractions at all levels, a batch of network calls at a time; resumable between batches.

    A pilot, on draws of its own, says where the integrand lies (:mod:`sigmascope.information.allocation`); calls go
    there, as many as ``target_stderr`` or ``budget`` asks for.  There is no quadrature: levels are drawn.

    Args:
        denoiser: any; rows are float32 or float64 as its parameters are, float64 where it has none, on their device.
        draw: n independent draws of v with labels, from a generator.
        ceilings: H(A) of each abstraction that is measured, by name; NaN of a continuous one.
        sigma: decreasing levels of the curves; they may be few.
        target_stderr: largest standard error of any curve of the goals at any level, nats, as the pilot predicts it.
        budget: network calls at most, the pilot's among them; a row of a batch, told nothing or one thing, is one.
        allocation: of another measurement, in place of a pilot: two denoisers are then measured on the same draws.
        goals: which of ``score_gap`` and ``mmse_gap`` calls are allocated for; the latter takes several times as many.
        seed: of all draws.
        batch: rows of one call of the denoiser.
        pilot: samples of each abstraction in the pilot, at first: it grows to a twentieth of the measurement.
        top: the highest level at which the denoiser is called, at least the square root of 2 times the first level; for
            a network, within what it was trained on.  None: where the integral above is known to third order.
        guess: whether draws of which a large gap is expected are likelier to be measured, or only levels allocated.

    Raises: InputError for levels, names or an aim that do not fit, or an allocation of other levels or abstractions.

    Valid when: for a learned denoiser, never as a bound; the standard errors hold the error of the draws alone.

    Cost: two calls a sample of an abstraction; between calls, for each of at least 16 candidates, two products of a
    vector with 64 x 64 numbers for each value of all abstractions.
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
        self._surrogate = Surrogate(draw, list(ceilings), generator(seed, USE, SAMPLE), informed=guess)
        self._done: list[np.ndarray] = []  # of the measurement, (3, abstractions, levels) for each replicate
        self._piloted: list[np.ndarray] = []  # (2, draws) for each replicate
        self._survey: Survey | None = None
        self.allocation = allocation
        if allocation is None:
            self._survey = survey(self._surrogate, draw, seed, levels, top, pilot)

    @property
    def total(self) -> int:
        """Replicates, the pilot's among them; until the pilot is done those of the measurement count as one."""
        first = 0 if self._survey is None else self._survey.pilot.replicates
        return first + (1 if self.allocation is None else self.allocation.replicates)

    @property
    def position(self) -> int:
        """Replicates done."""
        return len(self._piloted) + len(self._done)

    @property
    def done(self) -> bool:
        return self.allocation is not None and len(self._done) >= self.allocation.replicates

    @property
    def calls(self) -> int:
        """Network calls made, the pilot's among them."""
        pilot = 0 if self._survey is None else self._survey.pilot.per_replicate * len(self._piloted)
        main = 0 if self.allocation is None else self.allocation.per_replicate * len(self._done)
        return pilot + main

    def step(self) -> None:
        """Measure the next replicates: as many as make one batch, or one that is larger."""
        if self.allocation is None:
            assert self._survey is not None
            pilot = self._survey.pilot
            for k in self._next(len(self._piloted), pilot):
                self._piloted.append(np.stack(self._gaps([choose(self._surrogate, self._draw, pilot, PILOT, k)])))
            self._advise()
            return
        a = self.allocation
        chosen = [choose(self._surrogate, self._draw, a, MAIN, k) for k in self._next(len(self._done), a)]
        score, mmse = self._gaps(chosen)
        values = np.stack([score, mmse, mmse - score])
        for k, c in enumerate(chosen):
            part = slice(k * len(c.weight), (k + 1) * len(c.weight))
            above = c.sigma.numpy() >= self._sigma[:, None] * (1 - 1e-12)
            of = np.arange(len(self._ceilings))[:, None] == c.attribute
            self._done.append(np.einsum("wd,ad,ld->wal", values[:, part] * c.weight, of, above))

    def _next(self, first: int, allocation: Allocation) -> range:
        return range(first, min(first + max(1, self._batch // int(allocation.draws.sum())), allocation.replicates))

    def _advise(self) -> None:
        """Allocate from the pilot; double it first while the measurement would be out of proportion to it."""
        while self.allocation is None and self._survey and len(self._piloted) >= self._survey.pilot.replicates:
            pilot = self._survey.pilot
            chosen = [choose(self._surrogate, self._draw, pilot, PILOT, k) for k in range(pilot.replicates)]
            gaps = np.concatenate(self._piloted[: pilot.replicates], 1)[[GOALS.index(g) for g in self._goals]]
            of = np.concatenate([c.attribute for c in chosen])
            wanted = [gaps[:, of == k] for k in range(len(self._ceilings))]
            advised = allocate(self._survey, chosen, wanted, target_stderr=self._target, budget=self._budget)
            if advised.calls > _OUT_OF_PROPORTION * advised.pilot_calls:
                self._survey = replace(self._survey, pilot=replace(pilot, replicates=2 * pilot.replicates))
            else:
                self.allocation = advised

    def _gaps(self, chosen: Sequence[Chosen]) -> tuple[np.ndarray, np.ndarray]:
        """r1 and r2 over sigma squared of each draw's own abstraction."""
        v, noise = (
            torch.cat([x.flatten(1) for x in parts]) for parts in ([c.v for c in chosen], [c.noise for c in chosen])
        )
        sigma = torch.cat([c.sigma for c in chosen])
        labels = {n: torch.cat([c.labels[n] for c in chosen]) for n in self._ceilings}
        attribute = torch.from_numpy(np.concatenate([c.attribute for c in chosen]))
        v = v.double()
        y = (v + sigma[:, None] * noise).reshape(-1, *chosen[0].v.shape[1:])
        free, told = torch.empty_like(v), torch.empty_like(v)
        for start in range(0, len(y), self._batch):
            part = slice(start, start + self._batch)
            rows = {n: torch.nonzero(attribute[part] == k)[:, 0] for k, n in enumerate(labels)}
            known = {n: (r, labels[n][part][r]) for n, r in rows.items() if len(r)}
            free[part], *means = self._called(y[part], sigma[part], known)
            for (r, _), mean in zip(known.values(), means, strict=True):
                told[start + r] = mean
        score = ((told - free) ** 2).sum(1) / sigma**2
        mmse = (((v - free) ** 2).sum(1) - ((v - told) ** 2).sum(1)) / sigma**2
        return score.numpy(), mmse.numpy()

    def _called(
        self, y: Tensor, sigma: Tensor, known: Mapping[str, tuple[Tensor, Tensor]]
    ) -> list[Float[Tensor, "rows size"]]:
        """What the denoiser says of a batch when it is told nothing, and of the rows whose labels are given."""
        first = next(self._denoiser.parameters(), None)
        dtype = torch.float64 if first is None else first.dtype
        place = first if first is not None else next(self._denoiser.buffers(), None)
        device = torch.device("cpu") if place is None else place.device
        asked: list[tuple[Tensor, dict[str, Tensor]]] = [(torch.arange(len(y), device=device), {})]
        asked += [(rows.to(device), {n: label.to(device)}) for n, (rows, label) in known.items()]
        with torch.no_grad():
            y, sigma = y.to(device, dtype), sigma.to(device, dtype)
            if isinstance(self._denoiser, Answers):
                means = self._denoiser.answers(y, sigma, asked)
            else:
                means = [self._denoiser(y[r], sigma[r], of or None) for r, of in asked]
        return [mean.to("cpu", torch.float64).flatten(1) for mean in means]

    def curves(self) -> dict[str, Gaps]:
        """The curves of each abstraction, once all is done.

        Raises: InputError if it is not.
        """
        if not self.done:
            raise InputError(f"{self.position} of {self.total} replicates are done: call step() until done")
        columns, found = np.stack(self._done, -1), {}
        for k, (name, ceiling) in enumerate(self._ceilings.items()):
            score, mmse, calibration = (
                Curve.of_draws(name, way, self._sigma, columns[i, k], ceiling, kind="estimate")
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
        piloted, done = list(state.get("gaps.piloted", ())), list(state.get("gaps.done", ()))
        shape = (3, len(self._ceilings), len(self._sigma))
        counts = state.get("gaps.position", np.zeros(0)).tolist()
        fits = counts == [len(piloted), len(done)] and all(x.shape == shape for x in done)
        draws = 0 if self._survey is None else int(self._survey.pilot.draws.sum())
        fits = fits and all(x.shape == (2, draws) for x in piloted)
        if fits:
            self._piloted, self._done = piloted, done
            self._advise()
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
