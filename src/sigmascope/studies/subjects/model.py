"""A network that can be told attributes: gaps, bounds whatever its error, and what to believe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from sigmascope.core import Attribute, Curve, Denoiser, Draws, InputError, LabelledData, generator
from sigmascope.data import load_any
from sigmascope.data.pictures import WHITE
from sigmascope.information.adaptive import GapJob
from sigmascope.information.allocation import REPLICATES
from sigmascope.information.estimator import CONDITIONAL, PATH_ESTIMATOR, Estimator, named, usual
from sigmascope.information.estimators.heldout import DataBoundOf
from sigmascope.information.jobs.losses import LossJob, loss_calls
from sigmascope.information.joining import Joining
from sigmascope.information.problem import joined
from sigmascope.information.problems import ModelProblem
from sigmascope.learn.classifier import CLASSIFIER, NoisyClassifier
from sigmascope.learn.neural import WEIGHTS, NeuralDenoiser, model_folder
from sigmascope.learn.settings import NULL, Settings
from sigmascope.learn.sources import Items, Source
from sigmascope.noise import sigma_grid
from sigmascope.streams import Use
from sigmascope.studies.alike import allocation_of
from sigmascope.studies.costs import lines_of_costs, table_of_classes
from sigmascope.studies.extras.marks import MarksOfModel
from sigmascope.studies.extras.models import Allocation, Calibration, Chain, Losses, OfProbes, OwnPath
from sigmascope.studies.options import GapOptions, Sampling
from sigmascope.studies.spec import ModelSpec, PipelineSpec, Spec
from sigmascope.studies.subjects.base import Subject
from sigmascope.studies.subjects.entries import attributes_of
from sigmascope.studies.subjects.extra import Extra
from sigmascope.studies.training import source_of

_TEST, _FIT, _PROBED, _MORE, _MORE_FIT = range(5)
_PROBE_DRAWS = 1024  # to train probes on
_BATCH = 1024  # rows of a call of the network
BOUNDS = ("filter", "likelihood", "classifier")
"""Estimators of which a study of a network has one, or the score gap."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network that can be told attributes, and how it came to be.

    Args:
        model: the denoiser.
        classifier: of noisy values, if there is one.
        null: its spare attribute of random labels, if it was told one.
        highest: the largest noise level that it knows; None: there is none.
        kind: what kind of network it is, in a word.
        parameters: how many it has.
        steps: of its training; 0 where that is not known.
        classes: of a pipeline, each value of the attribute with the index and the name of its class.
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


