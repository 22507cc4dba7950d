r"""A bound at every noise level from one Markov path: the filter carried from the top, on denoisers alone.

Noise v along one Markov path, :math:`y_k = y_{k-1} + \sqrt{\sigma_k^2 - \sigma_{k-1}^2}\,\varepsilon_k`, and read it
back from the top, gathering for each value a the likelihood of the bridge to what the denoiser told a expects:

.. math:: q_j(a) \propto p(a) \prod_{k > j} N(y_{k-1}; m_a(y_k), v_k I), \qquad
          I(A; Y_{\sigma_j}) \ge H(A) + E \ln q_j(A)

for *any* denoiser and any number of steps, since :math:`q_j` is a function of the path above j and, the path being
Markov, :math:`I(A; Y_j, Y_{j+1}, \ldots) = I(A; Y_j)`.  Tight as the steps shrink, where the denoisers are exact.

References: Barber & Agakov (2003); Franzese et al. (2025).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, Denoiser
from sigmascope.sample.joint import from_prior, gather, mean_of_each_value
from sigmascope.sample.schemes import Noise


def markov_path(
    v: Float[Tensor, "draws *event"], sigma: Float[np.ndarray, " levels"], noise: Noise
) -> Float[Tensor, "levels draws *event"]:
    """Noisier and noisier versions of v, float64: y at decreasing levels, each noised from the one below.

    At each level its law is that of v + sigma n; over levels it is a Markov chain, which draws that share their noise
    are not.

    Args:
        v: clean values.
        sigma: decreasing levels.
        noise: called once for each level, the lowest first.
    """
    steps = np.sqrt(np.diff(np.concatenate([[0.0], sigma[::-1] ** 2])))
    out, y = [], v.double()
    for step in steps:
        y = y + step * noise().to(y.device)
        out.append(y)
    return torch.stack(out[::-1])


def path_posterior(
    denoiser: Denoiser,
    attribute: str,
    path: Float[Tensor, "levels draws *event"],
    sigma: Float[np.ndarray, " levels"],
) -> tuple[Float[Tensor, "levels draws values"], Float[Tensor, "levels draws values"]]:
    """ln q_j(a) along a path, and the same from every other level only, for a gauge of the steps' error.

    At the first level the filter has taken one step from the prior.

    Cost: levels · values · draws denoisings.
    """
    fine = coarse = from_prior(denoiser, attribute, path[0], float(sigma[0]))
    found, rough = [fine], [coarse]
    told = before = mean_of_each_value(denoiser, path[0], float(sigma[0]), attribute)
    anchor = 0  # the last level at which the coarse filter has looked
    for k in range(1, len(sigma)):
        y, after_y, s, after = path[k - 1], path[k], float(sigma[k - 1]), float(sigma[k])
        fine = gather(fine, told, y, s, after_y, after)
        reached = gather(coarse, before, path[anchor], float(sigma[anchor]), after_y, after)
        found.append(fine)
        rough.append(reached)
        told = mean_of_each_value(denoiser, after_y, after, attribute)
        if k - anchor == 2:
            coarse, before, anchor = reached, told, k
    return torch.stack(found), torch.stack(rough)


def path_bound(
    attribute: Attribute,
    sigma: Float[np.ndarray, " levels"],
    log_q: Float[Tensor, "levels draws values"],
    rough: Float[Tensor, "levels draws values"],
    own: Int64[Tensor, " draws"],
) -> Curve:
    r"""The bound :math:`E[\ln q_j(A) - \ln p(A)]` at every level.

    Args:
        attribute: A.
        sigma: decreasing levels.
        log_q: of :func:`path_posterior`.
        rough: its coarser twin.
        own: the true label of each draw.

    Returns: Curve of kind ``lower bound``, named ``filter``; ``quadrature_error`` is what the steps lose, by
        comparison with twice as long ones (the loss is of first order).
    """
    pick = torch.arange(len(own))
    gain, less = (q[:, pick, own] - attribute.prior.log()[own] for q in (log_q, rough))
    lost = (gain - less).mean(1).abs().cpu().numpy()
    return Curve.of_draws(
        attribute.name,
        "filter",
        sigma,
        gain.cpu().numpy(),
        attribute.entropy,
        kind="lower bound",
        quadrature_error=lost,
    )
