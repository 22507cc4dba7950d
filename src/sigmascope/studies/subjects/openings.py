"""How the subjects that come with the package are opened from a specification.  A new one is a record here."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from sigmascope.core import InputError
from sigmascope.data import load_any
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.data.loaders import by_word
from sigmascope.device import resolve_device
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.jobs.pairs import attribute_pairs
from sigmascope.studies.exact_law import chosen, denoiser_of
from sigmascope.studies.options import Sampling
from sigmascope.studies.scales import require_scales
from sigmascope.studies.spec import GENERATED, ExactSpec, HeldoutSpec, ModelSpec, PipelineSpec, Spec, SpecOfModel
from sigmascope.studies.subjects.base import Opening, Subject, filled, register
from sigmascope.studies.subjects.conditional_pipeline import is_conditional, open_conditional
from sigmascope.studies.subjects.exact import ExactSubject, Population
from sigmascope.studies.subjects.model import open_model
from sigmascope.studies.subjects.pipelines import Opened, as_path, open_pipe
from sigmascope.studies.subjects.sampler import lines_before_images, open_sampler, require_children

DataSpec = ExactSpec | HeldoutSpec


def open_data(spec: DataSpec, out: Path | None = None, progress: bool = False) -> tuple[Subject[Any], DataSpec]:
    """The exact law of data that are named, or the population that they come from.

    Raises: InputError, also when the data are not those that the specification was made with.
    """
    w = spec.inputs
    if w.data.startswith("<"):
        raise InputError(f"{w.data}: these data came from Python, not from a file: repeat the study from there")
    data = load_any(w.data, w.attributes, size=w.size, grain=w.grain, ground=w.ground)
    return of_data(_with_data_path(spec), data)


def of_data(spec: DataSpec, data: Any, denoiser: Any = None) -> tuple[Subject[Any], DataSpec]:
    """The subject of data that are loaded, and the specification with their fingerprint and all attributes studied.

    Args:
        spec: the study.
        data: labelled data, or a hierarchy.
        denoiser: their exact filter; None: it is made.

    Raises: InputError for what such data cannot be asked.
    """
    w = spec.inputs
    if spec.fingerprint and spec.fingerprint != data.fingerprint:
        raise InputError(
            f"{w.data}: the data are not those of the specification (fingerprint {data.fingerprint}, expected "
            f"{spec.fingerprint}): restore the file, or delete the line 'fingerprint'"
        )
    tree, heldout = isinstance(data, Hierarchy), isinstance(spec, HeldoutSpec)
    if tree and heldout:
        raise InputError(f"{w.data}: a hierarchy is its own population: leave out --law heldout")
    names = w.attributes or tuple(a.name for a in data.attributes)
    studied = chosen(data, names)
    require_scales(data, spec, studied)
    if isinstance(spec, ExactSpec) and spec.pairs:
        if tree:
            raise InputError(f"{w.data}: pairs are of attributes of a finite set: leave out --pairs for a hierarchy")
        attribute_pairs(studied)
    if isinstance(spec, ExactSpec) and "forks" in spec.estimators:
        require_children(max(studied, key=lambda a: int((a.prior > 0).sum())), spec.forks)
    spec = filled(spec, data, names)
    exact = denoiser_of(data, resolve_device(spec.device)) if denoiser is None else denoiser
    if heldout and isinstance(exact, FiniteDenoiser):
        return Population(data, exact), spec
    return ExactSubject(data, exact, names), spec


def _open_model(spec: ModelSpec, out: Path | None, progress: bool) -> tuple[Subject[Any], Spec]:
    spec = _with_paths(spec)
    subject, found = open_model(spec, resolve_device(spec.device))
    check_range(spec, found)
    return subject, found


def _open_pipeline(spec: PipelineSpec, out: Path | None, progress: bool) -> tuple[Subject[Any], Spec]:
    spec = _with_paths(spec)
    opened = open_pipe(spec, resolve_device(spec.device))
    if check_use(spec, opened):
        return open_conditional(spec, opened)
    return open_sampler(spec, opened, progress, out)


def _before_images(spec: PipelineSpec) -> tuple[list[str], Spec] | None:
    """A dry run of a study whose images the pipeline makes, without making them; None for another."""
    if spec.inputs.data != GENERATED:
        return None
    spec = _with_paths(spec)
    opened = open_pipe(spec, resolve_device(spec.device))
    check_use(spec, opened)
    return lines_before_images(spec, opened)


def _with_paths(spec: Any) -> Any:
    """The specification of a model with paths that hold from anywhere."""
    assert isinstance(spec, SpecOfModel)
    if isinstance(spec, PipelineSpec):
        spec = replace(spec, model=as_path(spec.model))
    elif spec.model != "bundled":
        spec = replace(spec, model=str(Path(spec.model).resolve()))
    if spec.gaps.like:
        spec = replace(spec, gaps=replace(spec.gaps, like=str(Path(spec.gaps.like).resolve())))
    return _with_data_path(spec)


def _with_data_path(spec: Any) -> Any:
    """The specification with the whole path of its data, unless a word names them: it may be read from elsewhere."""
    data = spec.inputs.data
    if by_word(data) is not None or not Path(data).exists():
        return spec
    return replace(spec, inputs=replace(spec.inputs, data=str(Path(data).resolve())))


def check_use(spec: PipelineSpec, opened: Opened) -> bool:
    """Whether a pipeline is told classes; refuses what such a study, or one by forks, cannot use.

    Raises: InputError.
    """
    told = is_conditional(spec, opened)
    spec.validate_conditional() if told else spec.validate_forked()
    null = spec.pipeline.null_class
    if null >= 0 and null != (own := opened.pipe.denoiser.null):
        why = "knows no classes" if not opened.pipe.denoiser.attributes else f"has class {own} for none"
        raise InputError(f"--null-class {null} came, but {spec.model} {why}: leave it out")
    check_range(spec, opened.levels(spec))
    return told


def check_range(asked: ModelSpec | PipelineSpec, found: ModelSpec | PipelineSpec) -> None:
    """Refuse noise levels that were asked for and that the model does not know; the usual ones are cut to its range.

    Raises: InputError.
    """
    usual = {f.name: f.default for f in fields(Sampling)}
    for name in ("sigma_max", "sigma_min"):
        came, has = getattr(asked.sampling, name), getattr(found.sampling, name)
        if came not in (usual[name], has):
            raise InputError(
                f"{name} is {came:g}: {asked.model} can be measured from {found.sampling.sigma_max:g} down to "
                f"{found.sampling.sigma_min:g}: pass --{name.replace('_', '-')} {has:g}, or leave it out"
            )


BUILT_IN = (
    Opening("data", lambda spec: isinstance(spec, (ExactSpec, HeldoutSpec)), open_data),
    Opening("a model of sigmascope train", lambda spec: isinstance(spec, ModelSpec), _open_model),
    Opening("a pipeline", lambda spec: isinstance(spec, PipelineSpec), _open_pipeline, _before_images),
)
for _opening in BUILT_IN:
    register(_opening, last=True)
