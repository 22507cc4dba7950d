"""Squared gaps of any denoiser at given draws, by calling it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Denoiser, Draws, Gap, HasPosterior, InputError
from sigmascope.information.allocation import Chosen
from sigmascope.information.parts import Arrays, Parts
from sigmascope.information.together import together
from sigmascope.sample.joint import mean_of_each_value
from sigmascope.sample.schemes import Model, home_of


def gaps_at(
    denoiser: Denoiser, draws: Draws, sigma: float, attribute: str, average: bool = True
) -> tuple[Float[Tensor, " draws"], Float[Tensor, " draws"]]:
    r"""Squared gaps at one level: of means, :math:`\|D_a - D\|^2`, and of errors, :math:`\|v - D\|^2 - \|v - D_a\|^2`.

    With ``average``, and where the denoiser has a posterior, the first is averaged over the posterior in place of the
    drawn label: the same mean, two to three times less spread, at the cost of a denoising for each value.
    """
    y, own = draws.v.double() + sigma * draws.noise.double(), draws.labels[attribute]
    unconditional = Model(denoiser).denoise(y, sigma)
    if average and isinstance(denoiser, HasPosterior):
        each = mean_of_each_value(denoiser, y, sigma, attribute)
        conditional = each[own, torch.arange(len(own))]
        level = torch.full((len(y),), sigma, dtype=torch.float64, device=y.device)
        pi = denoiser.log_posterior(y, level, attribute).to(y.device).exp()
        score = (pi.T * _norm2(each - unconditional, 2)).sum(0)
    else:
        conditional = Model(denoiser, {attribute: own}).denoise(y, sigma)
        score = _norm2(conditional - unconditional, 1)
    mmse = _norm2(draws.v.double() - unconditional, 1) - _norm2(draws.v.double() - conditional, 1)
    return score, mmse


def gaps_of_draws(
    denoiser: Denoiser, draws: Chosen, names: Sequence[str], batch: int, held: Arrays
) -> Parts[tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]]:
    """The same over sigma squared, for each draw at its own level and for its own attribute, a batch at a time.

    Args:
        denoiser: any.
        draws: to be measured.
        names: of the attributes.
        batch: rows of a call, two for each draw.
        held: arrays of an earlier run, or none.
    """
    score, mmse = (held[k].copy() if held else np.zeros(len(draws.weight)) for k in ("score", "mmse"))
    device, dtype = home_of(denoiser)
    done, batches = int(held.get("done", 0)), []
    for k, each in enumerate(names):
        own = torch.from_numpy(np.flatnonzero(draws.attribute == k))
        batches += [(each, rows) for rows in torch.split(own, max(batch // 2, 1)) if len(rows)]
    for i in range(done, len(batches)):
        if i > done:
            yield partial(dict, score=score, mmse=mmse, done=np.array(i))
        name, rows = batches[i]
        v, sigma = draws.v[rows].double(), draws.sigma[rows]
        y = v + sigma.reshape(-1, *[1] * (v.ndim - 1)) * draws.noise[rows]
        conditions = [None, {name: draws.labels[name][rows].to(device)}]
        with torch.no_grad():
            means = together(denoiser, y.to(device, dtype), sigma.to(device, dtype), conditions)
        unconditional, conditional = (mean.to("cpu", torch.float64) for mean in means)
        score[rows] = (_norm2(conditional - unconditional, 1) / sigma**2).numpy()
        mmse[rows] = ((_norm2(v - unconditional, 1) - _norm2(v - conditional, 1)) / sigma**2).numpy()
    return score, mmse


def as_gap(
    score: Float[np.ndarray, "levels draws"],
    mmse: Float[np.ndarray, "levels draws"],
    sigma: Float[np.ndarray, " levels"],
) -> Gap:
    r"""A Gap from squared gaps in the whole space, without random directions.

    The series above the first level, :math:`E\|D_a - D\|^2 = s_0 - \lambda F`, is fitted to the first two levels.

    Raises: InputError for fewer than two levels.
    """
    if len(sigma) < 2:
        raise InputError(f"{len(sigma)} level came: a gap is integrated over levels; pass at least 2")
    none = np.zeros((len(sigma), 0))
    snr, mean = sigma[:2] ** -2.0, score[:2].mean(1)
    frobenius = float((mean[0] - mean[1]) / (snr[1] - snr[0]))
    return Gap(score, mmse, none, none, float(mean[0] + snr[0] * frobenius), np.zeros(0), frobenius)


def _norm2(x: Tensor, batch_dims: int) -> Tensor:
    return (x**2).flatten(batch_dims).sum(-1)
