"""What the card of a training says, and whether data and a study fit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sigmascope.core import Attribute, InputError, LabelledData, RealAttribute
from sigmascope.data.pictures import WHITE
from sigmascope.information.estimator import CONDITIONAL, named
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.learn.settings import NULL_NUMBER, Settings
from sigmascope.studies.spec import ModelSpec


def as_trained(spec: ModelSpec, model: NeuralDenoiser, names: Sequence[str]) -> ModelSpec:
    """The specification with the size, grain and ground of the data that the model was trained on."""
    w, ground = spec.inputs, str(model.card.get("ground", WHITE))
    if w.data == "scenes":
        side, grain = model.event[-1], bool(model.card.get("grain", "grain" in names))
        if w.size not in (32, side) or (w.grain and not grain):
            texture = "with" if grain else "without"
            raise InputError(
                f"size is {w.size} and grain {w.grain}: {spec.model} was trained on scenes of {side} × {side} "
                f"pixels {texture} grain: leave out --size and --grain"
            )
        w = replace(w, size=side, grain=grain)
    if w.ground not in (WHITE, ground):
        raise InputError(f"{spec.model}: it was trained with --ground {ground}, not {w.ground}: leave --ground out")
    return replace(spec, inputs=replace(w, ground=ground))


def check_fit(
    spec: ModelSpec, data: Any, model: NeuralDenoiser, trained: Sequence[Attribute], reals: Sequence[RealAttribute]
) -> None:
    """Refuse data that do not fit the model, which was trained on these attributes."""
    by_name, name = {a.name: a for a in data.attributes}, spec.inputs.data
    further = isinstance(data, LabelledData) and len(by_name) > len(trained)
    if {a.name for a in trained} - set(by_name) or further:
        raise InputError(f"{name}: its attributes are not those of the model's training: pass the training data")
    if data.event != model.event:
        raise InputError(f"{name}: items have shape {data.event}, the model has {model.event}: pass the training data")
    for a in trained:
        if a.values != by_name[a.name].values:
            raise InputError(f"{name}: values of {a.name!r} are not those of the training: pass the training data")
    if tuple(getattr(data, "reals", ())) != tuple(reals):
        raise InputError(
            f"{name}: its real-valued attributes are not those of the model's training "
            f"({', '.join(f'{a.name} with resolution {a.resolution:g}' for a in reals) or 'it had none'}): pass the "
            "training data"
        )


def trained_reals(model: NeuralDenoiser, name: str) -> tuple[RealAttribute, ...]:
    """The real-valued attributes that a model was trained on, from its card."""
    try:
        reals = tuple(RealAttribute(**{**a, "columns": tuple(a["columns"])}) for a in model.card.get("reals", ()))
    except (KeyError, TypeError, AttributeError, InputError) as error:
        message = f"{name}: its card holds no real-valued attributes that can be read ({error}): train it again"
        raise InputError(message) from error
    conditions = {c.name: c.dim for c in model.continuous if c.name != NULL_NUMBER}
    if conditions != {a.name: 2 if a.period else len(a.columns) for a in reals}:
        raise InputError(
            f"{name}: the network is conditional on other real-valued attributes than its card says: train it again"
        )
    return reals


def read_card(model: NeuralDenoiser, name: str) -> tuple[Settings, tuple[str, ...]]:
    """The settings of the training, and its attributes as they were passed (possibly with bins)."""
    try:
        return Settings(**model.card["settings"]).check(), tuple(map(str, model.card.get("attributes", ())))
    except (KeyError, TypeError, InputError) as error:
        raise InputError(f"{name}: its card lacks the settings of its training ({error}): train it again") from error


def with_reals(
    spec: ModelSpec, data: Any, studied: Sequence[Attribute], reals: Sequence[RealAttribute]
) -> tuple[ModelSpec, Any]:
    """A study of real-valued attributes, with a note on the estimators that leave these out.

    Where no other attribute is studied, these estimators are left out.

    Raises: InputError where no estimator of the study measures them.
    """
    able = [e for e in spec.estimators if named(e, CONDITIONAL).measures_reals]
    others = [e for e in spec.estimators if e not in able]
    names = ", ".join(a.name for a in reals)
    if reals and not {"score_gap", "mmse_gap"} & set(able):
        raise InputError(
            f"estimators are {', '.join(spec.estimators)}: none measures {names} of a network: add score_gap to them"
        )
    if not others or not reals:
        return spec, data
    left = f"{', '.join(others)} cannot measure a real-valued attribute: {names} is measured by {', '.join(able)}"
    if not studied:
        spec = replace(spec, estimators=tuple(able))
    return spec, replace(data, notes=(*data.notes, left))
