"""Passes over the data for blocks of draws, whose memory is bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.core import Draws, Gap, InputError, LabelledData, generator
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.exact.finite.reals import RealPosterior
from sigmascope.exact.finite.sketch import Sketch, make_sketch, pooled
from sigmascope.information.jobs.units import Units
from sigmascope.information.parts import Arrays, Parts
from sigmascope.streams import Use

_BLOCK = 256
_MEANS_BYTES = 2e8  # sums of posterior means of one block
_DIRECTION_COST = 1.7e8  # items · attributes · directions: small sets afford more directions
_LEAST, _LARGEST = 56, 256  # directions
SKETCH_ITEMS = 1024
_DIRECTIONS, _ITEMS = 1, 3  # what is drawn


def directions_for(data: LabelledData) -> tuple[int, int]:
    """Numbers of exact and random directions along which the gaps of a draw are measured.

    With a column of ones they are a multiple of eight.
    """
    cost = len(data) * max(len(data.attributes), 1)
    eights = int(np.clip(_DIRECTION_COST / cost, _LEAST, _LARGEST)) // 8
    each = max(eights // 8, 1)
    return 8 * (eights - each) - 1, 8 * each


def block_draws(data: LabelledData, draws: int, levels: int, gaps: bool) -> int:
    """Draws of one pass: blocks of like size, whose sums take 200 MB at most."""
    if not gaps:
        return min(draws, 4 * _BLOCK)
    columns = sum(len(a.values) for a in data.attributes)
    per_draw = 8 * levels * columns * (min(sum(directions_for(data)), data.size) + 1)
    return even_block(draws, int(np.clip(_MEANS_BYTES // per_draw, 16, _BLOCK)))


def even_block(draws: int, largest: int) -> int:
    """Size of blocks of like size, as few as the largest size allows."""
    return -(-draws // -(-draws // largest))


def _sample(data: Any) -> Tensor:
    if not isinstance(data, LabelledData):
        values: Tensor = data.sample(SKETCH_ITEMS, generator(0, Use.SKETCH, _ITEMS))[0]
        return values.flatten(1)
    rows = torch.linspace(0, len(data) - 1, min(len(data), SKETCH_ITEMS), dtype=torch.float64).round().long()
    return data.source.take(rows).reshape(len(rows), -1)


def sketch_of(data: LabelledData, seed: int) -> Sketch:
    """Directions for the gaps, from a sample of the data."""
    exact, each = directions_for(data)
    return make_sketch(_sample(data), exact, 3 * each, generator(seed, Use.SKETCH, _DIRECTIONS), each)


def series_level(data: Any) -> float:
    r"""The level :math:`\sqrt{20 \|\Sigma_V\|_F}`, above which the second term of the gaps' series in 1/sigma^2 is at
    most 0.0006 nats."""
    items = _sample(data).double()
    centred = items - items.mean(0)
    return float((20.0 * float(torch.linalg.matrix_norm(centred @ centred.T)) / len(items)) ** 0.5)


@runtime_checkable
class Pass(Protocol):
    """One pass over the data, in tiles, for a block of draws."""

    total: int
    position: int

    @property
    def done(self) -> bool: ...

    def step(self) -> None: ...

    def state(self) -> dict[str, np.ndarray]: ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None: ...


P = TypeVar("P", bound=Pass)


class Blocks(Generic[P]):
    """A job of passes over the data, one for each block of draws.

    Args:
        draws: number of draws.
        size: of a block.
        begin: makes the pass of some draws.
        harvest: the arrays to keep of a pass that is done.
    """

    restored_together = True

    def __init__(
        self, draws: int, size: int, begin: Callable[[slice], P], harvest: Callable[[P], dict[str, np.ndarray]]
    ) -> None:
        self._size, self._begin, self._harvest = size, begin, harvest
        self._finished: list[dict[str, np.ndarray]] = []
        self._blocks = -(-draws // size)
        self._pass = self._next()
        self.total = self._blocks * self._pass.total

    def _next(self) -> P:
        start = len(self._finished) * self._size
        return self._begin(slice(start, start + self._size))

    @property
    def position(self) -> int:
        """Steps done."""
        return len(self._finished) * self._pass.total + (0 if self.done else self._pass.position)

    @property
    def done(self) -> bool:
        return len(self._finished) == self._blocks

    def step(self) -> None:
        """Add the next tile of items to the current block."""
        if not self._pass.done:  # a rank may hold no items
            self._pass.step()
        if self._pass.done:
            self._finished.append(self._harvest(self._pass))
            if not self.done:
                del self._pass  # its large sums are freed before the next ones are made
                self._pass = self._next()

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which a later run goes on."""
        held = {f"block{i}.{k}": v for i, block in enumerate(self._finished) for k, v in block.items()}
        current = {} if self.done else self._pass.state()
        counts = {"blocks": np.array(len(self._finished)), "block_size": np.array(self._size)}
        return held | {f"pass.{k}": v for k, v in current.items()} | counts

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of the same study; every rank must call it, with an empty state where it has none.

        The result of a finished block is a sum over all ranks: a rank that has not stored it takes it from another.
        """
        count = int(state.get("blocks", -1)) if state else 0
        if not 0 <= count <= self._blocks or int(state.get("block_size", self._size)) != self._size:
            raise InputError("the checkpoint is not of this study: delete checkpoint*.npz and run again")
        self._finished = [
            {k.removeprefix(f"block{i}."): v for k, v in state.items() if k.startswith(f"block{i}.")}
            for i in range(count)
        ]
        counts = distributed.gathered(count)
        ahead = counts.index(max(counts))
        if min(counts) < max(counts):
            self._finished = distributed.gathered(self._finished if distributed.rank() == ahead else [])[ahead]
        if self.done:
            return
        self._pass = self._next()
        held = {k.removeprefix("pass."): v for k, v in state.items() if k.startswith("pass.")}
        if held and count == max(counts):
            self._pass.restore(held)

    def joined(self, key: str) -> np.ndarray:
        """An array of all draws, which are its second axis."""
        return np.concatenate([b[key] for b in self._finished], 1)


def harvested(done: PosteriorPass, gaps: bool) -> dict[str, np.ndarray]:
    """The arrays to keep of a pass: posteriors, effective items, gaps, and those of real-valued attributes."""
    arrays = {f"posterior.{n}": v.cpu().numpy() for n, v in done.log_posterior().items()}
    arrays["effective"] = done.effective_items().cpu().numpy()
    arrays |= _arrays_of_reals(done)
    for name, gap in done.gaps().items() if gaps else ():
        arrays |= {f"{f.name}.{name}": np.asarray(getattr(gap, f.name)) for f in fields(gap)}
    return arrays


def _arrays_of_reals(done: PosteriorPass) -> dict[str, np.ndarray]:
    """The arrays to keep of the real-valued attributes of a pass, draws along the second axis."""
    return {
        f"{f.name}.{name}": np.atleast_2d(getattr(real, f.name).cpu().numpy())
        for name, real in done.reals().items()
        for f in fields(real)
    }


def _real_of(joined: Callable[[str], np.ndarray], name: str) -> RealPosterior:
    """What is known of a real-valued attribute, from the arrays of all draws."""
    ratio, error, ceiling = (joined(f"{key}.{name}") for key in ("log_ratio", "squared_error", "log_ceiling"))
    return RealPosterior(torch.from_numpy(ratio), torch.from_numpy(error), torch.from_numpy(ceiling[0]))


class Collected(Blocks[PosteriorPass]):
    """Posteriors of all draws and levels by an exact filter, and gaps where there is a sketch of directions.

    ``noisy`` are the noisy values of the draws for the real-valued attributes that are measured.
    """

    def __init__(
        self,
        denoiser: FiniteDenoiser,
        draws: Draws,
        sigmas: Float[np.ndarray, " levels"],
        sketch: Sketch | None,
        noisy: Mapping[str, Float[Tensor, "draws columns"]] | None = None,
    ) -> None:
        def begin(part: slice) -> PosteriorPass:
            block = Draws(draws.items[part], draws.v[part], draws.noise[part])
            directions = None if sketch is None else sketch.of_draws(len(block), part.start)
            values = {name: x[part] for name, x in (noisy or {}).items()}
            return PosteriorPass(denoiser, block, sigmas, sketch=directions, noisy=values)

        def harvest(done: PosteriorPass) -> dict[str, np.ndarray]:
            return harvested(done, sketch is not None)

        size = block_draws(denoiser.data, len(draws), len(sigmas), sketch is not None)
        super().__init__(len(draws), size, begin, harvest)

    def log_posterior(self, name: str) -> Float[Tensor, "levels draws values"]:
        """ln p(a | y) of all draws; the last row is the limit sigma → 0."""
        return torch.from_numpy(self.joined(f"posterior.{name}"))

    def effective_items(self) -> Float[np.ndarray, "levels draws"]:
        """Effective number of items, 1 / sum of squared p(item | y), of all draws; the last row is the limit."""
        return self.joined("effective")

    def real(self, name: str) -> RealPosterior:
        """What is known of a real-valued attribute; the last level is the limit sigma → 0."""
        return _real_of(self.joined, name)

    def gap(self, name: str) -> Gap:
        """The gaps of all draws."""
        blocks, sizes = self._finished, [b[f"score.{name}"].shape[1] for b in self._finished]
        shares = [size / sum(sizes) for size in sizes]

        def mean(key: str) -> float:
            return float(np.average([b[f"{key}.{name}"] for b in blocks], weights=sizes))

        def directions(key: str) -> np.ndarray:
            return pooled([torch.from_numpy(b[f"{key}.{name}"]) for b in blocks], shares).numpy()

        return Gap(
            score=self.joined(f"score.{name}"),
            mmse=self.joined(f"mmse.{name}"),
            score_directions=directions("score_directions"),
            mmse_directions=directions("mmse_directions"),
            spread=mean("spread"),
            spread_directions=directions("spread_directions"),
            frobenius=mean("frobenius"),
        )


class Posteriors(Units):
    """Posteriors of all draws and levels by an exact filter, whose blocks of draws are dealt out over the ranks.

    Each rank passes over all items, so the numbers are those of a single process.  ``noisy`` is as for
    :class:`Collected`.
    """

    def __init__(
        self,
        denoiser: FiniteDenoiser,
        draws: Draws,
        sigmas: Float[np.ndarray, " levels"],
        noisy: Mapping[str, Float[Tensor, "draws columns"]] | None = None,
    ) -> None:
        self._denoiser, self._draws, self._sigmas, self._noisy = denoiser, draws, sigmas, dict(noisy or {})
        size = block_draws(denoiser.data, len(draws), len(sigmas), False)
        self._blocks = [slice(start, start + size) for start in range(0, len(draws), size)]
        super().__init__("posteriors", len(self._blocks))

    def _unit(self, number: int, held: Arrays) -> Parts[Arrays]:
        d, block = self._draws, self._blocks[number]
        noisy = {name: x[block] for name, x in self._noisy.items()}
        drawn = Draws(d.items[block], d.v[block], d.noise[block])
        part = PosteriorPass(self._denoiser, drawn, self._sigmas, noisy=noisy)
        if held:
            part.restore(held)
        while not part.done:
            part.step()
            yield part.state
        posteriors = {f"posterior.{n}": v.cpu().numpy() for n, v in part.log_posterior().items()}
        return posteriors | _arrays_of_reals(part)

    def log_posterior(self, name: str) -> Float[Tensor, "levels draws values"]:
        """ln p(a | y) of all draws; the last row is the limit sigma → 0."""
        return torch.from_numpy(self._joined(f"posterior.{name}"))

    def real(self, name: str) -> RealPosterior:
        """What is known of a real-valued attribute; the last level is the limit sigma → 0."""
        return _real_of(self._joined, name)

    def _joined(self, key: str) -> np.ndarray:
        """An array of all draws, which are its second axis."""
        return np.concatenate([u[key] for u in self.units()], 1)
