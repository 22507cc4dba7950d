r"""Training of a classifier of noisy data.

.. math:: L = -E_{\sigma, v, n} \sum_A \ln q(a_A \mid v + \sigma n, \sigma)

with levels even in ln sigma.  At each level the loss of A is at least :math:`H(A) - I(A; Y_\sigma)`, which is that of
the posterior.  Every batch is a function of the seed and of the number of the step: a run that was stopped goes on with
the same stream.
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
from torch import Tensor, nn

from sigmascope import ranks
from sigmascope.core import InputError, generator
from sigmascope.learn.classifier import NoisyClassifier, classifier_architecture, new_classifier
from sigmascope.learn.levels import Levels
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Source
from sigmascope.learn.training import beside, optimiser_state, schedule

_BATCH, _HELD = 41, 42  # uses of a seed
_MEASURE_EVERY = 100  # steps between two looks at where attributes are partly known
_HELD_ROWS = 256  # of each decade
_CLIP = 1.0  # largest norm of a gradient


class ClassifierTrainer:
    """A training, step by step.

    Args:
        source: what to learn; attributes whose values are vectors are left out.
        settings: how.  ``adaptive`` noise: half of the rows even in ln sigma, half where attributes are partly known
            (by what is known of each in training so far); ``lognormal``: all of them even.
        device: where.

    Raises: InputError for settings that do not fit the data, or data without attributes.
    """

    def __init__(self, source: Source, settings: Settings, device: torch.device | str = "cpu") -> None:
        self.settings, self.source, self.device = settings.check(), source, torch.device(device)
        shape = classifier_architecture(settings.network, settings.width, settings.depth, source.event)
        self.model: NoisyClassifier = new_classifier(source, shape, settings.seed).to(self.device)
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.model.train()
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
        )
        # Adaptive levels of which nothing is measured are even in ln sigma.
        self._seen = np.zeros((1 + len(self.model.abstractions), len(Levels(1.0, 2.0, adaptive=True).middles)))
        low = settings.precision == "bfloat16" or (settings.precision == "auto" and self.device.type == "cuda")
        self._half = torch.bfloat16 if low else None
        self.levels = Levels(settings.sigma_min, settings.sigma_max, adaptive=True)
        self.done = 0
        self.history: list[dict[str, Any]] = []
        self.decades = np.arange(math.floor(math.log10(settings.sigma_min)), math.ceil(math.log10(settings.sigma_max)))
        self._sums = np.zeros((2, len(self.decades)))

    def step(self) -> float:
        """One step of the optimiser; its loss: the cross-entropies in nats, added over the attributes.

        Raises:
            InputError: the loss is no longer finite.
            Stopped: another process of the run was lost.
        """
        s, k = self.settings, self.done
        g = generator(s.seed, _BATCH, k)
        v, labels = self.source.draw(s.batch, g)
        sigma = self.levels.draw(s.batch, g)
        noise = torch.randn(v.shape, generator=g)
        mine = slice(ranks.rank(), None, ranks.world())
        v, sigma, noise = (x[mine].to(self.device) for x in (v, sigma, noise))
        for group in self.optimiser.param_groups:
            group["lr"] = s.learning_rate * schedule(k, s.warmup, s.steps)
        with torch.autocast(self.device.type, dtype=self._half or torch.bfloat16, enabled=self._half is not None):
            logits = self.model.logits(v + beside(sigma, v) * noise, sigma).float()
        log_q = self.model.split(logits)
        own = {name: labels[name][mine].to(self.device) for name in log_q}
        by_name = torch.stack([nn.functional.nll_loss(q, own[n], reduction="none") for n, q in log_q.items()])
        each = by_name.sum(0)
        loss = each.sum() / s.batch
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._add_gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self.optimiser.step()
        self.done += 1
        self._average()
        value = self._note(each.detach().double().cpu().numpy(), sigma.cpu().numpy())
        self._look(by_name.detach().double().cpu().numpy(), sigma.cpu().numpy())
        if not math.isfinite(value):
            raise InputError(f"the classifier's loss is {value} at step {k + 1}: pass a smaller --learning-rate")
        return value

    def _add_gradients(self) -> None:
        """The sum over the processes, each of which has done its rows."""
        if ranks.world() == 1:
            return
        found = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = ranks.add_up(torch.cat([g.reshape(-1) for g in found]))
        for g, part in zip(found, flat.split([g.numel() for g in found]), strict=True):
            g.copy_(part.reshape(g.shape))

    def _average(self) -> None:
        horizon = max(1.0, min(self.settings.average, self.done / 10))
        with torch.no_grad():
            for a, p in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
                a.lerp_(p, 1.0 / horizon)

    def _note(self, each: np.ndarray, sigma: np.ndarray) -> float:
        """Add to the losses of the decades; the batch's own loss, over all processes."""
        at = np.clip(np.floor(np.log10(sigma)).astype(int) - int(self.decades[0]), 0, len(self.decades) - 1)
        new = np.stack([np.bincount(at, x, len(self.decades)) for x in (each, np.ones_like(each))])
        new = ranks.add_up(torch.from_numpy(new)).numpy()
        self._sums += new
        return float(new[0].sum() / self.settings.batch)

    def _look(self, by_name: np.ndarray, sigma: np.ndarray) -> None:
        """Where attributes are partly known: :math:`\\sum_A H(A)\\, k(1 - k)`, k the share known, by levels."""
        if self.settings.noise != "adaptive":
            return
        bins = self._seen.shape[1]
        at = np.clip(np.searchsorted(self.levels.edges, np.log(sigma), side="right") - 1, 0, bins - 1)
        new = np.stack([np.bincount(at, x, bins) for x in (np.ones(len(at)), *by_name)])
        self._seen += ranks.add_up(torch.from_numpy(new)).numpy()
        if self.done % _MEASURE_EVERY == 0:
            entropy = np.array([[a.entropy] for a in self.model.abstractions])
            known = np.clip(1.0 - self._seen[1:] / np.maximum(self._seen[:1], 1.0) / entropy, 0.0, 1.0)
            self.levels.measured((entropy * known * (1.0 - known)).sum(0))
            self._seen[:] = 0.0

    def losses(self) -> dict[str, Any]:
        """Losses since the last call, and those on values kept out of training, by decade; kept in the history."""
        sums, self._sums = self._sums, np.zeros_like(self._sums)
        with np.errstate(invalid="ignore"):
            mean = sums[0] / sums[1]
        bounds = self.bounds()
        ceiling = sum(a.entropy for a in self.model.abstractions)
        entry = {
            "step": self.done,
            "loss": [None if np.isnan(x) else float(x) for x in mean],
            "held_out": [ceiling - sum(b[j] for b in bounds.values()) for j in range(len(self.decades))],
        }
        self.history.append(entry)
        return entry

    def bounds(self) -> dict[str, list[float]]:
        """For each attribute :math:`E[\\ln q - \\ln p]` of the averaged classifier at every decade of sigma, nats, on
        values kept out of training, the same each time."""
        s, g = self.settings, generator(self.settings.seed, _HELD)
        found: dict[str, list[float]] = {a.name: [] for a in self.model.abstractions}
        for decade in self.decades:
            v, labels = self.source.held_out(_HELD_ROWS, g)
            exponent = torch.rand(len(v), generator=g) + float(decade)
            sigma = (10.0**exponent).clamp(s.sigma_min, s.sigma_max)
            y = v + beside(sigma, v) * torch.randn(v.shape, generator=g)
            log_q = self.averaged.all_log_posteriors(y.to(self.device), sigma.to(self.device))
            for a in self.model.abstractions:
                own = labels[a.name]
                q = log_q[a.name].cpu()[torch.arange(len(own)), own]
                found[a.name].append(float((q - a.prior.log()[own]).mean()))
        return found

    def store(self, path: Path) -> None:
        """Write all that a later run needs to go on, as safetensors with JSON in the header."""
        from safetensors.torch import save_file

        tensors = {f"model.{k}": x for k, x in self.model.state_dict().items()}
        tensors |= {f"averaged.{k}": x for k, x in self.averaged.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(x) for k, x in state.items()}
        tensors |= {"sums": torch.from_numpy(self._sums), "seen": torch.from_numpy(self._seen)}
        told = {
            "settings": asdict(self.settings),
            "done": self.done,
            "levels": self.levels.state(),
            "history": self.history,
        }
        whole = {k: x.detach().cpu().contiguous() for k, x in tensors.items()}
        save_file(whole, path, {"classifying": json.dumps(told)})

    def restore(self, path: Path) -> None:
        """Go on from a file of :meth:`store`.

        Raises: InputError where it cannot be read, or is of another training.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                told = json.loads((file.metadata() or {})["classifying"])
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            if told["settings"] != asdict(self.settings):
                raise ValueError("it is of another training")
            self.model.load_state_dict(_of("model", tensors))
            self.averaged.load_state_dict(_of("averaged", tensors))
            held = self.optimiser.state_dict()
            held["state"] = optimiser_state(tensors, self.optimiser)
            self.optimiser.load_state_dict(held)
            self.done, self.history = int(told["done"]), list(told["history"])
            self.levels.restore(told["levels"])
            self._sums, self._seen = tensors["sums"].numpy().copy(), tensors["seen"].numpy().copy()
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: no checkpoint of this training ({said}): delete it to begin anew") from error


def _of(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(f"{name}."): x for k, x in tensors.items() if k.startswith(f"{name}.")}
