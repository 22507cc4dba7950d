r"""Training of a denoiser that can be told any subset of the attributes.

.. math:: L = E_{\sigma, v, n, c}\; \frac{s^2 + \sigma^2}{s^2 \sigma^2} \|D(v + \sigma n, \sigma, c) - v\|^2 / d

Every batch is a function of the seed and of the number of the step: a run that was stopped goes on with the same
stream.

References: Karras et al. (2022) for the weighting; Ho & Salimans (2021) for dropping what is told.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sigmascope import ranks
from sigmascope.core import UNKNOWN, InputError, generator
from sigmascope.learn.levels import Levels
from sigmascope.learn.neural import NeuralDenoiser, architecture
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Source, mean_and_scale

_BATCH, _DROP, _MEASURE, _HELD = 21, 22, 23, 24  # uses of a seed
_NOTHING, _ONE = 0.3, 0.8  # shares of the rows that are told nothing; nothing or exactly one attribute
_MEASURE_EVERY, _MEASURE_ROWS = 50, 8  # steps; rows of each bin of levels
_HELD_ROWS = 64  # of each decade
_CLIP = 1.0  # largest norm of a gradient


class Trainer:
    """A training, step by step.

    Args:
        source: what to learn.
        settings: how.
        device: where.

    Raises: InputError for settings that do not fit the data.
    """

    def __init__(self, source: Source, settings: Settings, device: torch.device | str = "cpu") -> None:
        self.settings, self.source, self.device = settings.check(), source, torch.device(device)
        mean, scale = mean_and_scale(source, settings.seed)
        shape = architecture(settings.network, settings.width, settings.depth, source.event)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = NeuralDenoiser(source.event, source.abstractions, shape, mean, scale, source.continuous)
        self.model.to(self.device)
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.model.train()
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.levels = Levels(
            settings.sigma_min,
            settings.sigma_max,
            adaptive=settings.noise == "adaptive",
            log_mean=settings.log_mean + math.log(scale),
            log_std=settings.log_std,
        )
        self.done = 0
        low = settings.precision == "bfloat16" or (settings.precision == "auto" and self.device.type == "cuda")
        self._half = torch.bfloat16 if low else None
        self.decades = np.arange(math.floor(math.log10(settings.sigma_min)), math.ceil(math.log10(settings.sigma_max)))
        self.history: list[dict[str, Any]] = []
        self._sums = np.zeros((2, len(self.decades)))

    def step(self) -> float:
        """One step of the optimiser; its loss.

        Raises:
            InputError: the loss is no longer finite.
            Stopped: another process of the run was lost.
        """
        s, k = self.settings, self.done
        if self.levels.adaptive and k % _MEASURE_EVERY == 0 and k > 0:
            self._measure()
        g = generator(s.seed, _BATCH, k)
        v, labels = self.source.draw(s.batch, g)
        sigma = self.levels.draw(s.batch, g)
        noise = torch.randn(v.shape, generator=g)
        known = self._told(labels, generator(s.seed, _DROP, k))
        mine = slice(ranks.rank(), None, ranks.world())
        v, sigma, noise = (x[mine].to(self.device) for x in (v, sigma, noise))
        known = {name: x[mine].to(self.device) for name, x in known.items()}
        for group in self.optimiser.param_groups:
            group["lr"] = s.learning_rate * schedule(k, s.warmup, s.steps)
        y = v + beside(sigma, v) * noise
        with torch.autocast(self.device.type, dtype=self._half or torch.bfloat16, enabled=self._half is not None):
            denoised = self.model(y, sigma, known)
        each = self._weight(sigma) * ((denoised - v) ** 2).flatten(1).mean(1)
        loss = each.sum() / s.batch
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._add_gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self.optimiser.step()
        self.done += 1
        self._average()
        value = self._note(each.detach().double().cpu().numpy(), sigma.cpu().numpy())
        if not math.isfinite(value):
            raise InputError(f"the loss is {value} at step {k + 1}: pass a smaller --learning-rate")
        return value

    def _told(self, labels: Mapping[str, Tensor], g: torch.Generator) -> dict[str, Tensor]:
        """What each row is told: nothing, exactly one attribute, or a random subset."""
        names = list(labels)
        rows = len(next(iter(labels.values()))) if names else 0
        if not names:
            return {}
        what = torch.rand(rows, generator=g)
        one = torch.randint(len(names), (rows,), generator=g)
        some = torch.rand(rows, len(names), generator=g) < 0.5
        told = torch.where((what < _ONE)[:, None], nn.functional.one_hot(one, len(names)).bool(), some)
        told &= (what >= _NOTHING)[:, None]
        return {
            n: torch.where(told[:, i, None], x, torch.nan) if x.is_floating_point() else x.where(told[:, i], UNKNOWN)
            for i, (n, x) in enumerate(labels.items())
        }

    def _weight(self, sigma: Tensor) -> Tensor:
        s = self.model.scale
        return (s**2 + sigma**2) / (s * sigma) ** 2

    def _add_gradients(self) -> None:
        """The sum over the processes, each of which has done its rows."""
        if ranks.world() == 1:
            return
        found = [p for p in self.model.parameters() if p.requires_grad]
        for p in found:
            if p.grad is None:  # what this process's rows were not told
                p.grad = torch.zeros_like(p)
        flat = ranks.add_up(torch.cat([p.grad.reshape(-1) for p in found if p.grad is not None]))
        start = 0
        for p in found:  # copied in place: the fused optimiser pairs numbers by their places in memory
            if p.grad is not None:
                p.grad.copy_(flat[start : start + p.numel()].reshape(p.shape))
            start += p.numel()

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
        new = ranks.add_up(torch.from_numpy(new)).numpy()
        self._sums += new
        return float(new[0].sum() / self.settings.batch)

    def _measure(self) -> None:
        """The rate of information at the middle of each bin of levels, by the averaged network."""
        names = [a.name for a in self.model.abstractions if a.name != "null"] + [c.name for c in self.model.continuous]
        if not names:
            return
        g = generator(self.settings.seed, _MEASURE, self.done)
        middles = torch.from_numpy(self.levels.middles).float()
        sigma = middles.repeat_interleave(_MEASURE_ROWS)
        v, labels = self.source.draw(len(sigma), g)
        y = v + beside(sigma, v) * torch.randn(v.shape, generator=g)
        which = torch.randint(len(names), (len(sigma),), generator=g)
        known = {
            n: labels[n].where((which == i)[:, None], torch.nan)
            if labels[n].is_floating_point()
            else labels[n].where(which == i, UNKNOWN)
            for i, n in enumerate(names)
        }
        y, sigma = y.to(self.device), sigma.to(self.device)
        known = {n: x.to(self.device) for n, x in known.items()}
        with torch.no_grad():
            gap = ((self.averaged(y, sigma, known) - self.averaged(y, sigma)) ** 2).flatten(1).sum(1) / sigma**2
        self.levels.measured(gap.double().cpu().numpy().reshape(-1, _MEASURE_ROWS).mean(1))

    def losses(self) -> dict[str, Any]:
        """Losses since the last call, and those on values kept out of training, by decade; kept in the history."""
        sums, self._sums = self._sums, np.zeros_like(self._sums)
        with np.errstate(invalid="ignore"):
            mean = sums[0] / sums[1]
        entry = {
            "step": self.done,
            "loss": _listed(mean),
            "held_out": _listed(self._held_out(told=False)),
            "held_out_told": _listed(self._held_out(told=True)),
        }
        self.history.append(entry)
        return entry

    def _held_out(self, told: bool) -> np.ndarray:
        """The loss of the averaged network on the same held-out values and noises each time, by decade."""
        g = generator(self.settings.seed, _HELD)
        found = []
        for decade in self.decades.tolist():
            v, labels = self.source.held_out(_HELD_ROWS, g)
            exponent = decade + torch.rand(len(v), generator=g)
            sigma = (10.0**exponent).clamp(self.settings.sigma_min, self.settings.sigma_max).to(self.device)
            y = (v + beside(sigma.cpu(), v) * torch.randn(v.shape, generator=g)).to(self.device)
            known = {n: x.to(self.device) for n, x in labels.items()} if told else None
            with torch.no_grad():
                error = ((self.averaged(y, sigma, known) - v.to(self.device)) ** 2).flatten(1).mean(1)
            found.append(float((self._weight(sigma) * error).mean()))
        return np.array(found)

    def store(self, path: Path) -> None:
        """Write all that a later run needs to go on, as safetensors with JSON in the header."""
        tensors = {f"model.{k}": x for k, x in self.model.state_dict().items()}
        tensors |= {f"averaged.{k}": x for k, x in self.averaged.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(x) for k, x in state.items()}
        tensors["sums"] = torch.from_numpy(self._sums)
        told = {
            "settings": asdict(self.settings),
            "done": self.done,
            "levels": self.levels.state(),
            "history": self.history,
        }
        whole = {k: x.detach().cpu().contiguous() for k, x in tensors.items()}
        save_file(whole, path, {"training": json.dumps(told)})

    def restore(self, path: Path) -> None:
        """Go on from a file of :meth:`store`.

        Raises: InputError where it cannot be read, or is of another training.
        """
        try:
            with safe_open(path, "pt") as file:
                told = json.loads((file.metadata() or {})["training"])
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            if told["settings"] != asdict(self.settings):
                raise ValueError("it is of another training")
            for name, module in (("model", self.model), ("averaged", self.averaged)):
                module.load_state_dict(
                    {k.removeprefix(f"{name}."): x for k, x in tensors.items() if k.startswith(f"{name}.")}
                )
            held = self.optimiser.state_dict()
            held["state"] = optimiser_state(tensors, self.optimiser)
            self.optimiser.load_state_dict(held)
            self.levels.restore(told["levels"])
            self.done, self.history = int(told["done"]), list(told["history"])
            self._sums = tensors["sums"].numpy().copy()
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: no checkpoint of this training ({said}): delete it to begin anew") from error


def optimiser_state(tensors: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The moments of each parameter, laid out in memory as it is: the fused optimiser pairs them by their places."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, x in tensors.items():
        if key.startswith("optimiser."):
            _, i, name = key.split(".")
            like = parameters[int(i)]
            laid_out = torch.empty_like(like).copy_(x) if x.shape == like.shape else x
            state.setdefault(int(i), {})[name] = laid_out
    return state


def schedule(step: int, warmup: int, steps: int) -> float:
    """A rise over the warm-up, then a cosine to zero."""
    rise = min(1.0, (step + 1) / max(warmup, 1))
    return rise * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def beside(sigma: Tensor, v: Tensor) -> Tensor:
    """One level per row, shaped to multiply v."""
    return sigma.reshape(-1, *[1] * (v.ndim - 1))


def _listed(x: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in x]
