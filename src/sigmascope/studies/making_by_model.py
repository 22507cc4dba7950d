"""Run ``generate`` and ``fork`` by a model: its own path, the belief of the filter along it, its continuations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.adapters.diffusers.units import ruler_of_pipe
from sigmascope.adapters.functions import function_named
from sigmascope.adapters.models import load_model
from sigmascope.adapters.naming import full_name
from sigmascope.console import spelled
from sigmascope.core import Attribute, Denoiser, InputError, LabelledData
from sigmascope.data import draw_items, load
from sigmascope.data.loaders import by_word
from sigmascope.data.reals import require_classes
from sigmascope.device import resolve_device
from sigmascope.information.entropies import zhang
from sigmascope.information.forks import LabelChildren, count_labels
from sigmascope.learn.settings import NULL
from sigmascope.noise import sigma_grid
from sigmascope.report.gallery import decisions_figure, grid_figure
from sigmascope.report.sheets import Sheet
from sigmascope.sample import (
    Heun,
    JointState,
    OwnPathBelief,
    State,
    StochasticHeun,
    Streams,
    ValueBelief,
    final,
    fork,
    fork_levels,
    joint,
    levels_below,
    rows,
    sample,
)
from sigmascope.studies.exact_law import print_notes
from sigmascope.studies.following import follow, looks_of
from sigmascope.studies.labelling import Nearest, by_function, decoded, of_any_parent
from sigmascope.studies.made_tables import caption, write_forks
from sigmascope.studies.store import TaskFolder, check_folder
from sigmascope.studies.subjects.conditional import matched_to
from sigmascope.studies.subjects.opened import Opened
from sigmascope.studies.tasks import ForkTask, GenerateTask

_FORKS, _FORKED_LOOKS = 16, 8  # continuations of a state, and levels from which states are continued
_SURE = 0.9  # probability of a decided value
Some = TypeVar("Some", GenerateTask, ForkTask)


@dataclass(frozen=True, eq=False)
class _Maker:
    """A model that makes images, with the attributes that are followed.

    Args:
        opened: the model.
        network: its network, conditional under the names of the data's attributes where there are data.
        data: labelled images, or None.
        label: labels clean values whose parents may be items of the data; None: nothing does.
        believed: attributes whose belief follows from conditional outputs.
        forked: attributes that are labels of continuations.
    """

    opened: Opened
    network: Denoiser
    data: LabelledData | None
    label: LabelChildren | None
    believed: tuple[Attribute, ...]
    forked: tuple[Attribute, ...]

    @property
    def attributes(self) -> list[Attribute]:
        """All attributes that are followed."""
        return [*self.believed, *self.forked]

    def pictures(self, values: Tensor) -> Tensor:
        """Values as pictures."""
        decode = self.opened.model.decode
        return (values if decode is None else decode(values)).float().cpu()


def generate(task: GenerateTask, out: Path, progress: bool = True) -> tuple[str, bool]:
    """Generate images by a model into a folder, with the belief of the filter along its own path.

    Args:
        task: the options.
        out: its folder; an interrupted task goes on, a finished one is left as it is.
        progress: show a bar on stderr.

    Returns: the text to print, and whether the task was already finished.

    Raises: InputError.
    """
    folder, task, maker = _open(task.check(), out)
    if folder.finished:
        return "", True
    levels = _levels(task, maker)
    looks = looks_of(levels) if maker.forked else set(range(len(levels) - 1))
    if maker.forked:
        looks = set(sorted(looks)[:: -(-len(looks) // _FORKED_LOOKS)]) | {len(levels) - 2}
    record = follow(
        folder, levels, lambda k, y, pi: _path(task, maker, levels, k, y, pi), lambda s: _look(task, maker, levels, s),
        looks, maker.opened.model.words, progress,
    )  # fmt: skip
    pictures, sigma = maker.pictures(record.y).numpy(), np.array(record.sigmas)
    posterior = {n: np.stack(p) for n, p in record.posterior.items()}
    followed = [a for a in maker.attributes if a.name in posterior]
    at = np.searchsorted(-np.array(levels), -sigma * (1 + 1e-12))  # the steps of the records
    steps = {a.name: decided(posterior[a.name]) for a in followed}
    captions = [[caption(a, posterior[a.name][-1, i]) for a in followed] for i in range(task.n)]
    folder.write_text("images.csv", _table(task, followed, posterior, steps, at, sigma))
    folder.write_figure("images", grid_figure(pictures, captions))
    if followed:
        held = {a.name for a in maker.believed}
        children = task.forks or _FORKS
        counted = {a.name: _entropies(posterior[a.name] * children) for a in maker.forked if a.name in posterior}
        folder.write_figure("decisions", decisions_figure(sigma, posterior, followed, held, counted))
    arrays = {f"posterior.{n}": p for n, p in posterior.items()}
    folder.finish({"images": pictures, "sigma": sigma, "step": at, **arrays})
    # A pipeline's last step ends at 0; on other paths a step to the clean value comes after those asked for.
    count = task.steps if len(levels) == task.steps + 2 else len(levels) - 1
    return _words(task, followed, posterior, steps, at, sigma, count), False


def make_forks(task: ForkTask, out: Path, progress: bool = True) -> tuple[str, bool]:
    """Fork noisy images by a model into a folder; arguments and result as of :func:`generate`."""
    folder, task, maker = _open(task.check(), out)
    if folder.finished:
        return "", True
    opened, denoiser = maker.opened, maker.opened.unconditional(task.seed)
    top = opened.highest_output
    highest = max(task.sigma, task.renoise)
    if top is not None and highest > top:
        raise InputError(f"sigma is {highest:g}: the model's noise levels end at {top:.4g}; pass a lower one")
    parents, items = _parents(task, maker, denoiser)
    levels = levels_below(task.sigma, max(task.sigma_min, opened.model.lowest), task.steps)
    scheme, renoise = StochasticHeun() if task.sampler == "sde" else Heun(), task.renoise or None

    def states(first: int, y: Tensor | None, log_pi: Tensor | None) -> Iterator[State]:
        resume = None if y is None else (first, y)
        return fork(denoiser, parents, levels, task.forks, task.seed, scheme, renoise=renoise, resume=resume)

    full, name = fork_levels(levels, renoise), opened.model.words
    ends = follow(folder, full, states, lambda _: {}, set(), name, progress).y
    labels = {} if maker.label is None else maker.label(ends, items)
    labels = {n: x.reshape(task.seeds, task.forks).T for n, x in labels.items()}
    made = maker.pictures(ends)
    children = made.reshape(task.seeds, task.forks, *made.shape[1:]).movedim(1, 0)
    shown = maker.pictures(parents.float())
    return write_forks(folder, task, maker.forked, labels, {}, parents, children, shown), False


def decided(posterior: Float[np.ndarray, "records images values"]) -> Int64[np.ndarray, " images"]:
    """The first record from which on the final value of an image has probability above .9; their number: never."""
    ends = posterior[-1].argmax(1)
    sure = np.take_along_axis(posterior, ends[None, :, None], 2)[..., 0] > _SURE
    open_ = np.cumsum(~sure[::-1], 0)[::-1] > 0
    return np.asarray(open_.sum(0))


def _entropies(counts: Float[np.ndarray, "records images values"]) -> Float[np.ndarray, "records images"]:
    """The entropies of labels that were counted, nats."""
    flat = torch.from_numpy(counts.round().reshape(-1, counts.shape[-1]).astype(np.int64))
    return np.asarray(zhang(flat).reshape(counts.shape[:2]).numpy())


def _open(task: Some, out: Path) -> tuple[TaskFolder, Some, _Maker]:
    """The folder, the task with full paths and fingerprints, and the model with its attributes."""
    check_folder(out, f"{task.kind}.toml")
    loaded = load_model(task.by.model, device=resolve_device(task.device), **task.by.as_passed())
    opened = Opened(loaded)
    data = None
    if task.data:
        data = load(task.data, task.attributes, size=task.size, grain=task.grain, ground=task.ground)
        require_classes(data, "this command cannot follow")
        print_notes(data)
        data = opened.values(data)
        if by_word(task.data) is None:
            task = replace(task, data=str(Path(task.data).resolve()))
    elif task.attributes:
        raise InputError(f"attributes are {', '.join(task.attributes)}: they are those of data, and none are named")
    maker = _maker(task, opened, data)
    prints = loaded.digest if data is None else f"{data.fingerprint} {loaded.digest}"
    task = replace(task, by=replace(task.by, model=full_name(task.by.model)), fingerprint=prints)
    return TaskFolder(out, task), task, maker


def _maker(task: GenerateTask | ForkTask, opened: Opened, data: LabelledData | None) -> _Maker:
    """The model with the attributes that are followed: its own, and those of labels."""
    label = _label(task, opened, data)
    labelled = () if data is None else data.attributes
    if isinstance(task, ForkTask):
        return _Maker(opened, opened.denoiser, data, label, (), labelled)
    network, own = opened.denoiser, tuple[Attribute, ...]()
    if task.sampler != "ode":  # the filter needs the path of the SDE
        if data is not None and network.attributes:
            network, _ = matched_to(data, network, task, task.by.model, task.by.classes)
        own = tuple(a for a in network.attributes if a.name != NULL)
    others = tuple(a for a in labelled if a.name not in [x.name for x in own])
    chosen = _watched(task, own, others)
    believed = tuple(a for a in own if a.name in chosen)
    if task.sampler == "filter" and len(believed) != 1:
        raise InputError("--sampler filter follows the belief about one attribute of the model: name it with --watch")
    return _Maker(opened, network, data, label, believed, tuple(a for a in others if a.name in chosen))


def _label(task: GenerateTask | ForkTask, opened: Opened, data: LabelledData | None) -> LabelChildren | None:
    """What labels clean values: the function of the user, or the nearest item; None without either."""
    if not task.by.labeller:
        return None if data is None else Nearest(data)
    if data is None:
        raise InputError("--labeller gives indices of values: name DATA whose attributes have these values")
    function, decode = function_named(task.by.labeller, "labeller"), opened.model.decode
    labels = by_function(function, data.attributes[0].name, data.attributes)
    return of_any_parent(labels if decode is None else decoded(labels, decode))


def _watched(task: GenerateTask, own: Sequence[Attribute], others: Sequence[Attribute]) -> tuple[str, ...]:
    """Names of the attributes to follow: those asked for, else the model's own, else those of the data."""
    known = [a.name for a in (*own, *others)]
    if unknown := [n for n in task.watch if n not in known]:
        hint = "choose among " + ", ".join(known) if known else "the model has no attribute: name labelled DATA"
        raise InputError(f"watch is {unknown[0]!r}: {hint}")
    return task.watch or tuple(a.name for a in own or others)


