"""The number of rows of a network call: tried before a study; and the memory that a call takes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sigmascope.adapters.foreign import modules_of
from sigmascope.core import Denoiser, InputError
from sigmascope.learn.calling import called, callings
from sigmascope.sample.schemes import Model, home_of

_TRIED = (16, 32, 64, 128, 256, 512)
_SECONDS = 4.0  # of the trial, about
_FASTER = 1.1  # ratio of speeds from which on another number than the usual one is worth it
_COUNTED = 4  # rows of the call whose outputs are counted


def rows_of(model: Denoiser) -> int:
    """Rows of a network call, at most; 0 for a denoiser that does not say."""
    return min((c.rows for c in callings(model)), default=0)


def fastest_rows(model: Denoiser) -> int:
    """The number of rows of a call at which a network answers most rows a second; 0 for other denoisers.

    Numbers from 16 to 512 are tried, each twice as large as the one before, as far as some seconds and the memory go.
    Another than the usual one is chosen only where it is a tenth faster, or where the usual one does not fit.
    """
    usual, speed = rows_of(model), dict[int, float]()
    if not usual:
        return 0
    until = time.perf_counter() + _SECONDS
    for rows in _TRIED:
        if speed and time.perf_counter() + 2 * rows / max(speed.values()) > until:
            break  # a larger one would take too long
        try:
            speed[rows] = max(rows / _seconds(model, rows) for _ in range(2))
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            return _fitting(model, rows, speed)
    best, beside = max(speed, key=lambda k: speed[k]), min(usual, _TRIED[-1])
    return best if beside in speed and speed[best] > _FASTER * speed[beside] else usual


def _fitting(model: Denoiser, rows: int, speed: dict[int, float]) -> int:
    """The fastest number below one that does not fit; without any, the largest half of it that does."""
    while not speed:
        rows //= 2
        if not rows:
            raise InputError("a single row of the network does not fit into the memory of the device: use another")
        try:
            speed[rows] = rows / _seconds(model, rows)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
    return max(speed, key=lambda k: speed[k])


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory is exhausted, on a device or on the CPU."""
    full = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
    if full and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return full


def _seconds(model: Denoiser, rows: int) -> float:
    """Seconds of one call of so many rows."""
    y = torch.randn(rows, *model.event, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    begun = time.perf_counter()
    with called(model, rows=rows):
        asked(model, y)
    return max(time.perf_counter() - begun, 1e-6)


def asked(model: Denoiser, y: Tensor) -> None:
    """Call a denoiser once, with no attribute known, or where it always needs a class with one."""
    try:
        Model(model).denoise(y, 1.0)
    except InputError:  # a network that always needs a class
        Model(model, {a.name: torch.zeros(len(y), dtype=torch.int64) for a in model.attributes}).denoise(y, 1.0)


def memory_of(model: Denoiser) -> tuple[int, int, int]:
    """Bytes that a network holds and that a call takes, about, and the rows of that call.

    The network holds parameters and buffers.  On a GPU the peak of one call is measured.  Elsewhere the outputs of all
    layers are added up, although not all of them are held at the same time.
    """
    layers = [m for m in _modules(model) if not (isinstance(m, Denoiser) or any(True for _ in m.children()))]
    tensors = {id(x): x for m in _modules(model) for x in (*m.parameters(False), *m.buffers(False))}
    held = sum(x.numel() * x.element_size() for x in tensors.values())
    rows, device = rows_of(model) or _TRIED[-2], home_of(model)[0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _seconds(model, rows)
        return held, torch.cuda.max_memory_allocated(device) - before, rows
    outputs: list[int] = []

    def count(module: nn.Module, given: object, output: object) -> None:
        outputs.extend(x.numel() * x.element_size() for x in _tensors(output))

    handles = [m.register_forward_hook(count) for m in layers]
    try:
        _seconds(model, _COUNTED)
    finally:
        for handle in handles:
            handle.remove()
    return held, sum(outputs) * rows // _COUNTED, rows


def _modules(model: nn.Module) -> list[nn.Module]:
    """The modules of a denoiser, and those that functions within it use without owning them; each once."""
    used = itertools.chain.from_iterable(modules_of(getattr(m, "network", None)) for m in model.modules())
    return list(dict.fromkeys(x for root in (model, *used) for x in root.modules()))


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for x in output:
            yield from _tensors(x)
