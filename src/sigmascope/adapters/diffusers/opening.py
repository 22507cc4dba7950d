"""Opening of a pipeline of diffusers, and its network as a denoiser by the settings of its scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import sigmascope.adapters.diffusers.folders as folders
from sigmascope.adapters.diffusers.clocks import FlowClock
from sigmascope.adapters.diffusers.kinds import NETWORKS, PipelineNetwork, kinds, own_class
from sigmascope.adapters.diffusers.schedulers import clock_of, points_to_data, settings_of
from sigmascope.adapters.foreign import Foreign, Unit
from sigmascope.core import InputError
from sigmascope.noise import Karras, Schedule


@dataclass(frozen=True, eq=False)
class Pipeline:
    """An opened pipeline.

    Args:
        name: its folder, or its id on the hub.
        kind: name of its class in diffusers.
        denoiser: on the values of its network: pixels from 0 to 1, or latents.
        scheduler: of diffusers.
        encode: from pixels, shape (rows, channels, height, width), to latents; None for a network of pixels.
        decode: from latents to pixels; None for a network of pixels.
        notes: for readers of the results, such as words of a prompt that were cut off.
    """

    name: str
    kind: str
    denoiser: Foreign
    scheduler: Any
    encode: Callable[[Tensor], Tensor] | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    notes: tuple[str, ...] = ()


class _Edm(nn.Module):
    r"""EDM's preconditioning: :math:`D = c_{skip}\, y \pm c_{out} F(c_{in}\, y, \tfrac14 \ln\sigma)`."""

    def __init__(self, inner: nn.Module, data: float, sign: float) -> None:
        super().__init__()
        self.inner, self.data, self.sign = inner, data, sign

    @property
    def takes(self) -> torch.dtype:
        """The type of y, which is part of the output: in half precision it would be rounded by more than the noise."""
        return torch.promote_types(self._own, torch.float32)

    @property
    def _own(self) -> torch.dtype:
        first = next(self.inner.parameters(), None)
        return torch.float32 if first is None else first.dtype

    def forward(self, y: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        s = sigma.reshape(-1, *[1] * (y.ndim - 1))
        total = (s**2 + self.data**2).sqrt()
        f: Tensor = self.inner((y / total).to(self._own), 0.25 * sigma.log(), label).to(y.dtype)
        return (self.data / total) ** 2 * y + self.sign * s * self.data / total * f


class _Opposite(nn.Module):
    """A network of a flow, n − v, from one that gives the opposite."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        out: Tensor = self.inner(x, time, label)
        return -out


def opened(model: str, allow_pickle: bool, variant: str = "", **parts: None) -> Any:
    """A pipeline as diffusers opens it, without the parts that are passed as None; InputError where it cannot.

    A folder never leads to the network; ``hub:owner/name`` is fetched, and only its safetensors are read.
    """
    try:
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise InputError("a pipeline needs diffusers: pip install 'sigmascope[models]'") from error
    repository = folders.hub_id(model)
    folder = None if repository else folders.folder_of(model)
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False, "low_cpu_mem_usage": False, **parts}
    if variant:
        options["variant"] = variant
    if folder is not None:
        folders.check_folder(folder, allow_pickle, variant, parts)
        options |= {"use_safetensors": None if allow_pickle else True, "local_files_only": True}
    with folders.quiet(), folders.in_one_line(str(folder or model), "diffusers cannot open it"):
        opener: Any = DiffusionPipeline
        if folder is None:
            return opener.from_pretrained(repository, **options)
        with folders.within_its_files(folder):
            opener = own_class(folders.checked_index(folder)["_class_name"]) or opener
            pipe = opener.from_pretrained(str(folder), **options)
        denoising = {*NETWORKS, *(kind.part for kind in kinds())}
        for part, module in pipe.components.items():
            cls = type(module)
            known = cls.__module__.startswith("diffusers.") or own_class(cls.__name__, cls.__module__)
            if isinstance(module, nn.Module) and known:
                folders.check_weights(folders.home_of(folder, part), module, variant, whole=part in denoising)
        return pipe


def parametrised(
    scheduler: Any, network: nn.Module, name: str
) -> tuple[Schedule, str, Callable[[Tensor], Tensor] | None, nn.Module]:
    """Schedule, prediction, time of the network, and the network itself, with EDM's preconditioning where needed."""
    clock, settings = clock_of(scheduler, name), settings_of(scheduler)
    if isinstance(clock, FlowClock):
        toward_data = points_to_data(scheduler, clock) if clock.inverted else False
        if toward_data is None:
            problem = "its network's time runs from the noise to the data, and no step of its scheduler tells in which "
            raise InputError(f"{name}: {problem}direction its output points: wrap it in adapters.Foreign")
        network = _Opposite(network) if toward_data else network
        return clock.schedule, "flow_prediction", clock.network_time(), network
    prediction = str(settings.get("prediction_type", "epsilon"))
    edm = isinstance(clock.schedule, Karras)
    if hasattr(scheduler, "get_scalings_for_boundary_condition") and "sigma_data" in settings:
        raise InputError(
            f"{name}: its network is a consistency model, which gives the end of a path and not E[V | Y]: pass the "
            "model that it was distilled from"
        )
    if edm and "sigma_data" not in settings:
        kind = type(scheduler).__name__
        raise InputError(f"{name}: the target of its network under {kind} is not known: wrap it in adapters.Foreign")
    if prediction not in ("epsilon", "v_prediction", "sample") or (edm and prediction == "sample"):
        raise InputError(
            f"{name}: its scheduler's prediction_type is {prediction!r:.60}: expected epsilon, v_prediction or sample"
        )
    if edm:
        sign = 1.0 if prediction == "epsilon" else -1.0
        return clock.schedule, "denoiser", None, _Edm(network, float(settings["sigma_data"]), sign)
    return clock.schedule, prediction, clock.network_time(), network


def denoiser_of(
    read: PipelineNetwork, scheduler: Any, name: str, device: torch.device | str, unit: Unit | None = None
) -> Foreign:
    """A pipeline's network as a denoiser with fixed weights, by the scheduler as the pipeline sets it."""
    read.network.to(device).eval().requires_grad_(False)
    schedule, prediction, clock, network = parametrised(scheduler, read.network, name)
    return Foreign(
        network, read.event, schedule, prediction, clock=clock, attribute=read.attribute, null=read.null, unit=unit
    )
