"""A pipeline of diffusers as the model of a study: its classes are an attribute of the data, or it knows none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigmascope.adapters.foreign import Foreign
from sigmascope.adapters.hooks import Featured
from sigmascope.adapters.pipelines import Pipeline, load_pipeline
from sigmascope.core import UNKNOWN, Abstraction, Denoiser, InputError, LabelledData
from sigmascope.data import from_array, load
from sigmascope.information.allocation import REPLICATES
from sigmascope.learn.sources import Items, mean_and_scale
from sigmascope.studies.controls import BOUNDS
from sigmascope.studies.learned import Learned, check_same_data
from sigmascope.studies.spec import GENERATED, PIPELINE, Spec

_TOLD = ("score_gap", "mmse_gap", "filter")  # the usual of a pipeline that can be told classes
_OF_FORKS = ("forks", "probes", "posterior")
_ENCODED = 64  # pictures that are encoded at once
_ROOT2 = 2**0.5
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
        top = spec.sigma_max if self.highest is None else min(spec.sigma_max, self.highest / _ROOT2)
        low = max(spec.sigma_min, self.lowest)
        if low >= top:
            raise InputError(
                f"{spec.model}: its noise levels, in the unit of the data, go from {self.lowest:.3g} to "
                f"{self.highest or float('inf'):.3g}: no level of the study is among these"
            )
        return replace(spec, sigma_min=low, sigma_max=top)

    def values(self, data: LabelledData) -> LabelledData:
        """The data as the network's values: themselves, or the latents of all of them.

        Raises: InputError where they are not of its size.
        """
        event = self.pipe.denoiser.event
        if self.pipe.encode is None:
            if data.event != event:
                raise InputError(
                    f"{data.name}: items of shape {data.event}, the pipeline makes {event}: resize or crop them first"
                )
            return data
        parts = []
        try:
            for i in range(0, len(data), _ENCODED):
                parts.append(self.pipe.encode(data.source.read(i, min(i + _ENCODED, len(data)))).float().cpu())
        except RuntimeError as error:
            said = str(error).splitlines()[0]
            raise InputError(f"{data.name}: items of shape {data.event} cannot be encoded ({said})") from error
        latents = torch.cat(parts)
        if latents.shape[1:] != event:
            raise InputError(
                f"{data.name}: its latents are of shape {tuple(latents.shape[1:])}, the pipeline's of {event}: resize "
                "or crop the images first"
            )
        named = {a.name: [a.values[i] for i in data.labels[a.name].tolist()] for a in data.abstractions}
        return from_array(latents.numpy(), named, weights=data.weights, name=data.name)


def seeing(denoiser: Denoiser) -> Denoiser:
    """The denoiser with what the blocks of its network see, for probes, where they have diffusers' names."""
    blocks = [name for name, _ in denoiser.named_modules() if _BLOCK.search(name)]
    return Featured(denoiser, blocks, module=denoiser) if blocks else denoiser


def open_pipe(spec: Spec, device: torch.device) -> Opened:
    """Open the pipeline of a specification.

    Raises: InputError, also where its weights are not those of the specification.
    """
    null = spec.null_class if spec.null_class >= 0 else None
    pipe = load_pipeline(spec.model, allow_pickle=spec.allow_pickle, null=null, device=device)
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


def classes_of(a: Abstraction, network: Foreign, model: str) -> list[int]:
    """The network's class of each value of an attribute: by name, or by order where no name is one of the network's.

    Raises: InputError where they do not fit.
    """
    own = network.abstractions[0].values
    if set(a.values) <= set(own):
        return [own.index(v) for v in a.values]
    if len(a.values) == len(own) and not set(a.values) & set(own):
        return list(range(len(own)))
    raise InputError(
        f"{model}: its {len(own)} classes ({', '.join(own[:3])}, …) are not the {len(a.values)} values of {a.name!r} "
        f"({', '.join(a.values[:3])}, …): rename the values, or pass an attribute that names them to --abstractions"
    )


def told_classes(spec: Spec, opened: Opened) -> bool:
    """Whether the study is one of a network that is told classes: it can be, it need not always be, and no forks are
    asked for."""
    network = opened.pipe.denoiser
    if not network.abstractions or network.null is None:
        asked = set(spec.estimators) & {"score_gap", "mmse_gap", *BOUNDS}
        if asked:
            why = (
                "knows no classes" if not network.abstractions else "has no empty class (if it has, pass --null-class)"
            )
            raise InputError(
                f"{spec.model}: {', '.join(sorted(asked))} came, but the network {why}: leave it to forks and probes"
            )
        return False
    return spec.data != GENERATED and not set(spec.estimators) & {"forks"}


def open_told(spec: Spec, opened: Opened) -> tuple[Learned, Spec]:
    """A class-conditional pipeline with the data whose attribute it is told.

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
    told = ByClass(network, a, classes_of(a, network, spec.model)).eval()
    wanted = spec.estimators or _TOLD
    if {"classifier", "forks"} & set(wanted):
        raise InputError(f"{spec.model}: a pipeline has no classifier of noisy images: leave it out of --estimators")
    spec = replace(opened.levels(spec), estimators=wanted, abstractions=spec.abstractions or (a.name,))
    check_same_data(spec, data)
    draws = -(-spec.draws // REPLICATES) * REPLICATES
    spec = replace(spec, fingerprint=data.fingerprint, model_fingerprint=opened.digest, draws=draws)
    source = Items(data, holdout=0.0, null=0, seed=0)
    _, scale = mean_and_scale(source, spec.seed)
    learned = Learned(
        seeing(told), None, data, source, (a,), None, False, opened.highest, scale, opened.words, opened.parameters, 0
    )
    return learned, spec


def as_path(model: str) -> str:
    """The model's name with the full path of its folder, where there is one: a specification may be read elsewhere."""
    folder = Path(model.removeprefix(PIPELINE))
    return PIPELINE + str(folder.resolve()) if folder.exists() else model
