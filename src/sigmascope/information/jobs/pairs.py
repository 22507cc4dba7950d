"""Pairs of attributes: passes over the data for their joint values, at the draws and levels of a study."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int64

from sigmascope.core import Attribute, Curve, Draws, InputError, LabelledData
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.kernel.threads import workers
from sigmascope.exact.finite.posterior import PosteriorPass
from sigmascope.information.jobs.passes import Blocks, even_block
from sigmascope.information.pairs import Interaction, interaction
from sigmascope.information.posterior import entropy_of

_SUMS_BYTES = 1e8  # sums of one block
_LARGEST_BLOCK = 1024


def attribute_pairs(attributes: Sequence[Attribute]) -> list[tuple[Attribute, Attribute]]:
    """Every pair of attributes that are not joint themselves, in order.

    Raises: InputError where there is no pair.
    """
    single = [a for a in attributes if not a.parts]
    if len(single) < 2:
        names = ", ".join(a.name for a in single) or "none"
        raise InputError(f"pairs are of two attributes, and {names} is studied: study two, or leave out --pairs")
    return list(itertools.combinations(single, 2))


def joint_values(
    data: LabelledData, pair: tuple[Attribute, Attribute]
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " items"]]:
    """The combinations of two attributes that occur, as first · width + second, and each item's index among them."""
    first, second = (data.labels[a.name].numpy() for a in pair)
    code = first * len(pair[1].values) + second
    occurs = np.bincount(code, minlength=len(pair[0].values) * len(pair[1].values)) > 0
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[code]


def joint_data(data: LabelledData, attributes: Sequence[Attribute]) -> LabelledData:
    """The same items, labelled with the joint values of every pair of attributes."""
    joint, labels, weights = [], {}, data.weights.numpy()
    for number, pair in enumerate(attribute_pairs(attributes)):
        kept, code = joint_values(data, pair)
        width, name = len(pair[1].values), f"pair {number}"  # a and b+c must not be taken for a+b and c
        values = tuple(f"{pair[0].values[k // width]} + {pair[1].values[k % width]}" for k in kept)
        prior = torch.from_numpy(np.bincount(code, weights=weights, minlength=len(kept)))
        joint.append(Attribute(name, values, prior / prior.sum(), tuple(a.name for a in pair)))
        labels[name] = torch.from_numpy(code)
    return replace(data, attributes=tuple(joint), labels=labels)


def joint_columns(data: LabelledData, attributes: Sequence[Attribute]) -> int:
    """Number of joint values of all pairs together."""
    return sum(len(joint_values(data, pair)[0]) for pair in attribute_pairs(attributes))


def pair_block(columns: int, levels: int, draws: int) -> int:
    """Draws of one pass: blocks of like size, whose sums take 100 MB at most."""
    return even_block(draws, int(np.clip(_SUMS_BYTES // (8 * columns * (levels + 1)), 16, _LARGEST_BLOCK)))


def pair_memory(data: LabelledData, attributes: Sequence[Attribute], levels: int, draws: int) -> int:
    """Peak memory of the pass for pairs, bytes."""
    columns, count = joint_columns(data, attributes), len(attribute_pairs(attributes))
    sums = 8 * columns * (levels + 1) * pair_block(columns, levels, draws)
    here = workers(torch.device("cpu"))
    return (here + 4) * sums + len(data) * 8 * 2 * count + 8 * levels * draws * count


class PairJob(Blocks[PosteriorPass]):
    """Entropies of the joint values of every pair, given each noisy image, by the exact filter of the items."""

    def __init__(
        self,
        denoiser: FiniteDenoiser,
        draws: Draws,
        sigmas: Float[np.ndarray, " levels"],
        attributes: Sequence[Attribute],
    ) -> None:
        self._sigmas, self._pairs = sigmas, attribute_pairs(attributes)
        joint = FiniteDenoiser(joint_data(denoiser.data, attributes), denoiser.centre.device)
        self._joint = joint.attributes

        def begin(part: slice) -> PosteriorPass:
            return PosteriorPass(joint, Draws(draws.items[part], draws.v[part], draws.noise[part]), sigmas)

        def harvest(done: PosteriorPass) -> dict[str, np.ndarray]:
            log_p = done.log_posterior()
            return {f"entropy.{a.name}": entropy_of(log_p.pop(a.name)[:-1]).cpu().numpy() for a in self._joint}

        columns = sum(len(a.values) for a in self._joint)
        super().__init__(len(draws), pair_block(columns, len(sigmas), len(draws)), begin, harvest)

    def interactions(self, curves: Sequence[Curve]) -> list[Interaction]:
        """Interaction information of every pair, from the attributes' curves by the posterior at the same draws."""
        by_name = {c.attribute: c for c in curves}
        interactions = []
        for joint, (first, second) in zip(self._joint, self._pairs, strict=True):
            per_draw = joint.entropy - self.joined(f"entropy.{joint.name}")
            both = Curve.of_draws(joint.name, "posterior", self._sigmas, per_draw, joint.entropy)
            interactions.append(interaction(both, by_name[first.name], by_name[second.name]))
        return interactions
