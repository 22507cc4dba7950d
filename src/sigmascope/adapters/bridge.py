r"""A conditional denoiser from an unconditional one and a posterior, by the gradient of the posterior.

.. math:: D_a(y, \sigma) = D(y, \sigma) + \sigma^2\, \nabla_y \ln q(a \mid y, \sigma)

By Bayes :math:`\nabla \ln p(y \mid a) = \nabla \ln p(y) + \nabla \ln p(a \mid y)`, and by Tweedie's formula :math:`D =
y + \sigma^2 \nabla \ln p(y)`: the true D and the true posterior give the true :math:`D_a`.  A learned posterior gives a
biased one: compare it with bounds, like any learned denoiser.

References: Efron (2011) for Tweedie's formula; Dhariwal & Nichol (2021), classifier guidance.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sigmascope.adapters.foreign import LevelPerRow, Values
from sigmascope.core import UNKNOWN, Attribute, Denoiser, HasPosterior, InputError


class ByPosterior(Denoiser):
    r"""A denoiser that is conditional through a posterior at every noise level, such as a classifier of noisy values.

    .. math:: D_a(y, \sigma) = D(y, \sigma) + \sigma^2\, \nabla_y \ln q(a \mid y, \sigma)

    The true D and the true posterior give the true :math:`D_a`.  A learned posterior gives a biased one: compare it
    with bounds, like any learned denoiser.  Several known attributes count as independent given y: their gradients are
    added.

    Args:
        denoiser: the unconditional denoiser.
        posterior: an object with ``log_posterior(y, sigma, attribute)``, which returns ln q(a | y) for every value a,
            shape (batch, values), and can be differentiated in y.
        attributes: the attributes; empty: ``posterior.attributes``.

    Raises: InputError where there are none.

    Cost: one call of the denoiser, and for each known attribute one of the posterior with its gradient.

    References: Efron (2011) for Tweedie's formula; Dhariwal & Nichol (2021), classifier guidance.
    """

    def __init__(self, denoiser: Denoiser, posterior: HasPosterior, attributes: tuple[Attribute, ...] = ()) -> None:
        super().__init__()
        self.attributes = tuple(attributes) or tuple(getattr(posterior, "attributes", ()))
        if not self.attributes:
            raise InputError(f"a {type(posterior).__name__} has no list of its attributes: pass attributes=")
        self.denoiser, self.event = denoiser, denoiser.event
        self.posterior = posterior  # a module becomes part of this one, another object does not

    def forward(self, y: Values, sigma: LevelPerRow, known: Mapping[str, Tensor] | None = None) -> Values:
        """D plus sigma² times the gradients of ln q of the known attributes, in the dtype of y.

        Args:
            y: noisy values, shape (batch, *event).
            sigma: one noise level per row, shape (batch,), in the unit of y.
            known: by name, for some of the attributes: the index of the value of each row, int64, shape (batch,), -1
                where unknown.

        Returns: the conditional means, shape (batch, *event).

        Raises: InputError for an unknown attribute, or a posterior without a gradient.
        """
        out: Tensor = self.denoiser(y, sigma).to(y)
        names = [a.name for a in self.attributes]
        for name, value in (known or {}).items():
            if name not in names:
                raise InputError(f"the posterior has no attribute {name!r}: choose among {', '.join(names)}")
            out = out + self._gradient(y, sigma, name, value.to(y.device))
        return out

    def _gradient(self, y: Tensor, sigma: Tensor, name: str, value: Tensor) -> Tensor:
        with torch.enable_grad():
            at = y.detach().requires_grad_()
            log_q = self.posterior.log_posterior(at, sigma, name).to(y.device)
            if not log_q.requires_grad:
                raise InputError(
                    f"the posterior of a {type(self.posterior).__name__} has no gradient in y: use a differentiable "
                    "one, such as a NoisyClassifier"
                )
            own = log_q.gather(1, value.clamp_min(0)[:, None])[:, 0]
            (gradient,) = torch.autograd.grad(torch.where(value == UNKNOWN, 0.0, own).sum(), at)
        return (sigma**2).reshape(-1, *[1] * (y.ndim - 1)).to(y) * gradient.to(y)
