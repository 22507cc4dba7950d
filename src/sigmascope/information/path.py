r"""A lower bound at every noise level from one Markov path: a filter that runs from the top, with denoisers alone.

Add noise to v along one Markov path, :math:`y_k = y_{k-1} + \sqrt{\sigma_k^2 - \sigma_{k-1}^2}\,\varepsilon_k`, and
read it back from the top.  For each value a multiply the likelihoods of the bridge to the mean that the denoiser
conditional on a predicts:

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
from sigmascope.information.parts import Arrays, Parts, whole
from sigmascope.sample.joint import from_prior, gather, mean_of_each_value
from sigmascope.sample.schemes import Noise


def markov_path(
    v: Float[Tensor, "draws *event"], sigma: Float[np.ndarray, " levels"], noise: Noise
) -> Float[Tensor, "levels draws *event"]:
    """y at decreasing levels, float64: v with noise added from level to level.

    At each level the law is that of v + sigma n; over levels it is a Markov chain, unlike draws that share their noise.
    ``noise`` is called once for each level, the lowest first.
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
    """ln q_j(a) along a path, and the same by steps over two levels, whose difference shows the error of the steps.

    At the first level the filter has taken one step from the prior.  Cost: levels · values · draws denoisings.
    """
    return whole(path_posterior_in_parts(denoiser, attribute, path, sigma, {}))


def path_posterior_in_parts(
    denoiser: Denoiser,
    attribute: str,
    path: Float[Tensor, "levels draws *event"],
    sigma: Float[np.ndarray, " levels"],
    held: Arrays,
) -> Parts[tuple[Tensor, Tensor]]:
    """:func:`path_posterior`, a level at a time, from its beginning or from the arrays of an earlier run."""
    if held:
        fines, coarses = ([*torch.from_numpy(held[k])] for k in ("fine", "coarse"))
        means, anchored, coarse = (torch.from_numpy(held[k]) for k in ("means", "anchored", "anchored_q"))
        anchor = int(held["anchor"])  # the level from which the double steps are taken
    else:
        coarse, anchor = from_prior(denoiser, attribute, path[0], float(sigma[0])), 0
        fines, coarses = [coarse], [coarse]
        means = anchored = mean_of_each_value(denoiser, path[0], float(sigma[0]), attribute)

    def state() -> Arrays:
        tensors = {
            "fine": torch.stack(fines), "coarse": torch.stack(coarses), "means": means, "anchored": anchored,
            "anchored_q": coarse, "anchor": torch.tensor(anchor),
        }  # fmt: skip
        return {k: x.numpy() for k, x in tensors.items()}

    for k in range(len(fines), len(sigma)):
        yield state
        y, after_y, s, after = path[k - 1], path[k], float(sigma[k - 1]), float(sigma[k])
        fines.append(gather(fines[-1], means, y, s, after_y, after))
        coarses.append(gather(coarse, anchored, path[anchor], float(sigma[anchor]), after_y, after))
        means = mean_of_each_value(denoiser, after_y, after, attribute)
        if k - anchor == 2:
            coarse, anchored, anchor = coarses[-1], means, k
    return torch.stack(fines), torch.stack(coarses)


def path_bound(
    attribute: Attribute,
    sigma: Float[np.ndarray, " levels"],
    log_q: Float[Tensor, "levels draws values"],
    coarse: Float[Tensor, "levels draws values"],
    own: Int64[Tensor, " draws"],
) -> Curve:
    r"""The bound :math:`E[\ln q_j(A) - \ln p(A)]` at every level.

    Args:
        attribute: A.
        sigma: decreasing levels.
        log_q, coarse: of :func:`path_posterior`.
        own: the true label of each draw.

    Returns: Curve of kind ``lower bound``, named ``filter``; ``quadrature_error`` is the loss of the steps, of first
        order, by comparison with steps twice as long.
    """
    pick = torch.arange(len(own))
    gain, coarse_gain = (q[:, pick, own] - attribute.prior.log()[own] for q in (log_q, coarse))
    return Curve.of_draws(
        attribute.name, "filter", sigma, gain.cpu().numpy(), attribute.entropy, kind="lower bound",
        quadrature_error=(gain - coarse_gain).mean(1).abs().cpu().numpy(),
    )  # fmt: skip
