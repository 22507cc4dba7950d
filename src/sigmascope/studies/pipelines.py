"""A pipeline of diffusers as the model of a study: its classes are an attribute of the data, or it knows none."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.adapters.diffusers.folders import in_one_line
from sigmascope.adapters.diffusers.opening import Pipeline
from sigmascope.adapters.diffusers.pipelines import load_pipeline
from sigmascope.adapters.foreign import Foreign
from sigmascope.adapters.hooks import Featured
from sigmascope.core import UNKNOWN, Abstraction, Denoiser, InputError, LabelledData
from sigmascope.data import from_array, load
from sigmascope.data.arrays import ArraySource
from sigmascope.data.sigma_units import HALF, LATENTS, range_of, unit_of
from sigmascope.information.allocation import REPLICATES
from sigmascope.information.estimator import OF_PATH
from sigmascope.information.mixture import Mixture
from sigmascope.learn.sources import Items, mean_and_scale
from sigmascope.studies.classes import matched
from sigmascope.studies.controls import BOUNDS
from sigmascope.studies.learned import Learned, check_same_data
from sigmascope.studies.spec import GENERATED, HUB, PIPELINE, Spec

_TOLD = ("score_gap", "mmse_gap", "filter")  # the usual of a pipeline that can be told classes
_OF_FORKS = ("forks", "probes", "posterior")
_ENCODED = 64  # pictures that are encoded at once
_ROOT2 = 2**0.5
_NODES, _PAIRS = 6, 2  # of a mixture's likelihood
_SAMPLES, _FEWEST = 2048, 400  # of the gaps of a network that must be told, of two answers each
_BELOW = 4.0  # times below the last level of a study clean values are read
_OF_PIXELS = 0.25  # standard deviation of pixels between 0 and 1, about
_BLOCK = re.compile(r"(^|\.)((down|up)_blocks\.\d+|mid_block|transformer_blocks\.\d+)$")


class ByClass(Denoiser):
    """A class-conditional network that is told an attribute of labelled data.

    Args:
        network: told classes.
        abstraction: the attribute.
        classes: the network's class of each of its values.
    """

    def __init__(self, network: Foreign, abstraction: Abstraction, classes: Sequence[int]) -> None:
        super().__init__()
        self.network, self.event, self.abstractions = network, network.event, (abstraction,)
        self._own = network.abstractions[0].name
        self.register_buffer("classes", torch.tensor(list(classes), dtype=torch.int64), persistent=False)

    classes: Tensor

    def forward(
        self,
        y: Float[Tensor, "batch *event"],
        sigma: Float[Tensor, " batch"],
        known: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """As of :class:`~sigmascope.adapters.foreign.Foreign`, told the value of the attribute, -1 where unknown."""
        name = self.abstractions[0].name
        others = [n for n in known or {} if n != name]
        if others:
            raise InputError(f"this network cannot be told {others[0]!r}: only {name!r}")
        if known is None or name not in known:
            return self.network(y, sigma)
        value = known[name].to(self.classes.device)
        told = torch.where(value == UNKNOWN, UNKNOWN, self.classes[value.clamp_min(0)])
        return self.network(y, sigma, {self._own: told})


@dataclass(frozen=True, eq=False)
class Opened:
    """A pipeline with what a study of it needs.

    Args:
        pipe: the pipeline.
        lowest: the smallest noise level that it knows, in the unit of its values.
        highest: the largest; None: there is none.
        digest: of its weights and its schedule.
    """

    pipe: Pipeline
    lowest: float
    highest: float | None
    digest: str

    @property
    def must_be_told(self) -> bool:
        """Whether its network has classes, and none that stands for an unknown one."""
        return bool(self.pipe.denoiser.abstractions) and self.pipe.denoiser.null is None

    @property
    def asked_up_to(self) -> float | None:
        """The largest level at which its denoiser is asked; a mixture asks its network at levels above that, too."""
        return self.highest / _ROOT2 if self.highest is not None and self.must_be_told else self.highest

    def mixed(self, told: Denoiser, span: float, seed: int) -> Mixture:
        """A network that must be told a class, as a denoiser that may be left untold.

        Args:
            told: the network, told the values of one attribute.
            span: scale of the data, the square root of the trace of its covariance.
            seed: of the noise of its likelihood.
        """
        top = float("inf") if self.highest is None else self.highest
        name = told.abstractions[0].name
        return Mixture(told, name, span=span, nodes=_NODES, pairs=_PAIRS, highest=top, seed=seed).eval()

    @property
    def untold_calls(self) -> int:
        """Network calls of an answer without knowledge."""
        classes = self.pipe.denoiser.abstractions
        return len(classes[0].values) * (1 + 2 * _NODES * _PAIRS) if self.must_be_told else 1

    def untold(self, seed: int) -> Denoiser:
        """The network as it is told nothing: itself, or the mixture over its classes at equal shares."""
        network = self.pipe.denoiser
        if not self.must_be_told:
            return network
        spread = _OF_PIXELS if self.pipe.encode is None else 1.0
        return self.mixed(network, spread * math.prod(network.event) ** 0.5, seed)

    @property
    def words(self) -> str:
        """What it is, in a word."""
        return f"{self.pipe.kind} of diffusers"

    @property
    def parameters(self) -> int:
        """How many its network has."""
        return sum(p.numel() for p in self.pipe.denoiser.parameters())

    def levels(self, spec: Spec) -> Spec:
        """The specification within the pipeline's levels.

        Raises: InputError where none of them is studied.
        """
        highest = self.asked_up_to
        top = spec.sigma_max if highest is None else min(spec.sigma_max, highest / _ROOT2)
        low = max(spec.sigma_min, self.lowest)
        if low >= top:
            raise InputError(
                f"{spec.model}: its noise levels, in the unit of the data, go from {self.lowest:.3g} to "
                f"{self.highest or float('inf'):.3g}: no level of the study is among these"
            )
        return replace(spec, sigma_min=low, sigma_max=top)

    def reads_at(self, spec: Spec) -> float:
        """The level from which its clean values are read, below the last one of the study where it knows a lower one.

        What is open at the last level is decided below it: continuations that ended there would all be the same.  A
        quarter of it leaves a sixteenth of the noise's variance.
        """
        return max(self.lowest, min(spec.sigma_min / _BELOW, Spec.sigma_min))

    def values(self, data: LabelledData) -> LabelledData:
        """The data as the network's values: themselves, or the latents of all of them.

        Raises: InputError where they are not of its size.
        """
        event = self.pipe.denoiser.event
        data = as_pixels(data)
        if self.pipe.encode is None:
            if data.event != event:
                raise InputError(
                    f"{data.name}: items of shape {data.event}, the pipeline makes {event}: resize or crop them first"
                )
            return data
        parts = []
        with in_one_line(data.name, f"items of shape {data.event} cannot be encoded"):
            for i in range(0, len(data), _ENCODED):
                parts.append(self.pipe.encode(data.source.read(i, min(i + _ENCODED, len(data)))).float().cpu())
        latents = torch.cat(parts)
        if latents.shape[1:] != event:
            raise InputError(
                f"{data.name}: its latents are of shape {tuple(latents.shape[1:])}, the pipeline's of {event}: resize "
                "or crop the images first"
            )
        named = {a.name: [a.values[i] for i in data.labels[a.name].tolist()] for a in data.abstractions}
        found = from_array(latents.numpy(), named, weights=data.weights, name=data.name)
        return replace(found, unit=f"{LATENTS} of {self.pipe.name}", notes=data.notes)


def as_pixels(data: LabelledData) -> LabelledData:
    """Pictures with pixels from 0 to 1, as a pipeline takes them; those from -1 to 1 are converted, and say so.

    Raises: InputError for values beyond 0 and 1 that are no such pictures.
    """
    if range_of(data.unit) == 1.0 or data.span is None or (data.span[0] >= 0 and data.span[1] <= 1):
        return data
    if not data.unit.startswith(HALF):
        low, high = data.span
        raise InputError(
            f"{data.name}: values go from {low:g} to {high:g}: a pipeline takes pixels from 0 to 1, or from -1 to 1; "
            "rescale them"
        )
    pixels = torch.cat([data.source.read(i, min(i + _ENCODED, len(data))) for i in range(0, len(data), _ENCODED)])
    note = "the pixels go from -1 to 1: they are taken as pixels from 0 to 1, and the noise levels are in that unit"
    unit = unit_of((len(data), *data.event), False, (0.0, 1.0))
    source = ArraySource(((pixels + 1) / 2).numpy())
    return replace(data, source=source, unit=unit, notes=(*data.notes, note), span=(0.0, 1.0))


def seeing(denoiser: Denoiser) -> Denoiser:
    """The denoiser with what the blocks of its network see, for probes, where they have diffusers' names."""
    blocks = [name for name, _ in denoiser.named_modules() if _BLOCK.search(name)]
    return Featured(denoiser, blocks, module=denoiser) if blocks else denoiser


