r"""From a posterior to a conditional denoiser: a network that knows no classes is told one by a probe's gradient.

.. math:: D_a(y, \sigma) = D(y, \sigma) + \sigma^2\, \nabla_y \ln q(a \mid y, \sigma)

By Bayes :math:`\nabla \ln p(y \mid a) = \nabla \ln p(y) + \nabla \ln p(a \mid y)`, and by Tweedie's formula
:math:`D = y + \sigma^2 \nabla \ln p(y)`: with the true D and the true posterior it is the true :math:`D_a`.  A probe or
classifier that errs gives a biased one: measure it, as any learned denoiser, against bounds.

References: Efron (2011) for Tweedie's formula; Dhariwal & Nichol (2021), classifier guidance.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigmascope.core import UNKNOWN, Attribute, Denoiser, HasPosterior, InputError


class ByPosterior(Denoiser):
    """A denoiser that is told attributes through a time-aware posterior, such as a classifier of noisy values.

    Several attributes that are told at once count as independent given y: their gradients are added.

    Args:
        denoiser: told nothing.
        posterior: of the attributes; differentiable in y.
        attributes: which; empty: those that the posterior says it has.

    Raises: InputError where there are none.
    """

    def __init__(self, denoiser: Denoiser, posterior: HasPosterior, attributes: tuple[Attribute, ...] = ()) -> None:
        super().__init__()
        known = tuple(attributes) or tuple(getattr(posterior, "attributes", ()))
        if not known:
            raise InputError(f"a {type(posterior).__name__} does not say what it tells: pass attributes=")
        self.denoiser, self.event, self.attributes = denoiser, denoiser.event, known
        self.posterior = posterior if isinstance(posterior, nn.Module) else _Apart(posterior)

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """D + sigma² times the gradients of ln q of what is known, in the dtype of y.

        Args:
            y: noisy values.
            sigma: one level per row.
            known: of each attribute the index of each row's value, -1 where unknown.

        Raises: InputError for an unknown attribute, or a posterior without a gradient.
        """
        free = self.denoiser(y, sigma)
        names = [a.name for a in self.attributes]
        for name, value in (known or {}).items():
            if name not in names:
                raise InputError(f"the posterior does not tell {name!r}: choose among {', '.join(names)}")
            free = free + self._gradient(y, sigma, name, value)
        return free

    def _gradient(self, y: Tensor, sigma: Tensor, name: str, value: Tensor) -> Tensor:
        told = value.to(y.device)
        with torch.enable_grad():
            at = y.detach().requires_grad_()
            log_q = self.posterior.log_posterior(at, sigma, name)
            if not log_q.requires_grad:
                raise InputError(
                    f"the posterior of a {type(self.posterior).__name__} has no gradient in y: use a differentiable "
                    "one, such as a NoisyClassifier"
                )
            own = log_q.gather(1, told.clamp_min(0)[:, None])[:, 0]
            (found,) = torch.autograd.grad(torch.where(told == UNKNOWN, 0.0, own).sum(), at)
        return (sigma**2).reshape(-1, *[1] * (y.ndim - 1)).to(y) * found.to(y)


class _Apart(nn.Module):
    """A posterior that is no module."""

    def __init__(self, of: HasPosterior) -> None:
        super().__init__()
        self.log_posterior = of.log_posterior
