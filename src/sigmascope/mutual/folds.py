"""Folds of samples, for networks of which each is evaluated on samples that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigmascope.mutual.settings import Settings
from sigmascope.streams import Use, generator

__all__ = ["Folds", "better", "trained"]


@dataclass(frozen=True)
class Folds:
    """Numbers of samples: what each network is trained on, and what it is evaluated on."""

    train: Int[Tensor, "folds rows"]
    held_out: Int[Tensor, "folds fewer"]

    @staticmethod
    def of(samples: int, settings: Settings) -> Folds:
        """Random folds of equal size, the same for each network of a run; ``folds`` − 1 samples at most are in none."""
        count, size = settings.folds, samples // settings.folds
        order = torch.randperm(samples, generator=generator(settings.seed, Use.PAIR_FOLDS))
        held = order[: size * count].reshape(count, size)
        others = [torch.cat([held[j] for j in range(count) if j != k]) for k in range(count)]
        return Folds(torch.stack(others), held)

    def batch(self, rows: int, generator: torch.Generator) -> Int[Tensor, "folds rows"]:
        """Random samples of the training part of each fold."""
        count, size = self.train.shape
        return self.train.gather(1, torch.randint(size, (count, rows), generator=generator))


def trained(
    network: torch.nn.Module, loss: Callable[[], Float[Tensor, " folds"]], steps: int, settings: Settings, states: int
) -> Iterator[dict[str, Tensor]]:
    """Train by AdamW with a cosine schedule; the averaged weights at equally spaced steps, the last included."""
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.rate, weight_decay=settings.decay, betas=(0.9, 0.99)
    )
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    due = {max(1, round(steps * (k + 1) / states)) for k in range(states)}
    for step in range(1, steps + 1):
        slope = 0.02 + 0.49 * (1 + np.cos(np.pi * step / steps))
        optimiser.param_groups[0]["lr"] = settings.rate * min(1.0, step / 100) * slope
        optimiser.zero_grad()
        loss().sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0 * settings.folds)
        optimiser.step()
        with torch.no_grad():
            for key, value in network.state_dict().items():
                average[key].lerp_(value, max(0.01, 9.0 / (step + 10)))
        if step in due:
            yield {k: v.clone() for k, v in average.items()}


def better(
    scores: Float[np.ndarray, "choices folds samples"], values: Float[np.ndarray, "choices folds samples *more"]
) -> Float[np.ndarray, "folds samples *more"]:
    """Of each fold, the values of the choice whose mean score is the largest on the *other* half of its samples.

    A choice by the same samples would raise the mean of what is chosen.
    """
    out = np.empty_like(values[0])
    for fold in range(scores.shape[1]):
        for half in (0, 1):
            best = int(scores[:, fold, 1 - half :: 2].mean(1).argmax())
            out[fold, half::2] = values[best, fold, half::2]
    return np.asarray(out)