def _levels(task: GenerateTask, maker: _Maker) -> list[float]:
    """The levels of the path: those of the pipeline's scheduler, or even in ln sigma within the model's range."""
    opened, usual = maker.opened, GenerateTask()
    top, low = opened.highest_output or math.inf, opened.model.lowest
    for name, value, default, inside in (
        ("sigma_max", task.sigma_max, usual.sigma_max, task.sigma_max <= top * (1 + 1e-9)),
        ("sigma_min", task.sigma_min, usual.sigma_min, task.sigma_min >= low * (1 - 1e-9)),
    ):
        if value != default and not inside:
            raise InputError(f"{name} is {value:g}: the model's noise levels go from {top:.4g} down to {low:.4g}")
    pipe, own = opened.model.pipe, task.sigma_max == usual.sigma_max and task.sigma_min == usual.sigma_min
    if pipe is not None and hasattr(pipe.scheduler, "set_timesteps") and own and not opened.model.needs_class:
        ruler = ruler_of_pipe(pipe, task.steps)
        levels = np.asarray(ruler.levels[: ruler.states]) / ruler.unit.scale
        levels = levels[np.isfinite(levels) & (levels > 0) & (levels <= top * (1 + 1e-6))]
        return [*np.minimum(levels, top).tolist(), 0.0]
    high, last = min(task.sigma_max, top * (1 - 1e-9)), max(task.sigma_min, low)
    if last >= high:
        raise InputError(f"the model's noise levels go from {top:.4g} to {low:.4g}: no level of the path is in it")
    return [*sigma_grid(high, last, task.steps + 1).tolist(), 0.0]


