"""Run ``generate`` and ``fork``: follow states down the levels, keep what is done, draw what came out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from sigmascope.console import progress_bar, spelled
from sigmascope.core import Attribute, InputError, LabelledData, generator
from sigmascope.data import load_any
from sigmascope.data.loaders import by_word
from sigmascope.data.scales import require_levels
from sigmascope.device import resolve_device
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.items import ItemBelief
from sigmascope.exact.hierarchy import HierarchyDenoiser
from sigmascope.information.entropies import zhang
from sigmascope.information.forks import count_labels, draw_labels, enough
from sigmascope.information.jobs.levels import all_log_posteriors
from sigmascope.information.jobs.passes import series_level
from sigmascope.noise import sigma_grid
from sigmascope.report.gallery import decisions_figure, forks_figure, grid_figure, rendered
from sigmascope.report.sheets import Sheet
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
from sigmascope.studies.exact_law import Data, chosen, denoiser_of, draws_of
from sigmascope.studies.scales import say_notes
from sigmascope.studies.store import TaskFolder, check_folder
from sigmascope.studies.tasks import ForkTask, GenerateTask

CHECKPOINT_SECONDS = 8.0
_RECORDS = 16  # levels at which the posteriors are looked at
Exact = FiniteDenoiser | HierarchyDenoiser
Some = TypeVar("Some", GenerateTask, ForkTask)


@dataclass
class Followed:
    """What was seen on the way down: levels, posteriors (levels, rows, values) by attribute, and the last state."""

    sigmas: list[float]
    posterior: dict[str, list[np.ndarray]]
    y: Tensor
    log_pi: Tensor | None = None


def generate(task: GenerateTask, out: Path, progress: bool = True) -> tuple[str, bool]:
    """Generate images into a folder.

    Args:
        task: what to make.
        out: its folder; a half-done task goes on, a finished one is left as it is.
        progress: show a bar on stderr.

    Returns: what to print, and whether it was already finished.

    Raises: InputError.
    """
    folder, task, data, denoiser = _open(task.check(), out)
    if folder.finished:
        return "", True
    attributes = chosen(data, task.attributes)
    levels = [*sigma_grid(task.sigma_max, task.sigma_min, task.steps + 1).tolist(), 0.0]
    looks = _looks(levels)
    seen = _follow(folder, levels, lambda k, y, pi: _generation(task, denoiser, levels, k, y, pi),
                   lambda s: _posteriors(denoiser, s, attributes, task), looks, data.name, progress)  # fmt: skip
    images = seen.y.float().numpy()
    posterior = {n: np.stack(p) for n, p in seen.posterior.items()}
    captions = [[_caption(a, posterior[a.name][-1, i]) for a in attributes] for i in range(task.n)]
    folder.write("images.csv", lambda p: p.write_text(_csv(attributes, posterior), encoding="utf-8"))
    for name, figure in (
        ("images", grid_figure(images, captions)),
        ("decisions", decisions_figure(np.array(seen.sigmas), posterior, attributes, _held_by(task, denoiser))),
    ):
        _draw(folder, name, rendered(figure, "png"), rendered(figure, "svg"))
    held = {f"posterior.{n}": p for n, p in posterior.items()}
    folder.finish({"images": images, "sigma": np.array(seen.sigmas), **held})
    return _generated_words(task, attributes, posterior, seen, denoiser), False


def make_forks(task: ForkTask, out: Path, progress: bool = True) -> tuple[str, bool]:
    """Fork noisy images into a folder; arguments and result as of :func:`generate`."""
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
    table, words = _compare(attributes, labels, exact, task)
    folder.write("forks.csv", lambda p: p.write_text(table, encoding="utf-8"))
    shared = [_alike(attributes, labels, i) for i in range(task.seeds)]
    noised = f"σ = {task.sigma:g}" + (f", noised to {task.renoise:g}" if task.renoise else "")
    figure = forks_figure(parents.float().numpy(), children.float().numpy(), noised, shared)
    _draw(folder, "forks", rendered(figure, "png"), rendered(figure, "svg"))
    held = {f"label.{n}": v.numpy() for n, v in labels.items()}
    folder.finish({"parents": parents.float().numpy(), "children": children.float().numpy(), **held})
    return words, False


def _open(task: Some, out: Path) -> tuple[TaskFolder, Some, Data, Exact]:
    check_folder(out, f"{task.kind}.toml")
    data = load_any(task.data, task.attributes, size=task.size, grain=task.grain, ground=task.ground)
    if isinstance(data, LabelledData) and by_word(task.data) is None:
        task = replace(task, data=str(Path(task.data).resolve()))
    if isinstance(data, LabelledData):
        require_levels(data, task.sigma_max if isinstance(task, GenerateTask) else math.inf, task.sigma_min)
        say_notes(data)
    known = [a.name for a in data.attributes]
    if isinstance(task, GenerateTask):
        if task.about and task.about not in known:
            raise InputError(f"--about {task.about!r}: choose among {', '.join(known)} (all that --attributes names)")
        _check_start(task, data)
    names = task.attributes or tuple(known)
    task = replace(task, attributes=names, fingerprint=data.fingerprint)
    return TaskFolder(out, task), task, data, denoiser_of(data, resolve_device(task.device))


def _check_start(task: GenerateTask, data: Data) -> None:
    """A start from noise lacks the variance of the data: it must be small beside that of the noise."""
    enough = series_level(data)
    if task.sigma_max < enough / 2**0.5:
        digits = 10.0 ** (math.floor(math.log10(enough)) - 1)
        raise InputError(
            f"sigma_max is {task.sigma_max:g}, too low for the spread of these data: a start from noise would not have "
            f"their law; pass --sigma-max {math.ceil(enough / digits) * digits:g} or more"
        )


def _looks(levels: list[float]) -> set[int]:
    """Steps after which the posteriors are looked at: all of a few levels, else some, the last above 0 included."""
    last = len(levels) - 2
    return set(np.linspace(0, last, min(last + 1, _RECORDS)).round().astype(int).tolist())


def _follow(
    folder: TaskFolder,
    levels: list[float],
    states: Callable[[int, Tensor | None, Tensor | None], Iterator[State | JointState]],
    look: Callable[[State | JointState], Mapping[str, np.ndarray]],
    looks: set[int],
    name: str,
    progress: bool,
) -> Followed:
    """Run states to the end, from the folder's checkpoint where there is one, leaving new ones on the way."""
    seen, first = Followed([], {}, torch.empty(0)), 0
    last_step = len(levels) - 1
    held = folder.checkpoint() or {}
    if held.keys() >= {"step", "sigmas", "y", "levels"} and held["levels"].shape == (len(levels),):
        first, seen.sigmas = int(held["step"]), held["sigmas"].tolist()
        seen.y = torch.from_numpy(held["y"])
        seen.log_pi = torch.from_numpy(held["log_pi"]) if "log_pi" in held else None
        seen.posterior = {k.removeprefix("p."): list(v) for k, v in held.items() if k.startswith("p.")}
        if first == last_step:
            return seen
        running = states(first, seen.y, seen.log_pi)
        next(running)  # the state that is held
    else:
        running = states(0, None, None)
    with progress_bar(name, len(levels), "levels", initial=first + bool(first), disable=not progress) as bar:
        last = time.monotonic()
        for step, state in enumerate(running, first + 1 if first else 0):
            seen.y, seen.log_pi = state.y, getattr(state, "log_pi", None)
            if step in looks:
                seen.sigmas.append(state.sigma)
                for key, p in look(state).items():
                    seen.posterior.setdefault(key, []).append(p)
            bar.update()
            if step and time.monotonic() - last > CHECKPOINT_SECONDS:
                folder.store_checkpoint(_held(seen, step, levels))
                last = time.monotonic()
    return seen


