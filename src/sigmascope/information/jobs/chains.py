"""A chain of attributes: a pass over the data for their joint values, at the draws and levels of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import Attribute, Curve, Draws, InputError, LabelledData
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.information.chains import Subset, subsets
from sigmascope.information.jobs.pairs import joint_values, pair_block, sums_memory
from sigmascope.information.jobs.passes import Blocks
from sigmascope.information.posterior import entropy_of

MOST_VALUES = 20_000
"""Joint values of a chain, at most: each has a sum of its own for every draw and level."""
_NAME = "chain"


def attributes_of_chain(attributes: Sequence[Attribute], names: Sequence[str]) -> tuple[Attribute, ...]:
    """The attributes of a chain, in its order.

    Raises: InputError for a name that is not among the attributes.
    """
    by_name = {a.name: a for a in attributes}
    for name in names:
        if name not in by_name:
            raise InputError(
                f"the chain has {name!r}, which is not studied: choose among {', '.join(by_name)}, or add it to "
                "--attributes"
            )
    return tuple(by_name[name] for name in names)


def values_of_chain(
    data: LabelledData, chain: Sequence[Attribute]
) -> tuple[Int64[np.ndarray, "kept attributes"], Int64[np.ndarray, " items"]]:
    """The joint values of a chain, as of :func:`~sigmascope.information.jobs.pairs.joint_values`.

    Raises: InputError where there are too many.
    """
    kept, code = joint_values(data, chain)
    if len(kept) > MOST_VALUES:
        raise InputError(
            f"the attributes of the chain have {len(kept):,} joint values, more than {MOST_VALUES:,}: leave one out of "
            "--chain"
        )
    return kept, code


def chain_memory(data: LabelledData, chain: Sequence[Attribute], levels: int, draws: int) -> int:
    """Peak memory of the pass for a chain, bytes."""
    entropies = 8 * levels * draws * (1 << len(chain))
    return sums_memory(len(values_of_chain(data, chain)[0]), levels, draws) + 16 * len(data) + entropies


class SubsetsJob(Blocks[PosteriorPass]):
    """Entropies of every subset of the attributes of a chain, given each noisy image, by the exact filter of the items.

    One pass gives the posterior of the joint values; those of the subsets are its sums.
    """

    def __init__(
        self, denoiser: FiniteDenoiser, draws: Draws, sigmas: Float[np.ndarray, " levels"], chain: Sequence[Attribute]
    ) -> None:
        self._sigmas, self._names, self._subsets = sigmas, [a.name for a in chain], list(subsets(len(chain)))
        kept, code = values_of_chain(denoiser.data, chain)
        prior = torch.from_numpy(np.bincount(code, weights=denoiser.data.weights.numpy(), minlength=len(kept)))
        whole = Attribute(_NAME, tuple(map(str, range(len(kept)))), prior / prior.sum())
        joint = FiniteDenoiser(
            replace(denoiser.data, attributes=(whole,), labels={_NAME: torch.from_numpy(code)}), denoiser.centre.device
        )
        self._groups = [_groups(kept, s) for s in self._subsets]
        self._prior = [float(entropy_of(_summed(whole.prior, g).log())) for g in self._groups]

        def begin(part: slice) -> PosteriorPass:
            return PosteriorPass(joint, Draws(draws.items[part], draws.v[part], draws.noise[part]), sigmas)

        def harvest(done: PosteriorPass) -> dict[str, np.ndarray]:
            p = done.log_posterior()[_NAME][:-1].cpu().exp()
            return {f"entropy.{k}": entropy_of(_summed(p, g).log()).numpy() for k, g in enumerate(self._groups)}

        super().__init__(len(draws), pair_block(len(kept), len(sigmas), len(draws)), begin, harvest)

    def curves(self) -> dict[Subset, Curve]:
        """The information about each subset of the attributes, exact, on the draws of the study."""
        curves = {}
        for k, (subset, prior) in enumerate(zip(self._subsets, self._prior, strict=True)):
            per_draw, name = prior - self.joined(f"entropy.{k}"), ", ".join(self._names[i] for i in subset)
            curves[subset] = Curve.of_draws(name, "posterior", self._sigmas, per_draw, prior)
        return curves


def _groups(kept: Int64[np.ndarray, "kept attributes"], subset: Subset) -> Int64[Tensor, " kept"]:
    """For each combination of all attributes, the index of its combination of some of them."""
    return torch.from_numpy(np.unique(kept[:, list(subset)], axis=0, return_inverse=True)[1].reshape(-1))


def _summed(p: Float[Tensor, "*batch kept"], groups: Int64[Tensor, " kept"]) -> Float[Tensor, "*batch groups"]:
    """The probabilities of combinations, added up in groups."""
    return p.new_zeros(*p.shape[:-1], int(groups.max()) + 1).index_add_(-1, groups, p)
