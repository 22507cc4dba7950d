"""A class-conditional pipeline of diffusers, told the values of one attribute of labelled data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.adapters.foreign import Foreign
from sigmascope.core import UNKNOWN, Attribute, Denoiser, InputError
from sigmascope.data import load
from sigmascope.information.estimator import CONDITIONAL, PATH_ESTIMATOR, SAMPLER, names, usual
from sigmascope.information.mixture import Mixture
from sigmascope.learn.sources import Items, mean_and_scale
from sigmascope.studies.classes import matched
from sigmascope.studies.spec import GENERATED, PipelineSpec, aimed
from sigmascope.studies.subjects.model import ConditionalModel, Network, check_same_data, in_groups, require_measure
from sigmascope.studies.subjects.pipelines import Opened, seeing

_SAMPLES, _FEWEST = 2048, 400  # of the gaps of a network that must be told, of two answers each


class AttributeOfClasses(Denoiser):
    """A class-conditional network that is told an attribute of labelled data.

    Args:
        network: told classes.
        attribute: the attribute.
        classes: the network's class of each of its values.
    """

    def __init__(self, network: Foreign, attribute: Attribute, classes: Sequence[int]) -> None:
        super().__init__()
        self.network, self.event, self.attributes = network, network.event, (attribute,)
        self._own = network.attributes[0].name
        self.register_buffer("classes", torch.tensor(list(classes), dtype=torch.int64), persistent=False)

    classes: Tensor

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """As of :class:`~sigmascope.adapters.foreign.Foreign`, told the value of the attribute, -1 where unknown."""
        name = self.attributes[0].name
        others = [n for n in known or {} if n != name]
        if others:
            raise InputError(f"this network cannot be told {others[0]!r}: only {name!r}")
        if known is None or name not in known:
            return self.network(y, sigma)
        value = known[name].to(self.classes.device)
        told = torch.where(value == UNKNOWN, UNKNOWN, self.classes[value.clamp_min(0)])
        return self.network(y, sigma, {self._own: told})


def classes_of(a: Attribute, network: Foreign, model: str, classes: str = "") -> list[int]:
    """The network's class of each value of an attribute, by name, or as the user says.

    Args:
        a: the attribute.
        network: told classes.
        model: its name, for complaints.
        classes: of :func:`~sigmascope.studies.classes.read_classes`; empty: by the names that the pipeline gives.

    Raises: InputError, which shows both lists, where a value has no class or more than one.
    """
    return matched(a.values, network.attributes[0].values, classes, a.name, model)


def is_conditional(spec: PipelineSpec, opened: Opened) -> bool:
    """Whether the study is one of a network that is told classes: it can be, and no forks are asked for.

    Raises: InputError where the network cannot be asked what the specification says.
    """
    network = opened.pipe.denoiser
    asked = (set(spec.estimators) & set(names(CONDITIONAL))) - set(names(SAMPLER))
    if not network.attributes and asked:
        raise InputError(
            f"{spec.model}: {', '.join(sorted(asked))} came, but the network knows no classes: leave it to forks and "
            "probes"
        )
    told = bool(network.attributes) and spec.inputs.data != GENERATED and "forks" not in spec.estimators
    if spec.pipeline.classes and not told:
        raise InputError(f"{spec.model}: the network is told no class in this study: leave out --classes")
    return told


def open_conditional(spec: PipelineSpec, opened: Opened) -> tuple[ConditionalModel, PipelineSpec]:
    """A class-conditional pipeline with the data whose attribute it is told.

    Without an empty class, what it says unconditional is the mixture over its classes, by its own likelihood.

    Raises: InputError.
    """
    w, network = spec.inputs, opened.pipe.denoiser
    data = opened.values(load(w.data, w.attributes, size=w.size, grain=w.grain, ground=w.ground))
    if len(data.attributes) != 1:
        raise InputError(
            f"{w.data}: it has {', '.join(a.name for a in data.attributes)}: name the one that is the pipeline's "
            "class, e.g. --attributes " + data.attributes[0].name
        )
    a = data.attributes[0]
    classes = classes_of(a, network, spec.model, spec.pipeline.classes)
    told = AttributeOfClasses(network, a, classes).eval()
    spec = opened.levels(_estimated(spec, opened))
    check_same_data(spec, data)
    spec = replace(
        spec, inputs=replace(w, attributes=w.attributes or (a.name,)), fingerprint=data.fingerprint,
        model_fingerprint=opened.digest, sampling=in_groups(spec.sampling),
    )  # fmt: skip
    source = Items(data, holdout=0.0, null=0, seed=0)
    _, scale = mean_and_scale(source, spec.sampling.seed)
    spec = _affordable(spec, opened)
    span, seed = scale * data.size**0.5, spec.sampling.seed
    model = opened.mixed(told, span, seed) if opened.needs_class else seeing(told)
    own = network.attributes[0].values
    found = Network(
        model, None, None, opened.asked_up_to, opened.words, opened.parameters,
        classes=tuple((v, k, own[k]) for v, k in zip(a.values, classes, strict=True)),
        unconditional_calls=model.calls if isinstance(model, Mixture) else 1,
    )  # fmt: skip
    return ConditionalModel(found, source, data, (a,), held_out=False, scale=scale), spec


def _estimated(spec: PipelineSpec, opened: Opened) -> PipelineSpec:
    """The specification with the usual estimators of a network that has no classifier.

    Raises: InputError for one that it cannot be measured by.
    """
    plain = tuple(e for e in usual(CONDITIONAL) if e != "classifier")
    chosen = spec.estimators or (plain if opened.needs_class else (*plain, PATH_ESTIMATOR))
    if "classifier" in chosen:
        raise InputError(f"{spec.model}: a pipeline has no classifier of noisy images: leave it out of --estimators")
    require_measure(chosen)
    return replace(spec, estimators=chosen)


def _affordable(spec: PipelineSpec, opened: Opened) -> PipelineSpec:
    """The specification with so many calls that a network that must be told a class can be measured.

    Raises: InputError for fewer.
    """
    each = 1 + opened.unconditional_calls
    spec = aimed(spec, _SAMPLES * each if opened.needs_class else 0)
    if opened.needs_class and 0 < spec.gaps.budget < _FEWEST * each:
        raise InputError(
            f"budget is {spec.gaps.budget} network calls, and an unconditional output takes "
            f"{opened.unconditional_calls}, "
            f"for want of an empty class: pass at least --budget {_FEWEST * each}"
        )
    return spec
