"""Parts that all trainings share: the optimiser, the averaged weights, losses by decade, and checkpoints."""

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
from sigmascope.data.files import error_words
from sigmascope.learn.levels import Levels
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Source
from sigmascope.streams import Use

_CLIP = 1.0  # largest norm of a gradient


class Training(ABC):
    """A training with AdamW, a warm-up and a cosine of the learning rate, and averaged weights.

    ``kind`` is the key of the state in a checkpoint, ``loss`` the name of the loss in messages, ``done`` the number of
    steps so far, and ``seconds`` the time that they took, which the caller measures.  ``decades`` are the powers of ten
    at which the decades of sigma begin, ``history`` the results of :meth:`losses`, and ``arrays`` those of the state.
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
        self.seconds = 0.0
        self.decades = np.arange(math.floor(math.log10(settings.sigma_min)), math.ceil(math.log10(settings.sigma_max)))
        self.history: list[dict[str, Any]] = []
        self.arrays = {"sums": np.zeros((2, len(self.decades)))}

    @abstractmethod
    def step(self) -> float:
        """Do one step of the optimiser, and return its loss.

        Raises: InputError for a loss that is not finite; Stopped where another process of the run was lost.
        """

    @abstractmethod
    def losses(self) -> dict[str, Any]:
        """Losses by decade since the last call and on values kept out of training; they are added to the history."""

    def _batch(self, use: Use) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor, slice]:
        """The batch of this step: values, labels of all rows, levels and noisy values, and the rows of this process."""
        g = generator(self.settings.seed, use, self.done)
        v, labels = self.source.draw(self.settings.batch, g)
        sigma = self.levels.draw(self.settings.batch, g)
        noise = torch.randn(v.shape, generator=g)
        own = slice(distributed.rank(), None, distributed.world())
        v, sigma, noise = (x[own].to(self.device) for x in (v, sigma, noise))
        return v, labels, sigma, v + level_per_row(sigma, v) * noise, own

    def _descend(self, each: Tensor, sigma: Tensor) -> float:
        """Do a step on the mean of the losses of all rows, of which this process has a share, and return that mean."""
        s, k = self.settings, self.done
        for group in self.optimiser.param_groups:
            group["lr"] = s.learning_rate * _schedule(k, s.warmup, s.steps)
        self.optimiser.zero_grad(set_to_none=True)
        (each.sum() / s.batch).backward()  # type: ignore[no-untyped-call]
        self._add_gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self.optimiser.step()
        self.done += 1
        self._average()
        value = self._add_losses(each.detach().double().cpu().numpy(), sigma.cpu().numpy())
        if not math.isfinite(value):
            raise InputError(f"{self.loss} is {value} at step {k + 1}: pass a smaller --learning-rate")
        return value

    def _add_gradients(self) -> None:
        """Add up the gradients of all processes, each of its own rows."""
        if distributed.world() == 1:
            return
        gradients = []
        for p in self.model.parameters():
            if p.requires_grad:
                if p.grad is None:  # of an attribute that is unknown in all rows of this process
                    p.grad = torch.zeros_like(p)
                gradients.append(p.grad)
        flat = distributed.add_up(torch.cat([g.reshape(-1) for g in gradients]))
        # Copied in place: a fused optimiser needs gradients with the memory layout of the parameters.
        for g, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            g.copy_(part.reshape(g.shape))

    def _average(self) -> None:
        horizon = max(1.0, min(self.settings.average, self.done / 10))
        with torch.no_grad():
            averaged: list[Tensor] = list(self.averaged.parameters())
            torch._foreach_lerp_(averaged, list(self.model.parameters()), 1.0 / horizon)

    def _add_losses(self, each: np.ndarray, sigma: np.ndarray) -> float:
        """Add the losses of a batch to those of the decades, and return the loss of the batch, over all processes."""
        at = np.clip(np.floor(np.log10(sigma)).astype(int) - int(self.decades[0]), 0, len(self.decades) - 1)
        new = np.stack([np.bincount(at, x, len(self.decades)) for x in (each, np.ones_like(each))])
        new = distributed.add_up(torch.from_numpy(new)).numpy()
        self.arrays["sums"] += new
        return float(new[0].sum() / self.settings.batch)

    def _means(self) -> list[float | None]:
        """Mean losses of the decades since the last call; None for a decade without a level."""
        total, count = self.arrays["sums"]
        self.arrays["sums"] = np.zeros_like(self.arrays["sums"])
        return [float(t / c) if c else None for t, c in zip(total, count, strict=True)]

    def _held_out(self, use: Use, rows: int) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor, Tensor]]:
        """Values kept out of training, their labels, levels and noisy values, for each decade, equal in all calls."""
        s, g = self.settings, generator(self.settings.seed, use)
        for decade in self.decades.tolist():
            v, labels = self.source.held_out(rows, g)
            sigma = (10.0 ** (torch.rand(len(v), generator=g) + decade)).clamp(s.sigma_min, s.sigma_max)
            y = v + level_per_row(sigma, v) * torch.randn(v.shape, generator=g)
            yield v, labels, sigma.to(self.device), y.to(self.device)

    def store(self, path: Path) -> None:
        """Write a checkpoint, from which a later run continues, as safetensors with JSON in the header."""
        tensors = {f"model.{k}": x for k, x in self.model.state_dict().items()}
        tensors |= {f"averaged.{k}": x for k, x in self.averaged.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(x) for k, x in state.items()}
        tensors |= {k: torch.from_numpy(x) for k, x in self.arrays.items()}
        state = {
            "settings": asdict(self.settings), "done": self.done, "seconds": self.seconds,
            "levels": self.levels.state(), "history": self.history,
        }  # fmt: skip
        tensors = {k: x.detach().cpu().contiguous() for k, x in tensors.items()}
        path.write_bytes(save(tensors, {self.kind: json.dumps(state)}))

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint of :meth:`store`.

        Raises: InputError for a file that is no checkpoint of a training with these settings.
        """
        try:
            with safe_open(path, "pt") as file:
                state = json.loads((file.metadata() or {})[self.kind])
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            if state["settings"] != asdict(self.settings):
                raise ValueError("it is of another training")
            self.model.load_state_dict(_with_prefix("model.", tensors))
            self.averaged.load_state_dict(_with_prefix("averaged.", tensors))
            moments = self._moments(_with_prefix("optimiser.", tensors))
            self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})
            self.levels.restore(state["levels"])
            self.done, self.history = int(state["done"]), list(state["history"])
            self.seconds = float(state.get("seconds", 0.0))
            self.arrays = {k: tensors[k].numpy().copy() for k in self.arrays}
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            message = f"{path}: no checkpoint of this training ({error_words(error)}): delete it to begin anew"
            raise InputError(message) from error

    def _moments(self, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """The moments of each parameter, with the memory layout of the parameter, which a fused optimiser needs."""
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, x in tensors.items():
            i, name = key.split(".")
            like = parameters[int(i)]
            state.setdefault(int(i), {})[name] = torch.empty_like(like).copy_(x) if x.shape == like.shape else x
        return state


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}


def _schedule(step: int, warmup: int, steps: int) -> float:
    """The learning rate as a share of its peak: a rise over the warm-up, then a cosine to zero."""
    rise = min(1.0, (step + 1) / max(warmup, 1))
    return rise * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def level_per_row(sigma: Tensor, v: Tensor) -> Tensor:
    """One level per row, in a shape that multiplies v."""
    return sigma.reshape(-1, *[1] * (v.ndim - 1))