def _path(
    task: GenerateTask, maker: _Maker, levels: list[float], first: int, y: Tensor | None, log_pi: Tensor | None
) -> Iterator[State | JointState]:
    """States of the model's own path from a step on; every step draws one noise for each row."""
    streams = Streams(task.seed, rows(task.n), maker.network.event)
    begin = streams()
    for _ in range(first):
        streams()
    here = levels[0] * begin if y is None else y
    belief = _belief(task, maker)
    if belief is not None:
        return joint(belief, here, levels[first:], streams, log_pi)
    scheme = StochasticHeun() if task.sampler == "sde" else Heun()
    return sample(maker.opened.unconditional(task.seed), here, levels[first:], scheme, noise=streams)


def _belief(task: GenerateTask, maker: _Maker) -> OwnPathBelief | ValueBelief | None:
    """The filter along the path; without an unconditional output, the path is that of the filter's own mean."""
    names = [a.name for a in maker.believed]
    if not names:
        return None
    if task.sampler == "filter" or maker.opened.model.needs_class:
        return ValueBelief(maker.network, names[0])
    return OwnPathBelief(maker.network, names)


def _look(
    task: GenerateTask, maker: _Maker, levels: list[float], state: State | JointState
) -> Mapping[str, np.ndarray]:
    """What is known of every attribute at a state: the belief, and the labels of its continuations."""
    posterior: dict[str, np.ndarray] = {}
    if isinstance(state, JointState):
        start = 0
        for a in maker.believed:
            posterior[a.name] = state.log_pi[:, start : start + len(a.values)].exp().numpy()
            start += len(a.values)
    if maker.forked and maker.label is not None:
        counts = _counts(task, maker, [s for s in levels if s <= state.sigma], state.y)
        posterior |= {n: (c / c.sum(1, keepdims=True)) for n, c in counts.items()}
    return posterior