def open_pipe(spec: Spec, device: torch.device) -> Opened:
    """Open the pipeline of a specification.

    Raises: InputError, also where its weights are not those of the specification.
    """
    null = spec.null_class if spec.null_class >= 0 else None
    pipe = load_pipeline(spec.model, allow_pickle=spec.allow_pickle, null=null, variant=spec.variant, device=device)
    own, unit = pipe.denoiser.schedule, pipe.denoiser.unit.scale
    low, high = (float(own.sigma(t)) / unit for t in (own.least, own.most))
    given: Mapping[str, object] = pipe.scheduler.config
    if own.name == "edm":
        low, high = (float(str(given[k])) / unit for k in ("sigma_min", "sigma_max"))
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(dict(given), default=str, sort_keys=True).encode())
    for name, x in sorted(pipe.denoiser.state_dict().items()):
        digest.update(name.encode())
        digest.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    opened = Opened(pipe, low, high if np.isfinite(high) else None, digest.hexdigest())
    if spec.model_fingerprint and spec.model_fingerprint != opened.digest:
        raise InputError(f"{spec.model}: the model is not that of the specification: restore it, or start a new study")
    return opened


def classes_of(a: Abstraction, network: Foreign, model: str, classes: str = "") -> list[int]:
    """The network's class of each value of an attribute, by name, or as the user says.

    Args:
        a: the attribute.
        network: told classes.
        model: its name, for complaints.
        classes: of :func:`~sigmascope.studies.classes.read_classes`; empty: by the names that the pipeline gives.

    Raises: InputError, which shows both lists, where a value has no class or more than one.
    """
    return matched(a.values, network.abstractions[0].values, classes, a.name, model)


