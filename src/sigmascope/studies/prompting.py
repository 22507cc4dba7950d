"""The divergence that a prompt makes in the images of a text-to-image pipeline, by noise level."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from sigmascope._version import VERSION
from sigmascope.adapters.diffusers.opening import Pipeline
from sigmascope.adapters.diffusers.text import PROMPT
from sigmascope.adapters.diffusers.units import Ruler
from sigmascope.adapters.models import load_model
from sigmascope.analysis.onset import RESAMPLES, Quantity, counts_of, crossings, rising
from sigmascope.console import progress_bar
from sigmascope.core import Curve, InputError
from sigmascope.data.arrays import ArraySource
from sigmascope.data.folder import pictures_in
from sigmascope.data.npz import images_of
from sigmascope.data.pictures import decode_all
from sigmascope.device import resolve_device
from sigmascope.information.divergence import Divergence, divergence
from sigmascope.noise import karras_grid, sigma_grid
from sigmascope.report.prompts import Panel, prompts_figure, prompts_text
from sigmascope.sample import Heun, Streams, final, sample, start
from sigmascope.streams import Alone
from sigmascope.studies.prompt_task import PromptTask
from sigmascope.studies.store import Folder, check_folder, netcdf

MARKER = "prompts.toml"
SHARES = (0.05, 0.5, 0.95)
_HIGHEST, _LOWEST = 100.0, 0.02  # noise levels, for schedules that reach infinity or zero


@dataclass(frozen=True, eq=False)
class Prompted:
    """The results of a prompt.

    Attributes:
        images: decoded images of each prompt, shape (images, channels, height, width).
        divergences: the divergence of the images of the prompt, then that of the other prompt's images, if any.
        prompt_information: lower bound of the information about which of the two prompts made an image; None where
            there are images of only one prompt.
        shares: noise levels at which 5, 50 and 95 % of the first divergence are reached, with intervals over images.
        notes: remarks on the numbers.
    """

    images: tuple[Float[np.ndarray, "images channels height width"], ...]
    divergences: tuple[Divergence, ...]
    prompt_information: Curve | None
    shares: tuple[Quantity, Quantity, Quantity]
    notes: tuple[str, ...]


def prompts(task: PromptTask, out: str | Path) -> str:
    """Measure a prompt, and write the results into a folder.

    The folder receives prompts.png and .svg, prompts.json and results.nc.

    Args:
        task: the options.
        out: a folder: new, empty, or that of the same task.

    Returns: the table to print.

    Raises: InputError for options that cannot be used, and for folders of something else.
    """
    folder, task = Path(out), task.check()
    check_folder(folder, MARKER)
    if (folder / MARKER).exists() and (folder / MARKER).read_text(encoding="utf-8") != task.to_toml():
        raise InputError(f"{folder}: it holds the results of something else: choose another --out")
    device = resolve_device(task.device)
    loaded = load_model(
        task.model, prompts=(task.against, task.prompt), size=task.size, allow_pickle=task.allow_pickle,
        variant=task.variant, device=device,
    )  # fmt: skip
    if loaded.pipe is None:
        raise InputError(f"{task.model}: it takes no prompts: pass a text-to-image pipeline of diffusers")
    pipe = loaded.pipe
    ruler = Ruler(pipe.scheduler, task.steps, name=pipe.name, pipeline=pipe.kind)
    with _progress(pipe, task):
        result = measure(pipe, task, device)
    summary = _summary(result, task, pipe, ruler)
    store = Folder(folder, MARKER, task.to_toml())
    figure = prompts_figure(
        [_panel(result, k) for k in range(len(result.divergences))],
        result.prompt_information,
        result.shares,
        lambda sigma: ruler.of_sigma(sigma).timestep,
    )
    store.write_figure("prompts", figure)
    store.write_text("prompts.json", json.dumps(summary, indent=1, ensure_ascii=False))
    whole = netcdf(_dataset(result, task, pipe))
    store.write("results.nc", lambda p: p.write_bytes(whole))
    return prompts_text(summary, result.shares)


def measure(pipe: Pipeline, task: PromptTask, device: torch.device) -> Prompted:
    """The numbers: divergences of the images of each prompt, from denoisers alone.

    Args:
        pipe: conditional on the two prompts (against, prompt).
        task: the options.
        device: of the network.
    """
    sigma = levels_of(pipe, task.levels)
    from_file = task.images != ""
    # Images from a file belong to the prompt; no image belongs to the empty prompt.
    indices = (1,) if from_file or task.against == "" else (1, 0)
    latents = [_read(pipe, task, device) if from_file else _generated(pipe, task, k, device) for k in indices]
    divergences = tuple(
        divergence(pipe.denoiser, PROMPT, k, 1 - k, v, sigma, noises=task.noises, seed=task.seed, stream=stream)
        for k, v, stream in zip(indices, latents, [(Alone.PROMPT_PATHS, k) for k in indices], strict=True)
    )
    _, decode = _coders(pipe)
    images = tuple(_batched(decode, v).float().cpu().numpy() for v in latents)
    information = None
    if len(divergences) == 2:
        each = np.concatenate([d.log_q.mean(2) for d in divergences], 1) + np.log(2)
        information = Curve.of_draws(PROMPT, "filter", sigma, each, float(np.log(2)), kind="lower bound")
    shares = shares_of(divergences[0].curve(), task.seed)
    return Prompted(images, divergences, information, shares, _notes(pipe, divergences, from_file))


@contextlib.contextmanager
def _progress(pipe: Pipeline, task: PromptTask) -> Iterator[None]:
    """A progress bar of the rows that the network has evaluated, on a terminal."""
    both = 1 if task.images or not task.against else 2
    rows = both * task.n * 2 * ((0 if task.images else task.steps) + task.noises * (task.levels + 2))
    with progress_bar(pipe.kind, rows, "network calls", disable=None, leave=False) as bar:
        hook = pipe.denoiser.register_forward_hook(lambda module, inputs, output: bar.update(len(output)) and None)
        try:
            yield
        finally:
            hook.remove()


def levels_of(pipe: Pipeline, levels: int) -> Float[np.ndarray, " levels"]:
    """Noise levels over the range of the schedule of a pipeline, evenly spaced in ln sigma."""
    schedule = pipe.denoiser.schedule
    ends = schedule.sigma(np.array([schedule.data_time, schedule.noise_time]))
    return sigma_grid(min(float(ends[1]), _HIGHEST), max(float(ends[0]), _LOWEST), levels)


def shares_of(curve: Curve, seed: int = 0) -> tuple[Quantity, Quantity, Quantity]:
    """Noise levels at which 5, 50 and 95 % of the divergence are reached, with 95 % intervals over images.

    NaN where the curve does not rise.  Images are resampled; with few images the intervals are too short.
    """
    x, draws = np.log(curve.sigma), curve.per_draw.shape[1]
    counts = counts_of(np.random.default_rng(seed), draws, RESAMPLES)
    up = rising(np.concatenate([curve.value[None], counts @ curve.per_draw.T / draws]))
    up = up[up[:, -1] > 0] / up[up[:, -1] > 0, -1:]
    if curve.value[-1] <= 0 or len(up) < 2:
        nothing = Quantity(float("nan"), float("nan"), float("nan"))
        return nothing, nothing, nothing
    quantities = []
    for share in SHARES:
        at = np.exp(crossings(x, up, share))
        low, high = np.quantile(at[1:], [0.025, 0.975], method="closest_observation")
        quantities.append(Quantity(float(at[0]), float(low), float(high)))
    return quantities[0], quantities[1], quantities[2]


def _generated(pipe: Pipeline, task: PromptTask, k: int, device: torch.device) -> Tensor:
    """Latents generated for the k-th prompt by the probability-flow ODE, without guidance."""
    sigma = levels_of(pipe, 2)
    grid = karras_grid(float(sigma[0]), float(sigma[-1]), task.steps)
    known = {PROMPT: torch.full((task.n,), k, device=device)}
    noise = Streams(task.seed, [(Alone.PROMPTED, k, i) for i in range(task.n)], pipe.denoiser.event)().to(device)
    y = start(pipe.denoiser, float(grid[0]), noise, known)
    return final(sample(pipe.denoiser, y, [*grid, 0.0], Heun(), known=known)).y


def _read(pipe: Pipeline, task: PromptTask, device: torch.device) -> Tensor:
    """Latents of images from a file or a folder."""
    path = Path(task.images)
    pixels = _pictures(path)[: task.n]
    if len(pixels) < 2:
        raise InputError(f"{path}: it holds {len(pixels)} image: at least 2 are needed for an error")
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise InputError(f"{path}: images have shape {tuple(pixels.shape[1:])}: expected (height, width, 3)")
    if float(pixels.min()) < 0 or float(pixels.max()) > 1:
        raise InputError(f"{path}: pixels go from {float(pixels.min()):g} to {float(pixels.max()):g}: expected 0 to 1")
    encode, decode = _coders(pipe)
    side = decode(torch.zeros(1, *pipe.denoiser.event, device=device)).shape[2:]
    if tuple(pixels.shape[2:]) != tuple(side):
        raise InputError(
            f"{path}: images are {pixels.shape[3]} × {pixels.shape[2]} and the model's {side[1]} × {side[0]}: resize "
            "them, or pass --size"
        )
    return _batched(encode, pixels.expand(-1, 3, -1, -1)).double()


def _coders(pipe: Pipeline) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The autoencoder of a pipeline: from pixels to latents, and back."""
    if pipe.encode is None or pipe.decode is None:
        raise InputError(f"{pipe.name}: it has no autoencoder: pass the folder of a whole pipeline")
    return pipe.encode, pipe.decode


