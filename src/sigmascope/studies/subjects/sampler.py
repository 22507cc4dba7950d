r"""A study of a pipeline that is told nothing: labels of what it makes, by forks and by probes.

.. math:: I(A; Y_\sigma) = H(A) - E\,H(A \mid Y_\sigma), \qquad A = \ell(V),

V is an item of the data, or an image that the pipeline made; A its label; the labels of K continuations from
:math:`Y_\sigma` are draws of :math:`p(a \mid y)` as the pipeline has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from sigmascope.core import Curve, Draws, InputError, LabelledData
from sigmascope.data import draw_items, from_array, load
from sigmascope.information.estimator import PATH_ESTIMATOR, SAMPLER, Estimator, usual
from sigmascope.information.estimators.heldout import DataBoundOf
from sigmascope.information.forks import LabelChildren, enough
from sigmascope.information.jobs.forking import Descent
from sigmascope.information.jobs.losses import LossJob, loss_calls
from sigmascope.information.problems import SamplerProblem
from sigmascope.learn.sources import Items
from sigmascope.noise import sigma_grid
from sigmascope.sample import Streams, rows
from sigmascope.streams import NoiseOf, SeedOf, seed_of
from sigmascope.studies.costs import lines_of_costs
from sigmascope.studies.extras.marks import MarksOfSampler
from sigmascope.studies.extras.models import Losses, OwnPath
from sigmascope.studies.extras.sampler import Children, Kept, Made
from sigmascope.studies.labelling import Nearest, by_function, decoded, imported, labelled_by, of_any_parent
from sigmascope.studies.options import Sampling
from sigmascope.studies.spec import GENERATED, PipelineSpec, Spec
from sigmascope.studies.subjects.base import Found, Joins, Subject
from sigmascope.studies.subjects.extra import Extra
from sigmascope.studies.subjects.generated import images_of, kept_images
from sigmascope.studies.subjects.model import check_same_data, unconditional_words
from sigmascope.studies.subjects.pipelines import Opened, seeing

_PROBE_DRAWS = 512  # to train probes on


class Sampler(Subject[SamplerProblem]):
    """A pipeline that is told nothing, with the images that it is measured on.

    Args:
        opened: the pipeline.
        data: labelled images, or latents, in the unit of the pipeline's values.
        label: labels of clean values, whose parents may be items of the data.
        generated: whether the pipeline made the data.
        spec: of the study.
    """

    kind = SAMPLER

    def __init__(
        self, opened: Opened, data: LabelledData, label: LabelChildren, generated: bool, spec: PipelineSpec
    ) -> None:
        self.opened, self.data, self.label, self.generated = opened, data, label, generated
        self.labeller = spec.forking.labeller or (label.words if isinstance(label, Nearest) else "")
        self.attributes = data.attributes
        self.items = None if generated else data
        unconditional = opened.unconditional(spec.sampling.seed)
        self.denoiser = unconditional if opened.needs_class else seeing(unconditional)

    def problem(self, spec: Spec) -> SamplerProblem:
        assert isinstance(spec, PipelineSpec)
        s, opened = spec.sampling, self.opened
        draws, train = self._draws(s)
        # A start from noise lacks the variance of the values, so it is high above the levels studied where it can be.
        top = (opened.asked_up_to or max(s.sigma_max, Sampling.sigma_max)) * (1.0 - 1e-9)
        return SamplerProblem(
            subject=self, attributes=self.attributes, draws=draws, sigma=sigma_grid(s.sigma_max, s.sigma_min, s.levels),
            seed=s.seed, estimators=self.estimators(spec), model=self.denoiser, data=self.data, train=train,
            label=self.label, draws_are_items=not self.generated, children=spec.forking.forks, top=top,
            down=Descent(s.sigma_max, opened.reads_at(s), spec.forking.steps),
            unconditional_calls=opened.unconditional_calls,
        )  # fmt: skip

    def _draws(self, s: Sampling) -> tuple[Draws, Callable[[], Draws]]:
        """Draws to measure on, and others to train probes on."""
        data = self.data
        if not self.generated:
            train = seed_of(SeedOf.PROBES, s.seed)
            return draw_items(data, s.draws, s.seed), lambda: draw_items(data, _PROBE_DRAWS, train)
        noise = Streams(s.seed, [(NoiseOf.MEASURED, *r) for r in rows(len(data))], data.event)().float()

        def some(first: int, last: int) -> Draws:
            at = torch.arange(first, last)
            return Draws(at, data.source.take(at), noise[at], {n: x[at] for n, x in data.labels.items()})

        return some(0, s.draws), lambda: some(s.draws, len(data))

    def beside(self, problem: SamplerProblem) -> Sequence[Estimator[Any]]:
        return () if self.generated else (DataBoundOf(len(problem.draws)),)

    def joining(self, problem: SamplerProblem) -> Joins:
        return _ExactLast()

    def extras(self, problem: SamplerProblem) -> Sequence[Extra]:
        against: dict[str, str] = {}
        return (
            Losses(lambda: self._losses(problem)), Kept(), Made(against), MarksOfSampler(against), OwnPath(),
            Children(self.opened.pipe.decode), Said(self),
        )  # fmt: skip

    def _losses(self, p: SamplerProblem) -> LossJob:
        items = Items(self.data, holdout=0.0, null=0)
        return LossJob(self.denoiser, items, p.sigma, (), False, self.opened.unconditional_calls, p.seed)

    def dry_run(self, spec: Spec, reading: float) -> list[str]:
        problem = self.problem(spec)
        calls = loss_calls(len(problem.sigma), 0, False, self.opened.unconditional_calls)[1]
        more = [("losses", f"{calls:,} network calls")]
        head = head_of_sampler(self.data.words, self.opened)
        return head + lines_of_costs(problem, more, self.beside(problem))


class _ExactLast:
    """The curves of every estimator, those of an exact posterior after those that are of the model or bound it."""

    def jobs(self) -> dict[str, Any]:
        return {}

    def curves(self, found: Found, done: Any) -> list[Curve]:
        return sorted((c for _, curves in found for c in curves), key=lambda c: c.kind == "exact")


class Said(Extra):
    """What is said of the pipeline and of its calls.

    Args:
        subject: the pipeline with its images.
    """

    def __init__(self, subject: Sampler) -> None:
        self._subject = subject

    def jobs(self, problem: SamplerProblem) -> dict[str, Any]:
        return {}

    def add(self, results: xr.Dataset, problem: SamplerProblem, done: Any, curves: Sequence[Curve]) -> xr.Dataset:
        s, opened = self._subject, self._subject.opened
        each, calls = opened.unconditional_calls, sum(done[k].calls for k in ("forks", PATH_ESTIMATOR) if k in done)
        results.attrs |= {
            "model_parameters": opened.parameters,
            "model_network": opened.words,
            "network_calls": calls * each,
            "generated": int(s.generated),
            "labeller": s.labeller,
        }
        if opened.needs_class:
            results.attrs |= {"unconditional": "mixture over classes", "unconditional_calls": each}
        return results


def head_of_sampler(data: str, opened: Opened) -> list[str]:
    """What a dry run says of the data and the pipeline, before anything of their work."""
    words = unconditional_words(opened.unconditional_calls)
    return [f"data        {data}", f"model       {opened.words}, {opened.parameters:,} parameters, told nothing{words}"]


def resolved(spec: PipelineSpec, opened: Opened) -> tuple[PipelineSpec, Callable[[Tensor], object] | None]:
    """The specification with its estimators and within the pipeline's levels, and the user's labeller, if one is named.

    Raises: InputError.
    """
    made = spec.inputs.data == GENERATED
    chosen = spec.estimators or tuple(e for e in usual(SAMPLER) if not (made and e == "posterior"))
    if made and "posterior" in chosen:
        raise InputError("the exact posterior is of a finite set: leave 'posterior' out of --estimators")
    if "forks" not in chosen:
        raise InputError(
            f"estimators are {', '.join(chosen)}: a network that is told nothing is measured by forks, add them"
        )
    function = imported(spec.forking.labeller) if spec.forking.labeller else None
    return opened.levels(spec.resolve_forked(chosen)), function


def open_sampler(
    spec: PipelineSpec, opened: Opened, progress: bool, out: Path | None
) -> tuple[Sampler, PipelineSpec]:  # fmt: skip
    """A pipeline with its data, or with images that it makes, and labels of images.

    Args:
        spec: the study.
        opened: the pipeline.
        progress: show a bar on stderr where images are made.
        out: the study's folder, where the images are kept; None keeps none.

    Raises: InputError.
    """
    spec, function = resolved(spec, opened)
    w, made = spec.inputs, spec.inputs.data == GENERATED
    if made and function is not None:
        data, label = _made(spec, opened, function, progress, out)
    else:
        data = opened.values(load(w.data, w.attributes, size=w.size, grain=w.grain, ground=w.ground))
        label = Nearest(data)
        if function is not None:
            mine = by_function(function, data.attributes[0].name, data.attributes)
            label = of_any_parent(decoded(mine, opened.pipe.decode or _as_it_is))
    names = tuple(a.name for a in data.attributes)
    for a in data.attributes:
        require_children(a, spec.forking.forks)
    check_same_data(spec, data)
    inputs = replace(w, attributes=w.attributes or names)  # as they were asked for, perhaps with bins
    spec = replace(spec, inputs=inputs, fingerprint=data.fingerprint, model_fingerprint=opened.digest)
    return Sampler(opened, data, label, made, spec), spec


def require_children(a: Any, forks: int) -> None:
    """Refuse fewer children than an attribute has values.

    Raises: InputError.
    """
    if not enough(a, forks):
        raise InputError(
            f"forks is {forks}, {a.name!r} has {len(a.values)} values: fewer children than values cannot show its "
            f"entropy; pass at least --forks {len(a.values)}"
        )


def _as_it_is(values: Tensor) -> Tensor:
    return values


def _made(
    spec: PipelineSpec, opened: Opened, function: Callable[[Tensor], object], progress: bool, out: Path | None
) -> tuple[LabelledData, LabelChildren]:
    """Images that the pipeline makes, labelled by the user's function, and the labels of others."""
    free, decode, asked = by_function(function, "label", ()), opened.pipe.decode or _as_it_is, spec.inputs.attributes

    def labelled(images: Tensor) -> dict[str, Tensor]:
        found = labelled_by(free, images, decode)
        unknown = [n for n in asked if n not in found]
        if unknown:
            raise InputError(f"the labeller gives {', '.join(found)}: it gives no {unknown[0]!r}")
        return found

    probed = _PROBE_DRAWS * ("probes" in spec.estimators)
    values = kept_images(opened, spec, images_of(spec, probed), out, progress, labelled)
    found = labelled(values)
    wanted = asked or tuple(found)
    named = {n: [f"{i:0{len(str(int(found[n].max())))}d}" for i in found[n].tolist()] for n in wanted}
    present = {n: torch.unique(found[n]) for n in wanted}

    def among(pictures: Tensor) -> dict[str, Tensor]:
        # Values that no generated image had are not of the attribute: such a child counts as the next.
        given = free(pictures)
        return {n: torch.searchsorted(present[n], given[n]).clamp_max(len(present[n]) - 1) for n in wanted}

    data = from_array(values.numpy(), named, name=f"images by {opened.words}")
    return data, of_any_parent(decoded(among, decode))


def lines_before_images(spec: PipelineSpec, opened: Opened) -> tuple[list[str], PipelineSpec]:
    """What a study of images that the pipeline makes would take; nothing is made, so their labels are not known."""
    spec, _ = resolved(spec, opened)
    s, f, each = spec.sampling, spec.forking, opened.unconditional_calls
    count = images_of(spec, _PROBE_DRAWS * ("probes" in spec.estimators))
    lines = head_of_sampler(f"{count:,} images by the model: {2 * count * f.steps * each:,} network calls", opened)
    calls = s.draws * s.levels * f.forks * f.steps * each
    lines.append(f"forks       about {calls:,} network calls")
    if PATH_ESTIMATOR in spec.estimators:
        lines.append(f"own path    about {calls + 2 * s.draws * f.steps * each:,} network calls")
    return [*lines, f"losses      {loss_calls(s.levels, 0, False, each)[1]:,} network calls"], spec
