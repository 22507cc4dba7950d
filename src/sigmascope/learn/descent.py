"""What every training is made of: the optimiser, the averaged weights, losses by decade, and a state to go on from."""

from __future__ import annotations

import copy
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

import sigmascope.distributed as distributed
from sigmascope.core import InputError, generator
from sigmascope.learn.levels import Levels
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Source
from sigmascope.streams import Use

_CLIP = 1.0  # largest norm of a gradient


class Training(ABC):
    """A training, step by step: AdamW, a rise and a cosine of its rate, weights averaged on the way.

    Args:
        model: what is trained, on its device.
        source: what to learn.
        settings: how.
        levels: noise levels of the batches.
        fused: whether all parameters are stepped by one kernel.

    Attributes:
        kind: what a file of its state says it is.
        loss: what its loss is called.
        done: steps done.
        averaged: the model with averaged weights.
        decades: powers of ten at which the decades of sigma begin.
        history: what :meth:`losses` has found so far.
        kept: arrays that are part of the state.
    """

    kind: ClassVar[str]
    loss: ClassVar[str]
    model: nn.Module
    averaged: nn.Module

    def __init__(
        self, model: nn.Module, source: Source, settings: Settings, levels: Levels, device: torch.device, fused: bool
    ) -> None:
        self.settings, self.source, self.device, self.levels = settings, source, device, levels
        self.model = model
        self.averaged = copy.deepcopy(model).eval().requires_grad_(False)
        model.train()
        trained = [p for p in model.parameters() if p.requires_grad]
        matrices, others = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            fused=fused,
        )
        low = settings.precision == "bfloat16" or (settings.precision == "auto" and device.type == "cuda")
        self._autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=low)
        self.done = 0
        self.seconds = 0.0  # that the steps took, in all runs; set by who keeps the time
        self.decades = np.arange(math.floor(math.log10(settings.sigma_min)), math.ceil(math.log10(settings.sigma_max)))
        self.history: list[dict[str, Any]] = []
        self.kept = {"sums": np.zeros((2, len(self.decades)))}

    @abstractmethod
    def step(self) -> float:
        """One step of the optimiser; its loss.

        Raises:
            InputError: the loss is no longer finite.
            Stopped: another process of the run was lost.
        """

    @abstractmethod
    def losses(self) -> dict[str, Any]:
        """Losses since the last call, and those on values kept out of training, by decade; kept in the history."""

    def _descend(self, each: Tensor, sigma: Tensor) -> float:
        """Step down the mean of the losses of all rows, of which this process has some; that mean."""
        s, k = self.settings, self.done
        for group in self.optimiser.param_groups:
            group["lr"] = s.learning_rate * _schedule(k, s.warmup, s.steps)
        self.optimiser.zero_grad(set_to_none=True)
        (each.sum() / s.batch).backward()
        self._add_gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self.optimiser.step()
        self.done += 1
        self._average()
        value = self._note(each.detach().double().cpu().numpy(), sigma.cpu().numpy())
        if not math.isfinite(value):
            raise InputError(f"{self.loss} is {value} at step {k + 1}: pass a smaller --learning-rate")
        return value

    def _add_gradients(self) -> None:
        """The sum over the processes, each of which has done its rows."""
        if distributed.world() == 1:
            return
        found = []
        for p in self.model.parameters():
            if p.requires_grad:
                if p.grad is None:  # what this process's rows were not told
                    p.grad = torch.zeros_like(p)
                found.append(p.grad)
        flat = distributed.add_up(torch.cat([g.reshape(-1) for g in found]))
        # Copied in place: a fused optimiser pairs numbers by their places in memory.
        for g, part in zip(found, flat.split([g.numel() for g in found]), strict=True):
            g.copy_(part.reshape(g.shape))

    def _average(self) -> None:
        horizon = max(1.0, min(self.settings.average, self.done / 10))
        with torch.no_grad():
            averaged: list[Tensor] = list(self.averaged.parameters())
            now: list[Tensor] = list(self.model.parameters())
            torch._foreach_lerp_(averaged, now, 1.0 / horizon)

    def _note(self, each: np.ndarray, sigma: np.ndarray) -> float:
        """Add to the losses of the decades; the batch's own loss, over all processes."""
        at = np.clip(np.floor(np.log10(sigma)).astype(int) - int(self.decades[0]), 0, len(self.decades) - 1)
        new = np.stack([np.bincount(at, x, len(self.decades)) for x in (each, np.ones_like(each))])
        new = distributed.add_up(torch.from_numpy(new)).numpy()
        self.kept["sums"] += new
        return float(new[0].sum() / self.settings.batch)

    def _means(self) -> list[float | None]:
        """Mean losses of the decades since the last call; None where no level was."""
        total, count = self.kept["sums"]
        found = [float(t / c) if c else None for t, c in zip(total, count, strict=True)]
        self.kept["sums"] = np.zeros_like(self.kept["sums"])
        return found

    def _held_out(self, use: Use, rows: int) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor, Tensor]]:
        """For each decade values kept out of training, their labels, levels and noisy versions, the same each time."""
        s, g = self.settings, generator(self.settings.seed, use)
        for decade in self.decades.tolist():
            v, labels = self.source.held_out(rows, g)
            sigma = (10.0 ** (torch.rand(len(v), generator=g) + decade)).clamp(s.sigma_min, s.sigma_max)
            y = v + beside(sigma, v) * torch.randn(v.shape, generator=g)
            yield v, labels, sigma.to(self.device), y.to(self.device)

    def store(self, path: Path) -> None:
        """Write all that a later run needs to go on, as safetensors with JSON in the header."""
        tensors = {f"model.{k}": x for k, x in self.model.state_dict().items()}
        tensors |= {f"averaged.{k}": x for k, x in self.averaged.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(x) for k, x in state.items()}
        tensors |= {k: torch.from_numpy(x) for k, x in self.kept.items()}
        told = {
            "settings": asdict(self.settings),
            "done": self.done,
            "seconds": self.seconds,
            "levels": self.levels.state(),
            "history": self.history,
        }
        whole = {k: x.detach().cpu().contiguous() for k, x in tensors.items()}
        path.write_bytes(save(whole, {self.kind: json.dumps(told)}))

    def restore(self, path: Path) -> None:
        """Go on from a file of :meth:`store`.

        Raises: InputError where it cannot be read, or is of another training.
        """
        try:
            with safe_open(path, "pt") as file:
                told = json.loads((file.metadata() or {})[self.kind])
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            if told["settings"] != asdict(self.settings):
                raise ValueError("it is of another training")
            self.model.load_state_dict(_of("model", tensors))
            self.averaged.load_state_dict(_of("averaged", tensors))
            held = self.optimiser.state_dict()
            held["state"] = self._moments(_of("optimiser", tensors))
            self.optimiser.load_state_dict(held)
            self.levels.restore(told["levels"])
            self.done, self.history = int(told["done"]), list(told["history"])
            self.seconds = float(told.get("seconds", 0.0))
            self.kept = {k: tensors[k].numpy().copy() for k in self.kept}
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: no checkpoint of this training ({said}): delete it to begin anew") from error

    def _moments(self, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """The moments of each parameter, laid out in memory as it is: a fused optimiser pairs them by their places."""
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, x in tensors.items():
            i, name = key.split(".")
            like = parameters[int(i)]
            state.setdefault(int(i), {})[name] = torch.empty_like(like).copy_(x) if x.shape == like.shape else x
        return state


def _of(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(f"{name}."): x for k, x in tensors.items() if k.startswith(f"{name}.")}


def _schedule(step: int, warmup: int, steps: int) -> float:
    """A rise over the warm-up, then a cosine to zero."""
    rise = min(1.0, (step + 1) / max(warmup, 1))
    return rise * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def beside(sigma: Tensor, v: Tensor) -> Tensor:
    """One level per row, shaped to multiply v."""
    return sigma.reshape(-1, *[1] * (v.ndim - 1))
