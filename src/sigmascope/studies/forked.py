r"""A study of a pipeline that is told nothing: labels of what it makes, by forks and by probes.

.. math:: I(A; Y_\sigma) = H(A) - E\,H(A \mid Y_\sigma), \qquad A = \ell(V),

V is an item of the data, or an image that the pipeline made; A its label; the labels of K continuations from
:math:`Y_\sigma` are draws of :math:`p(a \mid y)` as the pipeline has it.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from sigmascope.analysis.trust import judge
from sigmascope.core import Curve, Denoiser, Draws, InputError, LabelledData
from sigmascope.data import draw_items, from_array, load
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.estimator import OF_PATH
from sigmascope.information.forks import enough, forks
from sigmascope.information.jobs.data_bound import data_bound_job, data_bounds
from sigmascope.information.jobs.forking import Descent, ForkJob, OwnPathJob
from sigmascope.information.jobs.levels import InTurn, Work
from sigmascope.information.jobs.losses import LossJob
from sigmascope.information.jobs.networks import ProbeJob, probe_works
from sigmascope.information.jobs.passes import Collected
from sigmascope.information.posterior import posterior
from sigmascope.learn.sources import Items
from sigmascope.noise import sigma_grid
from sigmascope.sample import Streams, rows
from sigmascope.sample.forks import levels_below
from sigmascope.sample.schemes import final, sample
from sigmascope.studies.compute import advance
from sigmascope.studies.forked_results import unlike, with_kept
from sigmascope.studies.labelling import (
    LabelChildren,
    Nearest,
    by_function,
    decoded,
    imported,
    labelled_by,
    of_any_parent,
)
from sigmascope.studies.learned import check_same_data
from sigmascope.studies.marks import with_marks
from sigmascope.studies.pipelines import Opened, seeing
from sigmascope.studies.results import to_dataset, with_losses, with_path
from sigmascope.studies.spec import GENERATED, HELDOUT, Spec
from sigmascope.studies.store import IMAGES, StudyFolder, check_study, keep_images

_GENERATED, _PROBED = 7, 1  # uses of a seed
_PROBE_DRAWS = 512  # to train probes on
_ROWS = 256  # children that are followed at once
_AXES = ("channel", "row", "column")


@dataclass(frozen=True, eq=False)
class Forked:
    """A pipeline with the images that it is measured on.

    Args:
        opened: the pipeline.
        data: labelled images, or latents, in the unit of the pipeline's values.
        label: labels of clean values, whose parents may be items of the data.
        generated: whether the pipeline made the data.
        seed: of the study.
    """

    opened: Opened
    data: LabelledData
    label: LabelChildren
    generated: bool
    seed: int

    def descent(self, spec: Spec) -> Descent:
        """How its continuations go down."""
        return Descent(spec.sigma_max, self.opened.reads_at(spec), spec.steps)

    @property
    def denoiser(self) -> Denoiser:
        """The network, told nothing, with features where it has some."""
        untold = self.opened.untold(self.seed)
        return untold if self.opened.must_be_told else seeing(untold)


def generated(opened: Opened, spec: Spec, count: int, progress: bool, look: Callable[[Tensor], object]) -> Tensor:
    """Values that the pipeline makes from noise, float32, shape (count, *event); each has a stream of its own.

    Args:
        opened: the pipeline.
        spec: with seed, steps and the first level.
        count: how many.
        progress: show a bar on stderr.
        look: is shown the first of them, before the others are made.
    """
    denoiser, top = opened.untold(spec.seed), spec.sigma_max
    parts = []
    with tqdm(total=count, disable=not progress, file=sys.stderr, desc="images", unit="image") as bar:
        for start in range(0, count, _ROWS):
            some = min(_ROWS, count - start)
            noise = Streams(spec.seed, [(_GENERATED, start + i) for i in range(some)], denoiser.event)
            levels = levels_below(top, opened.reads_at(spec), spec.steps)
            parts.append(final(sample(denoiser, top * noise(), levels, noise=noise)).y.float())
            if not start:
                look(parts[0])
            bar.update(some)
    return torch.cat(parts)


def asked_of(spec: Spec, opened: Opened) -> tuple[Spec, Callable[[Tensor], object] | None]:
    """The specification with its estimators and within the pipeline's levels, and the user's labeller, if one is named.

    Raises: InputError.
    """
    chosen = spec.estimators or ("forks", OF_PATH, "probes", *(("posterior",) * (spec.data != GENERATED)))
    if spec.data == GENERATED and "posterior" in chosen:
        raise InputError("the exact posterior is of a finite set: leave 'posterior' out of --estimators")
    if "forks" not in chosen:
        raise InputError(
            f"estimators are {', '.join(chosen)}: a network that is told nothing is measured by forks, add them"
        )
    function = imported(spec.labeller) if spec.labeller else None
    return opened.levels(replace(spec.aimed(), estimators=tuple(chosen))), function


def images_of(spec: Spec) -> int:
    """How many images a study of generated ones needs: its draws, and those that probes are trained on."""
    return spec.draws + _PROBE_DRAWS * ("probes" in spec.estimators)


def _kept(opened: Opened, spec: Spec, out: Path | None, progress: bool, look: Callable[[Tensor], object]) -> Tensor:
    """The images that the pipeline makes, or those that this study made before it was stopped."""
    count, event = images_of(spec), tuple(opened.pipe.denoiser.event)
    made_by = f"{count} {opened.digest} {spec.seed} {spec.steps} {spec.sigma_max:.17g} {opened.reads_at(spec):.17g}"
    if out is not None:
        check_study(out, replace(spec, model_fingerprint=opened.digest))
    if out is not None and (out / IMAGES).exists():
        try:
            with np.load(out / IMAGES, allow_pickle=False) as file:
                same, values = str(file["made_by"]) == made_by, file["values"]
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(f"{out / IMAGES}: no images of a study, or broken: delete it and run again") from error
        if not same or values.shape != (count, *event):
            raise InputError(f"{out}: it holds images of another study: choose another --out")
        return torch.from_numpy(values)
    values = generated(opened, spec, count, progress, look)
    if out is not None:
        keep_images(out, {"values": values.numpy(), "made_by": np.array(made_by)})
    return values


def open_forked(spec: Spec, opened: Opened, progress: bool, out: Path | None = None) -> tuple[Forked, Spec]:
    """A pipeline with its data, or with images that it makes, and labels of images.

    Args:
        spec: the study.
        opened: the pipeline.
        progress: show a bar on stderr where images are made.
        out: the study's folder, where the images are kept; None keeps none.

    Raises: InputError.
    """
    spec, function = asked_of(spec, opened)
    decode = opened.pipe.decode or (lambda values: values)
    if spec.data == GENERATED:
        assert function is not None
        free = by_function(function, "label", ())

        def labelled(images: Tensor) -> dict[str, Tensor]:
            found = labelled_by(free, images, decode)
            unknown = [n for n in spec.abstractions if n not in found]
            if unknown:
                raise InputError(f"the labeller gives {', '.join(found)}: it gives no {unknown[0]!r}")
            return found

        values = _kept(opened, spec, out, progress, labelled)
        found = labelled(values)
        wanted = spec.abstractions or tuple(found)
        named = {n: [f"{i:0{len(str(int(found[n].max())))}d}" for i in found[n].tolist()] for n in wanted}
        data = from_array(values.numpy(), named, name=f"images by {opened.words}")
        present = {n: torch.unique(found[n]) for n in wanted}

        def among(pictures: Tensor) -> dict[str, Tensor]:
            # Values that no generated image had are not of the attribute: such a child counts as the next.
            given = free(pictures)
            return {n: torch.searchsorted(present[n], given[n]).clamp_max(len(present[n]) - 1) for n in wanted}

        label = of_any_parent(decoded(among, decode))
    else:
        pictures = load(spec.data, spec.abstractions, size=spec.size, grain=spec.grain, ground=spec.ground)
        data = opened.values(pictures)
        if function is None:
            label = Nearest(data)
        else:
            mine = by_function(function, data.abstractions[0].name, data.abstractions)
            label = of_any_parent(decoded(mine, decode))
    names = tuple(a.name for a in data.abstractions)
    for a in data.abstractions:
        if not enough(a, spec.forks):
            raise InputError(
                f"forks is {spec.forks}, {a.name!r} has {len(a.values)} values: fewer children than values cannot show "
                f"its entropy; pass at least --forks {len(a.values)}"
            )
    check_same_data(spec, data)
    names = spec.abstractions or names  # as they were asked for, perhaps with bins
    spec = replace(spec, abstractions=names, fingerprint=data.fingerprint, model_fingerprint=opened.digest)
    return Forked(opened, data, label, spec.data == GENERATED, spec.seed), spec


def measure_forked(forked: Forked, spec: Spec, folder: StudyFolder | None, progress: bool) -> xr.Dataset:
    """Curves by forks, probes and, of real data, the exact filter."""
    data, sigma = forked.data, sigma_grid(spec.sigma_max, spec.sigma_min, spec.levels)
    draws, train = _draws(forked, spec)
    denoiser = forked.denoiser
    down, real = forked.descent(spec), not forked.generated
    of_forks = ForkJob(
        denoiser, draws, sigma, data.abstractions, forked.label, real, down, children=spec.forks, seed=spec.seed
    )
    along = None
    if OF_PATH in spec.estimators:
        # A start from noise lacks the variance of the values, so it is high above the levels studied where it can be.
        top = (forked.opened.asked_up_to or max(spec.sigma_max, Spec.sigma_max)) * (1.0 - 1e-9)
        along = OwnPathJob(
            denoiser,
            top,
            sigma,
            data.abstractions,
            forked.label,
            down,
            draws=spec.draws,
            children=spec.forks,
            seed=spec.seed,
        )
    probing: list[ProbeJob] = []
    if "probes" in spec.estimators:
        probing = probe_works(denoiser, train, draws, sigma, data.abstractions, spec.seed)
    exact = None
    if "posterior" in spec.estimators:
        exact = Collected(FiniteDenoiser(data), draws, sigma, None)
    losses = LossJob(
        denoiser, Items(data, holdout=0.0, null=0), sigma, (), False, forked.opened.untold_calls, spec.seed
    )  # fmt: skip
    of_data = None if forked.generated else data_bound_job(data, sigma, spec.draws, spec.seed)
    works: list[Work] = [w for w in (losses, of_forks, along, *probing, exact, of_data) if w is not None]
    advance(InTurn(works), data.name, folder, progress)
    wrapping, by_data = losses.say(), data_bounds(of_data, data.abstractions, spec.draws)
    curves: list[Curve] = []
    for a in data.abstractions:
        curves.append(forks(a, sigma, of_forks.counts(a.name)))
        curves += [w.curve(a) for w in probing]
        curves += [by_data[a.name]] if by_data else []
        if exact is not None:
            curves.append(posterior(a, sigma, exact.log_posterior(a.name)[:-1]))
    results = to_dataset(curves, {a.name: (np.nan, np.nan) for a in data.abstractions}, data, draws, spec)
    results = with_kept(results, data.abstractions, of_forks.counts, draws, forked.label, forked.generated)
    results, against = unlike(results, {a.name: of_forks.counts(a.name)[0] for a in data.abstractions})
    trusts = [judge(c, wrapping=wrapping or against[c.abstraction]) for c in curves if c.estimator == "forks"]
    results = with_losses(with_marks(results, trusts, ("forks", HELDOUT, "probes:noisy")), losses.losses(), wrapping)
    if along is not None:
        results = with_path(results, [along.of_attribute(a) for a in data.abstractions])
    decode = forked.opened.pipe.decode
    shown = torch.from_numpy(of_forks.children())
    flat = shown.flatten(0, 1)
    pictures = flat if decode is None else decode(flat).float().cpu()
    one = (draws.v[0] + torch.from_numpy(sigma).float().reshape(-1, *[1] * draws.v[0].ndim) * draws.noise[0]).float()
    noisy = one if decode is None else decode(one).float().cpu()
    results = results.assign(
        children=(
            ("sigma", "child", *_AXES),
            pictures.reshape(*shown.shape[:2], *pictures.shape[1:]),
        ),
        parent=(("sigma", *_AXES), noisy),
    )
    results.attrs |= {
        "model": spec.model,
        "model_parameters": forked.opened.parameters,
        "model_network": forked.opened.words,
        "network_calls": (of_forks.calls + (along.calls if along else 0)) * forked.opened.untold_calls,
        "generated": int(forked.generated),
        "labeller": spec.labeller or (forked.label.words if isinstance(forked.label, Nearest) else ""),
    }
    if forked.opened.must_be_told:
        calls = forked.opened.untold_calls
        results.attrs |= {"unconditional": "mixture over classes", "unconditional_calls": calls}
    return results


def _draws(forked: Forked, spec: Spec) -> tuple[Draws, Draws]:
    """Draws to measure on, and others to train probes on."""
    data = forked.data
    if not forked.generated:
        return draw_items(data, spec.draws, spec.seed), draw_items(data, _PROBE_DRAWS, spec.seed + (_PROBED << 32))
    noise = Streams(spec.seed, [(_GENERATED + 1, *r) for r in rows(len(data))], data.event)().float()

    def some(first: int, last: int) -> Draws:
        at = torch.arange(first, last)
        return Draws(at, data.source.take(at), noise[at], {n: x[at] for n, x in data.labels.items()})

    return some(0, spec.draws), some(spec.draws, len(data))
