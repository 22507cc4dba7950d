"""Models of any kind, loaded: an object, what a function returns, a folder of a training, a pipeline."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sigmascope.adapters.diffusers.opening import Pipeline
from sigmascope.adapters.diffusers.pipelines import load_pipeline, read_pipeline
from sigmascope.adapters.foreign import Foreign, modules_of
from sigmascope.adapters.functions import function_named, in_short
from sigmascope.adapters.naming import BUNDLED, names_function, names_object, names_pipeline
from sigmascope.core import Denoiser, InputError
from sigmascope.learn.neural import NeuralDenoiser, model_folder, weights_digest

_KINDS = (
    "a denoiser such as Foreign(network, event, schedule, prediction), a pipeline of diffusers, a folder, 'bundled' or "
    "'hub:owner/name'"
)
_TIMES = 101  # of a schedule, in a digest


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model that is ready to be measured, with what is known of it; :func:`load_model` makes it.

    Args:
        name: as it is named on the command line; the class in angle brackets for an object.
        words: its kind, in words.
        denoiser: the model itself, on its own values: those of the data, pixels from 0 to 1, or latents.
        digest: hexadecimal digest of its weights and settings.
        lowest: its smallest noise level, in the unit of its values.
        highest: its largest noise level; None: unlimited.
        pipe: the pipeline of diffusers; None for other models.
        folder: the folder of ``sigmascope train``; None for other models.
    """

    name: str
    words: str
    denoiser: Denoiser
    digest: str
    lowest: float = 0.0
    highest: float | None = None
    pipe: Pipeline | None = None
    folder: Path | None = None

    @property
    def encode(self) -> Callable[[Tensor], Tensor] | None:
        """From pixels to latents; None for a network of pixels, or of the data as they are."""
        return None if self.pipe is None else self.pipe.encode

    @property
    def decode(self) -> Callable[[Tensor], Tensor] | None:
        """From latents to pixels; None for a network of pixels, or of the data as they are."""
        return None if self.pipe is None else self.pipe.decode

    @property
    def null(self) -> int | None:
        """Index of the class that stands for an unknown one; None where there is none, or no need of one."""
        return self.denoiser.null if isinstance(self.denoiser, Foreign) else None

    @property
    def needs_class(self) -> bool:
        """Whether its network has classes, and no output without one."""
        return isinstance(self.denoiser, Foreign) and bool(self.denoiser.attributes) and self.denoiser.null is None

    @property
    def parameters(self) -> int:
        """Number of parameters of its network."""
        return sum(p.numel() for p in self.denoiser.parameters())


def load_model(
    model: Any,
    *,
    device: torch.device | str | None = None,
    null: int | None = None,
    prompts: Sequence[str] | None = None,
    size: int = 0,
    allow_pickle: bool = False,
    variant: str = "",
) -> LoadedModel:
    """Load a model of any kind, in evaluation mode and with fixed weights.

    A denoiser that is passed is not copied: it is itself put into this mode.

    Args:
        model: a denoiser, such as a :class:`~sigmascope.adapters.foreign.Foreign`; a pipeline of diffusers; or a name:
            ``"bundled"``, the folder of a training or of a pipeline, ``"hub:owner/name"``, or ``"module:function"``, a
            function of no arguments that returns any of these.
        device: to move it to; None: it stays where it is, or on the CPU where it is read from files.
        null: for a class-conditional pipeline, the index of the class that means none; None: the pipeline's own.
        prompts: for a text-to-image pipeline, the values of its attribute ``prompt``.
        size: for a text-to-image pipeline, side of its images in pixels; 0: its own.
        allow_pickle: whether to read weights of a pipeline's folder that only come as pickles, which can run any code.
        variant: variant of the weights of a pipeline, e.g. ``fp16``; empty: the default one.

    Returns: the model, once one or two calls have shown that its output is finite and has the shape of its input.

    Raises: InputError, in one line, for what is no model, cannot be read, or whose output is not finite.
    """
    options: dict[str, Any] = {"null": null, "prompts": prompts, "size": size}
    if not isinstance(model, (str, Path)):
        return _of_object(model, f"<{type(model).__name__}>", device, options)
    name = str(model)
    if names_object(name):
        raise InputError(f"{name}: this model came from Python, not from a file: repeat the study there")
    if names_function(name):
        made = _returned(name)
        if isinstance(made, (str, Path)):
            if names_function(str(made)):
                raise InputError(f"model {name!r} returned {str(made)!r:.60}, another function: return a model")
            return replace(load_model(made, device=device, **options, allow_pickle=allow_pickle, variant=variant),
                           name=name)  # fmt: skip
        return replace(_of_object(made, name, device, options), name=name)
    if names_pipeline(name):
        pipe = load_pipeline(name, **options, allow_pickle=allow_pickle, variant=variant, device=device or "cpu")
        return _of_pipeline(pipe, name)
    if name != BUNDLED and not Path(name).is_dir():
        raise InputError(f"{name}: there is no such folder: expected {_KINDS}")
    _refuse_options(name, options)
    return _trained(model_folder(name), name, device)


