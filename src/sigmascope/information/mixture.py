r"""An unconditional denoiser made from one that needs a condition: the mixture over the values, by its own likelihood.

.. math:: D(y, \sigma) = \sum_a q(a \mid y)\, D_a(y, \sigma), \qquad q(a \mid y) \propto p(a)\, e^{g_a(y)}

with the gains of :mod:`sigmascope.information.likelihood`.  For exact denoisers q is the posterior and D the posterior
mean of the mixture :math:`\sum_a p(a)\, p(v \mid a)`.  With two prompts at equal priors this is the law in which
:math:`I(\text{prompt}; Y_\sigma) \le \ln 2`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import UNKNOWN, Denoiser, HasMeansByValue, InputError
from sigmascope.information.likelihood import attribute_of, finite_gains, gain_of, likelihood_nodes
from sigmascope.sample.joint import mixes_conditions
from sigmascope.sample.schemes import home_of
from sigmascope.streams import NoiseOf, Streams


class Mixture(Denoiser):
    r"""An unconditional denoiser, made from one that needs a condition: the mean over the values of an attribute.

    .. math:: D(y, \sigma) = \sum_a q(a \mid y)\, D_a(y, \sigma), \qquad q(a \mid y) \propto p(a)\, e^{g_a(y)}

    The gains :math:`g_a` are the log-likelihoods of y that the conditional denoisers themselves give: further noise is
    added to y at some levels, and :math:`D_a` predicts y back from there (pointwise I-MMSE).  For exact denoisers q is
    the posterior, and D the posterior mean of :math:`\sum_a p(a)\, p(v \mid a)`.

    Args:
        denoiser: conditional on the attribute.
        attribute: its name.
        span: scale of the data, in their unit: the square root of the trace of their covariance.  A factor of ten
            changes little.
        nodes: number of levels of further noise, at least 1: the nodes of the quadrature of the gains.
        pairs: pairs of opposite noises at each of these levels.
        highest: the largest level at which the denoiser is called, in the unit of the data.
        seed: of the further noise, which is the same for every row, so that D is a function of y and sigma.

    Raises: InputError for an unknown attribute; by a call, for levels that are not positive or not below ``highest``.

    Errors: those of q, which noise and quadrature make less certain than the exact posterior.

    Cost: of an unconditional row, values · (1 + 2 · nodes · pairs) denoisings.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        attribute: str,
        *,
        span: float,
        nodes: int = 6,
        pairs: int = 1,
        highest: float = math.inf,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.mixes_conditions = mixes_conditions(denoiser)
        self.denoiser, self.event, self.attributes = denoiser, denoiser.event, (attribute_of(denoiser, attribute),)
        self._span, self._nodes, self._pairs, self._highest, self._seed = span, nodes, pairs, highest, seed

    @property
    def calls(self) -> int:
        """Denoisings that an unconditional row takes."""
        return len(self.attributes[0].values) * (1 + 2 * self._nodes * self._pairs)

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """D_a where a is given, the mixture where it is not.

        Args:
            y: noisy values, shape (batch, *event).
            sigma: one noise level per row, shape (batch,), in the unit of the data.
            known: None, or under the name of the attribute the index of the value of each row, int64, shape (batch,),
                -1 where unknown.

        Returns: the estimates, shape (batch, *event), in the dtype of y.

        Raises: InputError for another attribute.
        """
        a = self.attributes[0]
        other = [n for n in known or {} if n != a.name]
        if other:
            raise InputError(f"this denoiser cannot be conditioned on {other[0]!r}: pass {a.name!r} alone")
        own = (known or {}).get(a.name)
        label: Int64[Tensor, " batch"] = torch.full((len(y),), UNKNOWN, device=y.device) if own is None else own
        out = torch.empty_like(y)
        given = label != UNKNOWN
        if bool(given.any()):
            out[given] = self.denoiser(y[given], sigma[given], {a.name: label[given]})
        if not bool(given.all()):
            rows, level = y[~given].double(), sigma[~given].double()
            q = self._log_posterior(rows, level).exp()
            each = self._mean_of_each_value(rows, level)
            out[~given] = (q.T.reshape(*each.shape[:2], *[1] * (y.ndim - 1)) * each).sum(0).to(y)
        return out

    def log_posterior(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"], attribute: str
    ) -> Float[Tensor, "batch values"]:
        """ln q(a | y), float64.

        Raises: InputError for another attribute.
        """
        attribute_of(self, attribute)
        return self._log_posterior(y.double(), sigma.double())

    def _log_posterior(
        self, y: Float[Tensor, "batch *event"], sigma: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch values"]:
        """ln q(a | y) of rows that are each at a level of their own."""
        prior = self.attributes[0].prior.to(y.device)
        noise = Streams(self._seed, [(NoiseOf.ROWS,)], tuple(self.event))
        shape = (-1, *[1] * (y.ndim - 1))
        levels, at = np.unique(sigma.cpu().numpy(), return_inverse=True)
        nodes = np.stack([likelihood_nodes(float(x), self._span, self._nodes, self._highest) for x in levels])
        further, weights = torch.from_numpy(nodes[at]).to(y).unbind(1)
        gains = torch.zeros(len(y), len(prior), dtype=torch.float64, device=y.device)
        for s, weight in zip(further.T, weights.T, strict=True):
            level = torch.hypot(sigma, s)
            share = ((s / level) ** 2)[:, None]
            for _ in range(self._pairs):
                added = s.reshape(shape) * noise().to(y)
                for sign in (1, -1):
                    after = y + sign * added
                    gain = gain_of(self._mean_of_each_value(after, level), prior, y, after, share)
                    gains += weight[:, None] / (2 * self._pairs) * gain
        gains[:, prior == 0] = 0.0
        return (prior.log() + finite_gains(gains)).log_softmax(1)

    def _mean_of_each_value(self, y: Tensor, sigma: Tensor) -> Float[Tensor, "values batch *event"]:
        """D_a of every value a that occurs, 0 of others; float64."""
        a, (home, dtype) = self.attributes[0], home_of(self.denoiser, y.device)
        own, level = y.to(home, dtype), sigma.to(home, dtype)
        with torch.no_grad():
            if isinstance(self.denoiser, HasMeansByValue):
                return self.denoiser.means_by_value(own, level, a.name).to(y)
            if mixes_conditions(self.denoiser):
                values = torch.nonzero(a.prior > 0)[:, 0].to(home)
                known = {a.name: values.repeat_interleave(len(y))}
                rows = own.repeat(len(values), *[1] * (y.ndim - 1))
                given = self.denoiser(rows, level.repeat(len(values)), known)
                out = y.new_zeros(len(a.prior), *y.shape)
                out[values.to(y.device)] = given.to(y).reshape(len(values), *y.shape)
                return out
            each = [
                self.denoiser(own, level, {a.name: torch.full((len(y),), k, device=home)}).to(y)
                if p > 0
                else torch.zeros_like(y)
                for k, p in enumerate(a.prior.tolist())
            ]
        return torch.stack(each)
