"""Every job with its model on a GPU that is pretended and its draws on the CPU: the same results as on the CPU."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import sigmascope
from denoisers import classifier, finite, foreign, hierarchy, mixture, neural
from pretended import pretended_cuda
from problems import pictures, random_set
from sigmascope.adapters import Featured
from sigmascope.core import Denoiser, Draws, LabelledData, generator
from sigmascope.data import draw_items
from sigmascope.exact import parse_features
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.exact.finite.heldout import HeldOutPass
from sigmascope.information.adaptive import GapJob
from sigmascope.information.direct import gaps_at
from sigmascope.information.divergence import divergence
from sigmascope.information.forks import forks_by_sampling
from sigmascope.information.jobs.chains import SubsetsJob
from sigmascope.information.jobs.conditional_path import ConditionalPathJob
from sigmascope.information.jobs.data_bound import DataBound, bound_size
from sigmascope.information.jobs.field import FieldJob, ResolvedJob
from sigmascope.information.jobs.forking import Descent, ForkJob, OwnPathJob
from sigmascope.information.jobs.levels import AlongJob, FinitePathJob, LevelJob, PathJob
from sigmascope.information.jobs.losses import LossJob
from sigmascope.information.jobs.networks import (
    ChainJob,
    ClassifierJob,
    ControlJob,
    LikelihoodJob,
    ProbeJob,
)
from sigmascope.information.jobs.pairs import PairJob
from sigmascope.information.jobs.passes import Collected, Posteriors, sketch_of
from sigmascope.information.jobs.training import ClassifierTraining
from sigmascope.information.maps import information_maps
from sigmascope.information.mixture import Mixture
from sigmascope.information.pointwise import pointwise
from sigmascope.learn.classifying import ClassifierTrainer
from sigmascope.learn.settings import Settings
from sigmascope.learn.sources import Items

SIGMA = np.array([3.0, 1.0, 0.4])
LIGHT, ITEMS = pictures(120), random_set(0, items=96)
"""Data of the networks, and of the exact filters."""


BANDS = parse_features(["bands:3", "gray"])


def drawn(data: LabelledData = LIGHT, n: int = 8, seed: int = 5) -> Draws:
    return draw_items(data, n, seed)


def of_law(d: Any, n: int = 6) -> Draws:
    """Draws of a law that is no finite set."""
    if hasattr(d, "draw"):
        return d.draw(n, 2)
    v = torch.randn(n, *d.event, generator=generator(8))
    labels = {a.name: torch.arange(n) % len(a.values) for a in d.attributes}
    return Draws(torch.arange(n), v, torch.randn(v.shape, generator=generator(9)), labels)


def labelled(values: torch.Tensor, parents: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """A user's labels of pictures, by numpy."""
    return {"where": torch.from_numpy(values.numpy().mean((2, 3)).argmax(1))}


def gaps(d: Denoiser) -> GapJob:
    ceilings = {a.name: a.entropy for a in d.attributes}
    return GapJob(d, Items(LIGHT, null=0).draw, ceilings, SIGMA, budget=1200, pilot=16, batch=512)


def exact(device: str) -> FiniteDenoiser:
    return FiniteDenoiser(ITEMS, device)


def levels(d: Any) -> LevelJob:
    return LevelJob(d, of_law(d), SIGMA, d.attributes, True, True)


