r"""What a denoiser that must be told says when it is not: the mixture over the values, by its own likelihood.

.. math:: D(y, \sigma) = \sum_a q(a \mid y)\, D_a(y, \sigma), \qquad q(a \mid y) \propto p(a)\, e^{g_a(y)}

with the gains of :mod:`sigmascope.information.likelihood`.  For exact denoisers q is the posterior and D the posterior
mean of the mixture :math:`\sum_a p(a)\, p(v \mid a)`.  With two prompts at equal priors this is the law in which
:math:`I(\text{prompt}; Y_\sigma) \le \ln 2`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import UNKNOWN, Denoiser, InputError
from sigmascope.information.likelihood import likelihood_posterior
from sigmascope.sample.joint import told_each
from sigmascope.sample.streams import Streams


class Mixture(Denoiser):
    """A denoiser that may be left untold, made of one that must be told.

    Args:
        denoiser: told the abstraction.
        abstraction: its name.
        span: scale of the data, the square root of the trace of its covariance; a factor of ten changes little.
        nodes: levels of further noise in the likelihood.
        pairs: opposite noises at each.
        highest: level above which the denoiser is not asked.
        seed: of that noise, which is the same for every row: D is a function of y and sigma.

    Raises: InputError for an unknown abstraction; levels as for
        :func:`~sigmascope.information.likelihood.likelihood_nodes`.

    Errors: those of q, which noise and quadrature leave less certain than the exact posterior; see there.

    Cost: of an untold row, values · (1 + 2 · nodes · pairs) denoisings.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        abstraction: str,
        *,
        span: float,
        nodes: int = 6,
        pairs: int = 1,
        highest: float = math.inf,
        seed: int = 0,
    ) -> None:
        super().__init__()
        a = next((x for x in denoiser.abstractions if x.name == abstraction), None)
        if a is None:
            known = ", ".join(x.name for x in denoiser.abstractions) or "none"
            raise InputError(f"no abstraction is called {abstraction!r}: choose among {known}")
        self.denoiser, self.event, self.abstractions = denoiser, denoiser.event, (a,)
        self._gains = partial(likelihood_posterior, span=span, nodes=nodes, pairs=pairs, highest=highest)
        self._seed = seed

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """D_a where a is told, the mixture where it is not.

        Raises: InputError for another abstraction.
        """
        a = self.abstractions[0]
        other = [n for n in known or {} if n != a.name]
        if other:
            raise InputError(f"this denoiser cannot be told {other[0]!r}: only {a.name!r}")
        own = (known or {}).get(a.name)
        label: Int64[Tensor, " batch"] = torch.full((len(y),), UNKNOWN, device=y.device) if own is None else own
        out = torch.empty_like(y)
        told = label != UNKNOWN
        if bool(told.any()):
            out[told] = self.denoiser(y[told], sigma[told], {a.name: label[told]})
        for level in sigma[~told].unique().tolist():
            rows = ~told & (sigma == level)
            each = told_each(self.denoiser, y[rows].double(), level, a.name)
            q = self._log_posterior(y[rows], level).exp()
            out[rows] = (q.T.reshape(*each.shape[:2], *[1] * (y.ndim - 1)) * each).sum(0).to(y)
        return out

    def log_posterior(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"], abstraction: str
    ) -> Float[Tensor, "batch values"]:
        """ln q(a | y), float64.

        Raises: InputError for another abstraction.
        """
        a = self.abstractions[0]
        if abstraction != a.name:
            raise InputError(f"no abstraction is called {abstraction!r}: choose among {a.name}")
        out = torch.empty(len(y), len(a.values), dtype=torch.float64, device=y.device)
        for level in sigma.unique().tolist():
            out[sigma == level] = self._log_posterior(y[sigma == level], level)
        return out

    def _log_posterior(self, y: Tensor, sigma: float) -> Float[Tensor, "batch values"]:
        """The same at one level."""
        a, one = self.abstractions[0], Streams(self._seed, [(0,)], tuple(self.event))

        def noise() -> Tensor:
            return one().to(y.device).expand(len(y), *self.event)

        gains = self._gains(self.denoiser, a.name, y, sigma, noise)
        return (a.prior.log().to(y.device) + gains).log_softmax(1)
