"""What named parts of another program's network see, for probes: a denoiser with features, by hooks on its modules."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigmascope.core import Denoiser, InputError


class Featured(Denoiser):
    r"""A denoiser that also says what blocks of its network put out.

    It denoises as before.  Of a block's output, an image of shape (batch, channels, height, width), features are means
    over its pixels, or over each of ``cells`` × ``cells`` parts of it: where things are is then kept roughly.  Of
    tokens, shape (batch, tokens, channels), they are means over tokens; a vector is taken as it is.  Of an output with
    several parts (the down blocks of diffusers also give what skips to the other side) the first is read.

    Args:
        denoiser: e.g. a :class:`~sigmascope.adapters.foreign.Foreign`.
        blocks: names of modules as ``named_modules`` has them, from ``module`` on: ``down_blocks.0``, ``mid_block``.
        module: the network that holds them; None: the network of a Foreign.
        cells: parts along a side, 1 or more.

    Raises: InputError for a denoiser whose network is not a module, no block, a name that is none, or a bad ``cells``.

    References: Alain & Bengio (2016).
    """

    def __init__(
        self, denoiser: Denoiser, blocks: Sequence[str], *, module: nn.Module | None = None, cells: int = 1
    ) -> None:
        super().__init__()
        network = getattr(denoiser, "network", None) if module is None else module
        if not isinstance(network, nn.Module):
            raise InputError(
                f"the network of a {type(denoiser).__name__} is a {type(network).__name__}, and only a module has "
                "blocks: pass module=, the one that it calls"
            )
        if isinstance(blocks, str) or not blocks:
            raise InputError(f"blocks are {blocks!r}: pass a list of names of modules, as ['mid_block']")
        if cells < 1:
            raise InputError(f"cells is {cells}: at least 1 part along a side is needed")
        held = dict(network.named_modules())
        for name in blocks:
            if not name or name not in held:
                near = difflib.get_close_matches(name, held, 4, 0.3) or [n for n in held if n][:4]
                raise InputError(f"no block is called {name!r}: there are, among others, {', '.join(near)}")
        self.denoiser, self.blocks, self.cells = denoiser, tuple(blocks), cells
        self.event, self.attributes = denoiser.event, denoiser.attributes
        self._inner = module  # None: the denoiser's own network

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """What the denoiser says."""
        return self.denoiser(y, sigma, known)

    def features(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"]
    ) -> dict[str, Float[Tensor, "batch numbers"]]:
        """What each block puts out when the denoiser is told nothing, float32, by its name.

        Raises: InputError for a block that the network does not call once for each row, or puts out no numbers; and
            what the denoiser raises.
        """
        seen: dict[str, list[Tensor]] = {name: [] for name in self.blocks}
        network: Any = self.denoiser.network if self._inner is None else self._inner
        handles = [
            network.get_submodule(name).register_forward_hook(self._reader(name, parts)) for name, parts in seen.items()
        ]
        try:
            with torch.no_grad():
                self.denoiser(y, sigma)
        finally:
            for handle in handles:
                handle.remove()
        found = {}
        for name, parts in seen.items():
            rows = sum(len(p) for p in parts)
            if rows != len(y):
                raise InputError(
                    f"the block {name!r} was given {rows} rows for {len(y)} values: its features cannot be told apart; "
                    "choose blocks that the network calls once"
                )
            found[name] = torch.cat(parts)
        return found

    def _reader(self, name: str, into: list[Tensor]) -> Callable[[nn.Module, Any, Any], None]:
        def read(module: nn.Module, given: Any, output: Any) -> None:
            into.append(self._pooled(name, _first(name, output)).float())  # small at once: outputs are not kept

        return read

    def _pooled(self, name: str, x: Tensor) -> Tensor:
        if x.ndim == 4 and self.cells > 1:
            return nn.functional.adaptive_avg_pool2d(x.float(), self.cells).flatten(1)
        if x.ndim > 3:
            return x.flatten(2).mean(2)
        if x.ndim == 3:
            return x.mean(1)
        if x.ndim == 2:
            return x
        raise InputError(f"the block {name!r} put out shape {tuple(x.shape)}: expected (batch, numbers) or an image")


def _first(name: str, output: Any) -> Tensor:
    """The first tensor of an output with several parts."""
    while not isinstance(output, Tensor):
        parts = list(output.values()) if isinstance(output, Mapping) else output
        if not isinstance(parts, (list, tuple)) or not parts:
            raise InputError(f"the block {name!r} put out a {type(output).__name__}: expected tensors")
        output = parts[0]
    return output