SMALL = Settings(network="unet", width=8, depth=1, batch=16, steps=6, warmup=2, precision="float32")
WHERE, DOWN = LIGHT.attributes[0], Descent(3.0, 0.2, 6)
JOBS: dict[str, Callable[[str], Any]] = {
    "GapJob": lambda at: gaps(neural().to(at)),
    "GapJob, with a classifier": lambda at: gaps(neural(classified=True).to(at)),
    "GapJob, foreign": lambda at: gaps(foreign().to(at)),
    "GapJob, mixture": lambda at: gaps(Mixture(foreign(null=None), "where", span=3.0, nodes=2).to(at)),
    "PathJob": lambda at: PathJob(neural().to(at), drawn(), SIGMA, LIGHT.attributes, 0),
    "PathJob, foreign": lambda at: PathJob(foreign().to(at), drawn(), SIGMA, [WHERE], 0),
    "AlongJob": lambda at: AlongJob(classifier().to(at), drawn(), SIGMA, LIGHT.attributes, 0),
    "FinitePathJob": lambda at: FinitePathJob(exact(at), drawn(ITEMS), SIGMA, sketch_of(ITEMS, 0), 0),
    "Collected": lambda at: Collected(exact(at), drawn(ITEMS), SIGMA, sketch_of(ITEMS, 0)),
    "Collected, posteriors alone": lambda at: Collected(exact(at), drawn(ITEMS), SIGMA, None),
    "SubsetsJob": lambda at: SubsetsJob(exact(at), drawn(ITEMS), SIGMA, ITEMS.attributes),
    "PairJob": lambda at: PairJob(exact(at), drawn(ITEMS), SIGMA, ITEMS.attributes),
    "LevelJob": lambda at: levels(mixture().to(at)),
    "LevelJob, hierarchy": lambda at: levels(hierarchy().to(at)),
    "ClassifierJob": lambda at: ClassifierJob(classifier().to(at), drawn(), SIGMA, LIGHT.attributes),
    "ControlJob": lambda at: ControlJob(
        classifier().to(at), lambda k: drawn(seed=k), 2, SIGMA, LIGHT.attributes
    ),
    "LikelihoodJob": lambda at: LikelihoodJob(neural().to(at), drawn(), SIGMA, [WHERE], 3.0, 50.0, 0),
    "LikelihoodJob, foreign": lambda at: LikelihoodJob(foreign().to(at), drawn(), SIGMA, [WHERE], 3.0, 50.0, 0),
    "ChainJob": lambda at: ChainJob(neural().to(at), drawn(), SIGMA, LIGHT.attributes),
    "ProbeJob": lambda at: ProbeJob(neural().to(at), drawn(n=80), drawn(seed=9), SIGMA, [WHERE], "features", 0),
    "ProbeJob, hooks": lambda at: ProbeJob(
        Featured(foreign(), ["enter"]).to(at), drawn(n=80), drawn(seed=9), SIGMA, [WHERE], "features", 0
    ),
    "ProbeJob, noisy": lambda at: ProbeJob(None, drawn(n=80), drawn(seed=9), SIGMA, [WHERE], "noisy", 0),
    "LossJob": lambda at: LossJob(
        neural().to(at), Items(LIGHT, null=0), SIGMA, LIGHT.attributes, False, 1, 0
    ),
    "LossJob, classes": lambda at: LossJob(foreign().to(at), Items(LIGHT, null=0), SIGMA, [WHERE], True, 1, 0),
    "ConditionalPathJob": lambda at: ConditionalPathJob(neural().to(at), 5.0, SIGMA, (WHERE,), 6, 0),
    "ForkJob": lambda at: ForkJob(
        foreign().to(at), drawn(n=3), SIGMA, [WHERE], labelled, True, DOWN, children=4, seed=0
    ),
    "OwnPathJob": lambda at: OwnPathJob(
        foreign().to(at), 5.0, SIGMA, [WHERE], labelled, DOWN, draws=3, children=4, seed=0
    ),
    "Posteriors": lambda at: Posteriors(exact(at), drawn(ITEMS), SIGMA),
    "ClassifierTraining": lambda at: ClassifierTraining(ClassifierTrainer(Items(LIGHT, null=0), SMALL, at)),
    "DataBound": lambda at: DataBound(LIGHT, bound_size(LIGHT, 8, 3), SIGMA, 0),
    "FieldJob": lambda at: FieldJob(LIGHT, drawn(), BANDS, SIGMA),
    "ResolvedJob": lambda at: ResolvedJob(FiniteDenoiser(LIGHT, at), drawn(), BANDS, SIGMA),
    "ResolvedJob, a network": lambda at: ResolvedJob(neural().to(at), drawn(), BANDS, SIGMA),
    "HeldOutPass": lambda at: HeldOutPass(exact(at), drawn(ITEMS, 4), SIGMA),
}  # fmt: skip
"""Every job, by its class, some with several models: from a device to the job of a model there."""
PARTS = {
    "Blocks": "passes over blocks of draws: Collected, PairJob and FinitePathJob are these",
    "InTurn": "jobs one after the other: DataBound is such",
    "PathPass": "a part of FinitePathJob",
    "PosteriorPass": "a part of Collected and PairJob",
}
"""Jobs that run as parts of others, and so are not run by themselves; private ones are parts as well."""


