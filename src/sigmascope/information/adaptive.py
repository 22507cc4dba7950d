r"""Score gap and MMSE gap of any denoiser, learned or exact, with calls where they count.

A sample is a value v with its labels a, a level and a noise; the denoiser is called once without knowledge and once for
each abstraction, on the same y.  It gives

.. math:: r_1 = \|D_a - D\|^2, \qquad r_2 = \|v - D\|^2 - \|v - D_a\|^2,
          \qquad r_2 - r_1 = 2\langle D_a - D, v - D_a\rangle .

References: Guo, Shamai, Verdú (2005); Franzese et al. (2025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Curve, Denoiser, InputError, generator
from sigmascope.information.allocation import (
    MAIN,
    PILOT,
    SAMPLE,
    USE,
    Allocation,
    Chosen,
    allocate,
    check_aim,
    choose,
    survey,
)
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
        budget: network calls at most, the pilot's among them; a row of a batch is one.
        allocation: of another measurement, in place of a pilot: two denoisers are then measured on the same draws.
        goals: which of ``score_gap`` and ``mmse_gap`` calls are allocated for; the latter takes several times as many.
        seed: of all draws.
        batch: rows of one call of the denoiser.
        pilot: samples of the pilot, at first: it grows to a twentieth of the measurement.
        top: the highest level at which the denoiser is called, at least the square root of 2 times the first level; for
            a network, within what it was trained on.  None: where the integral above is known to third order.
        guess: whether draws of which a large gap is expected are likelier to be measured, or only levels allocated.

    Raises: InputError for levels, names or an aim that do not fit, or an allocation of other levels or abstractions.

    Valid when: for a learned denoiser, never as a bound; the standard errors hold the error of the draws alone.

    Cost: 1 + abstractions calls a sample; between calls, a matrix product of 16 candidates with 4096 items.
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
            if len(allocation.weights) != len(ceilings) or not np.array_equal(allocation.sigma, levels):
                raise InputError("the allocation is of other levels or abstractions: pass those it was made for")
        self._surrogate = Surrogate(draw, list(ceilings), generator(seed, USE, SAMPLE), informed=guess)
        self._done: list[np.ndarray] = []  # of the measurement, (3, abstractions, levels) for each replicate
        self._piloted: list[np.ndarray] = []  # (2, abstractions, draws) for each replicate
        self._pilot: Allocation | None = None
        self.allocation = allocation
        if allocation is None:
            self._pilot = survey(self._surrogate, draw, seed, levels, top, pilot)

    @property
    def total(self) -> int:
        """Replicates, the pilot's among them; until the pilot is done those of the measurement count as one."""
        first = 0 if self._pilot is None else self._pilot.replicates
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
        pilot = 0 if self._pilot is None else self._pilot.size * len(self._piloted)
        main = 0 if self.allocation is None else self.allocation.size * len(self._done)
        return (pilot + main) * (1 + len(self._ceilings))

    def step(self) -> None:
        """Measure the next replicates: as many as make one batch, or one that is larger."""
        if self.allocation is None:
            pilot = self._pilot
            assert pilot is not None
            for k in self._next(len(self._piloted), pilot):
                self._piloted.append(np.stack(self._gaps([choose(self._surrogate, self._draw, pilot, PILOT, k)])))
            self._advise()
            return
        a = self.allocation
        chosen = [choose(self._surrogate, self._draw, a, MAIN, k) for k in self._next(len(self._done), a)]
        score, mmse = self._gaps(chosen)
        values = np.stack([score, mmse, mmse - score])
        for k, c in enumerate(chosen):
            part = slice(k * a.size, (k + 1) * a.size)
            above = c.sigma.numpy() >= self._sigma[:, None] * (1 - 1e-12)
            self._done.append((values[:, :, part] * c.weight) @ above.T)

    def _next(self, first: int, allocation: Allocation) -> range:
        return range(first, min(first + max(1, self._batch // allocation.size), allocation.replicates))

    def _advise(self) -> None:
        """Allocate from the pilot; double it first while the measurement would be out of proportion to it."""
        while self.allocation is None and self._pilot is not None and len(self._piloted) >= self._pilot.replicates:
            pilot = self._pilot
            chosen = [choose(self._surrogate, self._draw, pilot, PILOT, k) for k in range(pilot.replicates)]
            gaps = np.concatenate(self._piloted[: pilot.replicates], 2)
            wanted = np.concatenate([gaps[GOALS.index(g)] for g in self._goals])
            advised = allocate(pilot, chosen, wanted, target_stderr=self._target, budget=self._budget)
            if advised.calls > _OUT_OF_PROPORTION * advised.pilot_calls:
                self._pilot = replace(pilot, replicates=2 * pilot.replicates)
            else:
                self.allocation = advised

    def _gaps(self, chosen: Sequence[Chosen]) -> tuple[np.ndarray, np.ndarray]:
        """r1 and r2 over sigma squared, (abstractions, draws)."""
        v, noise = (
            torch.cat([x.flatten(1) for x in parts]) for parts in ([c.v for c in chosen], [c.noise for c in chosen])
        )
        sigma = torch.cat([c.sigma for c in chosen])
        labels = {n: torch.cat([c.labels[n] for c in chosen]) for n in self._ceilings}
        v = v.double()
        y = (v + sigma[:, None] * noise).reshape(-1, *chosen[0].v.shape[1:])
        found = [self._called(y[part], sigma[part], {n: x[part] for n, x in labels.items()}) for part in self._parts(y)]
        free, *told = (torch.cat(means) for means in zip(*found, strict=True))
        off = ((v - free) ** 2).sum(1)
        score = [((mean - free) ** 2).sum(1) / sigma**2 for mean in told]
        mmse = [(off - ((v - mean) ** 2).sum(1)) / sigma**2 for mean in told]
        return torch.stack(score).numpy(), torch.stack(mmse).numpy()

    def _parts(self, y: Tensor) -> list[slice]:
        return [slice(start, start + self._batch) for start in range(0, len(y), self._batch)]

    def _called(self, y: Tensor, sigma: Tensor, labels: Mapping[str, Tensor]) -> list[Float[Tensor, "rows size"]]:
        """What the denoiser says of a batch when it is told nothing, and each abstraction."""
        first = next(self._denoiser.parameters(), None)
        dtype = torch.float64 if first is None else first.dtype
        place = first if first is not None else next(self._denoiser.buffers(), None)
        device = torch.device("cpu") if place is None else place.device
        # The same tensors in all calls: a denoiser may keep what it has made of them.
        y, sigma = y.to(device, dtype), sigma.to(device, dtype)
        with torch.no_grad():
            means = [self._denoiser(y, sigma, {n: labels[n].to(device)} if n else None) for n in ("", *labels)]
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
        fits = fits and all(x.shape[:2] == (2, shape[1]) for x in piloted)
        if fits:
            self._piloted, self._done = piloted, done
            self._advise()
        if not fits or (done and self.allocation is None) or (piloted and self._pilot is None):
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
