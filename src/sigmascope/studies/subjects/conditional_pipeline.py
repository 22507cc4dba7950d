"""A class-conditional pipeline of diffusers as the subject of a study: its classes are the values of an attribute."""

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
from sigmascope.studies.subjects.pipelines import Opened, with_features

_SAMPLES, _FEWEST = 2048, 400  # of the gaps of a network without an empty class, two outputs each


class AttributeOfClasses(Denoiser):
    """A class-conditional network, conditioned on an attribute of labelled data.

    Args:
        network: the class-conditional network.
        attribute: the attribute.
        classes: the class of the network for each value of the attribute.
    """

    mixes_conditions = True

    def __init__(self, network: Foreign, attribute: Attribute, classes: Sequence[int]) -> None:
        super().__init__()
        self.network, self.event, self.attributes = network, network.event, (attribute,)
        self._class = network.attributes[0].name
        self.register_buffer("classes", torch.tensor(list(classes), dtype=torch.int64), persistent=False)

    classes: Tensor

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """As of :class:`~sigmascope.adapters.foreign.Foreign`, with values of the attribute, -1 where unknown."""
        name = self.attributes[0].name
        others = [n for n in known or {} if n != name]
        if others:
            raise InputError(f"this network cannot be conditioned on {others[0]!r}, only on {name!r}")
        labels = {}
        if known is not None and name in known:
            value = known[name].to(self.classes.device)
            labels[self._class] = torch.where(value == UNKNOWN, UNKNOWN, self.classes[value.clamp_min(0)])
        mean: Tensor = self.network(y, sigma, labels)
        return mean


def classes_of(a: Attribute, network: Foreign, model: str, classes: str = "") -> list[int]:
    """The class of the network for each value of an attribute, by name or as the user states.

    Args:
        a: the attribute.
        network: class-conditional.
        model: its name, for messages.
        classes: of :func:`~sigmascope.studies.classes.read_classes`; empty: by the names that the pipeline gives.

    Raises: InputError, which shows both lists, where a value has no class or more than one.
    """
    return matched(a.values, network.attributes[0].values, classes, a.name, model)


def is_conditional(spec: PipelineSpec, opened: Opened) -> bool:
    """Whether a study conditions the network on classes: it has classes, and the study uses no forks.

    Raises: InputError for estimators that need classes where the network has none.
    """
    network = opened.pipe.denoiser
    needing = (set(spec.estimators) & set(names(CONDITIONAL))) - set(names(SAMPLER))
    if not network.attributes and needing:
        raise InputError(
            f"{spec.model}: {', '.join(sorted(needing))} needs classes, and the network has none: pass forks or probes"
        )
    conditional = bool(network.attributes) and spec.inputs.data != GENERATED and "forks" not in spec.estimators
    if spec.pipeline.classes and not conditional:
        raise InputError(f"{spec.model}: this study does not condition the network on classes: leave out --classes")
    return conditional


def open_conditional(spec: PipelineSpec, opened: Opened) -> tuple[ConditionalModel, PipelineSpec]:
    """A class-conditional pipeline with labelled data whose attribute is its class.

    Without an empty class, its unconditional output is the mixture over its classes, by its own likelihood.

    Raises: InputError.
    """
    w, network = spec.inputs, opened.pipe.denoiser
    data = opened.values(load(w.data, w.attributes, size=w.size, grain=w.grain, ground=w.ground))
    if len(data.attributes) != 1:
        raise InputError(
            f"{w.data}: it has {', '.join(a.name for a in data.attributes)}: name the one that is the class of the "
            "pipeline, e.g. --attributes " + data.attributes[0].name
        )
    a = data.attributes[0]
    classes = classes_of(a, network, spec.model, spec.pipeline.classes)
    conditional = AttributeOfClasses(network, a, classes).eval()
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
    model = opened.mixed(conditional, span, seed) if opened.needs_class else with_features(conditional)
    class_names = network.attributes[0].values
    studied = Network(
        model, None, None, opened.highest_output, opened.words, opened.parameters,
        classes=tuple((v, k, class_names[k]) for v, k in zip(a.values, classes, strict=True)),
        unconditional_calls=model.calls if isinstance(model, Mixture) else 1,
    )  # fmt: skip
    return ConditionalModel(studied, source, data, (a,), held_out=False, scale=scale), spec


def _estimated(spec: PipelineSpec, opened: Opened) -> PipelineSpec:
    """The specification with the usual estimators of a network that has no classifier."""
    default = tuple(e for e in usual(CONDITIONAL) if e != "classifier")
    chosen = spec.estimators or (default if opened.needs_class else (*default, PATH_ESTIMATOR))
    if "classifier" in chosen:
        raise InputError(f"{spec.model}: a pipeline has no classifier of noisy images: leave it out of --estimators")
    require_measure(chosen)
    return replace(spec, estimators=chosen)


def _affordable(spec: PipelineSpec, opened: Opened) -> PipelineSpec:
    """The specification with enough calls for a network without an empty class."""
    each = 1 + opened.unconditional_calls
    spec = aimed(spec, _SAMPLES * each if opened.needs_class else 0)
    if opened.needs_class and 0 < spec.gaps.budget < _FEWEST * each:
        raise InputError(
            f"budget is {spec.gaps.budget} network calls, and an unconditional output takes "
            f"{opened.unconditional_calls}, for want of an empty class: pass at least --budget {_FEWEST * each}"
        )
    return spec
