"""How a denoiser calls its network: how many rows at once, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

BFLOAT16 = "bfloat16"


@dataclass
class Calling:
    """How a denoiser calls its network.

    Args:
        rows: of one call, at most.
        bfloat16: whether the network computes in bfloat16 where torch.autocast allows it; everything outside of the
            network, such as the levels and what is made of its output, keeps its precision.
    """

    rows: int
    bfloat16: bool = False

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """The context in which the network is called."""
        return torch.autocast(device.type, torch.bfloat16) if self.bfloat16 else nullcontext()


def callings(denoiser: nn.Module) -> list[Calling]:
    """Those of a denoiser and of the denoisers that it consists of; empty where it calls no network this way."""
    each = (getattr(module, "calling", None) for module in denoiser.modules())
    return [c for c in each if isinstance(c, Calling)]


@contextmanager
def called(denoiser: nn.Module, *, rows: int = 0, bfloat16: bool | None = None) -> Iterator[None]:
    """Call the network of a denoiser differently for a while.

    Args:
        denoiser: any.
        rows: of one call, at most; 0: unchanged.
        bfloat16: whether it computes in bfloat16; None: unchanged.
    """
    each = callings(denoiser)
    before = [(c.rows, c.bfloat16) for c in each]
    try:
        for c in each:
            c.rows, c.bfloat16 = rows or c.rows, c.bfloat16 if bfloat16 is None else bfloat16
        yield
    finally:
        for c, (own_rows, own) in zip(each, before, strict=True):
            c.rows, c.bfloat16 = own_rows, own
