"""A conditional network of another program as the subject of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.core import UNKNOWN, Attribute, Denoiser, InputError, LabelledData
from sigmascope.data import load
from sigmascope.data.reals import require_classes
from sigmascope.information.estimator import CONDITIONAL, PATH_ESTIMATOR, SAMPLER, names, usual
from sigmascope.information.mixture import Mixture
from sigmascope.learn.sources import Items, mean_and_scale
from sigmascope.sample.schemes import home_of
from sigmascope.studies.classes import matched
from sigmascope.studies.options import DataOptions
from sigmascope.studies.spec import GENERATED, ForeignSpec, aimed
from sigmascope.studies.subjects.classifier import classifier_trainer
from sigmascope.studies.subjects.model import ConditionalModel, Network, check_same_data, in_groups, require_measure
from sigmascope.studies.subjects.opened import Opened, with_features

_SAMPLES, _FEWEST = 2048, 400  # of the gaps of a network without an empty class, two outputs each


class Matched(Denoiser):
    """A network, conditioned on attributes of labelled data by their own names and values.

    Args:
        network: can be conditioned on attributes of its own.
        pairs: each attribute of the data, with the name of the network's and the network's index of each value.
    """

    def __init__(self, network: Denoiser, pairs: Sequence[tuple[Attribute, str, Sequence[int]]]) -> None:
        super().__init__()
        self.network, self.event = network, network.event
        self.attributes = tuple(a for a, _, _ in pairs)
        self._own = {a.name: own for a, own, _ in pairs}
        for k, (_, _, classes) in enumerate(pairs):
            self.register_buffer(f"classes{k}", torch.tensor(list(classes), dtype=torch.int64), persistent=False)

    @property
    def mixes_conditions(self) -> bool:
        """Whether rows of one call may differ in what is known: as of the network."""
        return bool(getattr(self.network, "mixes_conditions", False))

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """As of the network, with values of the data's attributes, -1 where unknown."""
        mean: Tensor = self.network(y, sigma, self._labels(known))
        return mean

    def _labels(self, known: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """The network's own labels."""
        names = [a.name for a in self.attributes]
        labels = {}
        for name, value in (known or {}).items():
            if name not in names:
                raise InputError(f"this network cannot be conditioned on {name!r}, only on {', '.join(names)}")
            classes = self.get_buffer(f"classes{names.index(name)}")
            value = value.to(classes.device)
            labels[self._own[name]] = torch.where(value == UNKNOWN, UNKNOWN, classes[value.clamp_min(0)])
        return labels


def classes_of(a: Attribute, own: Attribute, model: str, classes: str = "") -> list[int]:
    """The class of the network for each value of an attribute, by name or as the user states.

    Args:
        a: the attribute of the data.
        own: that of the network.
        model: its name, for messages.
        classes: of :func:`~sigmascope.studies.classes.read_classes`; empty: by the names that the network gives.

    Raises: InputError, which shows both lists, where a value has no class or more than one.
    """
    return matched(a.values, own.values, classes, a.name, model)


def is_conditional(spec: ForeignSpec, opened: Opened) -> bool:
    """Whether a study conditions the network on attributes: it has some, and the study uses no forks.

    Raises: InputError for estimators that need attributes where the network has none.
    """
    network = opened.denoiser
    needing = (set(spec.estimators) & set(names(CONDITIONAL))) - set(names(SAMPLER))
    if not network.attributes and needing:
        raise InputError(
            f"{spec.model}: {', '.join(sorted(needing))} needs classes, and the network has none: pass forks or probes"
        )
    conditional = bool(network.attributes) and spec.inputs.data != GENERATED and "forks" not in spec.estimators
    if spec.pipeline.classes and not conditional:
        raise InputError(f"{spec.model}: this study does not condition the network on classes: leave out --classes")
    return conditional


def open_conditional(
    spec: ForeignSpec, opened: Opened, given: LabelledData | None = None
) -> tuple[ConditionalModel, ForeignSpec]:
    """A conditional network with labelled data whose attributes it knows.

    Without an empty class, its unconditional output is the mixture over its classes, by its own likelihood.

    Args:
        spec: the study.
        opened: the model.
        given: data from Python; None: those that the specification names.

    Raises: InputError.
    """
    w, network = spec.inputs, opened.denoiser
    data = load(w.data, w.attributes, size=w.size, grain=w.grain, ground=w.ground) if given is None else given
    require_classes(data, "a study of a model cannot measure")
    data = opened.values(data)
    conditional, pairs = matched_to(data, network, w, spec.model, spec.pipeline.classes)
    attributes = conditional.attributes
    spec = opened.levels(_estimated(spec, opened))
    check_same_data(spec, data)
    spec = replace(
        spec, inputs=replace(w, attributes=w.attributes or tuple(a.name for a in attributes)),
        fingerprint=data.fingerprint, model_fingerprint=opened.model.digest, sampling=in_groups(spec.sampling),
    )  # fmt: skip
    trainer = classifier_trainer(data, spec, home_of(network)[0])
    source = Items(data, holdout=0.0, null=0, seed=0) if trainer is None else trainer.source
    assert isinstance(source, Items)
    _, scale = mean_and_scale(source, spec.sampling.seed)
    spec = _affordable(spec, opened)
    span, seed = scale * data.size**0.5, spec.sampling.seed
    model = opened.mixed(conditional, span, seed) if opened.model.needs_class else with_features(conditional, spec)
    (first, own, classes), *others = pairs
    classifier = None if trainer is None else trainer.averaged
    studied = Network(
        model, classifier, None, opened.highest_output, opened.model.words, opened.model.parameters,
        classes=() if others else tuple((v, k, own.values[k]) for v, k in zip(first.values, classes, strict=True)),
        unconditional_calls=model.calls if isinstance(model, Mixture) else 1,
    )  # fmt: skip
    held_out = trainer is not None
    return ConditionalModel(studied, source, data, attributes, held_out=held_out, scale=scale, trainer=trainer), spec


def matched_to(
    data: LabelledData, network: Denoiser, inputs: DataOptions, model: str, classes: str = ""
) -> tuple[Matched, list[tuple[Attribute, Attribute, list[int]]]]:
    """The network, conditioned on the attributes of data that it knows.

    Args:
        data: labelled.
        network: has attributes.
        inputs: which data, for messages.
        model: its name, for messages.
        classes: as of :func:`classes_of`.

    Returns: the network; and for each attribute of the data that of the network, and its index of each value.

    Raises: InputError where they have no attribute in common, or other values.
    """
    pairs = [(a, own, classes_of(a, own, model, classes)) for a, own in _paired(data, network, inputs, model)]
    return Matched(network, [(a, own.name, index) for a, own, index in pairs]).eval(), pairs


def _paired(data: LabelledData, network: Denoiser, w: DataOptions, model: str) -> list[tuple[Attribute, Attribute]]:
    """The attributes of the data that the network knows, each with that of the network: by name, or the only ones."""
    own = {a.name: a for a in network.attributes}
    pairs = [(a, own[a.name]) for a in data.attributes if a.name in own]
    if not pairs and len(data.attributes) == len(own) == 1:
        pairs = [(data.attributes[0], network.attributes[0])]
    unknown = [a.name for a in data.attributes if a.name not in own]
    if not pairs and len(own) == 1:
        raise InputError(
            f"{w.data}: it has {', '.join(unknown)}: name the one that is the class of the "
            f"model, e.g. --attributes {unknown[0]}"
        )
    if not pairs or (w.attributes and unknown and len(pairs) < len(data.attributes)):
        raise InputError(
            f"{model}: it can be conditioned on {', '.join(own)}, and the attributes of {w.data} are "
            f"{', '.join(a.name for a in data.attributes)}: name those that both have, with --attributes"
        )
    return pairs


def _estimated(spec: ForeignSpec, opened: Opened) -> ForeignSpec:
    """The specification with the usual estimators of a network that has no classifier."""
    trained = spec.classifying.classifier_steps > 0
    default = tuple(e for e in usual(CONDITIONAL) if e != "classifier" or trained)
    chosen = spec.estimators or (default if opened.model.needs_class else (*default, PATH_ESTIMATOR))
    if "classifier" in chosen and not trained:
        raise InputError(
            f"{spec.model}: it has no classifier of noisy images: add --classifier-steps 2000, or leave it out of "
            "--estimators"
        )
    require_measure(chosen)
    return replace(spec, estimators=chosen)


def _affordable(spec: ForeignSpec, opened: Opened) -> ForeignSpec:
    """The specification with enough calls for a network without an empty class."""
    each = 1 + opened.unconditional_calls
    spec = aimed(spec, _SAMPLES * each if opened.model.needs_class else 0)
    if opened.model.needs_class and 0 < spec.gaps.budget < _FEWEST * each:
        raise InputError(
            f"budget is {spec.gaps.budget} network calls, and an unconditional output takes "
            f"{opened.unconditional_calls}, for want of an empty class: pass at least --budget {_FEWEST * each}"
        )
    return spec
