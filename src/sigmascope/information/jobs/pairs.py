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
    data: LabelledData, attributes: Sequence[Attribute]
) -> tuple[Int64[np.ndarray, "kept attributes"], Int64[np.ndarray, " items"]]:
    """The combinations of values of some attributes that occur, in order, and each item's index among them."""
    labels = [data.labels[a.name].numpy() for a in attributes]
    code, count = labels[0] * 0, 1
    for a, own in zip(attributes, labels, strict=True):  # after each, only what occurs is counted
        code, count = _renumbered(code * len(a.values) + own, count * len(a.values))
    kept = np.empty((count, len(labels)), dtype=np.int64)
    kept[code] = np.stack(labels, 1)
    return kept, code


def _renumbered(code: Int64[np.ndarray, " items"], size: int) -> tuple[Int64[np.ndarray, " items"], int]:
    """Numbers below a size without gaps, in the same order, and how many differ."""
    if size > 4 * len(code):
        kept, code = np.unique(code, return_inverse=True)
        return code.reshape(-1), len(kept)
    occurs = np.bincount(code, minlength=size) > 0  # without sorting
    return (np.cumsum(occurs) - 1)[code], int(occurs.sum())


def joint_data(data: LabelledData, attributes: Sequence[Attribute]) -> LabelledData:
    """The same items, labelled with the joint values of every pair of attributes."""
    joint, labels, weights = [], {}, data.weights.numpy()
    for number, pair in enumerate(attribute_pairs(attributes)):
        kept, code = joint_values(data, pair)
        name = f"pair {number}"  # a and b+c must not be taken for a+b and c
        values = tuple(f"{pair[0].values[i]} + {pair[1].values[j]}" for i, j in kept)
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


def sums_memory(columns: int, levels: int, draws: int) -> int:
    """Peak memory of the sums of a pass for joint values, bytes."""
    return (workers(torch.device("cpu")) + 4) * 8 * columns * (levels + 1) * pair_block(columns, levels, draws)


def pair_memory(data: LabelledData, attributes: Sequence[Attribute], levels: int, draws: int) -> int:
    """Peak memory of the pass for pairs, bytes."""
    columns, count = joint_columns(data, attributes), len(attribute_pairs(attributes))
    return sums_memory(columns, levels, draws) + len(data) * 8 * 2 * count + 8 * levels * draws * count


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