def _batched(call: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """The output of an autoencoder, image by image, since it needs much memory."""
    return torch.cat([call(row[None]) for row in rows])


def _pictures(path: Path) -> Tensor:
    """Pixels from 0 to 1, channels first."""
    if path.is_dir():
        pictures = pictures_in(path)
        array = decode_all(len(pictures), lambda rows: pictures[rows.start : rows.stop], str(path)).images
    elif not path.exists():
        raise InputError(f"{path}: no such file: pass an .npz with 'images', or a folder of pictures")
    else:
        array = images_of(path)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{path}: it contains a number that is not finite: pass finite numbers")
    if array.ndim == 3:
        array = array[..., None]
    return ArraySource(array).read(0, len(array))


def _notes(pipe: Pipeline, divergences: tuple[Divergence, ...], from_file: bool) -> tuple[str, ...]:
    """Remarks on the numbers."""
    notes = list(pipe.notes)
    d = divergences[0]
    total = float(d.score[-1].mean())
    if total > 0 and d.above > 0.05 * total:
        notes.append(
            f"{100 * d.above / total:.0f} % of the nats lie above σ {d.sigma[0]:.3g}, where the model's schedule ends: "
            "they are extrapolated, not measured"
        )
    if from_file:
        notes.append("the images came from a file: the numbers are a divergence only if they are images of the prompt")
    return tuple(notes)


def _calibration(d: Divergence) -> tuple[float, float]:
    """Mean over images of the error gap minus the score gap down to the last level, and its standard error."""
    difference = (d.error - d.score)[-1].mean(1)
    return float(difference.mean()), float(difference.std(ddof=1) / len(difference) ** 0.5)


def _summary(result: Prompted, task: PromptTask, pipe: Pipeline, ruler: Ruler) -> dict[str, Any]:
    """The content of prompts.json."""
    sigma = result.divergences[0].sigma

    def unit(x: float) -> dict[str, Any]:
        level = ruler.of_sigma(x) if sigma[-1] <= x <= sigma[0] else None
        return {n: None if level is None else getattr(level, n) for n in ("timestep", "percent")}

    def each(d: Divergence) -> dict[str, Any]:
        curve, mean, stderr = d.curve(), *_calibration(d)
        image = d.score.mean(2).T
        error = d.score.std(2, ddof=1).T / d.score.shape[2] ** 0.5
        return {
            "prompt": d.own, "against": d.other, "nats": curve.value.tolist(), "stderr": curve.stderr.tolist(),
            "quadrature_error": None if curve.quadrature_error is None else curve.quadrature_error.tolist(),
            "by_errors": d.curve("error").value.tolist(), "by_errors_stderr": d.curve("error").stderr.tolist(),
            "above_first_level": d.above, "calibration": mean, "calibration_stderr": stderr,
            "image_nats": image[:, -1].tolist(), "image_stderr": error[:, -1].tolist(),
        }  # fmt: skip

    summary: dict[str, Any] = {"settings": asdict(task), "pipeline": pipe.kind, "images": len(result.images[0])}
    summary["made"] = "given" if task.images else "generated without guidance"
    summary |= {"sigma": sigma.tolist(), "levels": [{"sigma": float(s)} | unit(float(s)) for s in sigma]}
    summary["divergence"] = [each(d) for d in result.divergences]
    summary["shares"] = [
        {"share": share, "sigma": _finite(q.value), "low": _finite(q.low), "high": _finite(q.high)} | unit(q.value)
        for share, q in zip(SHARES, result.shares, strict=True)
    ]
    if result.prompt_information is not None:
        c, gap = (
            result.prompt_information,
            np.concatenate([d.information_by_scores.mean(2) for d in result.divergences], 1)[-1],
        )
        summary["which"] = {
            "nats": c.value.tolist(), "stderr": c.stderr.tolist(), "ceiling": c.ceiling,
            "kind": "lower bound", "by_scores": float(gap.mean()),
            "by_scores_stderr": float(gap.std(ddof=1) / len(gap) ** 0.5),
        }  # fmt: skip
    return summary | {"notes": list(result.notes)}


def _finite(x: float) -> float | None:
    """A number for JSON, which has no infinities."""
    return x if np.isfinite(x) else None


def _panel(result: Prompted, k: int) -> Panel:
    """The panel of the figure for the images of one prompt."""
    d = result.divergences[k]
    return Panel(d.own, d.other, d.curve(), d.curve("error"), d.rate.mean(2), result.images[k], d.maps)


def _dataset(result: Prompted, task: PromptTask, pipe: Pipeline) -> xr.Dataset:
    """All numbers, over prompt, image, noise and sigma; maps over rows and columns of the latents."""
    axes, lines = ("prompt", "sigma", "image", "noise"), ("rate", "score", "error", "log_q", "information_by_scores")
    variables: dict[str, Any] = {n: (axes, np.stack([getattr(d, n) for d in result.divergences])) for n in lines}
    for name, gap in (("divergence", "score"), ("divergence_by_errors", "error")):
        curves = [d.curve(gap) for d in result.divergences]
        variables[name] = (axes[:2], np.stack([c.value for c in curves]))
        variables[f"{name}_stderr"] = (axes[:2], np.stack([c.stderr for c in curves]))
    for name in ("maps", "maps_stderr"):
        variables[name] = (
            ("prompt", "image", "row", "column"),
            np.stack([getattr(d, name) for d in result.divergences]),
        )
    variables["pixels"] = (("prompt", "image", "channel", "y", "x"), np.stack(result.images))
    if (c := result.prompt_information) is not None:
        variables |= {"information": ("sigma", c.value), "information_stderr": ("sigma", c.stderr)}
    return xr.Dataset(
        variables,
        coords={"prompt": [d.own for d in result.divergences], "sigma": result.divergences[0].sigma},
        attrs={
            "title": f"Divergence of images of {task.prompt!r} from those of {task.against!r}", "units": "nats",
            "unit_of_sigma": "scaled latents", "pipeline": pipe.kind, "seed": task.seed, "version": VERSION,
            "notes": "\n".join(result.notes),
        },
    )  # fmt: skip
