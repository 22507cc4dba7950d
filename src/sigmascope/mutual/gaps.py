r"""Information of two arrays from a learned denoiser of one of them, given the other or not.

With :math:`X_\sigma = X + \sigma N`, :math:`D = E[X | X_\sigma]` and :math:`D_Y = E[X | X_\sigma, Y]`,

.. math:: I(X; Y) = \int \frac{E\|X - D\|^2 - E\|X - D_Y\|^2}{\sigma^2} d\ln\sigma
                  = \int \frac{E\|D_Y - D\|^2}{\sigma^2} d\ln\sigma
                  = \int \frac{E\langle X - D, D_Y - D\rangle}{\sigma^2} d\ln\sigma .

The three agree for true conditional means.  With learned ones the first is too small by :math:`E\|\hat D_Y - D_Y\|^2`.
The error of a network has two parts, what it has not learned and noise that it has.  Noise makes the first too small
and the second too large by the same amount; the third is the mean of both, free of noise, and too small by the share
of :math:`D_Y - D` that was not learned.  All are measured on samples that the network has not seen.

Only the difference from the best *linear* denoisers is learned: their part of the integral is
:math:`-\frac12\sum\ln(1 - \rho_i^2)` for every law (:mod:`sigmascope.mutual.linear`).

References: Guo, Shamai, Verdú (2005); Franzese, Bounoua, Michiardi (2024), MINDE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.mutual.folds import Folds, better, trained
from sigmascope.mutual.linear import Coordinates
from sigmascope.mutual.settings import HIGHEST, LOWEST, Settings
from sigmascope.mutual.stacks import Stack
from sigmascope.streams import Use, generator

__all__ = ["FORMS", "OneWay", "one_way"]

FORMS = ("score", "mmse", "mean")
"""The three integrands, in this order."""
_BUMPS = 8  # functions of ln sigma in the input
_GIVEN = 0.65  # share of the rows of a step in which Y is given
_SHARES = 4  # of the output: a sum, and factors of three inputs


@dataclass(frozen=True)
class OneWay:
    """What the denoiser of one array measures.

    Attributes:
        linear: the linear part in nats, without the bias of its fit.
        samples: for each form, information of each held-out sample in nats; their mean is the estimate.
        sigma: the levels, the middle of each stratum.
        rate: for each form, -dI/d ln sigma at each level.
        beyond_normal: nats by which the learned unconditional denoiser is better than the linear one; 0 for a normal
            array.  What it has not learned of this can make the value too large.
    """

    linear: float
    samples: Float[np.ndarray, "3 folds samples"]
    sigma: Float[np.ndarray, " levels"]
    rate: Float[np.ndarray, "3 levels"]
    beyond_normal: float


class _Denoiser:
    """Networks of all folds around the linear denoisers of X."""

    def __init__(self, x: Coordinates, y: np.ndarray, z: np.ndarray, settings: Settings, stream: int) -> None:
        def tensor(a: np.ndarray) -> Tensor:
            return torch.tensor(np.ascontiguousarray(a), dtype=torch.float32)

        self.x, self.without, self.within, self.left = map(tensor, (x.x, x.without, x.within, x.left))
        self.y, self.z = tensor(y), tensor(z)
        self.generator = generator(settings.seed, Use.PAIR_TRAINING, stream)
        self.folds = Folds.of(len(self.x), settings)
        width = self.x.shape[1]
        inputs = self._inputs(*(torch.zeros(1, 1, n) for n in (width, width, z.shape[1], y.shape[1], 1, 1))).shape[-1]
        self.network = Stack(settings.folds, inputs, _SHARES * width, settings.width, settings.depth, self.generator)

    def _inputs(self, plain: Tensor, conditional: Tensor, z: Tensor, y: Tensor, log: Tensor, given: Tensor) -> Tensor:
        bumps = torch.exp(-(((log - torch.linspace(math.log(LOWEST), math.log(HIGHEST), _BUMPS)) / 1.1) ** 2))
        lengths = [_length(v) for v in (plain, conditional, y) if v.shape[-1] > 1]
        return torch.cat([plain, conditional, z, y, *lengths, bumps, given], -1)

    def __call__(self, rows: Tensor, noisy: Tensor, log: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """The linear denoiser, and what the network adds to it."""
        noise = (2 * log).exp()
        plain = (noisy - self.without[rows]) / (1 + noise).sqrt()
        conditional = given * (noisy - self.within[rows]) / (self.left + noise).sqrt()
        inputs = self._inputs(plain, conditional, self.z[rows], given * self.y[rows], log, given)
        free, a, b, c = self.network(inputs).chunk(_SHARES, -1)
        output = free + a * plain + b * conditional + c * given * self.within[rows]
        centre = torch.where(given > 0, self.within[rows], self.without[rows])
        variance = torch.where(given > 0, self.left, torch.ones_like(self.left))
        linear = centre + variance / (variance + noise) * (noisy - centre)
        return linear, (variance * noise / (variance + noise)).sqrt() * output

    def loss(self, batch: int) -> Float[Tensor, " folds"]:
        """The integrand of the squared error at random levels, so that training maximises the information."""
        rows = self.folds.batch(batch, self.generator)
        share = (torch.arange(batch) + torch.rand(rows.shape, generator=self.generator)) / batch
        log = (math.log(LOWEST) + share * math.log(HIGHEST / LOWEST))[..., None]
        given = (torch.rand(log.shape, generator=self.generator) < _GIVEN).float()
        noisy = self._noisy(rows, log, self.generator)
        linear, learned = self(rows, noisy, log, given)
        return (((self.x[rows] - linear - learned) ** 2).sum(-1) / (2 * log[..., 0]).exp()).mean(1)

    def _noisy(self, rows: Tensor, log: Tensor, source: torch.Generator) -> Tensor:
        x = self.x[rows]
        return x + log.exp() * torch.randn(x.shape, generator=source)

    @torch.no_grad()
    def measured(self, levels: int, source: torch.Generator) -> Float[Tensor, "3 5 folds samples levels"]:
        """Integrands on held-out samples, less those of the linear denoisers.

        Returns: for both denoisers learned, the conditional one alone, and none: the three forms, by how much the
            squared errors of both denoisers are smaller than those of the linear ones, and that of the unconditional
            one.
        """
        rows, step = self.folds.held_out, math.log(HIGHEST / LOWEST) / levels
        columns = []
        for level in range(levels):
            log = math.log(LOWEST) + step * (level + torch.rand(*rows.shape, 1, generator=source))
            noisy, x, ones = self._noisy(rows, log, source), self.x[rows], torch.ones_like(log)
            (plain, change), (conditional, more) = (self(rows, noisy, log, given) for given in (0 * ones, ones))
            zero = torch.zeros_like(more)
            forms = [_forms(x, conditional, m, plain, c) for m, c in ((more, change), (more, zero), (zero, zero))]
            columns.append(torch.stack(forms) / (2 * log[..., 0]).exp())
        return torch.stack(columns, -1)


def one_way(
    x: Coordinates,
    y: Float[np.ndarray, "samples ys"],
    z: Float[np.ndarray, "samples zs"],
    settings: Settings,
    stream: int,
) -> OneWay:
    """Train a denoiser of X, given (Y, Z) or Z, and measure I(X; Y | Z) with it.

    Args:
        x: X in its coordinates, with the linear predictions.
        y: Y as an input of the network, whitened.
        z: Z as an input; no columns: nothing is given.
        settings: of the training.
        stream: number of the stream of randomness.
    """
    denoiser = _Denoiser(x, y, z, settings, stream)
    states = trained(
        denoiser.network, lambda: denoiser.loss(settings.batch), settings.steps, settings, settings.checkpoints
    )
    choices = []
    for state in list(states):
        denoiser.network.load_state_dict(state)
        source = generator(settings.seed, Use.PAIR_HELD_OUT, stream)  # the same noise for each state
        choices.append(denoiser.measured(settings.levels, source).numpy().astype(np.float64))
    step = math.log(HIGHEST / LOWEST) / settings.levels
    weights = np.full(settings.levels, step)
    weights[[0, -1]] += 0.5  # below and above, -dI/d ln sigma falls like sigma^2 and sigma^-2
    values = np.concatenate(choices).transpose(0, 2, 3, 4, 1)  # choices, folds, samples, levels, forms
    chosen = better(values[..., 3] @ weights, values)
    rows = denoiser.folds.held_out.numpy()
    direct = _linear_part(x)[rows]
    samples = np.asarray(np.einsum("fslk,l->kfs", chosen[..., :3], weights) + x.information() + direct - direct.mean())
    sigma = np.exp(math.log(LOWEST) + step * (np.arange(settings.levels) + 0.5))
    rate = chosen[..., :3].mean((0, 1)).T + _linear_rate(x, sigma)
    beyond_normal = float((chosen[..., 4] @ weights).mean())
    return OneWay(x.information(), samples, sigma, rate, beyond_normal)


def _length(rows: Tensor) -> Tensor:
    """Half the logarithm of the mean square of each row."""
    return 0.5 * torch.log((rows**2).mean(-1, keepdim=True) + 1e-3)


def _forms(
    x: Tensor, conditional: Tensor, more: Tensor, plain: Tensor, change: Tensor
) -> Float[Tensor, "5 folds samples"]:
    """The three integrands, the gains of both denoisers over linear ones, and that of the unconditional one alone."""
    gained, plainly_gained = _gain(x - conditional, more), _gain(x - plain, change)
    score = ((conditional + more - plain - change) ** 2).sum(-1) - ((conditional - plain) ** 2).sum(-1)
    mmse = gained - plainly_gained
    return torch.stack([score, mmse, 0.5 * (score + mmse), gained + plainly_gained, plainly_gained])


def _gain(error: Tensor, change: Tensor) -> Tensor:
    """By how much a change of the estimate reduces the squared error."""
    return 2 * (error * change).sum(-1) - (change**2).sum(-1)


def _linear_part(x: Coordinates) -> Float[np.ndarray, " samples"]:
    """Influence of each sample on the linear part: half the difference of two squared distances."""
    return np.asarray(0.5 * (((x.x - x.without) ** 2).sum(1) - ((x.x - x.within) ** 2 / x.left).sum(1)))


def _linear_rate(x: Coordinates, sigma: Float[np.ndarray, " levels"]) -> Float[np.ndarray, " levels"]:
    noise = sigma[:, None] ** 2
    return np.asarray((1 / (1 + noise) - x.left / (x.left + noise)).sum(1))
