"""Run ``generate`` and ``fork`` by the exact filter of data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from sigmascope.console import spelled
from sigmascope.core import Attribute, InputError, LabelledData, generator
from sigmascope.data import load_any
from sigmascope.data.loaders import by_word
from sigmascope.data.reals import require_classes
from sigmascope.data.scales import require_levels
from sigmascope.device import resolve_device
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.items import ItemBelief
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.forks import draw_labels
from sigmascope.information.jobs.levels import all_log_posteriors
from sigmascope.information.jobs.passes import series_level
from sigmascope.noise import sigma_grid
from sigmascope.report.gallery import decisions_figure, grid_figure
from sigmascope.sample import (
    Heun,
    JointState,
    State,
    StochasticHeun,
    Streams,
    ValueBelief,
    fork,
    fork_levels,
    joint,
    levels_below,
    rows,
    sample,
)
from sigmascope.sample import start as start_from_noise
from sigmascope.streams import Use
from sigmascope.studies import making_by_model
from sigmascope.studies.exact_law import Data, chosen, denoiser_of, draws_of, print_notes
from sigmascope.studies.following import Record, follow, looks_of
from sigmascope.studies.made_tables import caption, values_of_images, write_forks
from sigmascope.studies.store import TaskFolder, check_folder
from sigmascope.studies.tasks import ForkTask, GenerateTask

Exact = FiniteDenoiser | HierarchyDenoiser
Some = TypeVar("Some", GenerateTask, ForkTask)


def generate(task: GenerateTask, out: Path, progress: bool = True) -> tuple[str, bool]:
    """Generate images by a model or the exact filter of data, and write them with what they decided on the way.

    The folder receives ``images.png`` and ``.svg``, ``decisions.png`` and ``.svg`` (the posteriors of the attributes by
    noise level), ``images.csv`` (the values of each image with their probabilities), ``generate.npz`` (images, levels
    and posteriors) and ``generate.toml`` (the options).

    Args:
        task: the options, which name the data, or a model.
        out: the folder; an interrupted task goes on, a finished one is left as it is.
        progress: show a bar on stderr.

    Returns: the text to print, and whether the task was already finished, in which case the text is empty.

    Raises: InputError for options or data that cannot be used, or a folder that holds something else.
    """
    if task.by.model:
        return making_by_model.generate(task, out, progress)
    folder, task, data, denoiser = _open(task.check(), out)
    if folder.finished:
        return "", True
    attributes = chosen(data, task.attributes)
    levels = [*sigma_grid(task.sigma_max, task.sigma_min, task.steps + 1).tolist(), 0.0]
    record = follow(
        folder, levels, lambda k, y, pi: _generation(task, denoiser, levels, k, y, pi),
        lambda s: _posteriors(denoiser, s, attributes, task), looks_of(levels), data.name, progress,
    )  # fmt: skip
    images = record.y.float().numpy()
    posterior = {n: np.stack(p) for n, p in record.posterior.items()}
    captions = [[caption(a, posterior[a.name][-1, i]) for a in attributes] for i in range(task.n)]
    folder.write_text("images.csv", values_of_images(attributes, posterior))
    for name, figure in (
        ("images", grid_figure(images, captions)),
        ("decisions", decisions_figure(np.array(record.sigmas), posterior, attributes, _believed(task, denoiser))),
    ):
        folder.write_figure(name, figure)
    arrays = {f"posterior.{n}": p for n, p in posterior.items()}
    folder.finish({"images": images, "sigma": np.array(record.sigmas), **arrays})
    return _generated_words(task, attributes, posterior, record, denoiser), False


def make_forks(task: ForkTask, out: Path, progress: bool = True) -> tuple[str, bool]:
    """Continue noisy images several times each by a model or the exact filter of data, and write the continuations.

    The folder receives ``forks.png`` and ``.svg``, ``forks.csv`` (for each parent and attribute the commonest value of
    its continuations, its share, and the entropy of the labels beside that of the exact posterior), ``fork.npz``
    (parents, continuations and their labels) and ``fork.toml`` (the options).

    Args:
        task: the options, which name the data, or a model.
        out: the folder; an interrupted task goes on, a finished one is left as it is.
        progress: show a bar on stderr.

    Returns: the text to print, and whether the task was already finished, in which case the text is empty.

    Raises: InputError for options or data that cannot be used, or a folder that holds something else.
    """
    if task.by.model:
        return making_by_model.make_forks(task, out, progress)
    folder, task, data, denoiser = _open(task.check(), out)
    if folder.finished:
        return "", True
    attributes = chosen(data, task.attributes)
    draws = draws_of(data, task.seeds, task.seed)
    parents = draws.v.double() + task.sigma * draws.noise.double()
    level = torch.full((task.seeds,), task.sigma, dtype=torch.float64)
    if task.sampler == "exact":
        children, labels = _at_once(denoiser, parents, level, task)
    else:
        levels = levels_below(task.sigma, task.sigma_min, task.steps)
        children, labels = _continued(folder, denoiser, parents, levels, task, data.name, progress)
    exact = all_log_posteriors(denoiser, parents, level)
    return write_forks(folder, task, attributes, labels, exact, parents, children), False


def _open(task: Some, out: Path) -> tuple[TaskFolder, Some, Data, Exact]:
    check_folder(out, f"{task.kind}.toml")
    data = load_any(task.data, task.attributes, size=task.size, grain=task.grain, ground=task.ground)
    require_classes(data, "this command cannot follow")
    if isinstance(data, LabelledData) and by_word(task.data) is None:
        task = replace(task, data=str(Path(task.data).resolve()))
    if isinstance(data, LabelledData):
        require_levels(data, task.sigma_max if isinstance(task, GenerateTask) else math.inf, task.sigma_min)
        print_notes(data)
    names = tuple(a.name for a in data.attributes)
    if isinstance(task, GenerateTask):
        if set(task.watch) - set(names):
            raise InputError(f"watch is {task.watch[0]!r}: choose one of {', '.join(names)} (of --attributes)")
        _check_start(task, data)
    task = replace(task, attributes=task.attributes or names, fingerprint=data.fingerprint)
    return TaskFolder(out, task), task, data, denoiser_of(data, resolve_device(task.device))


def _check_start(task: GenerateTask, data: Data) -> None:
    """Refuse a first level at which the variance of the data is not small against that of the noise.

    The samplers start from noise alone, which lacks the variance of the data.
    """
    enough = series_level(data)
    if task.sigma_max < enough / 2**0.5:
        digits = 10.0 ** (math.floor(math.log10(enough)) - 1)
        raise InputError(
            f"sigma_max is {task.sigma_max:g}, too low for the spread of these data: a start from noise alone would be "
            f"biased; pass --sigma-max {math.ceil(enough / digits) * digits:g} or more"
        )


def _generation(
    task: GenerateTask, denoiser: Exact, levels: list[float], first: int, y: Tensor | None, log_pi: Tensor | None
) -> Iterator[State | JointState]:
    """States of the sampler from a step on; every step draws one noise for each row."""
    streams = Streams(task.seed, rows(task.n), denoiser.event)
    begin = streams()
    for _ in range(first):
        streams()
    here = start_from_noise(denoiser, levels[0], begin) if y is None else y
    if task.sampler == "filter":
        belief = _belief(task, denoiser)
        return joint(belief, here, levels[first:], streams, log_pi)
    scheme = StochasticHeun() if task.sampler == "sde" else Heun()
    return sample(denoiser, here, levels[first:], scheme, noise=streams)


def _belief(task: GenerateTask, denoiser: Exact) -> ItemBelief | ValueBelief:
    if task.watch_one or not isinstance(denoiser, FiniteDenoiser):
        return ValueBelief(denoiser, task.watch_one or denoiser.attributes[0].name)
    return ItemBelief(denoiser)


def _believed(task: GenerateTask, denoiser: Exact) -> set[str]:
    """Attributes whose belief is simulated with the image, with --sampler filter."""
    if task.sampler != "filter":
        return set()
    if isinstance(denoiser, FiniteDenoiser) and not task.watch_one:
        return {a.name for a in denoiser.attributes}
    return {task.watch_one or denoiser.attributes[0].name}


def _posteriors(
    denoiser: Exact, state: State | JointState, attributes: list[Attribute], task: GenerateTask
) -> dict[str, np.ndarray]:
    """π of every attribute: the simulated belief where there is one, else the exact posterior of the state."""
    if isinstance(state, JointState) and isinstance(denoiser, FiniteDenoiser) and not task.watch_one:
        marginals = ItemBelief(denoiser).marginals(state.log_pi)
        return {a.name: marginals[a.name].numpy() for a in attributes}
    level = torch.full((len(state.y),), state.sigma, dtype=torch.float64)
    exact = all_log_posteriors(denoiser, state.y, level)
    posteriors = {a.name: exact[a.name].exp() for a in attributes}
    if isinstance(state, JointState):
        posteriors[task.watch_one or denoiser.attributes[0].name] = state.log_pi.exp()
    return {n: p.numpy() for n, p in posteriors.items()}


def _at_once(denoiser: Exact, parents: Tensor, level: Tensor, task: ForkTask) -> tuple[Tensor, dict[str, Tensor]]:
    g = generator(task.seed, Use.CLEAN_VALUES)
    if isinstance(denoiser, FiniteDenoiser):
        items = denoiser.sample_items(parents, level, task.forks, g).cpu()
        children = denoiser.data.source.take(items.flatten()).reshape(*items.shape, *denoiser.event)
        return children, {n: label[items] for n, label in denoiser.data.labels.items()}
    symbols = [s.cpu() for s in denoiser.sample_symbols(parents, level, task.forks, g)]
    labels = {a.name: s[:, :, 0] for a, s in zip(denoiser.attributes, symbols, strict=True)}
    return denoiser.vectors.cpu()[symbols[-1]], labels


def _continued(
    folder: TaskFolder, denoiser: Exact, parents: Tensor, levels: list[float], task: ForkTask, name: str, progress: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Continuations by the sampler; their labels are drawn from their posteriors at the last level above 0."""
    scheme = StochasticHeun() if task.sampler == "sde" else Heun()
    renoise = task.renoise or None
    full = fork_levels(levels, renoise)

    def states(first: int, y: Tensor | None, log_pi: Tensor | None) -> Iterator[State]:
        resume = None if y is None else (first, y)
        return fork(denoiser, parents, levels, task.forks, task.seed, scheme, renoise=renoise, resume=resume)

    def look(state: State | JointState) -> dict[str, np.ndarray]:
        # A draw from the posterior has the right law at any last level; the likeliest label has not.
        level = torch.full((len(state.y),), state.sigma, dtype=torch.float64)
        g = generator(task.seed, Use.CHILDREN_LABELS)
        uniform = torch.rand(len(state.y), 1, generator=g, dtype=torch.float64)
        posteriors = all_log_posteriors(denoiser, state.y, level)
        return {n: draw_labels(p, uniform)[0].numpy() for n, p in posteriors.items()}

    record = follow(folder, full, states, look, {len(full) - 2}, name, progress)
    shape = (task.seeds, task.forks)
    labels = {n: torch.from_numpy(p[-1]).reshape(shape).T for n, p in record.posterior.items()}
    return record.y.reshape(*shape, *denoiser.event).movedim(1, 0), labels


def _generated_words(
    task: GenerateTask,
    attributes: list[Attribute],
    posterior: Mapping[str, np.ndarray],
    record: Record,
    denoiser: Exact,
) -> str:
    """How many images have decided each attribute; for the filter, how often the image agrees with its belief."""
    lines = []
    wide = max(len(spelled(a.name)) for a in attributes)
    level = torch.full((task.n,), task.sigma_min, dtype=torch.float64)
    of_image = all_log_posteriors(denoiser, record.y, level) if task.sampler == "filter" else {}
    believed = _believed(task, denoiser)
    for a in attributes:
        p = posterior[a.name][-1]
        text = f"decided (p > 0.9) in {int((p.max(1) > 0.9).sum())} of {task.n} images"
        if a.name in believed:
            same = int((of_image[a.name].argmax(1).numpy() == p.argmax(1)).sum())
            text += f"; the image agrees with the belief in {same} of {task.n}"
        lines.append(f"{spelled(a.name).ljust(wide)}  {text}")
    return "\n".join(lines)