def _held(seen: Followed, step: int, levels: list[float]) -> dict[str, np.ndarray]:
    state = {"step": np.array(step), "y": seen.y.numpy(), "sigmas": np.array(seen.sigmas), "levels": np.array(levels)}
    if seen.log_pi is not None:
        state["log_pi"] = seen.log_pi.numpy()
    return state | {f"p.{k}": np.stack(v) for k, v in seen.posterior.items()}


def _generation(
    task: GenerateTask, denoiser: Exact, levels: list[float], first: int, y: Tensor | None, log_pi: Tensor | None
) -> Iterator[State | JointState]:
    """States of the sampler from a step on; every step takes one noise of each row."""
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
    if task.about or not isinstance(denoiser, FiniteDenoiser):
        return ValueBelief(denoiser, task.about or denoiser.attributes[0].name)
    return ItemBelief(denoiser)


def _held_by(task: GenerateTask, denoiser: Exact) -> set[str]:
    """Attributes on which the filter holds a belief of its own while it generates."""
    if task.sampler != "filter":
        return set()
    if isinstance(denoiser, FiniteDenoiser) and not task.about:
        return {a.name for a in denoiser.attributes}
    return {task.about or denoiser.attributes[0].name}


def _posteriors(
    denoiser: Exact, state: State | JointState, attributes: list[Attribute], task: GenerateTask
) -> dict[str, np.ndarray]:
    """π of every attribute: the filter's own where it holds one, else the exact posterior at the state."""
    if isinstance(state, JointState) and isinstance(denoiser, FiniteDenoiser) and not task.about:
        found = ItemBelief(denoiser).marginals(state.log_pi)
        return {a.name: found[a.name].numpy() for a in attributes}
    level = torch.full((len(state.y),), state.sigma, dtype=torch.float64)
    exact = all_log_posteriors(denoiser, state.y, level)
    found = {a.name: exact[a.name].exp() for a in attributes}
    if isinstance(state, JointState):
        found[task.about or denoiser.attributes[0].name] = state.log_pi.exp()
    return {n: p.numpy() for n, p in found.items()}