def told_classes(spec: Spec, opened: Opened) -> bool:
    """Whether the study is one of a network that is told classes: it can be, and no forks are asked for.

    Raises: InputError where the network cannot be asked what the specification says.
    """
    network = opened.pipe.denoiser
    asked = set(spec.estimators) & {"score_gap", "mmse_gap", *BOUNDS}
    if not network.abstractions and asked:
        raise InputError(
            f"{spec.model}: {', '.join(sorted(asked))} came, but the network knows no classes: leave it to forks and "
            "probes"
        )
    told = bool(network.abstractions) and spec.data != GENERATED and not set(spec.estimators) & {"forks"}
    if spec.classes and not told:
        raise InputError(f"{spec.model}: the network is told no class in this study: leave out --classes")
    return told


def open_told(spec: Spec, opened: Opened) -> tuple[Learned, Spec]:
    """A class-conditional pipeline with the data whose attribute it is told.

    Without an empty class, what it says untold is the mixture over its classes, by its own likelihood.

    Raises: InputError.
    """
    data = opened.values(load(spec.data, spec.abstractions, size=spec.size, grain=spec.grain, ground=spec.ground))
    network = opened.pipe.denoiser
    if len(data.abstractions) != 1:
        raise InputError(
            f"{spec.data}: it has {', '.join(a.name for a in data.abstractions)}: name the one that is the pipeline's "
            "class, e.g. --abstractions " + data.abstractions[0].name
        )
    a = data.abstractions[0]
    classes = classes_of(a, network, spec.model, spec.classes)
    told = ByClass(network, a, classes).eval()
    wanted = spec.estimators or (_TOLD if opened.must_be_told else (*_TOLD, OF_PATH))
    if {"classifier", "forks"} & set(wanted):
        raise InputError(f"{spec.model}: a pipeline has no classifier of noisy images: leave it out of --estimators")
    if not set(wanted) & {"score_gap", *BOUNDS}:
        raise InputError(f"estimators are {', '.join(wanted)}: add score_gap or a bound, filter or likelihood")
    spec = replace(opened.levels(spec), estimators=wanted, abstractions=spec.abstractions or (a.name,))
    check_same_data(spec, data)
    draws = -(-spec.draws // REPLICATES) * REPLICATES
    spec = replace(spec, fingerprint=data.fingerprint, model_fingerprint=opened.digest, draws=draws)
    source = Items(data, holdout=0.0, null=0, seed=0)
    _, scale = mean_and_scale(source, spec.seed)
    each = 1 + opened.untold_calls
    spec = spec.aimed(_SAMPLES * each if opened.must_be_told else 0)
    if opened.must_be_told and 0 < spec.budget < _FEWEST * each:
        raise InputError(
            f"budget is {spec.budget} network calls, and an answer without knowledge takes {opened.untold_calls}, for "
            f"want of an empty class: pass at least --budget {_FEWEST * each}"
        )
    model = opened.mixed(told, scale * data.size**0.5, spec.seed) if opened.must_be_told else seeing(told)
    own = network.abstractions[0].values
    learned = Learned(
        model, None, data, source, (a,), None, False, opened.asked_up_to, scale, opened.words, opened.parameters, 0,
        classes=tuple((v, k, own[k]) for v, k in zip(a.values, classes, strict=True)),
        untold_calls=model.calls if isinstance(model, Mixture) else 1,
    )  # fmt: skip
    return learned, spec


def as_path(model: str) -> str:
    """The model's name with the full path of its folder, where there is one: a specification may be read elsewhere."""
    if model.removeprefix(PIPELINE).startswith(HUB):
        return model
    folder = Path(model.removeprefix(PIPELINE))
    return PIPELINE + str(folder.resolve()) if folder.exists() else model
