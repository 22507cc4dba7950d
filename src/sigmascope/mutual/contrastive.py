r"""A lower bound on the information of two arrays from a critic that tells true pairs from shuffled ones.

With K candidates of which the first is the true one,

.. math:: \ln K + E \ln \frac{q(x_1, y)}{\sum_k q(x_k, y)} \le I(X; Y)

for every positive q.  Here ln q is that of a normal law, fitted on the training samples, plus a share of the output of
a network.  The bound is at most ln K.

References: van den Oord, Li, Vinyals (2018); Poole et al. (2019).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.mutual.folds import Folds, better, trained
from sigmascope.mutual.linear import Coordinates
from sigmascope.mutual.settings import Settings
from sigmascope.mutual.stacks import Stack
from sigmascope.streams import Use, generator

__all__ = ["contrastive_bound"]

_SHUFFLED = 3  # wrong candidates for each pair in training
_ROWS = 192  # pairs of a step, for each fold
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the network's output, among which the held-out bound chooses
_LEAST_LEFT = 1e-3  # the critic of nearly deterministic pairs stays finite


def contrastive_bound(x: Coordinates, y: Float[np.ndarray, "samples width"], settings: Settings) -> tuple[float, float]:
    """The bound in nats on held-out samples, and its standard error.

    Args:
        x: X in its coordinates, with its linear prediction from Y.
        y: Y, whitened.
        settings: of the training.
    """
    critic = _Critic(x, y, settings)
    (state,) = trained(critic.network, critic.loss, max(settings.steps // 3, 1), settings, 1)
    critic.network.load_state_dict(state)
    choices = critic.held_out(min(settings.candidates, critic.folds.held_out.shape[1] // 2))
    blocks = better(choices, choices).reshape(-1)
    return float(blocks.mean()), float(blocks.std(ddof=1) / math.sqrt(len(blocks)))


class _Critic:
    """The critics of all folds."""

    def __init__(self, x: Coordinates, y: np.ndarray, settings: Settings) -> None:
        self.generator = generator(settings.seed, Use.PAIR_BOUND)
        self.folds = Folds.of(len(x.x), settings)
        maps = [_regression(x.x[rows], y[rows]) for rows in self.folds.train.numpy()]
        self.x, self.y = _tensor(x.x), _tensor(y)
        self.white, self.slope = (_tensor(np.stack(m)) for m in zip(*maps, strict=True))
        first = torch.zeros(settings.folds, 1, dtype=torch.long)
        inputs = self._inputs(first, first)[0].shape[-1]
        self.network = Stack(settings.folds, inputs, 1, settings.width // 2, settings.depth, self.generator)

    def _inputs(self, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of the network for x of sample i with y of sample j, and the linear critic."""
        x, y = self.x[i], self.y[j]
        error = torch.bmm(x, self.white) - torch.bmm(y, self.slope)
        lengths = [0.5 * torch.log((v**2).mean(-1, keepdim=True) + 1e-3) for v in (x, y, error) if v.shape[-1] > 1]
        linear = 0.5 * ((x**2).sum(-1) - (error**2).sum(-1))
        return torch.cat([x, y, error, *lengths], -1), linear

    def loss(self) -> Float[Tensor, " folds"]:
        """Cross entropy of the true candidate."""
        rows = self.folds.batch(_ROWS, self.generator)
        shifts = 1 + torch.randperm(_ROWS - 1, generator=self.generator)[:_SHUFFLED]
        places = (torch.arange(_ROWS) + torch.cat([torch.zeros(1, dtype=torch.long), shifts])[:, None]) % _ROWS
        inputs, linear = self._inputs(rows.repeat(1, _SHUFFLED + 1), rows[:, places.reshape(-1)])
        scores = (linear + self.network(inputs)[..., 0]).reshape(len(rows), _SHUFFLED + 1, _ROWS)
        return -torch.log_softmax(scores, 1)[:, 0].mean(1)

    @torch.no_grad()
    def held_out(self, size: int) -> Float[np.ndarray, "shares folds blocks"]:
        """The bound in each block of ``size`` held-out samples, which are each other's candidates."""
        blocks = []
        held = self.folds.held_out
        for start in range(0, held.shape[1] - size + 1, size):
            rows = held[:, start : start + size]
            inputs, linear = self._inputs(rows.repeat(1, size), rows.repeat_interleave(size, 1))
            network = self.network(inputs)[..., 0]
            shares = []
            for share in _SHARES:
                scores = (linear + share * network).reshape(len(rows), size, size)
                both = [torch.log_softmax(scores, k).diagonal(dim1=1, dim2=2).mean(1) for k in (1, 2)]
                shares.append(0.5 * (both[0] + both[1]) + math.log(size))
            blocks.append(torch.stack(shares))
        return torch.stack(blocks, -1).numpy().astype(np.float64)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.tensor(np.ascontiguousarray(array), dtype=torch.float32)


def _regression(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrices W and B such that x W - y B are whitened errors of the linear prediction of x from y."""
    slope = np.linalg.lstsq(y, x, rcond=None)[0]
    values, vectors = np.linalg.eigh((x - y @ slope).T @ (x - y @ slope) / len(x))
    white = vectors / np.sqrt(values.clip(_LEAST_LEFT))
    return white, slope @ white
