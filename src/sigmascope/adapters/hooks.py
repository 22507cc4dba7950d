"""The outputs of blocks of another program's network as features for probes, by hooks on its modules."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigmascope.adapters.foreign import LevelPerRow, Values
from sigmascope.core import Denoiser, InputError


class Featured(Denoiser):
    r"""A denoiser with features: the outputs of blocks of its network.

    The features of an image, shape (batch, channels, height, width), are means over its pixels, or over each of
    ``cells`` × ``cells`` parts of it, which keep rough positions.  Those of tokens, shape (batch, tokens, channels),
    are means over tokens; a vector is taken as it is.  Of an output with several parts (the down blocks of diffusers
    also give skip connections) the first is taken.

    Args:
        denoiser: e.g. a :class:`~sigmascope.adapters.foreign.Foreign`.
        blocks: names of modules within ``module``, as in ``named_modules``: ``down_blocks.0``, ``mid_block``.
        module: the network that holds them; None: the network of a Foreign.
        cells: number of parts along a side, 1 or more.

    Raises: InputError for a network that is not a module, no block, an unknown name, or ``cells`` below 1.

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
        modules = dict(network.named_modules())
        for name in blocks:
            if not name or name not in modules:
                near = difflib.get_close_matches(name, modules, 4, 0.3) or [n for n in modules if n][:4]
                raise InputError(f"no block is called {name!r}: there are, among others, {', '.join(near)}")
        self.denoiser, self.blocks, self.cells = denoiser, tuple(blocks), cells
        self.event, self.attributes = denoiser.event, denoiser.attributes
        self._inner = module  # None: the denoiser's own network

    @property
    def mixes_conditions(self) -> bool:
        """Whether rows of one call may differ in what is known: as of the denoiser."""
        return bool(getattr(self.denoiser, "mixes_conditions", False))

    def forward(self, y: Values, sigma: LevelPerRow, known: Mapping[str, Tensor] | None = None) -> Values:
        """The output of the denoiser."""
        out: Tensor = self.denoiser(y, sigma, known)
        return out

    def features(self, y: Values, sigma: LevelPerRow) -> dict[str, Float[Tensor, "batch numbers"]]:
        """The output of each block by its name, float32, when no attribute is known.

        Raises: InputError for a block that the network does not call once for each row, or whose output is no tensor;
            and whatever the denoiser raises.
        """
        outputs: dict[str, list[Tensor]] = {name: [] for name in self.blocks}
        network: Any = self.denoiser.network if self._inner is None else self._inner
        handles = [network.get_submodule(n).register_forward_hook(self._hook(n, parts)) for n, parts in outputs.items()]
        try:
            with torch.no_grad():
                self.denoiser(y, sigma)
        finally:
            for handle in handles:
                handle.remove()
        for name, parts in outputs.items():
            rows = sum(map(len, parts))
            if rows != len(y):
                raise InputError(
                    f"the block {name!r} was given {rows} rows for {len(y)} values: expected one row per value; choose "
                    "blocks that the network calls once"
                )
        return {name: torch.cat(parts).to(y.device) for name, parts in outputs.items()}

    def _hook(self, name: str, parts: list[Tensor]) -> Callable[[nn.Module, Any, Any], None]:
        def append(module: nn.Module, given: Any, output: Any) -> None:
            parts.append(self._pooled(name, _first(name, output)).float())  # pooled at once: outputs are not kept

        return append

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


def blocks_of(denoiser: Denoiser, most: int = 8) -> list[str]:
    """Names of modules whose outputs can be features: made of parts, called once, with a row of output for each value.

    They are found by one call of the denoiser.  Where values are images, blocks that give images or tokens come before
    others, such as embeddings of the time.

    Args:
        denoiser: any.
        most: number of blocks, which are spread over the network.
    """
    rows, outputs = 2, dict[str, list[tuple[int, ...]]]()

    def remember(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, given, output: outputs.setdefault(name, []).append(
            tuple(output.shape) if isinstance(output, Tensor) else ()
        )

    modules = {n: m for n, m in denoiser.named_modules() if n and any(True for _ in m.children())}
    handles = [m.register_forward_hook(remember(n)) for n, m in modules.items() if not isinstance(m, Denoiser)]
    at = next(denoiser.parameters(), torch.empty(0)).device
    try:
        with torch.no_grad():
            denoiser(torch.zeros(rows, *denoiser.event, device=at), torch.ones(rows, device=at))
    except Exception:  # the network raises at this level or without a class: it has no features then
        return []
    finally:
        for handle in handles:
            handle.remove()
    found = {n: shapes[0] for n, shapes in outputs.items() if len(shapes) == 1 and shapes[0][:1] == (rows,)}
    found = {n: shape for n, shape in found.items() if len(shape) > 1}
    wide = [n for n, shape in found.items() if len(shape) > 2]
    names = wide if wide and len(denoiser.event) > 1 else list(found)
    inner = [n for n in names if not any(other.startswith(f"{n}.") for other in names)]
    return inner if len(inner) <= most else [inner[round(k * (len(inner) - 1) / (most - 1))] for k in range(most)]
