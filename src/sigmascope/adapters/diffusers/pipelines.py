"""Pipelines of diffusers as denoisers."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sigmascope.adapters.diffusers.condition_unet  # noqa: F401  (it registers its kinds)
import sigmascope.adapters.diffusers.folders as folders
from sigmascope.adapters.diffusers.class_networks import CLASS as CLASS
from sigmascope.adapters.diffusers.coding import PARTS, coding, is_autoencoder
from sigmascope.adapters.diffusers.kinds import NETWORKS, PipelineNetwork, PipelineRequest, kind_of
from sigmascope.adapters.diffusers.opening import Pipeline, denoiser_of, opened
from sigmascope.adapters.diffusers.text import load_prompted, read_prompted
from sigmascope.adapters.foreign import Unit, require_finite_output
from sigmascope.core import InputError

_OF_PICTURES = (1, 3)  # channels


def load_pipeline(
    path: str | Path,
    *,
    allow_pickle: bool = False,
    null: int | None = None,
    prompts: Sequence[str] | None = None,
    size: int = 0,
    variant: str = "",
    device: torch.device | str = "cpu",
) -> Pipeline:
    """Open a pipeline that ``save_pretrained`` has written.

    Args:
        path: its folder, perhaps with ``diffusers:`` before it; or ``hub:owner/name``, which diffusers then fetches.
        allow_pickle: read weights of a folder that only come as pickles, which can run any code.
        null: index of the empty class, if there is one; a DiT's is known.
        prompts: of a text-to-image pipeline, the values of its attribute ``prompt``; see
            :func:`~sigmascope.adapters.diffusers.text.load_prompted`.
        size: of a text-to-image pipeline, side of its images in pixels; 0: its own.
        variant: of the weights, e.g. ``fp16``; empty: the default ones.
        device: of the network.

    Returns: the pipeline with its network as a denoiser; :func:`~sigmascope.adapters.models.load_model` makes a
        :class:`~sigmascope.adapters.models.LoadedModel` of it.

    Raises: InputError, in one line, for a folder without a pipeline or with code of its own, weights that are not
        safetensors, an unknown network, autoencoder or scheduler, and for whatever diffusers raises.
    """
    if prompts is not None or size:
        return load_prompted(path, prompts or (), size=size, allow_pickle=allow_pickle, variant=variant, device=device)
    model, index = str(path), dict[str, Any]()
    name = model if folders.hub_id(model) else str(folders.folder_of(model))
    if not folders.hub_id(model):
        index = folders.checked_index(Path(name))
        if folders.part_of(index, "tokenizer") is not None:
            raise _needs_prompts(name, str(index.get("_class_name")))
    pipe = opened(model, allow_pickle, variant)
    if not index:  # of a hub; diffusers does not keep all of it, such as names of classes
        with contextlib.suppress(InputError):
            index = folders.checked_index(folders.described(model))
    return read_pipeline(pipe, name, null=null, index=index, device=device)


def read_pipeline(
    pipe: Any,
    name: str = "",
    *,
    null: int | None = None,
    prompts: Sequence[str] | None = None,
    size: int = 0,
    index: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> Pipeline:
    """Read a pipeline of diffusers that is loaded; its networks are set to evaluation, with fixed weights.

    Args:
        pipe: an object of diffusers.
        name: in messages; empty: that of its class.
        null: as of :func:`load_pipeline`.
        prompts: likewise.
        size: likewise.
        index: contents of its ``model_index.json``, where there are more than its configuration.
        device: of the network; None: where it is.

    Raises: InputError, in one line, as :func:`load_pipeline`.
    """
    name = name or f"<{type(pipe).__name__}>"
    device = pipe.device if device is None else device
    if prompts is not None or size:
        return read_prompted(pipe, name, prompts or (), size=size, device=device)
    with folders.quiet(), folders.in_one_line(name, "its parts do not fit each other"):
        scheduler = getattr(pipe, "scheduler", None)
        if scheduler is None:
            raise InputError(f"{name}: {type(pipe).__name__} has no scheduler: its noise levels are not known")
        config = {**pipe.config, "_class_name": type(pipe).__name__}
        latent = _takes_latents(config, lambda part: getattr(getattr(pipe, part, None), "config", None))
        coder = next((part for part in PARTS if getattr(pipe, part, None) is not None), None) if latent else None
        read = _network_of(pipe, PipelineRequest(name, null, index=index or {}))
        if latent and coder is None:
            raise InputError(
                f"{name}: its network takes latents of {read.event[0]} channels, and the pipeline has no autoencoder "
                "that makes them of images: pass the folder of the whole pipeline"
            )
        denoiser = denoiser_of(read, scheduler, name, device, Unit() if latent else Unit(2.0, -1.0))
        encode, decode = coding(getattr(pipe, coder), device, coder, name) if coder else (None, None)
        require_finite_output(denoiser, name)
        if encode is not None and decode is not None:
            _check_latents(encode(decode(torch.zeros(1, *read.event, device=device))), read.event, name)
    return Pipeline(name, type(pipe).__name__, denoiser, scheduler, encode, decode)


def _network_of(pipe: Any, request: PipelineRequest) -> PipelineNetwork:
    """The network of a pipeline, by its kind."""
    cls = type(pipe).__name__
    kind = kind_of(cls, folders.parts_of(pipe.config))
    if kind is not None and kind.read is not None and not kind.text:
        return kind.read(pipe, request)
    if getattr(pipe, "tokenizer", None) is not None:
        raise _needs_prompts(request.name, cls)
    networks = (getattr(pipe, part, None) for part in ("transformer", "unet"))
    network = next((type(x).__name__ for x in networks if x is not None), "no network")
    raise InputError(f"{request.name}: {cls} with {network} is not known here: wrap its network in adapters.Foreign")


def _check_latents(latents: Tensor, event: tuple[int, ...], name: str) -> None:
    """Refuse an autoencoder that makes latents of another shape than the network takes."""
    if latents.shape[1:] != event:
        raise InputError(
            f"{name}: its network takes latents of shape {event}, its autoencoder makes {tuple(latents.shape[1:])}: "
            "pass a pipeline whose parts belong to each other"
        )


def in_latents(folder: Path, index: Mapping[str, Any]) -> bool:
    """Whether the network of a pipeline's folder works on latents, and not on pixels; no weights are read.

    The channels of the network decide.  For a folder with no more than the index and the scheduler, the parts that the
    index names decide, and those that its class of pipelines has.
    """

    def config(part: str) -> Mapping[str, Any] | None:
        path = folders.home_of(folder, part) / "config.json"
        return folders.read_config(path) if path.is_file() else None

    return _takes_latents(index, config)


def _takes_latents(index: Mapping[str, Any], config_of: Callable[[str], Mapping[str, Any] | None]) -> bool:
    """The same, with a function that gives the configuration of each part."""
    parts, cls = folders.parts_of(index), index.get("_class_name")
    kind = kind_of(cls, parts)
    if kind is not None and kind.latent is not None:
        return kind.latent
    coder = next((part for part, kind_name in parts.items() if is_autoencoder(part, kind_name)), None)
    network = next((part for part in NETWORKS if part in parts), None)
    config = config_of(network) if network else None
    channels = None if config is None else _channels(config)
    if coder is not None:
        # An autoencoder can come with a network of pictures, whose channels are not those of its latents.
        own = config_of(coder) or {}
        return not (
            channels in _OF_PICTURES and own.get("in_channels") == channels and own.get("latent_channels") != channels
        )
    if network == "prior":
        return True
    if channels is not None:
        return channels not in _OF_PICTURES
    made = folders.class_of(cls) if isinstance(cls, str) else None
    return made is not None and bool(set(PARTS) & set(inspect.signature(made).parameters))


def _channels(config: Mapping[str, Any]) -> int | None:
    """Channels of a network's values, without a mask that it also takes and a variance that it also gives."""
    taken, given = config.get("in_channels"), config.get("out_channels")
    if not isinstance(taken, int):
        return None
    return min(taken, given) if isinstance(given, int) else taken


def _needs_prompts(name: str, kind: str) -> InputError:
    remedy = "pass prompts=('a red cube', 'a blue cube'), or use sigmascope prompts"
    return InputError(f"{name}: {kind} takes prompts: {remedy}")
