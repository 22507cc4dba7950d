r"""Laws with closed forms: a Gaussian measured through a linear attribute, and mixtures of Gaussians.

.. math:: V \sim N(m, \Sigma) \;\Rightarrow\; D(y, \sigma) = m + \Sigma(\Sigma + \sigma^2 I)^{-1}(y - m).

References: Robbins (1956); Guo, Shamai, Verdú (2005).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import UNKNOWN, Attribute, Denoiser, Draws, InputError, generator
from sigmascope.exact.common import ExactDenoiser, Known, Levels, Values, check_possible, check_rows, set_buffers


def _rows(y: Tensor, sigma: Tensor, event: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """y and sigma in float64, checked, on the device; y as rows."""
    check_rows(y, sigma, event)
    return y.reshape(len(y), -1).to(device).double(), sigma.to(device).double()


class GaussianDenoiser(Denoiser):
    r"""Exact denoiser of a Gaussian law with a continuous attribute, which is a noisy linear function of the value.

    .. math:: V \sim N(m, \Sigma), \quad A = B V + N(0, R) \;\Rightarrow\;
              D(y, \sigma, a) = m_a + \Sigma_{V|A}(\Sigma_{V|A} + \sigma^2 I)^{-1}(y - m_a)

    with :math:`m_a = m + K (a - B m)`, :math:`K = \Sigma B^\top (B \Sigma B^\top + R)^{-1}` and
    :math:`\Sigma_{V|A} = \Sigma - K B \Sigma`.  Without A the mean is m and the covariance :math:`\Sigma`.  sigma has
    the unit of V.

    Args:
        mean: m, shape (size,).
        covariance: :math:`\Sigma`, shape (size, size), positive semi-definite.
        gain: B, shape (dim, size).
        noise: R, shape (dim, dim), positive definite.
        name: of the attribute A.

    Cost: of a call, one eigendecomposition, of order size³, and batch · size².
    """

    attributes: tuple[Attribute, ...] = ()
    mean: Tensor
    covariance: Tensor
    gain: Tensor
    noise: Tensor
    regression: Tensor
    conditional_covariance: Tensor

    def __init__(self, mean: Tensor, covariance: Tensor, gain: Tensor, noise: Tensor, name: str = "a") -> None:
        super().__init__()
        self.event = tuple(mean.shape)
        self.name = name
        b, sigma_v, r = gain.double(), covariance.double(), noise.double()
        cross = sigma_v @ b.T
        regression = torch.linalg.solve(b @ cross + r, cross.T).T  # of V on A
        set_buffers(
            self,
            mean=mean.double(),
            covariance=sigma_v,
            gain=b,
            noise=r,
            regression=regression,
            conditional_covariance=sigma_v - regression @ cross.T,
        )

    def forward(self, y: Values, sigma: Levels, known: Known = None) -> Values:
        """E[V | Y_sigma = y], or E[V | Y_sigma = y, A] where A is known.

        Args:
            y: noisy values, shape (batch, size).
            sigma: one noise level per row, shape (batch,).
            known: None, or under the name of the attribute its value in every row, float, shape (batch, dim).

        Returns: the posterior means, shape (batch, size), in the dtype of y.

        Raises: InputError for shapes that do not fit, or another attribute.
        """
        flat, level = _rows(y, sigma, self.event, self.mean.device)
        mean, covariance = self.mean.expand_as(flat), self.covariance
        for name, value in (known or {}).items():
            if name != self.name or value.shape != (len(y), len(self.gain)):
                raise InputError(
                    f"known[{name!r}] has shape {tuple(value.shape)}: expected known[{self.name!r}] of shape "
                    f"({len(y)}, {len(self.gain)})"
                )
            mean = mean + (value.to(self.gain) - self.gain @ self.mean) @ self.regression.T
            covariance = self.conditional_covariance
        values, vectors = torch.linalg.eigh(covariance)
        shrink: Tensor = values / (values + level[:, None] ** 2)
        denoised: Tensor = mean + (shrink * ((flat - mean) @ vectors)) @ vectors.T
        return denoised.to(y)

    def information(self, sigma: float) -> float:
        r"""The information I(A; Y_sigma), in nats.

        .. math:: \tfrac12 \ln\det(\Sigma + \sigma^2 I) - \tfrac12 \ln\det(\Sigma_{V|A} + \sigma^2 I)
        """
        unit = sigma**2 * torch.eye(len(self.mean), dtype=torch.float64, device=self.mean.device)
        return 0.5 * float(torch.logdet(self.covariance + unit) - torch.logdet(self.conditional_covariance + unit))

    def draw(self, draws: int, seed: int) -> tuple[Draws, Float[Tensor, "draws dim"]]:
        """Independent draws of V with noise, and of A, shape (draws, dim), float64, on the CPU."""
        g, (mean, covariance) = generator(seed), (x.cpu() for x in (self.mean, self.covariance))
        gain, noise_of_a = self.gain.cpu(), self.noise.cpu()
        white = torch.randn(draws, len(mean), generator=g, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(covariance)
        v = mean + (white * values.clamp_min(0.0).sqrt()) @ vectors.T
        white_of_a = torch.randn(draws, len(gain), generator=g, dtype=torch.float64)
        a = v @ gain.T + white_of_a @ torch.linalg.cholesky(noise_of_a).T
        noise = torch.randn(draws, len(self.mean), generator=g, dtype=torch.float64)
        return Draws(torch.arange(draws), v, noise), a


class MixtureDenoiser(ExactDenoiser):
    r"""Exact filter of :math:`V \sim \sum_k w_k N(m_k, \Sigma_k)` with labelled components.

    .. math:: p(k \mid y) \propto w_k\, N(y; m_k, \Sigma_k + \sigma^2 I), \qquad
              D(y) = \sum_k p(k \mid y) \left(m_k + \Sigma_k(\Sigma_k + \sigma^2 I)^{-1}(y - m_k)\right)

    Args:
        weights: :math:`w_k`, shape (components,), non-negative; they are normalised.
        means: :math:`m_k`, shape (components, size).
        covariances: :math:`\Sigma_k`, shape (components, size, size), or variances of isotropic ones, shape
            (components,); zero for points.
        labels: for each attribute, the index of the value of each component.
        values: names of the values of each attribute; None: 0, 1, ...

    Raises: InputError for shapes that do not fit.
    """

    means: Tensor
    log_weight: Tensor
    variances: Tensor
    axes: Tensor

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        covariances: Tensor,
        labels: Mapping[str, Sequence[int]],
        values: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        count, size = means.shape
        if weights.shape != (count,) or covariances.shape not in ((count,), (count, size, size)):
            raise InputError(
                f"weights {tuple(weights.shape)}, means {tuple(means.shape)}, covariances {tuple(covariances.shape)}: "
                f"expected ({count},), ({count}, {size}), and ({count}, {size}, {size}) or ({count},)"
            )
        self.event = (size,)
        if covariances.ndim == 1:
            variances = covariances.double()[:, None].expand(count, size)
            axes = torch.eye(size, dtype=torch.float64).expand(count, size, size)
        else:
            variances, axes = torch.linalg.eigh(covariances.double())
        set_buffers(
            self,
            means=means.double(),
            log_weight=(weights.double() / weights.double().sum()).log(),
            variances=variances.clamp_min(0.0),
            axes=axes,
        )
        self.labels = {n: torch.as_tensor(list(label)) for n, label in labels.items()}
        self.attributes = tuple(self._attribute(n, (values or {}).get(n)) for n in self.labels)

    def _attribute(self, name: str, values: Sequence[str] | None) -> Attribute:
        label = self.labels[name]
        if label.shape != self.log_weight.shape or int(label.min()) < 0:
            raise InputError(f"labels of {name!r}: expected one index, 0 or more, for each of the components")
        names = tuple(values or map(str, range(int(label.max()) + 1)))
        prior = torch.zeros(len(names), dtype=torch.float64).index_add_(0, label, self.log_weight.exp())
        return Attribute(name, names, prior / prior.sum())

    def _components(self, y: Tensor, sigma: Tensor) -> tuple[Tensor, Float[Tensor, "components batch size"]]:
        """ln w_k N(y; ...), shape (components, batch), and y along the axes of each component."""
        flat, level = _rows(y, sigma, self.event, self.means.device)
        along = torch.einsum("kbi,kij->kbj", flat - self.means[:, None], self.axes)
        total = self.variances[:, None] + (level**2)[:, None]
        log_density = -0.5 * (along**2 / total + total.log() + math.log(2 * math.pi)).sum(2)
        return self.log_weight[:, None] + log_density, along

    def _means(self, along: Tensor, level: Tensor) -> Float[Tensor, "components batch size"]:
        """E[V | y, component]."""
        level2 = level.to(self.variances) ** 2
        shrink = self.variances[:, None] / (self.variances[:, None] + level2[:, None])
        return self.means[:, None] + torch.einsum("kbj,kij->kbi", shrink * along, self.axes)

    def forward(self, y: Values, sigma: Levels, known: Known = None) -> Values:
        """E[V | Y_sigma = y, known attributes], in the dtype of y.

        Raises: InputError for shapes that do not fit, unknown names or values, or a combination that no component has.
        """
        logit, along = self._components(y, sigma)
        for name, value in (known or {}).items():
            self.attribute(name)
            index = value.to(logit.device)
            possible = (index == UNKNOWN) | (self.labels[name].to(logit.device)[:, None] == index)
            logit = logit.masked_fill(~possible, -torch.inf)
        check_possible(logit.max(0).values > -torch.inf, "component")
        return (logit.softmax(0)[:, :, None] * self._means(along, sigma)).sum(0).to(y)

    def log_density(self, y: Values, sigma: Levels) -> Float[Tensor, " batch"]:
        """ln p(Y_sigma = y) of each row, the log-density of the noisy law, float64."""
        return self._components(y, sigma)[0].logsumexp(0).to(y.device)

    def all_log_posteriors(self, y: Values, sigma: Levels) -> dict[str, Float[Tensor, "batch values"]]:
        """ln p(a | Y_sigma = y) of every attribute, float64."""
        logit = self._components(y, sigma)[0]
        posteriors = {}
        for a in self.attributes:
            by_value = [logit[self.labels[a.name] == i].logsumexp(0) for i in range(len(a.values))]
            posteriors[a.name] = torch.stack(by_value, 1).log_softmax(1).to(y.device)
        return posteriors

    def sample_posterior(
        self, y: Values, sigma: Levels, n: int, generator: torch.Generator
    ) -> Float[Tensor, "n batch *event"]:
        """n independent draws of V given Y_sigma = y, for each row, float64."""
        logit, along = self._components(y, sigma)
        pick = torch.multinomial(logit.softmax(0).T.cpu(), n, replacement=True, generator=generator).T.to(logit.device)
        row = torch.arange(len(y), device=logit.device).expand(n, -1)
        level2 = (sigma.to(self.variances) ** 2)[:, None]
        variance = self.variances[pick] * level2 / (self.variances[pick] + level2)
        white = torch.randn(n, *y.shape, generator=generator, dtype=torch.float64).to(variance) * variance.sqrt()
        drawn = self._means(along, sigma)[pick, row] + torch.einsum("nbj,nbij->nbi", white, self.axes[pick])
        return drawn.to(y.device)

    def draw(self, draws: int, seed: int) -> Draws:
        """Independent draws of V with labels and noise, float64, on the CPU; an item is a component."""
        g = generator(seed)
        pick = torch.multinomial(self.log_weight.exp().cpu(), draws, replacement=True, generator=g)
        means, variances, axes = (x.cpu()[pick] for x in (self.means, self.variances, self.axes))
        white = torch.randn(draws, *self.event, generator=g, dtype=torch.float64) * variances.sqrt()
        v = means + torch.einsum("bj,bij->bi", white, axes)
        noise = torch.randn(draws, *self.event, generator=g, dtype=torch.float64)
        return Draws(pick, v, noise, {n: label[pick] for n, label in self.labels.items()})