def _alike(attributes: list[Attribute], labels: Mapping[str, Tensor], parent: int) -> list[tuple[str, str]]:
    """The attributes in which all children of a parent agree, with their values."""
    found = {a: set(labels[a.name][:, parent].tolist()) for a in attributes}
    return [(a.name, a.values[values.pop()]) for a, values in found.items() if len(values) == 1]


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
    """Children by the sampler; their labels are drawn from their posteriors at the last level above 0."""
    scheme = StochasticHeun() if task.sampler == "sde" else Heun()
    renoise = task.renoise or None
    full = fork_levels(levels, renoise)

    def states(first: int, y: Tensor | None, log_pi: Tensor | None) -> Iterator[State]:
        resume = None if y is None else (first, y)
        return fork(denoiser, parents, levels, task.forks, task.seed, scheme, renoise=renoise, resume=resume)

    def look(state: State | JointState) -> dict[str, np.ndarray]:
        # A label drawn from the child's own posterior is right at any last level; the likeliest one would not be.
        level = torch.full((len(state.y),), state.sigma, dtype=torch.float64)
        g = generator(task.seed, Use.CHILDREN_LABELS)
        uniform = torch.rand(len(state.y), 1, generator=g, dtype=torch.float64)
        found = all_log_posteriors(denoiser, state.y, level)
        return {n: draw_labels(p, uniform)[0].numpy() for n, p in found.items()}

    seen = _follow(folder, full, states, look, {len(full) - 2}, name, progress)
    shape = (task.seeds, task.forks)
    labels = {n: torch.from_numpy(p[-1]).reshape(shape).T for n, p in seen.posterior.items()}
    return seen.y.reshape(*shape, *denoiser.event).movedim(1, 0), labels


