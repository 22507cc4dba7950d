"""A conditional network as the subject of a study: score gaps, lower bounds, and checks of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from sigmascope.core import Attribute, Curve, Denoiser, Draws, InputError, LabelledData, RealAttribute, generator
from sigmascope.data import load_any
from sigmascope.information.adaptive import GapJob
from sigmascope.information.allocation import REPLICATES
from sigmascope.information.estimator import CONDITIONAL, PATH_ESTIMATOR, Estimator, named, usual
from sigmascope.information.estimators.heldout import DataBoundOf
from sigmascope.information.jobs.losses import LossJob, loss_calls
from sigmascope.information.joining import Joining
from sigmascope.information.problem import joined
from sigmascope.information.problems import ModelProblem
from sigmascope.information.reals import ceiling
from sigmascope.learn.classifier import CLASSIFIER, NoisyClassifier
from sigmascope.learn.classifying import ClassifierTrainer
from sigmascope.learn.neural import NeuralDenoiser, model_folder, weights_digest
from sigmascope.learn.settings import NULL, NULL_NUMBER, Settings
from sigmascope.learn.sources import Items, Source
from sigmascope.noise import sigma_grid
from sigmascope.streams import Use
from sigmascope.studies.costs import line, lines_of_costs, table_of_classes
from sigmascope.studies.exact_law import attributes_of
from sigmascope.studies.extras.marks import MarksOfModel
from sigmascope.studies.extras.models import (
    Calibration,
    Chain,
    DrawsOfGaps,
    Losses,
    OfProbes,
    OwnPath,
    RealValues,
    TrainedClassifier,
    allocation_of,
)
from sigmascope.studies.options import Sampling
from sigmascope.studies.spec import ForeignSpec, ModelSpec, Spec
from sigmascope.studies.subjects.base import Subject
from sigmascope.studies.subjects.extra import Extra, Jobless
from sigmascope.studies.subjects.trained import as_trained, check_fit, read_card, trained_reals, with_reals
from sigmascope.studies.training import source_of

_TEST, _FIT, _PROBED, _CHEAP, _CHEAP_FIT = range(5)
_PROBE_DRAWS = 1024  # to train probes on
_BATCH = 1024  # rows of a call of the network
BOUNDS = ("filter", "likelihood", "classifier")
"""Lower bounds; a study of a network needs one of them, or the score gap."""


@dataclass(frozen=True, eq=False)
class Network:
    """A conditional network, and how it was trained.

    Args:
        model: the denoiser.
        classifier: classifier of noisy values, if there is one.
        null: its attribute of random labels, if it was trained with one.
        null_number: whether it was trained with the numbers of a real-valued attribute in random order, too.
        highest: its largest noise level; None: unlimited.
        kind: the kind of network, in a word.
        parameters: their number.
        steps: steps of its training; 0: not known.
        classes: for a pipeline, each value of the attribute with the index and the name of its class.
        unconditional_calls: network calls of an unconditional output; more than 1 for a mixture over classes.
    """

    model: Denoiser
    classifier: NoisyClassifier | None
    null: Attribute | None
    highest: float | None
    kind: str
    parameters: int
    steps: int = 0
    classes: tuple[tuple[str, int, str], ...] = ()
    unconditional_calls: int = 1
    null_number: bool = False


class ConditionalModel(Subject[ModelProblem]):
    """A conditional network with the data that it is measured on.

    Args:
        network: can be conditioned on each of the attributes.
        source: draws of the data; of items kept out of training, where these are known.
        data: the data.
        attributes: those studied that have values and a prior.
        real_attributes: the real-valued ones; the source gives their labels.
        held_out: whether the draws are of items kept out of training.
        scale: root of the mean squared distance of the data from their mean, per coordinate.
        trainer: of the classifier, where the study trains it.
    """

    kind = CONDITIONAL

    def __init__(
        self,
        network: Network,
        source: Source,
        data: Any,
        attributes: tuple[Attribute, ...],
        *,
        real_attributes: tuple[RealAttribute, ...] = (),
        held_out: bool,
        scale: float,
        trainer: ClassifierTrainer | None = None,
    ) -> None:
        self.network, self.source, self.data, self.attributes = network, source, data, attributes
        self.real_attributes = real_attributes
        self.held_out, self.scale, self.classifier = held_out, scale, network.classifier
        self._trainer = trainer
        self.items = data if isinstance(data, LabelledData) else None

    @property
    def begins_at(self) -> float:
        """The level at which its generations begin."""
        highest = self.network.highest
        return Sampling.sigma_max if highest is None else highest * (1.0 - 1e-9)

    @cached_property
    def ceilings(self) -> dict[str, tuple[float, float]]:
        """The most that can be known of each attribute whose gap is measured, those studied and the controls, and its
        standard error."""
        most = {a.name: (a.entropy, 0.0) for a in self.attributes}
        most |= {a.name: ceiling(self.data, a) for a in self.real_attributes}
        if self.network.null is not None:
            most[NULL] = self.network.null.entropy, 0.0
        if self.network.null_number:
            most[NULL_NUMBER] = ceiling(self.data, self.data.reals[0])
        return most

    def draws(self, n: int, seed: int, use: int, first: int = 0) -> Draws:
        """Draws of the data, each with a stream of its own, numbered from ``first``."""
        source, streams = self.source, [generator(seed, Use.MODEL_DRAWS, use, i) for i in range(first, first + n)]
        if isinstance(source, Items):
            items = torch.cat([source.pick(1, g, self.held_out and use != _PROBED) for g in streams])
            v, labels = source.data.source.take(items), {}
        else:
            items, each = torch.arange(n), [source.held_out(1, g) for g in streams]
            v, labels = torch.cat([x for x, _ in each]), {k: torch.cat([of[k] for _, of in each]) for k in each[0][1]}
        noise = torch.stack([torch.randn(v.shape[1:], generator=g) for g in streams])
        return Draws(items, v, noise, source.labels_of(items, streams) if isinstance(source, Items) else labels)

    def problem(self, spec: Spec) -> ModelProblem:
        assert isinstance(spec, (ModelSpec, ForeignSpec))
        s, net = spec.sampling, self.network
        sigma = sigma_grid(s.sigma_max, s.sigma_min, s.levels)
        both = joined(self.draws(s.draws, s.seed, _TEST), self.draws(max(s.draws // 2, 2), s.seed, _FIT))
        highest, items = net.highest or float("inf"), both.items[: s.draws].reshape(REPLICATES, -1)[:, 0]
        return ModelProblem(
            subject=self, attributes=self.attributes, real_attributes=self.real_attributes, draws=both, sigma=sigma,
            seed=s.seed, estimators=self.estimators(spec), model=net.model, classifier=net.classifier, data=self.data,
            tested=s.draws, items=items, null=net.null, train=lambda: self.draws(_PROBE_DRAWS, s.seed, _PROBED),
            gap_job=lambda: self._gaps(spec, sigma), scale=self.scale * self.data.size**0.5, highest=highest,
            begins_at=self.begins_at, unconditional_calls=net.unconditional_calls, aim=aim_of(spec),
        )  # fmt: skip

    def _gaps(self, spec: ModelSpec | ForeignSpec, sigma: Any) -> GapJob:
        """The job of the gaps.  Half of its outputs are unconditional, and may take several network calls each."""
        g = spec.gaps
        return GapJob(
            self.network.model,
            self.source.held_out if self.held_out else self.source.draw,
            {name: most for name, (most, _) in self.ceilings.items()},
            sigma,
            target_stderr=g.target_stderr or None,
            most=spec.time.most_calls or None,
            budget=max(2 * g.budget // (1 + self.network.unconditional_calls), 1) if g.budget else None,
            allocation=allocation_of(Path(g.like), list(self.ceilings)) if g.like else None,
            seed=spec.sampling.seed,
            batch=max(2 * _BATCH // (1 + self.network.unconditional_calls), 2),
            top=self.network.highest,
        )

    def beside(self, problem: ModelProblem) -> Sequence[Estimator[Any]]:
        return (DataBoundOf(REPLICATES),)

    def joining(self, problem: ModelProblem) -> Joining:
        def further(each: int, of_fit: bool, group: int) -> Draws:
            return self.draws(each, problem.seed, _CHEAP_FIT if of_fit else _CHEAP, group * each)

        return Joining(problem, further)

    def extras(self, problem: ModelProblem) -> Sequence[Extra]:
        trained = () if self._trainer is None else (TrainedClassifier(self._trainer),)
        reals = (RealValues(self.ceilings),) if self.real_attributes else ()
        return (
            *trained, Losses(lambda: self._losses(problem)), MarksOfModel(), Calibration(), Chain(), OwnPath(),
            OfProbes(), NetworkFacts(self), DrawsOfGaps(), *reals,
        )  # fmt: skip

    def _losses(self, problem: ModelProblem) -> LossJob:
        net = self.network
        return LossJob(
            net.model, self.source, problem.sigma, problem.studied, bool(net.classes), net.unconditional_calls,
            problem.seed,
        )  # fmt: skip

    def dry_run(self, spec: Spec, reading: float) -> list[str]:
        net, problem = self.network, self.problem(spec)
        out = ", items kept out of training" if self.held_out else ""
        model = f"{net.kind}, {net.parameters:,} parameters{unconditional_words(net.unconditional_calls)}"
        lines = [line("data", self.data.words + out), line("model", model), *table_of_classes(net.classes)]
        classified = self.joining(problem).classified
        others = [("classifier", f"at most {classified:,} calls")] if classified else []
        if self._trainer is not None:
            others.insert(0, ("training", f"{self._trainer.settings.steps:,} steps of the classifier"))
        calls = loss_calls(len(problem.sigma), len(self.studied), bool(net.classes), net.unconditional_calls)[1]
        return lines + lines_of_costs(problem, [*others, ("losses", f"{calls:,} network calls")], self.beside(problem))


class NetworkFacts(Jobless):
    """Facts about the network and its calls, as attributes of the results."""

    def __init__(self, subject: ConditionalModel) -> None:
        self._subject = subject

    def add(self, results: xr.Dataset, problem: ModelProblem, done: Any, curves: Sequence[Curve]) -> xr.Dataset:
        s, net = self._subject, self._subject.network
        results.attrs |= {
            "model_parameters": net.parameters,
            "model_steps": net.steps,
            "model_network": net.kind,
            # Half of the outputs of the gaps are unconditional.
            "network_calls": done["gaps"].calls * (1 + net.unconditional_calls) // 2
            + (done[PATH_ESTIMATOR].calls(net.unconditional_calls) if PATH_ESTIMATOR in done else 0),
            "classified_draws": s.joining(problem).others,
            "held_out": int(s.held_out or not isinstance(s.source, Items)),
        }
        if net.classes:
            results.attrs["classes"] = json.dumps(net.classes, ensure_ascii=False)
        if net.unconditional_calls > 1:
            results.attrs |= {"unconditional": "mixture over classes", "unconditional_calls": net.unconditional_calls}
        return results


def aim_of(spec: ModelSpec | ForeignSpec) -> str:
    """The number of calls for the gaps, in words."""
    gaps, most = spec.gaps, spec.time.most_calls
    if gaps.budget:
        return f"{gaps.budget:,} network calls"
    end = f", at most {most:,} network calls" if most else ""
    return f"until the standard error is {gaps.target_stderr:g} nats{end}"


def unconditional_words(calls: int) -> str:
    """Words for a network without an unconditional output of its own; empty for others."""
    return "" if calls == 1 else f"; unconditional: the mixture over its classes, {calls} calls per output"


def open_model(
    spec: ModelSpec, device: torch.device, given: Any = None, loaded: NeuralDenoiser | None = None
) -> tuple[ConditionalModel, ModelSpec]:
    """Load the model and the data of a specification, and fill in its defaults.

    Args:
        spec: the study.
        device: of the model.
        given: data from Python; None: those that the specification names.
        loaded: the model, where it has been loaded; None: it is loaded here.

    Raises: InputError, also where model and data do not fit together.
    """
    folder = model_folder(spec.model)
    model = loaded or NeuralDenoiser.load(folder, device)
    trained = [a for a in model.attributes if a.name != NULL]
    reals = trained_reals(model, spec.model)
    if not trained and not reals:
        raise InputError(f"{spec.model}: the model is not conditional on any attribute: train one with labels")
    names = (*(a.name for a in trained), *(a.name for a in reals))
    settings, entries = read_card(model, spec.model)
    spec = as_trained(spec, model, names)
    w = spec.inputs
    data = given
    if given is None:
        data = load_any(w.data, entries or names, size=w.size, grain=w.grain, ground=w.ground)
    check_fit(spec, data, model, trained, reals)
    chosen = attributes_of(w.attributes, entries, names)
    same = model.card.get("fingerprint") == data.fingerprint
    source = source_of(data, settings if same else replace(settings, holdout=0.0), names)
    held_out = isinstance(source, Items) and same and bool(source.kept_out.any())
    # Of items that the network was trained on it may know the random labels, so that the true gap is not 0.
    null, number = (None, False) if isinstance(source, Items) and same and not held_out else _controls(model)
    classifier = NoisyClassifier.load(folder, device) if (folder / CLASSIFIER).exists() else None
    spec = _within(_estimated(spec, classifier is not None), settings)
    digest = weights_digest(folder)
    check_same_data(spec, data)
    check_same_model(spec, digest)
    by_name = {a.name: a for a in data.attributes}
    studied, reals = tuple(by_name[n] for n in chosen if n in by_name), tuple(a for a in reals if a.name in chosen)
    spec, data = with_reals(spec, data, studied, reals)
    spec = replace(
        spec, inputs=replace(w, attributes=chosen), fingerprint=data.fingerprint, model_fingerprint=digest,
        sampling=in_groups(spec.sampling),
    )  # fmt: skip
    network = Network(
        model, classifier, null, settings.sigma_max, model.architecture.kind, model.count(),
        int(model.card.get("steps", 0)), null_number=number,
    )  # fmt: skip
    subject = ConditionalModel(
        network, source, data, studied, real_attributes=reals, held_out=held_out, scale=model.scale
    )
    return subject, spec


def _controls(model: NeuralDenoiser) -> tuple[Attribute | None, bool]:
    """The attribute of random labels of a network, and whether it has that of numbers in random order."""
    null = next((a for a in model.attributes if a.name == NULL), None)
    return null, any(c.name == NULL_NUMBER for c in model.continuous)


def _estimated(spec: ModelSpec, classifier: bool) -> ModelSpec:
    """The specification without the bound of the classifier, where it is a default and the model has no classifier."""
    if "classifier" in spec.estimators and not classifier:
        if set(spec.estimators) != set(usual(CONDITIONAL)):
            raise InputError(f"{spec.model}: it has no classifier: leave it out of --estimators, or train with one")
        spec = replace(spec, estimators=tuple(e for e in spec.estimators if e != "classifier"))
    require_measure(spec.estimators)
    return spec


def require_measure(estimators: Sequence[str]) -> None:
    """Refuse estimators that are neither a score gap nor a bound (raises InputError)."""
    chosen = [named(e, CONDITIONAL) for e in estimators]
    if not any(e.name == "score_gap" or e.columns == "all" for e in chosen):
        raise InputError(f"estimators are {', '.join(estimators)}: add score_gap or a bound, {', '.join(BOUNDS)}")


def _within(spec: ModelSpec, settings: Settings) -> ModelSpec:
    """The specification with the levels that the model was trained at.

    The gaps also need the denoiser above the first level, by a factor of the square root of 2.
    """
    s, top = spec.sampling, settings.sigma_max / 2**0.5
    s = replace(s, sigma_max=min(s.sigma_max, top), sigma_min=max(s.sigma_min, settings.sigma_min))
    if s.sigma_min >= s.sigma_max:
        raise InputError(
            f"the model was trained at sigma {settings.sigma_min:g} to {settings.sigma_max:g}: no level of the "
            "study is in this range"
        )
    return replace(spec, sampling=s)


def in_groups(sampling: Sampling) -> Sampling:
    """The number of draws, rounded up to a multiple of the columns of a model's curves."""
    return replace(sampling, draws=-(-sampling.draws // REPLICATES) * REPLICATES)


def check_same_data(spec: Spec, data: Any) -> None:
    """Refuse data that are not those of the specification (raises InputError)."""
    if spec.fingerprint and spec.fingerprint != data.fingerprint:
        raise InputError(
            f"{spec.inputs.data}: the data are not those of the specification: restore them, or start a new study"
        )


def check_same_model(spec: ModelSpec | ForeignSpec, digest: str) -> None:
    """Refuse weights that are not those of the specification (raises InputError)."""
    if spec.model_fingerprint and spec.model_fingerprint != digest:
        raise InputError(f"{spec.model}: the model is not that of the specification: restore it, or start a new study")
