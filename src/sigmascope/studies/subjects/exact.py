"""Laws that are known exactly: a finite set, a hierarchy, any denoiser with a posterior; and a population."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import sigmascope.distributed as distributed
from sigmascope.core import Curve, Denoiser, LabelledData
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.estimator import EXACT, POPULATION, Estimator
from sigmascope.information.jobs.chains import attributes_of_chain
from sigmascope.information.laws import law_of
from sigmascope.information.problem import Problem
from sigmascope.information.problems import ExactProblem, PopulationProblem
from sigmascope.noise import sigma_grid
from sigmascope.report.explorer import Explored
from sigmascope.studies.costs import lines_of_exact
from sigmascope.studies.exact_law import chosen, chosen_reals, draws_of, levels_of
from sigmascope.studies.exploring import explore
from sigmascope.studies.extras.chain import ChainOfAttributes
from sigmascope.studies.extras.exact import EffectiveItems, Keeping, Limits, Pairs, Precision, Tree, Values
from sigmascope.studies.spec import ExactSpec, HeldoutSpec, Spec
from sigmascope.studies.subjects.base import Joins, Subject, Unjoined
from sigmascope.studies.subjects.extra import Extra

P = TypeVar("P", bound=Problem[Any])


class DataSubject(Subject[P]):
    """A law of data, whose curves stay as they are."""

    denoiser: Denoiser

    def beside(self, problem: P) -> Sequence[Estimator[Any]]:
        return ()

    def joining(self, problem: P) -> Joins:
        return Unjoined()

    def dry_run(self, spec: Spec, reading: float) -> list[str]:
        return lines_of_exact(self, spec, reading)


class ExactSubject(DataSubject[ExactProblem]):
    """A law with an exact posterior.

    Args:
        data: with ``attributes``, ``draw`` (or items, for a finite set), ``event``, ``name``, ``words``, ``unit`` and
            ``fingerprint``.
        denoiser: its exact filter.
        names: names of the attributes studied.
    """

    kind = EXACT

    def __init__(self, data: Any, denoiser: Denoiser, names: Sequence[str]) -> None:
        self.data, self.denoiser, self.attributes = data, denoiser, tuple(chosen(data, names))
        self.real_attributes = tuple(chosen_reals(data, names))
        self.law = law_of(denoiser)

    def problem(self, spec: Spec) -> ExactProblem:
        assert isinstance(spec, ExactSpec)
        s = spec.sampling
        nodes, at = levels_of(self.data, spec)
        return ExactProblem(
            subject=self.law, attributes=self.attributes, draws=draws_of(self.data, s.draws, s.seed), sigma=nodes[at],
            seed=s.seed, estimators=self.estimators(spec), nodes=nodes, at=at, children=spec.forks, pairs=spec.pairs,
            real_attributes=self.real_attributes,
            chain=attributes_of_chain(self.attributes, spec.chain),
        )  # fmt: skip

    def explored(self, problem: ExactProblem, curves: Sequence[Curve]) -> Explored | None:
        if distributed.world() > 1:  # a rank alone does not hold all items
            return None
        by_name = {a.name: a for a in self.attributes}
        attributes = [by_name[c.attribute] for c in curves if c.attribute in by_name]
        return explore(self.denoiser, attributes, problem.draws, curves, problem.seed) if attributes else None

    def extras(self, problem: ExactProblem) -> Sequence[Extra]:
        extras: list[Extra] = [Limits(), Values(), Keeping()]
        if self.real_attributes:
            extras.append(Precision())
        if isinstance(self.denoiser, FiniteDenoiser):
            extras += [EffectiveItems(), *([Pairs(self.denoiser)] if problem.pairs else [])]
            extras += [ChainOfAttributes(self.denoiser, problem.chain)] if problem.chain else []
        if isinstance(self.denoiser, HierarchyDenoiser):
            extras.append(Tree(self.denoiser))
        return extras


class Population(DataSubject[PopulationProblem]):
    """The population that the items of a finite set come from.

    Args:
        data: the items.
        denoiser: their exact filter.
    """

    kind = POPULATION

    def __init__(self, data: LabelledData, denoiser: FiniteDenoiser) -> None:
        self.data, self.denoiser, self.attributes = data, denoiser, data.attributes

    def problem(self, spec: Spec) -> PopulationProblem:
        assert isinstance(spec, HeldoutSpec)
        s = spec.sampling
        return PopulationProblem(
            subject=self.data, attributes=self.attributes, draws=draws_of(self.data, s.draws, s.seed, distinct=True),
            sigma=sigma_grid(s.sigma_max, s.sigma_min, s.levels), seed=s.seed, estimators=self.estimators(spec),
            denoiser=self.denoiser,
        )  # fmt: skip

    def extras(self, problem: PopulationProblem) -> Sequence[Extra]:
        return ()