def _counts(task: GenerateTask, maker: _Maker, levels: list[float], y: Tensor) -> dict[str, np.ndarray]:
    """How often each value occurs among the continuations of every state."""
    assert maker.label is not None
    children, denoiser = task.forks or _FORKS, maker.opened.unconditional(task.seed)
    ends = final(fork(denoiser, y, levels, children, task.seed)).y
    labels = maker.label(ends, None)
    return {
        a.name: count_labels(labels[a.name].reshape(len(y), children).T, len(a.values)).numpy().astype(float)
        for a in maker.forked
    }


def _parents(task: ForkTask, maker: _Maker, denoiser: Denoiser) -> tuple[Tensor, Tensor | None]:
    """Noisy images of the data, with the items of their continuations; or states of the model's own path."""
    if maker.data is not None:
        draws = draw_items(maker.data, task.seeds, task.seed)
        return draws.v.double() + task.sigma * draws.noise.double(), draws.items.repeat_interleave(task.forks)
    opened = maker.opened
    top = (opened.highest_output or max(90.0, 4 * task.sigma)) * (1 - 1e-9)
    streams = Streams(task.seed, rows(task.seeds), maker.network.event)
    begin = top * streams()
    if top <= task.sigma:
        return begin, None
    levels = levels_below(top, task.sigma, task.steps, zero=False)
    return final(sample(denoiser, begin, levels, StochasticHeun(), noise=streams)).y, None


Steps = Mapping[str, Int64[np.ndarray, " images"]]


def _table(
    task: GenerateTask,
    attributes: list[Attribute],
    posterior: Mapping[str, np.ndarray],
    steps: Steps,
    at: np.ndarray,
    sigma: np.ndarray,
) -> str:
    """A row for each image: values, their probabilities, and step and level at which they were decided."""
    writer = Sheet()
    heads = ("", "_probability", "_step", "_sigma")
    writer.writerow(["image", *(f"{a.name}{head}" for a in attributes for head in heads)])
    for i in range(task.n):
        row: list[object] = [i]
        for a in attributes:
            p, k = posterior[a.name][-1, i], int(steps[a.name][i])
            when = (int(at[k]), f"{sigma[k]:.6g}") if k < len(sigma) else ("", "")
            row += [a.values[int(p.argmax())], f"{p.max():.4f}", *when]
        writer.writerow(row)
    return writer.getvalue()


def _words(
    task: GenerateTask,
    attributes: list[Attribute],
    posterior: Mapping[str, np.ndarray],
    steps: Steps,
    at: np.ndarray,
    sigma: np.ndarray,
    count: int,
) -> str:
    """How many images have decided each attribute, and when half of these had, in steps of so many."""
    if not attributes:
        return f"{task.n} images; the model has no attribute to follow (labelled DATA would give some)"
    lines, wide = [], max(len(spelled(a.name)) for a in attributes)
    for a in attributes:
        k = np.sort(steps[a.name][steps[a.name] < len(sigma)])
        text = f"decided (p > {_SURE:g}) in {len(k)} of {task.n} images"
        if len(k):
            middle = int(k[len(k) // 2])
            text += f", in half of these by step {at[middle]} of {count} (σ {sigma[middle]:.3g})"
        lines.append(f"{spelled(a.name).ljust(wide)}  {text}")
    return "\n".join(lines)