def _returned(name: str) -> Any:
    """What the function of the user returns."""
    function = function_named(name, "model")
    try:
        made = function()
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a function of the user may raise anything
        raise InputError(f"model {name!r} raised {in_short(error)}: expected a function of no arguments") from error
    return made


def _of_object(model: Any, name: str, device: torch.device | str | None, options: dict[str, Any]) -> LoadedModel:
    """An object of Python as a model."""
    if isinstance(model, LoadedModel):
        return model
    if isinstance(model, Pipeline):
        return _of_pipeline(model, name)
    if _is_pipeline(model):
        return _of_pipeline(read_pipeline(model, name, **options, device=device), name)
    if isinstance(model, Denoiser):
        _refuse_options(name, options)
        return _of_denoiser(model, name, device)
    if isinstance(model, nn.Module):
        raise InputError(
            f"{name}: a {type(model).__name__} is a network, and not yet a denoiser: pass Foreign(network, event, "
            "schedule, prediction), which says what it takes and gives"
        )
    raise InputError(f"{name}: a {type(model).__name__} is no model: expected {_KINDS}")


def _refuse_options(name: str, options: dict[str, Any]) -> None:
    words = {"null": "null class", "prompts": "prompts", "size": "size of images"}
    for option, value in options.items():
        if value is not None and value != 0:
            raise InputError(f"{name}: it takes no {words[option]}: only a pipeline of diffusers does")


def _is_pipeline(model: object) -> bool:
    library = sys.modules.get("diffusers")  # an object of diffusers exists only where it was imported
    return library is not None and isinstance(model, library.DiffusionPipeline)


def _of_pipeline(pipe: Pipeline, name: str) -> LoadedModel:
    low, high = range_of(pipe.denoiser)
    config = dict(getattr(pipe.scheduler, "config", {}))
    if pipe.denoiser.schedule.name == "edm":
        unit = pipe.denoiser.unit.scale
        low, high = (float(str(config[k])) / unit for k in ("sigma_min", "sigma_max"))
    digest = digest_of(pipe.denoiser, json.dumps(config, default=str, sort_keys=True))
    highest = high if np.isfinite(high) else None
    return LoadedModel(name, f"{pipe.kind} of diffusers", pipe.denoiser, digest, low, highest, pipe)


def _trained(folder: Path, name: str, device: torch.device | str | None) -> LoadedModel:
    model = NeuralDenoiser.load(folder, device or "cpu")
    low, high = _range_of_card(model)
    return LoadedModel(name, model.architecture.kind, model, weights_digest(folder), low, high, None, folder)


def _range_of_card(model: NeuralDenoiser) -> tuple[float, float | None]:
    """The levels that a network was trained at, by the record of its training."""
    settings = model.card.get("settings", {})
    try:
        return float(settings["sigma_min"]), float(settings["sigma_max"])
    except (KeyError, TypeError, ValueError):
        return 0.0, None


