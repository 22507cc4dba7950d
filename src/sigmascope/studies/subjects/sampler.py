r"""A study of an unconditional pipeline, by labels of its continuations (forks) and by probes.

.. math:: I(A; Y_\sigma) = H(A) - E\,H(A \mid Y_\sigma), \qquad A = \ell(V),

V is an item of the data, or an image that the pipeline made; A is its label; the labels of K continuations from
:math:`Y_\sigma` are draws of the pipeline's :math:`p(a \mid y)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor

import sigmascope.distributed as distributed
from sigmascope.adapters.functions import function_named
from sigmascope.core import Curve, Draws, InputError, LabelledData
from sigmascope.data import draw_items, from_array, load
from sigmascope.data.reals import require_classes
from sigmascope.information.estimator import PATH_ESTIMATOR, SAMPLER, Estimator, usual
from sigmascope.information.estimators.bounds import ClassifierOfSampler
from sigmascope.information.estimators.heldout import DataBoundOf
from sigmascope.information.forks import LabelChildren, enough
from sigmascope.information.jobs.forking import Descent
from sigmascope.information.jobs.losses import LossJob, loss_calls
from sigmascope.information.problems import SamplerProblem
from sigmascope.learn.classifying import ClassifierTrainer
from sigmascope.learn.sources import Items
from sigmascope.noise import sigma_grid
from sigmascope.sample import Streams, rows
from sigmascope.sample.schemes import home_of
from sigmascope.streams import NoiseOf, SeedOf, seed_of
from sigmascope.studies.costs import line, lines_of_costs
from sigmascope.studies.extras.marks import MarksOfSampler
from sigmascope.studies.extras.models import Losses, OwnPath, TrainedClassifier
from sigmascope.studies.extras.sampler import Children, Kept, Made
from sigmascope.studies.labelling import Nearest, by_function, decoded, labelled_by, of_any_parent
from sigmascope.studies.options import Sampling
from sigmascope.studies.spec import GENERATED, ForeignSpec, Spec
from sigmascope.studies.subjects.base import Joins, Measured, Subject
from sigmascope.studies.subjects.classifier import classifier_trainer
from sigmascope.studies.subjects.extra import Extra, Jobless
from sigmascope.studies.subjects.generated import images_of, kept_images
from sigmascope.studies.subjects.model import check_same_data, unconditional_words
from sigmascope.studies.subjects.opened import Opened, with_features

_PROBE_DRAWS = 512  # to train probes on


class Sampler(Subject[SamplerProblem]):
    """An unconditional pipeline with the images that it is measured on.

    Args:
        opened: the pipeline.
        data: labelled images, or latents, in the unit of the pipeline's values.
        label: labels clean values, whose parents may be items of the data.
        generated: whether the pipeline made the data.
        spec: of the study.
        trainer: of a classifier of the data, where the study trains it; the draws are of items that it does not see.
    """

    kind = SAMPLER

    def __init__(
        self,
        opened: Opened,
        data: LabelledData,
        label: LabelChildren,
        generated: bool,
        spec: ForeignSpec,
        trainer: ClassifierTrainer | None = None,
    ) -> None:
        self.opened, self.data, self.label, self.generated = opened, data, label, generated
        self.trainer, self.classifier = trainer, None if trainer is None else trainer.averaged
        self.labeller = spec.forking.labeller or (label.words if isinstance(label, Nearest) else "")
        self.attributes = data.attributes
        self.items = None if generated else data
        unconditional = opened.unconditional(spec.sampling.seed)
        self.denoiser = unconditional if opened.model.needs_class else with_features(unconditional, spec)

    def problem(self, spec: Spec) -> SamplerProblem:
        assert isinstance(spec, ForeignSpec)
        s, opened = spec.sampling, self.opened
        draws, train = self._draws(s)
        # A start from noise lacks the variance of the values, so it is as far above the studied levels as possible.
        top = (opened.highest_output or max(s.sigma_max, Sampling.sigma_max)) * (1.0 - 1e-9)
        return SamplerProblem(
            subject=self, attributes=self.attributes, draws=draws, sigma=sigma_grid(s.sigma_max, s.sigma_min, s.levels),
            seed=s.seed, estimators=self.estimators(spec), model=self.denoiser, data=self.data, train=train,
            label=self.label, draws_are_items=not self.generated, children=spec.forking.forks, top=top,
            down=Descent(s.sigma_max, opened.reads_at(s), spec.forking.steps),
            unconditional_calls=opened.unconditional_calls, classifier=self.classifier,
            fit=None if self.trainer is None else self._fit(self.trainer, s),
        )  # fmt: skip

    def _fit(self, trainer: ClassifierTrainer, s: Sampling) -> Draws:
        """Draws on which the temperature of the classifier is chosen: half as many as those of the curves."""
        return draw_items(_part(trainer, True), max(s.draws // 2, 2), seed_of(SeedOf.TEMPERATURE, s.seed))

    def _draws(self, s: Sampling) -> tuple[Draws, Callable[[], Draws]]:
        """Draws to measure on, and others to train probes on."""
        data = self.data
        if not self.generated:
            train = seed_of(SeedOf.PROBES, s.seed)
            measured, others = (data, data) if self.trainer is None else (_part(self.trainer, x) for x in (True, False))
            return draw_items(measured, s.draws, s.seed), lambda: draw_items(others, _PROBE_DRAWS, train)
        noise = Streams(s.seed, [(NoiseOf.MEASURED, *r) for r in rows(len(data))], data.event)().float()

        def numbered(first: int, last: int) -> Draws:
            at = torch.arange(first, last)
            return Draws(at, data.source.take(at), noise[at], {n: x[at] for n, x in data.labels.items()})

        return numbered(0, s.draws), lambda: numbered(s.draws, len(data))

    def beside(self, problem: SamplerProblem) -> Sequence[Estimator[Any]]:
        return () if self.generated else (DataBoundOf(len(problem.draws)),)

    def joining(self, problem: SamplerProblem) -> Joins:
        return _ExactLast()

    def extras(self, problem: SamplerProblem) -> Sequence[Extra]:
        against: dict[str, str] = {}
        trained = () if self.trainer is None else (TrainedClassifier(self.trainer),)
        return (
            *trained, Losses(lambda: self._losses(problem)), Kept(), Made(against), MarksOfSampler(against), OwnPath(),
            Children(self.opened.model.decode), PipelineFacts(self),
        )  # fmt: skip

    def _losses(self, p: SamplerProblem) -> LossJob:
        items = Items(self.data, holdout=0.0, null=0)
        return LossJob(self.denoiser, items, p.sigma, (), False, self.opened.unconditional_calls, p.seed)

    def dry_run(self, spec: Spec, reading: float) -> list[str]:
        problem = self.problem(spec)
        calls = loss_calls(len(problem.sigma), 0, False, self.opened.unconditional_calls)[1]
        losses = [("losses", f"{calls:,} network calls")]
        if self.trainer is not None:
            losses.insert(0, ("training", f"{self.trainer.settings.steps:,} steps of the classifier"))
        head = head_of_sampler(self.data.words + (", items kept out of training" if self.trainer else ""), self.opened)
        return head + lines_of_costs(problem, losses, self.beside(problem))


def _part(trainer: ClassifierTrainer, held_out: bool) -> LabelledData:
    """The data with the weights of the items that a classifier is kept from, or of those that it is trained on."""
    source = trainer.source
    assert isinstance(source, Items)
    weights = source.data.weights * torch.from_numpy(source.kept_out == held_out)
    return replace(source.data, weights=weights / weights.sum())


class _ExactLast:
    """The curves of every estimator, exact ones last."""

    def jobs(self) -> dict[str, Any]:
        return {}

    def curves(self, measured: Measured, done: Any, /) -> list[Curve]:
        return sorted((c for _, curves in measured for c in curves), key=lambda c: c.kind == "exact")


class PipelineFacts(Jobless):
    """Facts about the pipeline and its calls, as attributes of the results."""

    def __init__(self, subject: Sampler) -> None:
        self._subject = subject

    def add(self, results: xr.Dataset, problem: SamplerProblem, done: Any, curves: Sequence[Curve]) -> xr.Dataset:
        s, opened = self._subject, self._subject.opened
        each, calls = opened.unconditional_calls, sum(done[k].calls for k in ("forks", PATH_ESTIMATOR) if k in done)
        results.attrs |= {
            "model_parameters": opened.model.parameters,
            "model_network": opened.model.words,
            "network_calls": calls * each,
            "generated": int(s.generated),
            "labeller": s.labeller,
        }
        if opened.model.needs_class:
            results.attrs |= {"unconditional": "mixture over classes", "unconditional_calls": each}
        return results


def head_of_sampler(data: str, opened: Opened) -> list[str]:
    """The lines of a dry run about the data and the pipeline."""
    words = unconditional_words(opened.unconditional_calls)
    return [
        line("data", data),
        line("model", f"{opened.model.words}, {opened.model.parameters:,} parameters, unconditional{words}"),
    ]


def resolved(spec: ForeignSpec, opened: Opened) -> tuple[ForeignSpec, Callable[[Tensor], object] | None]:
    """The specification with its estimators, within the levels of the pipeline; and the labeller of the user, if any.

    Raises: InputError.
    """
    made = spec.inputs.data == GENERATED
    chosen = spec.estimators or tuple(e for e in usual(SAMPLER) if not (made and e == "posterior"))
    if made and "posterior" in chosen:
        raise InputError("the exact posterior needs a finite set of items: leave 'posterior' out of --estimators")
    chosen = _with_classifier(spec, chosen)
    if "forks" not in chosen:
        raise InputError(
            f"estimators are {', '.join(chosen)}: an unconditional network is measured by forks, add forks"
        )
    function = function_named(spec.forking.labeller, "labeller") if spec.forking.labeller else None
    return opened.levels(spec.resolve_forked(chosen)), function


def _with_classifier(spec: ForeignSpec, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """The estimators, with the classifier where the study trains it and none are named.

    Raises: InputError for a classifier without a training, or a training without a classifier.
    """
    name, trained = ClassifierOfSampler.name, spec.classifying.classifier_steps > 0
    if trained and not spec.estimators:
        return (*chosen, name)
    if trained != (name in chosen):
        remedy = f"add {name} to --estimators, or leave out --classifier-steps"
        if not trained:
            remedy = f"add --classifier-steps 2000, or leave {name} out of --estimators"
        raise InputError(f"{spec.model}: the classifier of noisy images is trained by the study: {remedy}")
    return chosen


def open_sampler(
    spec: ForeignSpec, opened: Opened, progress: bool, out: Path | None, given: LabelledData | None = None
) -> tuple[Sampler, ForeignSpec]:
    """A model with labelled data, or with images that it makes itself.

    Args:
        spec: the study.
        opened: the model.
        progress: show a bar on stderr where images are made.
        out: folder of the study, where the images are kept; None: they are not kept.
        given: data from Python; None: those that the specification names.

    Raises: InputError.
    """
    spec, function = resolved(spec, opened)
    w, made = spec.inputs, spec.inputs.data == GENERATED
    if made and function is not None:
        data, label = _made(spec, opened, function, progress, out)
    else:
        data = distributed.by_each(lambda: _values(spec, opened, given))
        label = Nearest(data)
        if function is not None:
            labels = by_function(function, data.attributes[0].name, data.attributes)
            label = of_any_parent(decoded(labels, opened.model.decode or _unchanged))
    names = tuple(a.name for a in data.attributes)
    for a in data.attributes:
        require_children(a, spec.forking.forks)
    check_same_data(spec, data)
    inputs = replace(w, attributes=w.attributes or names)  # as they were passed, possibly with bins
    spec = replace(spec, inputs=inputs, fingerprint=data.fingerprint, model_fingerprint=opened.model.digest)
    trainer = None if made else classifier_trainer(data, spec, home_of(opened.denoiser)[0])
    return Sampler(opened, data, label, made, spec, trainer), spec


def _values(spec: ForeignSpec, opened: Opened, given: LabelledData | None) -> LabelledData:
    """The data as values of the network: those from Python, or those that the specification names."""
    w = spec.inputs
    data = load(w.data, w.attributes, size=w.size, grain=w.grain, ground=w.ground) if given is None else given
    require_classes(data, "a study of a model cannot measure")
    return opened.values(data)


def require_children(a: Any, forks: int) -> None:
    """Refuse fewer continuations than an attribute has values (raises InputError)."""
    if not enough(a, forks):
        raise InputError(
            f"forks is {forks}, and {a.name!r} has {len(a.values)} values: fewer continuations than values cannot show "
            f"its entropy; pass at least --forks {len(a.values)}"
        )


def _unchanged(values: Tensor) -> Tensor:
    return values


def _made(
    spec: ForeignSpec, opened: Opened, function: Callable[[Tensor], object], progress: bool, out: Path | None
) -> tuple[LabelledData, LabelChildren]:
    """Images that the pipeline makes, labelled by the function of the user; and the function that labels others."""
    free, decode, names = by_function(function, "label", ()), opened.model.decode or _unchanged, spec.inputs.attributes

    def labelled(images: Tensor) -> dict[str, Tensor]:
        labels = labelled_by(free, images, decode)
        if unknown := [n for n in names if n not in labels]:
            raise InputError(f"the labeller gives {', '.join(labels)}: it gives no {unknown[0]!r}")
        return labels

    probed = _PROBE_DRAWS * ("probes" in spec.estimators)
    values = kept_images(opened, spec, images_of(spec, probed), out, progress, labelled)
    labels = labelled(values)
    wanted = names or tuple(labels)
    named = {n: [f"{i:0{len(str(int(labels[n].max())))}d}" for i in labels[n].tolist()] for n in wanted}
    present = {n: torch.unique(labels[n]) for n in wanted}

    def of_present(pictures: Tensor) -> dict[str, Tensor]:
        # A value that no generated image has is not a value of the attribute: it counts as the next one.
        raw = free(pictures)
        return {n: torch.searchsorted(present[n], raw[n]).clamp_max(len(present[n]) - 1) for n in wanted}

    data = from_array(values.numpy(), named, name=f"images by {opened.model.words}")
    return data, of_any_parent(decoded(of_present, decode))


def lines_before_images(spec: ForeignSpec, opened: Opened) -> tuple[list[str], ForeignSpec]:
    """The dry run of a study of images that the pipeline makes; no image is made, so their labels are not known."""
    spec, _ = resolved(spec, opened)
    s, f, each = spec.sampling, spec.forking, opened.unconditional_calls
    count = images_of(spec, _PROBE_DRAWS * ("probes" in spec.estimators))
    lines = head_of_sampler(f"{count:,} images by the model: {2 * count * f.steps * each:,} network calls", opened)
    calls = s.draws * s.levels * f.forks * f.steps * each
    lines.append(line("forks", f"about {calls:,} network calls"))
    if PATH_ESTIMATOR in spec.estimators:
        lines.append(line("own path", f"about {calls + 2 * s.draws * f.steps * each:,} network calls"))
    return [*lines, line("losses", f"{loss_calls(s.levels, 0, False, each)[1]:,} network calls")], spec
