"""Pipelines of diffusers, from a folder: network, schedule and parametrisation as one denoiser."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sigmascope.adapters.foreign import Foreign, Unit
from sigmascope.adapters.schedulers import FlowClock, clock_of, settings_of
from sigmascope.core import Abstraction, InputError
from sigmascope.noise import Karras, Schedule

CLASS = "class"
"""Name of the abstraction of a class-conditional pipeline."""
PREFIX = "diffusers:"
"""What may stand before a folder."""
INDEX = "model_index.json"
"""The file that says what a pipeline is made of."""


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A pipeline, opened.

    Args:
        name: where it came from.
        kind: its class, in diffusers' words.
        denoiser: on the values that its network works on: pixels from 0 to 1, or latents.
        scheduler: diffusers' own.
        encode: from pixels, shape (rows, channels, height, width), to those values; None where they are the same.
        decode: the way back; None likewise.
        notes: what whoever reads the numbers must know, such as words of a prompt that were cut off.
    """

    name: str
    kind: str
    denoiser: Foreign
    scheduler: Any
    encode: Callable[[Tensor], Tensor] | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    notes: tuple[str, ...] = ()


class _UNet(nn.Module):
    """A UNet2DModel, called as :data:`~sigmascope.adapters.foreign.Network`."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        return self.unet(x, time, class_labels=label).sample


class _DiT(nn.Module):
    """A DiT, which says its variance beside its noise; the variance is left out."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        return self.transformer(x, timestep=time, class_labels=label).sample[:, : x.shape[1]]


class _Edm(nn.Module):
    r"""EDM's preconditioning: :math:`D = c_{skip}\, y \pm c_{out} F(c_{in}\, y, \tfrac14 \ln\sigma)`."""

    def __init__(self, inner: nn.Module, data: float, sign: float) -> None:
        super().__init__()
        self.inner, self.data, self.sign = inner, data, sign

    def forward(self, y: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        s = sigma.reshape(-1, *[1] * (y.ndim - 1))
        total = (s**2 + self.data**2).sqrt()
        f = self.inner(y / total, 0.25 * sigma.log(), label)
        return (self.data / total) ** 2 * y + self.sign * s * self.data / total * f


def load_pipeline(
    path: str | Path,
    *,
    allow_pickle: bool = False,
    null: int | None = None,
    prompts: Sequence[str] | None = None,
    size: int = 0,
    device: torch.device | str = "cpu",
) -> Pipeline:
    """Open a pipeline that ``save_pretrained`` has written.

    Args:
        path: its folder, perhaps with ``diffusers:`` before it; or the id of a hub, which diffusers then fetches.
        allow_pickle: read weights that only come as pickles, which can run any code.
        null: index of the empty class, if there is one; a DiT's is known.
        prompts: of a text-to-image pipeline, what its abstraction ``prompt`` can be; see
            :func:`~sigmascope.adapters.prompts.load_prompted`.
        size: of a text-to-image pipeline, side of its images in pixels; 0: its own.
        device: where the network goes.

    Raises: InputError, in one line, for a folder that is none, weights that are not safetensors, a network or a
        scheduler that is not known.
    """
    if prompts is not None or size:
        from sigmascope.adapters.prompts import load_prompted  # which is made of what is here

        return load_prompted(path, prompts or (), size=size, allow_pickle=allow_pickle, device=device)
    name = str(path).removeprefix(PREFIX)
    if not Path(name).exists() and (name.count("/") != 1 or name.startswith((".", "/"))):
        raise InputError(f"{name}: there is no such folder: pass one that save_pretrained has written")
    pipe = opened(name, allow_pickle)
    kind, scheduler = type(pipe).__name__, getattr(pipe, "scheduler", None)
    if scheduler is None:
        raise InputError(f"{name}: the pipeline ({kind}) has no scheduler: its noise levels are not known")
    network, event, abstraction, empty, unit = _network(pipe, name, null)
    network.to(device).eval().requires_grad_(False)
    schedule, prediction, clock, network = parametrised(scheduler, network, name)
    denoiser = Foreign(
        network, event, schedule, prediction, clock=clock, abstraction=abstraction, null=empty, unit=unit
    )
    encode, decode = coding(getattr(pipe, "vae", None), device)
    return Pipeline(name, kind, denoiser, scheduler, encode, decode)


def opened(name: str, allow_pickle: bool, **parts: None) -> Any:
    """A pipeline of diffusers, opened by it, without the parts that are named as None.

    Raises: InputError, in one line, for one that cannot be opened.
    """
    try:
        from diffusers import DiffusionPipeline
        from diffusers.utils import logging
    except ImportError as error:
        raise InputError("a pipeline needs diffusers: pip install 'sigmascope[models]'") from error
    folder = Path(name)
    if folder.exists():
        _check_folder(folder, allow_pickle, parts)
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return DiffusionPipeline.from_pretrained(
            name,
            use_safetensors=None if allow_pickle else True,
            local_files_only=folder.exists(),
            low_cpu_mem_usage=False,
            **parts,
        )
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes the libraries that read it raise anything
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name}: diffusers cannot open it ({said})") from error
    finally:
        if shown:
            logging.enable_progress_bar()