def _of_denoiser(model: Denoiser, name: str, device: torch.device | str | None) -> LoadedModel:
    event = getattr(model, "event", None)
    if not isinstance(event, tuple) or not hasattr(model, "attributes"):
        raise InputError(f"{name}: a {type(model).__name__} has no event or no attributes: a denoiser needs both")
    for module in (model, *modules_of(getattr(model, "network", None))) if device is not None else ():
        module.to(device)
    model.eval().requires_grad_(False)
    data = getattr(getattr(model, "data", None), "fingerprint", "")
    low, high, words = 0.0, None, type(model).__name__
    settings = json.dumps([words, list(event), [[a.name, list(a.values)] for a in model.attributes], str(data)])
    if isinstance(model, Foreign):
        low, highest = range_of(model)
        high = highest if np.isfinite(highest) else None
        words, settings = _words_of(model.network), _settings(model)
    elif isinstance(model, NeuralDenoiser):
        low, high = _range_of_card(model)
    loaded = LoadedModel(name, words, model, digest_of(model, settings), low, high)
    _check_output(loaded)
    return loaded


def _words_of(network: object) -> str:
    """The kind of network of a user, in words."""
    return f"network of class {type(network).__name__}" if isinstance(network, nn.Module) else "network function"


def range_of(model: Foreign) -> tuple[float, float]:
    """The smallest and the largest noise level of a network's schedule, in the unit of the values."""
    own, unit = model.schedule, model.unit.scale
    low, high = sorted(float(own.sigma(t)) / unit for t in (own.data_time, own.noise_time))
    return low, high


def _settings(model: Foreign) -> str:
    """What decides the output of a network beside its weights, as text."""
    own = model.schedule
    finite = own.noise_time if np.isfinite(own.noise_time) else 1e3
    times = np.linspace(own.data_time, finite, _TIMES)[1:-1]
    levels = [f"{s:.9g}" for s in own.sigma(times)]
    classes = [[a.name, list(a.values)] for a in model.attributes]
    unit = [model.unit.scale, model.unit.offset]
    return json.dumps([model.prediction, list(model.event), unit, model.null, classes, levels])


def digest_of(model: nn.Module, settings: str = "") -> str:
    """Digest of the weights of a model and of text that describes it.

    Modules that a network refers to without owning them, such as the network that a function closes over, belong to it.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(settings.encode())
    for root in (model, *modules_of(getattr(model, "network", None))):
        for name, x in sorted(root.state_dict().items()):
            digest.update(name.encode())
            digest.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_output(model: LoadedModel) -> None:
    """Call a denoiser once without and once with its attributes, so that a fault is found before a study starts."""
    d = model.denoiser
    at = next(d.parameters(), torch.empty(0)).device
    low = max(model.lowest, 1e-3)
    sigma = torch.full((2,), min(max(1.0, low), model.highest or np.inf), dtype=torch.float64, device=at)
    y = torch.full((2, *d.event), 0.5, dtype=torch.float64, device=at)
    known = {a.name: torch.arange(2, device=at) for a in d.attributes}
    conditions = ([] if model.needs_class else [None]) + ([known] if known else [])
    for condition in conditions:
        try:
            with torch.no_grad():
                out = d(y.float() if isinstance(d, NeuralDenoiser) else y, sigma, condition)
        except InputError as error:
            raise InputError(f"{model.name}: {error}") from error
        except Exception as error:  # a network of the user may raise anything
            given = "a class" if condition else "no class"
            raise InputError(
                f"{model.name}: its network raised {in_short(error)}, called with values of shape {tuple(y.shape)} "
                f"and {given}: check event, schedule and attribute"
            ) from error
        if not isinstance(out, Tensor) or out.shape != y.shape:
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(f"{model.name}: its output for values of shape {tuple(y.shape)} is {shape}: expected the "
                             "same shape")  # fmt: skip
        if not bool(torch.isfinite(out).all()):
            raise InputError(f"{model.name}: its output is not finite: its weights or its settings are damaged")


@contextmanager
def left_as_it_was(model: object) -> Iterator[None]:
    """Put the modules of an object back into the mode in which they came: training, and whether weights are fixed."""
    parts: list[Any] = list(vars(model).values()) if _is_pipeline(model) else [model]
    parts += modules_of(getattr(model, "network", None))
    roots = [x for x in parts if isinstance(x, nn.Module)]
    modes = [(m, m.training) for root in roots for m in root.modules()]
    fixed = [(p, p.requires_grad) for root in roots for p in root.parameters()]
    for root in roots:
        root.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, learns in fixed:
            parameter.requires_grad_(learns)
