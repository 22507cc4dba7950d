"""Experiments beyond the paper: there and back, deterministic paths, grain, a second data set, a model's own forks."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sigmascope.console import progress_bar
from sigmascope.core import InputError, LabelledData, generator
from sigmascope.data import grouped, load
from sigmascope.information.forks import count_labels, draw_labels, forks
from sigmascope.information.jobs.levels import InTurn
from sigmascope.information.jobs.passes import Collected
from sigmascope.information.posterior import entropy_of
from sigmascope.noise import sigma_grid
from sigmascope.reproduction.experiments import FORKS, LOWEST, Laboratory
from sigmascope.sample import Heun, StochasticHeun, Streams, final, fork, levels_below, rows, sample, start
from sigmascope.streams import Use
from sigmascope.studies.labelling import Nearest
from sigmascope.studies.options import DataOptions, ExactOptions, Sampling
from sigmascope.studies.run import advance
from sigmascope.studies.study import study

ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
VEHICLES = ("airplane", "automobile", "ship", "truck")
_LAST, _MODEL_STEPS = 0.05, 16  # level at which the continuations of a model are labelled; steps down to it


def turned(lab: Laboratory, progress: bool) -> xr.Dataset:
    """The U-turn: noise an image, denoise it, and compare; and the probability that two continuations agree."""
    e, names = lab.effort, [a.name for a in lab.attributes]
    sigma = sigma_grid(lab.schedule.sigma_max / 2, 2 * LOWEST, e.turn_levels)
    draws = lab.draws(e.draws, Use.TURNED)
    pass_ = Collected(lab.exact, draws, sigma, None)
    advance(InTurn({"posteriors": pass_}), "there and back", None, progress)
    uniform = torch.rand(len(draws), 1, generator=generator(lab.seed, Use.TURNED), dtype=torch.float64)
    parts: dict[str, list[np.ndarray]] = {k: [] for k in ("kept_probability", "kept", "agree", "agree4")}
    for n in names:
        q, own = pass_.log_posterior(n)[:-1], draws.labels[n]
        parts["kept_probability"].append(q.exp().gather(2, own.expand(len(sigma), -1)[..., None])[..., 0].numpy())
        child = torch.stack([draw_labels(at, uniform)[0] for at in q])
        parts["kept"].append((child == own).double().numpy())
        parts["agree"].append((2 * q).exp().sum(2).numpy())
        parts["agree4"].append((FORKS * q).exp().sum(2).numpy())
    return xr.Dataset(
        {k: (("attribute", "level", "draw"), np.stack(x).astype(np.float32)) for k, x in parts.items()}
        | {"sigma": ("level", sigma), "tau": ("level", lab.schedule.time(sigma))},
        {"attribute": names},
    )


def deterministic(lab: Laboratory, progress: bool) -> xr.Dataset:
    """The probability that the filter gives, along probability-flow paths, to the value at the end of the path."""
    e, names = lab.effort, [a.name for a in lab.attributes]
    levels = sigma_grid(lab.schedule.sigma_max, LOWEST, e.ode_steps).tolist()
    noise = Streams(lab.seed, rows(e.ode), lab.exact.event)
    begin = start(lab.exact, levels[0], noise())
    seen: list[tuple[float, dict[str, Tensor]]] = []
    for state in sample(lab.exact, begin, levels, Heun()):
        at = torch.full((e.ode,), state.sigma, dtype=torch.float64)
        seen.append((state.sigma, lab.exact.all_log_posteriors(state.y, at)))
    ends = {n: seen[-1][1][n].argmax(1) for n in names}
    gained = [
        [(p[a.name].gather(1, ends[a.name][:, None])[:, 0] + a.entropy).numpy() for _, p in seen]
        for a in lab.attributes
    ]
    open_ = [[entropy_of(p[n]).numpy() for _, p in seen] for n in names]
    return xr.Dataset(
        {
            "sigma": ("level", np.array([s for s, _ in seen])),
            "gained": (("attribute", "level", "path"), np.array(gained)),
            "open": (("attribute", "level", "path"), np.array(open_)),
            "ceiling": ("attribute", [a.entropy for a in lab.attributes]),
        },
        {"attribute": names},
    )


def grain(lab: Laboratory, progress: bool) -> xr.Dataset:
    """The scenes with a fine texture on the floor, an attribute that shows at small noise only."""
    e = lab.effort
    return study(
        "scenes",
        estimators="posterior",
        sampling=Sampling(e.grain, e.levels, seed=lab.seed),
        options=DataOptions(size=lab.exact.event[-1], grain=True),
        progress=progress,
    )


def second(lab: Laboratory, progress: bool, data: LabelledData, law: str) -> xr.Dataset:
    """Another data set, under one law; CIFAR-10 also has the attribute animal or vehicle."""
    e = lab.effort
    draws = e.held_out if law == "heldout" else e.draws
    return study(data, sampling=Sampling(draws, e.levels, seed=lab.seed), options=ExactOptions(law), progress=progress)


def second_data(path: str) -> LabelledData:
    """Another data set, with the coarse attribute where it has one."""
    data = load(path)
    first = data.attributes[0]
    if set(first.values) == {*ANIMALS, *VEHICLES}:
        data = grouped(data, first.name, "animal or vehicle", {"animal": list(ANIMALS), "vehicle": list(VEHICLES)})
    return data


def model_forks(lab: Laboratory, progress: bool) -> xr.Dataset:
    """Entropy of the labels of a learned model's own continuations; parents do not label their own continuations."""
    if lab.model is None:
        raise InputError("no model to fork: pass one")
    label = Nearest(lab.data)
    levels, n, children = lab.effort.model_forks
    tau = np.linspace(0.75, 0.25, levels)
    sigma = lab.schedule.sigma(tau)
    draws = lab.draws(n, Use.FORKED_ITEMS)
    wide = [a for a in lab.attributes if len(a.values) <= children]
    counts: dict[str, list[Tensor]] = {a.name: [] for a in wide}
    parents = draws.items.repeat_interleave(children)
    bar = progress_bar("forks of the model", len(sigma), "levels", disable=not progress)
    for level in sigma.tolist():
        y = draws.v.double() + level * draws.noise.double()
        grid = levels_below(level, _LAST, _MODEL_STEPS)
        ends = final(fork(lab.model, y, grid, children, lab.seed, StochasticHeun())).y
        labels = child_labels(lab, label, ends, parents)
        for a in wide:
            counts[a.name].append(count_labels(labels[a.name].reshape(n, children).T, len(a.values)))
        bar.update()
    bar.close()
    curves = [forks(a, sigma, torch.stack(counts[a.name])) for a in wide]
    return xr.Dataset(
        {
            "information": (("attribute", "level"), np.stack([c.value for c in curves])),
            "stderr": (("attribute", "level"), np.stack([c.error for c in curves])),
            "tau": ("level", tau),
            "sigma": ("level", sigma),
        },
        {"attribute": [a.name for a in wide]},
        {"labeller": label.words},
    )


def child_labels(lab: Laboratory, label: Nearest, ends: Tensor, parents: Tensor) -> dict[str, Tensor]:
    """Labels of continuations of noised items.

    Args:
        lab: with the data and their exact filter.
        label: of the nearest item, without the parent and near copies of it.
        ends: the continuations, shape (rows, *event).
        parents: the item from which each continuation started.

    Returns: for each attribute the index of each continuation's value.  Where nothing is left out, because no two items
        share all values, the exact filter at a small level gives the same labels as the nearest item, and faster.
    """
    if label.leaves_out:
        return label(ends, parents)
    posteriors = lab.exact.all_log_posteriors(ends, torch.full((len(ends),), _LAST, dtype=torch.float64))
    return {n: p.argmax(1) for n, p in posteriors.items()}
