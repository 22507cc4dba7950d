"""The ways to open the built-in kinds of subject from a specification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import sigmascope.distributed as distributed
from sigmascope.adapters.naming import full_name
from sigmascope.core import Attribute, InputError, LabelledData
from sigmascope.data import load_any
from sigmascope.data.hierarchy import Hierarchy
from sigmascope.data.loaders import by_word
from sigmascope.data.reals import require_classes
from sigmascope.device import resolve_device
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.estimator import EXACT, named
from sigmascope.information.jobs.chains import attributes_of_chain, values_of_chain
from sigmascope.information.jobs.pairs import attribute_pairs
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.studies.exact_law import chosen, chosen_reals, denoiser_of, require_scales
from sigmascope.studies.options import Sampling, changed, flat
from sigmascope.studies.spec import (
    GENERATED,
    ExactSpec,
    FeatureSpec,
    ForeignSpec,
    HeldoutSpec,
    ModelSpec,
    Spec,
    SpecOfModel,
)
from sigmascope.studies.subjects.base import Opening, Subject, filled, register
from sigmascope.studies.subjects.conditional import is_conditional, open_conditional
from sigmascope.studies.subjects.exact import ExactSubject, Population
from sigmascope.studies.subjects.model import open_model
from sigmascope.studies.subjects.opened import Opened, open_loaded
from sigmascope.studies.subjects.pictures import open_pictures
from sigmascope.studies.subjects.sampler import lines_before_images, open_sampler, require_children

DataSpec = ExactSpec | HeldoutSpec


def open_data(spec: DataSpec, out: Path | None = None, progress: bool = False) -> tuple[Subject[Any], DataSpec]:
    """The exact law of named data, or the population that they come from.

    Raises: InputError, also when the data are not those of the specification.
    """
    w = spec.inputs
    if w.data.startswith("<"):
        raise InputError(f"{w.data}: these data came from Python, not from a file: repeat the study there")
    data = load_any(w.data, w.attributes, size=w.size, grain=w.grain, ground=w.ground)
    return of_data(_with_data_path(spec), data)


def of_data(spec: DataSpec, data: Any, denoiser: Any = None) -> tuple[Subject[Any], DataSpec]:
    """The subject of loaded data, and the specification with their fingerprint and the attributes studied.

    Args:
        spec: the study.
        data: labelled data, or a hierarchy.
        denoiser: their exact filter; None: it is made here.

    Raises: InputError for options that do not apply to such data.
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
    names = w.attributes or tuple(a.name for a in (*data.attributes, *getattr(data, "reals", ())))
    studied = chosen(data, names)
    spec, data = _with_reals(spec, data, names)
    require_scales(data, spec, studied)
    if isinstance(spec, ExactSpec):
        _require_exact(data, spec, studied)
    spec = filled(spec, data, names)
    exact = denoiser_of(data, resolve_device(spec.device)) if denoiser is None else denoiser
    if heldout and isinstance(exact, FiniteDenoiser):
        return Population(data, exact), spec
    return ExactSubject(data, exact, names), spec


def _with_reals(spec: DataSpec, data: Any, names: Sequence[str]) -> tuple[DataSpec, Any]:
    """A study of real-valued attributes, with a note on the estimators that leave these out.

    Where no other attribute is studied, these estimators are left out.  InputError for a law that has no such study.
    """
    if isinstance(spec, HeldoutSpec):
        require_classes(data, "--law heldout cannot measure")
        return spec, data
    others = [e for e in spec.estimators if not named(e, EXACT).measures_reals]
    reals = ", ".join(a.name for a in chosen_reals(data, names))
    if not others or not reals:
        return spec, data
    left = f"{', '.join(others)} cannot measure a real-valued attribute: {reals} is measured by posterior alone"
    if not chosen(data, names):
        spec = replace(spec, estimators=tuple(e for e in spec.estimators if e not in others))
    return spec, replace(data, notes=(*data.notes, left))


def _require_exact(data: LabelledData | Hierarchy, spec: ExactSpec, studied: Sequence[Attribute]) -> None:
    """Refuse what the exact law of the data does not have: pairs, a chain, or too few continuations."""
    name = spec.inputs.data
    if isinstance(data, Hierarchy) and spec.pairs:
        raise InputError(f"{name}: pairs need a finite set of items: leave out --pairs for a hierarchy")
    if isinstance(data, Hierarchy) and spec.chain:
        raise InputError(f"{name}: a chain needs a finite set of items: leave out --chain for a hierarchy")
    if spec.pairs:
        attribute_pairs(studied)
    if spec.chain and isinstance(data, LabelledData):
        values_of_chain(data, attributes_of_chain(studied, spec.chain))
    if "forks" in spec.estimators:
        require_children(max(studied, key=lambda a: int((a.prior > 0).sum())), spec.forks)


def _open_pictures(spec: FeatureSpec, out: Path | None, progress: bool) -> tuple[Subject[Any], Spec]:
    return open_pictures(_with_data_path(spec), out, progress)