def classes() -> set[str]:
    """Names of the classes of the package with the methods of a job that can be made."""
    found = set()
    for module in pkgutil.walk_packages(sigmascope.__path__, "sigmascope."):
        if not module.name.endswith("__main__"):
            found |= {
                kind.__name__
                for kind in vars(importlib.import_module(module.name)).values()
                if inspect.isclass(kind) and kind.__module__.startswith("sigmascope") and not inspect.isabstract(kind)
                and all(hasattr(kind, name) for name in ("step", "state", "restore")) and kind.__name__[0] != "_"
                and not getattr(kind, "_is_protocol", False)
            }  # fmt: skip
    return found


def test_no_job_is_forgotten():
    assert {name.partition(",")[0] for name in JOBS} | set(PARTS) == classes()


def results(make: Callable[[], Any]) -> dict[str, np.ndarray]:
    """The state of a job that was stopped half-way and restored, once it is done."""
    job = make()
    while job.position < max(job.total // 2, 1) and not job.done:
        job.step()
    resumed = make()
    resumed.restore(job.state())
    while not resumed.done:
        resumed.step()
    state = resumed.state()
    if "training.state" in state:  # a file of the training, in bytes
        tensors = safetensors.torch.load(state.pop("training.state").tobytes())
        state |= {name: x.numpy() for name, x in tensors.items()}
    return state


@pytest.mark.filterwarnings("ignore::sigmascope.information.above.CoarseTopWarning")
@pytest.mark.parametrize("name", JOBS)
def test_jobs(name):
    """The state of a job goes into a file, so that it is of arrays, wherever the model computes."""
    wanted = results(lambda: JOBS[name]("cpu"))
    with pretended_cuda():
        found = results(lambda: JOBS[name]("cuda"))
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert isinstance(found[key], (np.ndarray, np.generic))
        assert np.allclose(found[key], value, rtol=1e-4, atol=1e-5, equal_nan=True), key


def of_image(image: Any, d: Any) -> Any:
    return next(iter(pointwise(d, image, SIGMA, noises=4).values())).per_noise


def apart(d: Denoiser) -> Any:
    return divergence(d, "where", 0, 1, drawn().v[:2], SIGMA, noises=2).score


FUNCTIONS: dict[str, Callable[[str], Any]] = {
    "gaps_at": lambda at: gaps_at(finite().to(at), of_law(finite()), 1.0, "even")[0],
    "gaps_at, foreign": lambda at: gaps_at(foreign().to(at), drawn(), 1.0, "where")[0],
    "information_maps": lambda at: information_maps(neural().to(at), drawn().v[0], {"where": 1}, SIGMA, noises=4)[
        "where"
    ].rate,
    "pointwise": lambda at: of_image(ITEMS.source.take(torch.tensor([3]))[0], exact(at)),
    "pointwise, mixture": lambda at: of_image(torch.ones(3), mixture().to(at)),
    "divergence": lambda at: apart(foreign().to(at)),
    "divergence, by a network": lambda at: apart(neural().to(at)),
    "forks_by_sampling": lambda at: forks_by_sampling(
        foreign().to(at), WHERE, drawn(n=3), SIGMA, 4, lambda x: labelled(x, None)["where"], steps=4
    ).per_draw,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_python(name):
    wanted = np.asarray(FUNCTIONS[name]("cpu"))
    with pretended_cuda():
        found = np.asarray(FUNCTIONS[name]("cuda"))
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5)