class ConditionalModel(Subject[ModelProblem]):
    """A network that can be told attributes, with the data that it is measured on.

    Args:
        network: it can be told each of the attributes.
        source: draws of the data, of items kept out of training where these are known.
        data: the data.
        attributes: those studied.
        held_out: whether the draws are of items that were kept out.
        scale: of the data: the root of their mean squared distance from the mean, per coordinate.
    """

    kind = CONDITIONAL

    def __init__(
        self,
        network: Network,
        source: Source,
        data: Any,
        attributes: tuple[Attribute, ...],
        *,
        held_out: bool,
        scale: float,
    ) -> None:
        self.network, self.source, self.data, self.attributes = network, source, data, attributes
        self.held_out, self.scale, self.classifier = held_out, scale, network.classifier
        self.items = data if isinstance(data, LabelledData) else None

    @property
    def begins_at(self) -> float:
        """The level at which its generations begin."""
        highest = self.network.highest
        return Sampling.sigma_max if highest is None else highest * (1.0 - 1e-9)

    @property
    def asked(self) -> tuple[Attribute, ...]:
        """The attributes that the network is told: those studied, and the null."""
        return self.attributes if self.network.null is None else (*self.attributes, self.network.null)

    def draws(self, n: int, seed: int, use: int, first: int = 0) -> Draws:
        """Draws of the data, each with a stream of its own, numbered from ``first``."""
        source, streams = self.source, [generator(seed, Use.MODEL_DRAWS, use, i) for i in range(first, first + n)]
        if isinstance(source, Items):
            items = torch.cat([source.pick(1, g, self.held_out and use != _PROBED) for g in streams])
            v, labels = source.data.source.take(items), {k: x[items] for k, x in source.labels.items()}
        else:
            items, each = torch.arange(n), [source.held_out(1, g) for g in streams]
            v, labels = torch.cat([x for x, _ in each]), {k: torch.cat([of[k] for _, of in each]) for k in each[0][1]}
        return Draws(items, v, torch.stack([torch.randn(v.shape[1:], generator=g) for g in streams]), labels)

    def problem(self, spec: Spec) -> ModelProblem:
        assert isinstance(spec, (ModelSpec, PipelineSpec))
        s, net = spec.sampling, self.network
        sigma = sigma_grid(s.sigma_max, s.sigma_min, s.levels)
        both = joined(self.draws(s.draws, s.seed, _TEST), self.draws(max(s.draws // 2, 2), s.seed, _FIT))
        highest, items = net.highest or float("inf"), both.items[: s.draws].reshape(REPLICATES, -1)[:, 0]
        return ModelProblem(
            subject=self, attributes=self.attributes, draws=both, sigma=sigma, seed=s.seed,
            estimators=self.estimators(spec), model=net.model, classifier=net.classifier, data=self.data,
            tested=s.draws, items=items, null=net.null, train=lambda: self.draws(_PROBE_DRAWS, s.seed, _PROBED),
            gap_job=lambda: self._gaps(spec, sigma), scale=self.scale * self.data.size**0.5, highest=highest,
            begins_at=self.begins_at, unconditional_calls=net.unconditional_calls, aim=aim_of(spec.gaps),
        )  # fmt: skip

    def _gaps(self, spec: ModelSpec | PipelineSpec, sigma: Any) -> GapJob:
        """Half of its calls are without knowledge, which may take several calls of the network each."""
        g, names = spec.gaps, [a.name for a in self.asked]
        return GapJob(
            self.network.model,
            self.source.held_out if self.held_out else self.source.draw,
            {a.name: a.entropy for a in self.asked},
            sigma,
            target_stderr=g.target_stderr or None,
            budget=max(2 * g.budget // (1 + self.network.unconditional_calls), 1) if g.budget else None,
            allocation=allocation_of(Path(g.like), names) if g.like else None,
            seed=spec.sampling.seed,
            batch=_BATCH,
            top=self.network.highest,
        )

    def beside(self, problem: ModelProblem) -> Sequence[Estimator[Any]]:
        return (DataBoundOf(REPLICATES),)

    def joining(self, problem: ModelProblem) -> Joining:
        def more(each: int, of_fit: bool, group: int) -> Draws:
            return self.draws(each, problem.seed, _MORE_FIT if of_fit else _MORE, group * each)

        return Joining(problem, more)

    def extras(self, problem: ModelProblem) -> Sequence[Extra]:
        return (
            Losses(lambda: self._losses(problem)), MarksOfModel(), Calibration(), Chain(), OwnPath(), OfProbes(),
            Said(self), Allocation(),
        )  # fmt: skip

    def _losses(self, problem: ModelProblem) -> LossJob:
        net = self.network
        return LossJob(
            net.model,
            self.source,
            problem.sigma,
            self.attributes,
            bool(net.classes),
            net.unconditional_calls,
            problem.seed,
        )

    def dry_run(self, spec: Spec, reading: float) -> list[str]:
        net, problem = self.network, self.problem(spec)
        out = ", items kept out of training" if self.held_out else ""
        lines = [f"data        {self.data.words}{out}"]
        lines.append(
            f"model       {net.kind}, {net.parameters:,} parameters{unconditional_words(net.unconditional_calls)}"
        )
        lines += table_of_classes(net.classes)
        asked = self.joining(problem).classified
        more = [("classifier", f"at most {asked:,} calls")] if asked else []
        calls = loss_calls(len(problem.sigma), len(self.attributes), bool(net.classes), net.unconditional_calls)[1]
        return lines + lines_of_costs(problem, [*more, ("losses", f"{calls:,} network calls")], self.beside(problem))


class Said(Extra):
    """What is said of the network and of its calls.

    Args:
        subject: the network with its data.
    """

    def __init__(self, subject: ConditionalModel) -> None:
        self._subject = subject

    def jobs(self, problem: ModelProblem) -> dict[str, Any]:
        return {}

    def add(self, results: xr.Dataset, problem: ModelProblem, done: Any, curves: Sequence[Curve]) -> xr.Dataset:
        s, net = self._subject, self._subject.network
        results.attrs |= {
            "model_parameters": net.parameters,
            "model_steps": net.steps,
            "model_network": net.kind,
            # Half of those of the gaps are without knowledge.
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


def aim_of(gaps: GapOptions) -> str:
    """How many calls are made for the gaps, in words."""
    return (
        f"{gaps.budget:,} network calls" if gaps.budget else f"until the standard error is {gaps.target_stderr:g} nats"
    )


def unconditional_words(calls: int) -> str:
    """What is said of a network that must be told a class; nothing of others."""
    return "" if calls == 1 else f"; no empty class: unconditional, the mixture over its classes, {calls} calls each"


def open_model(spec: ModelSpec, device: torch.device) -> tuple[ConditionalModel, ModelSpec]:
    """Load the model of a specification and its data, and fill in what the specification leaves open.

    Raises: InputError, also where model and data do not fit.
    """
    folder = model_folder(spec.model)
    model = NeuralDenoiser.load(folder, device)
    own = [a for a in model.attributes if a.name != NULL]
    if not own:
        raise InputError(f"{spec.model}: the model can be told no attribute: train one with labels")
    names = tuple(a.name for a in own)
    settings, asked = _read_card(model, spec.model)
    spec = _as_trained(spec, model, names)
    w = spec.inputs
    data = load_any(w.data, asked or names, size=w.size, grain=w.grain, ground=w.ground)
    _check_fit(spec, data, model, own)
    chosen = attributes_of(w.attributes, asked, names)
    same = model.card.get("fingerprint") == data.fingerprint
    source = source_of(data, settings if same else replace(settings, holdout=0.0), names)
    held_out = isinstance(source, Items) and same and bool(source.kept_out.any())
    null = next((a for a in model.attributes if a.name == NULL), None)
    if isinstance(source, Items) and same and not held_out:
        null = None  # its labels were trained on: of them the network does know something
    classifier = NoisyClassifier.load(folder, device) if (folder / CLASSIFIER).exists() else None
    spec = _within(_estimated(spec, classifier is not None), settings)
    digest = weights_digest(folder)
    check_same_data(spec, data)
    check_same_model(spec, digest)
    spec = replace(
        spec, inputs=replace(w, attributes=chosen), fingerprint=data.fingerprint, model_fingerprint=digest,
        sampling=in_groups(spec.sampling),
    )  # fmt: skip
    mine = tuple(next(a for a in data.attributes if a.name == n) for n in chosen)
    network = Network(
        model, classifier, null, settings.sigma_max, model.architecture.kind, model.count(),
        int(model.card.get("steps", 0)),
    )  # fmt: skip
    return ConditionalModel(network, source, data, mine, held_out=held_out, scale=model.scale), spec


def _as_trained(spec: ModelSpec, model: NeuralDenoiser, names: Sequence[str]) -> ModelSpec:
    """The specification with the side, texture and ground of the data that the model was trained on.

    Raises: InputError where others are asked for.
    """
    w, ground = spec.inputs, str(model.card.get("ground", WHITE))
    if w.data == "scenes":
        side, grain = model.event[-1], bool(model.card.get("grain", "grain" in names))
        if w.size not in (32, side) or (w.grain and not grain):
            texture = "with" if grain else "without"
            raise InputError(
                f"size is {w.size} and grain {w.grain}: {spec.model} is of scenes of {side} × {side} pixels "
                f"{texture} a grain: leave out --size and --grain"
            )
        w = replace(w, size=side, grain=grain)
    if w.ground not in (WHITE, ground):
        raise InputError(f"{spec.model}: it was trained with --ground {ground}, not {w.ground}: leave --ground out")
    return replace(spec, inputs=replace(w, ground=ground))


def _check_fit(spec: ModelSpec, data: Any, model: NeuralDenoiser, own: Sequence[Attribute]) -> None:
    """Refuse data that the model is not of.

    Raises: InputError.
    """
    of, name = {a.name: a for a in data.attributes}, spec.inputs.data
    if {a.name for a in own} - set(of) or (isinstance(data, LabelledData) and len(of) > len(own)):
        raise InputError(f"{name}: it has other attributes than the model was told: pass its own data")
    if data.event != model.event:
        raise InputError(f"{name}: items of shape {data.event}, the model is of {model.event}: pass its own data")
    for a in own:
        if a.values != of[a.name].values:
            raise InputError(f"{name}: {a.name!r} has other values than the model was told: pass its own data")


def _estimated(spec: ModelSpec, classifier: bool) -> ModelSpec:
    """The specification without the classifier's bound where that is only the usual one and there is none.

    Raises: InputError for a classifier that was asked for, or where nothing else stands to be believed.
    """
    if "classifier" in spec.estimators and not classifier:
        if set(spec.estimators) != set(usual(CONDITIONAL)):
            raise InputError(f"{spec.model}: it has no classifier: leave it out of --estimators, or train with one")
        spec = replace(spec, estimators=tuple(e for e in spec.estimators if e != "classifier"))
    require_measure(spec.estimators)
    return spec


def require_measure(estimators: Sequence[str]) -> None:
    """Refuse estimators that are neither a score gap nor a bound.

    Raises: InputError.
    """
    chosen = [named(e, CONDITIONAL) for e in estimators]
    if not any(e.name == "score_gap" or e.columns == "all" for e in chosen):
        raise InputError(f"estimators are {', '.join(estimators)}: add score_gap or a bound, {', '.join(BOUNDS)}")


def _within(spec: ModelSpec, settings: Settings) -> ModelSpec:
    """The specification with the levels that the model was trained at.

    The denoiser is asked above the first level, too: by a factor of the square root of 2.

    Raises: InputError where there are none.
    """
    s, top = spec.sampling, settings.sigma_max / 2**0.5
    s = replace(s, sigma_max=min(s.sigma_max, top), sigma_min=max(s.sigma_min, settings.sigma_min))
    if s.sigma_min >= s.sigma_max:
        raise InputError(
            f"the model was trained at sigma {settings.sigma_min:g} to {settings.sigma_max:g}: no level of the study "
            "is among these"
        )
    return replace(spec, sampling=s)


def in_groups(sampling: Sampling) -> Sampling:
    """As many draws as the columns of a model's curves divide."""
    return replace(sampling, draws=-(-sampling.draws // REPLICATES) * REPLICATES)


def check_same_data(spec: Spec, data: Any) -> None:
    """Refuse data that are not those of the specification.

    Raises: InputError.
    """
    if spec.fingerprint and spec.fingerprint != data.fingerprint:
        raise InputError(
            f"{spec.inputs.data}: the data are not those of the specification: restore them, or start a new study"
        )


def check_same_model(spec: ModelSpec | PipelineSpec, digest: str) -> None:
    """Refuse weights that are not those of the specification.

    Raises: InputError.
    """
    if spec.model_fingerprint and spec.model_fingerprint != digest:
        raise InputError(f"{spec.model}: the model is not that of the specification: restore it, or start a new study")


def _read_card(model: NeuralDenoiser, name: str) -> tuple[Settings, tuple[str, ...]]:
    """How the model was trained, and the attributes as they were asked for (perhaps with bins)."""
    try:
        return Settings(**model.card["settings"]).check(), tuple(map(str, model.card.get("attributes", ())))
    except (KeyError, TypeError, InputError) as error:
        raise InputError(f"{name}: its card does not say how it was trained ({error}): train it again") from error


def weights_digest(folder: Path) -> str:
    """Of all weights of a model."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (WEIGHTS, CLASSIFIER):
        if (folder / name).exists():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()
