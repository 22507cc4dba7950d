r"""Pointwise information: that of the noisy versions of one image about its attributes, level by level.

.. math:: \ln \frac{p(a \mid y)}{p(a)}, \qquad y = v + \sigma n
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import Denoiser, HasAllPosteriors, InputError, generator
from sigmascope.information.likelihood import attribute_of
from sigmascope.information.problem import checked_levels


@runtime_checkable
class HasPosteriorLevels(Protocol):
    """Exact models that give the posteriors of all attributes at all levels at once."""

    def posterior_levels(
        self, v: Float[Tensor, "batch *event"], noise: Float[Tensor, "batch *event"], sigmas: Float[Tensor, " levels"]
    ) -> Mapping[str, Float[Tensor, "levels batch values"]]:
        """ln p(a | v + sigma noise)."""
        ...


@dataclass(frozen=True, eq=False)
class Pointwise:
    r"""Pointwise information of one image about each value of an attribute, in nats, float64.

    Args:
        attribute: name of A.
        values: names of its values.
        sigma: decreasing levels, shape (levels,).
        per_noise: :math:`\ln p(a|y)/p(a)` under each noise, shape (levels, noises, values); 0 for a value without
            items.  At most :math:`-\ln p(a)`; negative where the noisy image makes the value less likely.
    """

    attribute: str
    values: tuple[str, ...]
    sigma: Float[np.ndarray, " levels"]
    per_noise: Float[np.ndarray, "levels noises values"] = field(repr=False)

    @property
    def mean(self) -> Float[np.ndarray, "levels values"]:
        """The mean over noises."""
        return np.asarray(self.per_noise.mean(1))

    @property
    def spread(self) -> Float[np.ndarray, "levels values"]:
        """Standard deviation over noises: how much depends on the noise; it is not an error."""
        return np.asarray(self.per_noise.std(1, ddof=1))

    @property
    def stderr(self) -> Float[np.ndarray, "levels values"]:
        """Standard error of the mean."""
        return np.asarray(self.spread / self.per_noise.shape[1] ** 0.5)


def pointwise(
    denoiser: Denoiser,
    v: Tensor,
    sigma: Float[np.ndarray, " levels"],
    attributes: Sequence[str] = (),
    *,
    noises: int = 64,
    seed: int = 0,
) -> dict[str, Pointwise]:
    r"""The pointwise information of one image about each value of its attributes.

    .. math:: \ln \frac{p(a \mid v + \sigma n)}{p(a)}, \qquad
              E\left[\ln \frac{p(A \mid V + \sigma n)}{p(A)}\right] = I(A; Y_\sigma)

    The mean over images, each with its own value, is the information of a study.  This is the contribution of one
    image, which may become known earlier or later, or point to another value.

    Args:
        denoiser: exact (:class:`~sigmascope.core.HasAllPosteriors`).
        v: the image, an item or not, shape (*event).
        sigma: decreasing levels, shape (levels,).
        attributes: names; empty means all.
        noises: standard normal noises, shared by all levels; more of them leave the earlier ones as they are.
        seed: of the noises.

    Returns: a :class:`Pointwise` for each attribute.

    Raises: InputError for a denoiser without posteriors, an unknown name, an image of another shape or that is not
        finite, levels that do not fall or are not positive, or fewer than two noises.

    Cost: one pass over a finite set for all noises and levels; of other models, a posterior for each.

    References: Fano (1961), Chapter 2; Kong et al. (2024) for learned models.
    """
    if not isinstance(denoiser, HasAllPosteriors):
        raise InputError(f"a {type(denoiser).__name__} has no posterior: use an exact denoiser")
    if noises < 2:
        raise InputError(f"noises is {noises}: at least 2 are needed to differ; pass e.g. noises=64")
    check_image(denoiser, v)
    levels = checked_levels(sigma)
    chosen = [attribute_of(denoiser, name) for name in attributes] or denoiser.attributes
    noise = torch.stack([torch.randn(*v.shape, generator=generator(seed, j)) for j in range(noises)])
    log_p = _posteriors(denoiser, v.cpu(), noise, levels)
    results = {}
    for a in chosen:
        occurs = a.prior > 0
        ratio = torch.where(occurs, log_p[a.name] - torch.where(occurs, a.prior, 1.0).log(), 0.0)
        results[a.name] = Pointwise(a.name, a.values, levels, ratio.numpy())
    return results


def check_image(denoiser: Denoiser, v: Tensor) -> None:
    """Refuse an image of another shape than the denoiser's, or with a number that is not finite.

    Raises: InputError.
    """
    if tuple(v.shape) != tuple(denoiser.event):
        raise InputError(f"the image has shape {tuple(v.shape)}: expected one of shape {tuple(denoiser.event)}")
    if not bool(torch.isfinite(v).all()):
        raise InputError("the image holds a number that is not finite: pass finite ones")


def _posteriors(
    denoiser: HasAllPosteriors, v: Tensor, noise: Tensor, levels: Float[np.ndarray, " levels"]
) -> dict[str, Float[Tensor, "levels noises values"]]:
    """ln p(a | v + sigma n) of all attributes, noises and levels."""
    with torch.no_grad():
        if isinstance(denoiser, HasPosteriorLevels):
            values = v.expand_as(noise).contiguous()
            return {k: x.cpu() for k, x in denoiser.posterior_levels(values, noise, torch.from_numpy(levels)).items()}
        each = [
            denoiser.all_log_posteriors(v.double() + s * noise.double(), torch.full((len(noise),), s).double())
            for s in levels.tolist()
        ]
    return {name: torch.stack([x[name].cpu() for x in each]) for name in each[0]}
