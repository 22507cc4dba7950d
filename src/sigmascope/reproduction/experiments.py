"""The experiments of a reproduction: each takes the laboratory and returns its results as a Dataset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sigmascope import filtering
from sigmascope.core import Attribute, Draws, InputError, LabelledData, generator
from sigmascope.data.arrays import ArraySource
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.items import ItemBelief
from sigmascope.exact.finite.kernel.threads import one_thread
from sigmascope.information.posterior import entropy_of
from sigmascope.information.probes import HasFeatures, probes
from sigmascope.learn.neural import NeuralDenoiser
from sigmascope.learn.settings import NULL
from sigmascope.learn.sources import null_attribute
from sigmascope.noise import VarianceExploding, sigma_grid
from sigmascope.sample import StochasticHeun, Streams, final, fork, joint, levels_below, start
from sigmascope.streams import NoiseOf, Use
from sigmascope.studies.exact_law import draws_of
from sigmascope.studies.exploring import continuations
from sigmascope.studies.options import ForkOptions, Sampling
from sigmascope.studies.study import study

PAPER_TAU, FORKS = 0.4, 4
"""The intensity at which the paper's fourth figure forks, and the number of continuations."""
TAUS = (0.7, 0.6, 0.5, PAPER_TAU, 0.2)
"""Intensities at which the reproduction forks."""
LOWEST = 0.02
"""Last level above 0 of paths; there the attributes are decided."""


@dataclass(frozen=True)
class Effort:
    """How much is computed.

    Attributes:
        draws: of curves.
        levels: of curves.
        children: of each draw, for the entropy of forks.
        path: steps of the path of Figures 1 and 4.
        followed: whether the continuations of Figure 4 are made by the SDE or drawn from the posterior.
        probe_levels: noise levels of probes.
        probe_train: draws to train probes on.
        probe_test: draws to judge them on.
        ode: deterministic paths.
        ode_steps: of each.
        turn_levels: levels of the U-turn.
        grain: draws of the scenes with grain.
        held_out: draws of the bounds on the second data set.
        model_forks: levels, draws and children of a learned model's forks.
        model_stderr: standard error asked of a learned model's gaps, nats.
    """

    draws: int = 512
    levels: int = 40
    children: int = 64
    path: int = 60
    followed: bool = True
    probe_levels: int = 12
    probe_train: int = 2048
    probe_test: int = 512
    ode: int = 48
    ode_steps: int = 24
    turn_levels: int = 24
    grain: int = 128
    held_out: int = 512
    model_forks: tuple[int, int, int] = (10, 48, 32)
    model_stderr: float = 0.02


QUICK = Effort(128, 28, 64, 20, False, 6, 512, 256, 12, 10, 14, 32, 128, (6, 16, 16), 0.05)
FULL = Effort()


@dataclass(frozen=True, eq=False)
class Laboratory:
    """The data, denoisers and settings that all experiments share.

    Args:
        data: the items, in memory.
        exact: their exact filter.
        effort: how much to compute.
        seed: of everything.
        model: a learned denoiser, if one is measured.
        reader: the network or filter whose features the probes read.
        reader_name: the same in words.
    """

    data: LabelledData
    exact: FiniteDenoiser
    effort: Effort
    seed: int
    model: NeuralDenoiser | None = None
    reader: HasFeatures | None = None
    reader_name: str = ""

    @property
    def schedule(self) -> VarianceExploding:
        """The paper's, with our ends."""
        return VarianceExploding()

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self.data.attributes

    def draws(self, n: int, use: Use) -> Draws:
        """Draws of the data, for one use."""
        return draws_of(self.data, n, 1_000 * use + self.seed)

    def shown(self) -> tuple[Tensor, Tensor, dict[str, int]]:
        """The image that is shown, its noise, and its values."""
        d = self.draws(2, Use.SHOWN)
        return d.v[0].double(), d.noise[0].double(), {n: int(x[0]) for n, x in d.labels.items()}

    def noised(self, sigma: np.ndarray) -> tuple[Tensor, Tensor]:
        """That image at these levels, and the levels."""
        v, noise, _ = self.shown()
        level = torch.from_numpy(sigma)
        return v + level.reshape(-1, *[1] * v.ndim) * noise, level

    @property
    def axes(self) -> list[str]:
        """Names of the dimensions of a value."""
        return [f"axis{i}" for i in range(len(self.exact.event))]


class PosteriorMean:
    """The posterior mean of a filter of some of the items, as features for probes.

    Args:
        data: the items.
        limit: the most items that are used, evenly spaced; all of them would take long.
    """

    def __init__(self, data: LabelledData, limit: int = 16_384) -> None:
        if len(data) > limit:
            some = torch.linspace(0, len(data) - 1, limit, dtype=torch.float64).round().long()
            weights = data.weights[some]
            data = replace(
                data,
                source=ArraySource(data.source.take(some).numpy()),
                labels={n: x[some] for n, x in data.labels.items()},
                weights=weights / weights.sum(),
            )
        self._filter = FiniteDenoiser(data)

    def features(self, y: Tensor, sigma: Tensor) -> dict[str, Tensor]:
        """The mean, flat."""
        parts = [self._filter(y[i : i + 256], sigma[i : i + 256]) for i in range(0, len(y), 256)]
        return {"posterior mean": torch.cat(parts).flatten(1)}