def checked_index(folder: Path) -> dict[str, Any]:
    """What the index of a pipeline's folder says.

    Raises: InputError where there is none.
    """
    index = folder / INDEX
    if not index.is_file():
        raise InputError(f"{folder}: it holds no {INDEX}: pass the folder of a pipeline by save_pretrained")
    try:
        return dict(json.loads(index.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{index}: cannot be read ({error}): expected JSON") from error


def _check_folder(folder: Path, allow_pickle: bool, without: Container[str] = ()) -> None:
    parts = [k for k, v in checked_index(folder).items() if isinstance(v, list) and k not in without]
    for part in parts:
        files = [p.suffix for p in (folder / part).glob("*")] if (folder / part).is_dir() else []
        pickled = {".bin", ".ckpt", ".pt", ".pth"} & set(files)
        if pickled and ".safetensors" not in files and not allow_pickle:
            raise InputError(
                f"{folder / part}: its weights are pickles ({', '.join(sorted(pickled))}), which can run any code: "
                "convert them to safetensors, or pass --allow-pickle if you trust where they come from"
            )


def _network(
    pipe: Any, name: str, null: int | None
) -> tuple[nn.Module, tuple[int, ...], Abstraction | None, int | None, Unit]:
    """The network, the shape of its values, what it can be told, the index of nothing told, and its unit."""
    transformer: Any = getattr(pipe, "transformer", None)
    unet: Any = getattr(pipe, "unet", None)
    latent = getattr(pipe, "vae", None) is not None
    if type(transformer).__name__ in ("DiTTransformer2DModel", "Transformer2DModel"):
        c = transformer.config
        classes = int(c.num_embeds_ada_norm)
        named = {int(k): str(v) for k, v in (getattr(pipe.config, "id2label", None) or {}).items()}
        values = tuple(f"{named[i]}" if i in named else str(i) for i in range(classes))
        event = (int(c.in_channels), int(c.sample_size), int(c.sample_size))
        return _DiT(transformer), event, _classes(_distinct(values)), classes, Unit()
    if type(unet).__name__ == "UNet2DModel":
        c = unet.config
        side = c.sample_size
        if side is None:
            raise InputError(f"{name}: the network does not say the size of its images (sample_size)")
        height, width = (side, side) if isinstance(side, int) else tuple(side)
        count = c.num_class_embeds or 0
        known = [i for i in range(count) if i != null]
        if null is not None and not 0 <= null < count:
            raise InputError(f"{name}: the empty class is {null}, the network has {count}: pass an index below that")
        if count and null is not None and null != count - 1:
            raise InputError(f"{name}: the empty class is {null}: only the last, {count - 1}, can be one")
        a = _classes(tuple(map(str, known))) if count else None
        return _UNet(unet), (int(c.in_channels), height, width), a, null, Unit() if latent else Unit(2.0, -1.0)
    of = next((type(x).__name__ for x in (transformer, unet) if x is not None), "no network")
    if getattr(pipe, "tokenizer", None) is not None:
        raise InputError(f"{name}: {type(pipe).__name__} is told prompts: pass prompts=('a red cube', 'a blue cube')")
    raise InputError(f"{name}: {type(pipe).__name__} with {of} is not known here: wrap its network in adapters.Foreign")


def _classes(values: tuple[str, ...]) -> Abstraction:
    return Abstraction(CLASS, values, torch.full((len(values),), 1.0 / len(values), dtype=torch.float64))


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes, told apart by their index where two are the same."""
    return values if len(set(values)) == len(values) else tuple(f"{v} ({i})" for i, v in enumerate(values))


def parametrised(
    scheduler: Any, network: nn.Module, name: str, mu: float | None = None
) -> tuple[Schedule, str, Callable[[Tensor], Tensor] | None, nn.Module]:
    """Schedule, prediction, what the network is given of the time, and the network, preconditioned where it must be.

    Args:
        scheduler: of diffusers.
        network: of the pipeline.
        name: what to call it in complaints.
        mu: of a flow that shifts with the size of the image, the logarithm of its shift.

    Raises: InputError for a scheduler whose levels are not known, or a network that does not denoise.
    """
    clock, settings = clock_of(scheduler, name, mu), settings_of(scheduler)
    if isinstance(clock, FlowClock):
        if clock.inverted:
            raise InputError(
                f"{name}: its network's time runs from the noise to the data, which is not known here: wrap it in "
                "adapters.Foreign"
            )
        return clock.schedule, "flow_prediction", clock.given(), network
    said = str(settings.get("prediction_type", "epsilon"))
    edm = isinstance(clock.schedule, Karras)
    if hasattr(scheduler, "get_scalings_for_boundary_condition") and "sigma_data" in settings:
        raise InputError(
            f"{name}: its network is a consistency model, which gives the end of a path and not E[V | Y]: pass the "
            "model that it was distilled from"
        )
    if edm and "sigma_data" not in settings:
        raise InputError(
            f"{name}: what its network predicts under {type(scheduler).__name__} is not known: wrap it in "
            "adapters.Foreign"
        )
    if said not in ("epsilon", "v_prediction", "sample") or (edm and said == "sample"):
        raise InputError(
            f"{name}: its scheduler's prediction_type is {said!r:.60}: expected epsilon, v_prediction or sample"
        )
    if edm:
        sign = 1.0 if said == "epsilon" else -1.0
        return clock.schedule, "denoiser", None, _Edm(network, float(settings["sigma_data"]), sign)
    return clock.schedule, said, clock.given(), network


def coding(
    vae: Any, device: torch.device | str
) -> tuple[Callable[[Tensor], Tensor] | None, Callable[[Tensor], Tensor] | None]:
    """From pixels between 0 and 1 to scaled latents, and back."""
    if vae is None:
        return None, None
    vae.to(device).eval().requires_grad_(False)
    dtype = next(vae.parameters()).dtype
    mean, spread = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    factor: Any = float(vae.config.scaling_factor)
    shift: Any = float(getattr(vae.config, "shift_factor", None) or 0.0)
    if mean is not None and spread is not None:  # of each channel
        factor = factor / torch.tensor(spread, dtype=dtype, device=device).reshape(-1, 1, 1)
        shift = torch.tensor(mean, dtype=dtype, device=device).reshape(-1, 1, 1)

    def encode(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return (vae.encode(2 * pixels.to(device, dtype) - 1).latent_dist.mean - shift) * factor

    def decode(latents: Tensor) -> Tensor:
        with torch.no_grad():
            return ((vae.decode(latents.to(device, dtype) / factor + shift).sample + 1) / 2).clamp(0, 1)

    return encode, decode