def _compare(
    attributes: list[Attribute], labels: Mapping[str, Tensor], exact: Mapping[str, Tensor], task: ForkTask
) -> tuple[str, str]:
    """A table of every parent and attribute, and a summary of the attributes in words."""
    writer = Sheet()
    writer.writerow(["parent", "attribute", "commonest", "share", "forked_entropy", "exact_entropy", "note"])
    turn = f"after noising to {task.renoise:g}" if task.renoise else ""
    lines = [f"sigma {task.sigma:g}{', ' + turn if turn else ''}, {task.seeds} parents of {task.forks} children:", ""]
    wide = max(len(spelled(a.name)) for a in attributes)
    for a in attributes:
        counts = count_labels(labels[a.name], len(a.values))
        entropy, share = zhang(counts), counts.max(1).values / task.forks
        known = torch.special.entr(exact[a.name].exp()).sum(1)
        note = "" if enough(a, task.forks) else f"{task.forks} children are too few for {len(a.values)} values"
        for i in range(task.seeds):
            value = a.values[int(counts[i].argmax())]
            row = [i, a.name, value, f"{float(share[i]):.4f}", f"{float(entropy[i]):.5f}", f"{float(known[i]):.5f}"]
            writer.writerow([*row, "; ".join(n for n in (note, turn and f"children {turn}") if n)])
        alike = int((share == 1).sum())
        error = float(entropy.std()) / task.seeds**0.5
        text = f"all children agree for {alike} of {task.seeds} parents; "
        if turn:  # the children of a U-turn tell of the level that it reaches, not of the parent's
            text += note or f"entropy of the children {float(entropy.mean()):.2f} ± {error:.2f} of {a.entropy:.2f} nats"
        else:
            text += note or f"I = {a.entropy - float(entropy.mean()):.2f} ± {error:.2f} of {a.entropy:.2f} nats"
        lines.append(f"{spelled(a.name).ljust(wide)}  {text}")
    return writer.getvalue(), "\n".join(lines)


def _caption(a: Attribute, p: np.ndarray) -> tuple[str, str]:
    return a.name, a.values[int(p.argmax())] if p.max() > 0.9 else "open"


def _csv(attributes: list[Attribute], posterior: Mapping[str, np.ndarray]) -> str:
    writer = Sheet()
    writer.writerow(["image", *(x for a in attributes for x in (a.name, f"{a.name}_probability"))])
    for i in range(len(posterior[attributes[0].name][-1])):
        row: list[object] = [i]
        for a in attributes:
            p = posterior[a.name][-1, i]
            row += [a.values[int(p.argmax())], f"{p.max():.4f}"]
        writer.writerow(row)
    return writer.getvalue()


def _generated_words(
    task: GenerateTask,
    attributes: list[Attribute],
    posterior: Mapping[str, np.ndarray],
    seen: Followed,
    denoiser: Exact,
) -> str:
    """How many images have settled each attribute; for the filter, whether the image carries what π settled on."""
    lines = []
    wide = max(len(spelled(a.name)) for a in attributes)
    level = torch.full((task.n,), task.sigma_min, dtype=torch.float64)
    carried = all_log_posteriors(denoiser, seen.y, level) if task.sampler == "filter" else {}
    held = _held_by(task, denoiser)
    for a in attributes:
        p = posterior[a.name][-1]
        text = f"settled (p > 0.9) in {int((p.max(1) > 0.9).sum())} of {task.n} images"
        if a.name in held:
            same = int((carried[a.name].argmax(1).numpy() == p.argmax(1)).sum())
            text += f"; the image carries what π settled on in {same} of {task.n}"
        lines.append(f"{spelled(a.name).ljust(wide)}  {text}")
    return "\n".join(lines)


def _draw(folder: TaskFolder, name: str, png: bytes, svg: bytes) -> None:
    folder.write(f"{name}.png", lambda p: p.write_bytes(png))
    folder.write(f"{name}.svg", lambda p: p.write_bytes(svg))