def curves(lab: Laboratory, progress: bool) -> xr.Dataset:
    """Information of every attribute, and of random labels, by four estimators of the exact filter."""
    e, data = lab.effort, lab.data
    if all(a.name != NULL for a in data.attributes):
        words = np.random.SeedSequence(lab.seed, spawn_key=(Use.INDEPENDENT_LABELS,))
        labels = np.random.default_rng(words).integers(0, 8, len(data))
        data = replace(
            data,
            attributes=(*data.attributes, null_attribute(8)),
            labels=dict(data.labels) | {NULL: torch.from_numpy(labels)},
        )
    children = max(e.children, *(len(a.values) for a in data.attributes))
    return study(
        data,
        estimators=("posterior", "score_gap", "mmse_gap", "forks"),
        sampling=Sampling(e.draws, e.levels, seed=lab.seed),
        options=ForkOptions(children),
        progress=progress,
    )


def systems(lab: Laboratory, progress: bool) -> xr.Dataset:
    """A switch behind a noisy measurement with its Wonham filter; and a generation from the latent filter alone."""
    rates = torch.tensor([[-0.4, 0.3, 0.1], [0.25, -0.5, 0.25], [0.1, 0.3, -0.4]])
    slopes = torch.tensor([[-3.0], [0.0], [4.0]])
    switch = filtering.FiniteSystem(torch.full((3,), 1 / 3), slopes, rates)
    times = filtering.uniform_times(8.0, 800)
    path = filtering.simulate(switch, times, 32, generator(lab.seed, Use.SHOWN))
    seen = filtering.run(filtering.WonhamFilter(switch), path)
    jumps = (path.state.diff(dim=0) != 0).sum(0)
    shown = int((jumps - 5).abs().argmin())
    arrays = {
        "time": ("time", times.numpy()),
        "measured": ("time", path.y[:, shown, 0].numpy()),
        "hidden": ("time", path.state[:, shown].numpy()),
        "slope": ("state", slopes[:, 0].numpy()),
        "filter": (("time", "state"), seen.mean[:, shown].numpy()),
    }
    return xr.Dataset(arrays | _generation(lab))


def _generation(lab: Laboratory) -> dict[str, Any]:
    """One generation by the items' filter, through the levels at which it is forked later."""
    levels = path_levels(lab)
    noise = Streams(lab.seed, [(NoiseOf.SHOWN, row) for row in range(1)], lab.exact.event)
    belief = ItemBelief(lab.exact)
    sigma: list[float] = []
    y: list[Tensor] = []
    mean: list[Tensor] = []
    pi: dict[str, list[Tensor]] = {a.name: [] for a in lab.attributes}
    with one_thread():
        for state in joint(belief, start(lab.exact, levels[0], noise()), levels, noise):
            sigma.append(state.sigma)
            y.append(state.y[0])
            mean.append(belief.denoised(state.log_pi, state.y, state.sigma)[0])
            for name, p in belief.marginals(state.log_pi).items():
                pi[name].append(p[0])
    event = lab.axes
    arrays: dict[str, Any] = {
        "sigma": ("level", np.array(sigma)),
        "y": (("level", *event), torch.stack(y).float().numpy()),
        "mean": (("level", *event), torch.stack(mean).float().numpy()),
    }
    # By number: a stranger's name may hold what the file format forbids.
    named = {f"pi.{i}": (("level", f"value.{i}"), torch.stack(p).numpy()) for i, p in enumerate(pi.values())}
    return arrays | named | {"attribute": ("attribute", list(pi))}


def path_levels(lab: Laboratory) -> list[float]:
    """Levels of the generation: even in ln sigma, with those at which it is forked among them."""
    s = lab.schedule
    grid = sigma_grid(s.sigma_max, LOWEST, lab.effort.path)
    forked = s.sigma(np.array(TAUS))
    near = np.abs(np.log(grid[:, None] / forked)).min(1) < 0.4 * np.log(grid[0] / grid[1])
    return sorted({*grid[~near].tolist(), *forked.tolist()}, reverse=True)


def schedule(lab: Laboratory, progress: bool) -> xr.Dataset:
    """One image at eleven intensities, with the entropy that the exact filter leaves of each attribute."""
    tau = np.linspace(0.0, 1.0, 11)
    sigma = lab.schedule.sigma(tau)
    (y, level), event = lab.noised(sigma), lab.axes
    arrays = lab.exact.all_log_posteriors(y, level)
    names = [a.name for a in lab.attributes]
    return xr.Dataset(
        {
            "tau": ("level", tau),
            "sigma": ("level", sigma),
            "clean": (tuple(event), lab.shown()[0].float().numpy()),
            "noised": (("level", *event), y.float().numpy()),
            "entropy": (("attribute", "level"), np.stack([entropy_of(arrays[n]).numpy() for n in names])),
            "ceiling": ("attribute", [a.entropy for a in lab.attributes]),
        },
        {"attribute": names},
    )