def _open_model(spec: ModelSpec, out: Path | None, progress: bool) -> tuple[Subject[Any], Spec]:
    spec, device = _with_paths(spec), resolve_device(spec.device)
    subject, opened = distributed.by_each(lambda: open_model(spec, device))
    check_range(spec, opened)
    return subject, opened


def _open_foreign(spec: ForeignSpec, out: Path | None, progress: bool) -> tuple[Subject[Any], Spec]:
    spec = _with_paths(spec)
    device = resolve_device(spec.device)
    opened = distributed.by_each(lambda: open_loaded(spec, device))
    if opened.model.folder is not None:  # a function that names a folder of a training
        trained, named = opening_of_trained(spec, opened.model.folder), spec.model
        loaded = opened.model.denoiser
        assert isinstance(loaded, NeuralDenoiser)
        subject, resolved = distributed.by_each(lambda: open_model(trained, device, loaded=loaded))
        return subject, replace(resolved, model=named)
    return of_model(spec, opened, None, out, progress)


def of_model(
    spec: ForeignSpec, opened: Opened, data: LabelledData | None = None, out: Path | None = None, progress: bool = False
) -> tuple[Subject[Any], Spec]:
    """The subject of a loaded model, with labelled data or with images that it makes itself.

    Args:
        spec: the study.
        opened: the model.
        data: data from Python; None: those that the specification names.
        out: folder of the study, where images of the model are kept; None: they are not kept.
        progress: show a bar on stderr where images are made.

    Raises: InputError.
    """
    if check_use(spec, opened):
        return distributed.by_each(lambda: open_conditional(spec, opened, data))
    return open_sampler(spec, opened, progress, out, data)


def opening_of_trained(spec: ForeignSpec, folder: Path) -> ModelSpec:
    """The specification of the same study of a folder of ``sigmascope train``.

    Raises: InputError for options that only other models have.
    """
    spec.validate_trained()
    named = {n: v for n, v in flat(spec).items() if n in flat(ModelSpec())}
    return changed(ModelSpec(), **named | {"model": str(folder)}).resolve()


def _before_images(spec: ForeignSpec) -> tuple[list[str], Spec] | None:
    """The dry run of a study whose images the model makes, without making them; None for other studies."""
    if spec.inputs.data != GENERATED:
        return None
    spec = _with_paths(spec)
    opened = open_loaded(spec, resolve_device(spec.device))
    check_use(spec, opened)
    return lines_before_images(spec, opened)


def _with_paths(spec: Any) -> Any:
    """The specification of a model with full paths."""
    assert isinstance(spec, SpecOfModel)
    spec = replace(spec, model=full_name(spec.model))
    if spec.gaps.like:
        spec = replace(spec, gaps=replace(spec.gaps, like=str(Path(spec.gaps.like).resolve())))
    return _with_data_path(spec)


def _with_data_path(spec: Any) -> Any:
    """The specification with the full path of its data, unless a word names them."""
    data = spec.inputs.data
    if by_word(data) is not None or not Path(data).exists():
        return spec
    return replace(spec, inputs=replace(spec.inputs, data=str(Path(data).resolve())))


def check_use(spec: ForeignSpec, opened: Opened) -> bool:
    """Whether a study conditions the pipeline on classes; refuses options that this kind of study cannot use.

    Raises: InputError.
    """
    conditional = is_conditional(spec, opened)
    spec.validate_conditional() if conditional else spec.validate_forked()
    null, own = spec.pipeline.null_class, opened.model.null
    if null >= 0 and null != own:
        why = f"has the empty class {own}" if opened.denoiser.attributes else "has no classes"
        raise InputError(f"--null-class is {null}, but {spec.model} {why}: leave it out")
    check_range(spec, opened.levels(spec))
    return conditional


def check_range(passed: ModelSpec | ForeignSpec, opened: ModelSpec | ForeignSpec) -> None:
    """Refuse noise levels outside the range of the model that a user passed; default levels are cut to the range.

    Raises: InputError.
    """
    defaults = {f.name: f.default for f in fields(Sampling)}
    for name in ("sigma_max", "sigma_min"):
        value, limit = getattr(passed.sampling, name), getattr(opened.sampling, name)
        if value not in (defaults[name], limit):
            raise InputError(
                f"{name} is {value:g}: {passed.model} can be measured from {opened.sampling.sigma_max:g} down to "
                f"{opened.sampling.sigma_min:g}: pass --{name.replace('_', '-')} {limit:g}, or leave it out"
            )


BUILT_IN = (
    Opening("data", lambda spec: isinstance(spec, (ExactSpec, HeldoutSpec)), open_data),
    Opening("features of pictures", lambda spec: isinstance(spec, FeatureSpec), _open_pictures),
    Opening("a model of sigmascope train", lambda spec: isinstance(spec, ModelSpec), _open_model),
    Opening("another model", lambda spec: isinstance(spec, ForeignSpec), _open_foreign, _before_images),
)
for _opening in BUILT_IN:
    register(_opening, last=True)