def forked(lab: Laboratory, progress: bool, systems: xr.Dataset) -> xr.Dataset:
    """Four continuations of one generation from each of five levels, and the probability that they agree."""
    sigma = lab.schedule.sigma(np.array(TAUS))
    at = [int(np.abs(systems["sigma"].values / s - 1).argmin()) for s in sigma]
    parents = torch.from_numpy(systems["y"].values[at]).double()
    level = torch.from_numpy(sigma)
    log_p = lab.exact.all_log_posteriors(parents, level)
    if lab.effort.followed:
        ends: list[Tensor] = []
        levels = []
        for s, t in zip(sigma, TAUS, strict=True):
            levels.append(levels_below(float(s), LOWEST, max(4, int(lab.effort.path * t))))
        for k, grid in enumerate(levels):
            how = StochasticHeun()
            ends.append(final(fork(lab.exact, parents[k : k + 1], grid, FORKS, lab.seed, how, first_parent=k)).y)
        children = torch.stack(ends)
        # At the lowest level the posterior is that of the nearest item, whose values are the labels.
        flat = children.flatten(0, 1)
        end = torch.full((len(flat),), LOWEST, dtype=torch.float64)
        labels = {n: p.argmax(1).reshape(-1, FORKS) for n, p in lab.exact.all_log_posteriors(flat, end).items()}
    else:
        items = lab.exact.sample_items(parents, level, FORKS, generator(lab.seed, Use.FORKED_ITEMS)).T
        children = lab.data.source.take(items.flatten()).reshape(*items.shape, *lab.exact.event)
        labels = {n: x[items] for n, x in lab.data.labels.items()}
    event = lab.axes
    names = [a.name for a in lab.attributes]
    return xr.Dataset(
        {
            "tau": ("fork", np.array(TAUS)),
            "sigma": ("fork", sigma),
            "parent": (("fork", *event), parents.float().numpy()),
            "child": (("fork", "child", *event), children.float().numpy()),
            "label": (("attribute", "fork", "child"), np.stack([labels[n].numpy() for n in names])),
            "agreement": (
                ("attribute", "fork"),
                np.stack([(FORKS * log_p[n]).exp().sum(1).numpy() for n in names]),
            ),
        },
        {"attribute": names},
    )


def probed(lab: Laboratory, progress: bool) -> xr.Dataset:
    """Linear classifiers of features of the network, of the noisy image, and random guess, over the intensity."""
    if lab.reader is None:
        raise InputError("no features to probe: pass a model")
    e, names = lab.effort, [a.name for a in lab.attributes]
    tau = np.linspace(0.9, 0.15, e.probe_levels)
    sigma = lab.schedule.sigma(tau)
    train, test = lab.draws(e.probe_train, Use.PROBES), lab.draws(e.probe_test, Use.PROBES_TEST)
    where = ("features", "noisy", "prior")
    shape = (len(where), len(names), len(sigma))
    arrays = {k: np.zeros(shape) for k in ("accuracy", "log_score", "bound", "stderr")}
    for i, w in enumerate(where):
        reader = lab.reader if w == "features" else None
        rows = probes(lab.attributes, train, test, sigma, w, denoiser=reader, seed=lab.seed, shares=(1.0,))
        for j, name in enumerate(names):
            p = rows[name]
            parts = {"accuracy": p.accuracy, "log_score": p.log_score, "bound": p.curve.value, "stderr": p.curve.stderr}
            for k, x in parts.items():
                arrays[k][i, j] = x
    return xr.Dataset(
        {k: (("where", "attribute", "level"), x) for k, x in arrays.items()}
        | {"tau": ("level", tau), "sigma": ("level", sigma)},
        {"where": list(where), "attribute": names},
        {"reader": lab.reader_name, "train": e.probe_train, "test": e.probe_test},
    )


def explored(lab: Laboratory, progress: bool) -> xr.Dataset:
    """One image at many levels for the slider: posterior, posterior mean and continuations."""
    sigma = sigma_grid(lab.schedule.sigma_max / 3, 2 * LOWEST, 24)
    (y, level), event, truth = lab.noised(sigma), lab.axes, lab.shown()[2]
    children, labels = continuations(lab.exact, y, level, FORKS, generator(lab.seed, Use.EXPLORED))
    posterior = lab.exact.all_log_posteriors(y, level)
    arrays: dict[str, Any] = {
        "sigma": ("level", sigma),
        "tau": ("level", lab.schedule.time(sigma)),
        "noised": (("level", *event), y.float().numpy()),
        "denoised": (("level", *event), lab.exact(y, level).float().numpy()),
        "child": (("level", "child", *event), children.numpy()),
    }
    for i, a in enumerate(lab.attributes):
        arrays[f"label.{i}"] = (("level", "child"), labels[a.name].numpy())
        arrays[f"posterior.{i}"] = (("level", f"value.{i}"), posterior[a.name].exp().numpy())
        arrays[f"truth.{i}"] = ((), truth[a.name])
    arrays["attribute"] = ("attribute", [a.name for a in lab.attributes])
    return xr.Dataset(arrays)
