"""A study of a learned model: gaps with calls where they count, bounds whatever its error, and what to believe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float

from sigmascope.analysis.trust import TOLERANCE, Trust, judge, rule
from sigmascope.core import Abstraction, Curve, Denoiser, Draws, InputError, LabelledData, generator
from sigmascope.data import load_any
from sigmascope.data.pictures import WHITE
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.adaptive import Gaps, GapWork
from sigmascope.information.allocation import REPLICATES
from sigmascope.information.posterior import posterior
from sigmascope.learn.classifier import CLASSIFIER, NoisyClassifier
from sigmascope.learn.neural import WEIGHTS, NeuralDenoiser, model_folder
from sigmascope.learn.settings import NULL, Settings
from sigmascope.learn.sources import Items, Source
from sigmascope.noise import integral_from_the_top, sigma_grid
from sigmascope.studies.alike import allocation_of
from sigmascope.studies.collect import Collected
from sigmascope.studies.compute import Data, advance
from sigmascope.studies.controls import BOUNDS, Asked, Controls
from sigmascope.studies.data_bound import data_bound_work, data_bounds
from sigmascope.studies.laws import OF_PATH
from sigmascope.studies.learned_works import ChainWork, LikelihoodWork, ProbeWork, probe_works
from sigmascope.studies.marks import with_marks
from sigmascope.studies.model_attributes import attributes_of
from sigmascope.studies.own_path import with_path
from sigmascope.studies.results import to_dataset
from sigmascope.studies.spec import HELDOUT, USUAL_OF_MODEL, Spec
from sigmascope.studies.store import StudyFolder
from sigmascope.studies.told_path import ToldPathWork
from sigmascope.studies.training import source_of
from sigmascope.studies.works import InTurn, PathWork, Work
from sigmascope.studies.wrapping import LossWork, with_losses

_DRAWS = 8  # use of a seed
_TEST, _FIT, _PROBED, _MORE, _MORE_FIT = range(5)
_PROBE_DRAWS = 1024  # to train probes on
_BATCH = 1024  # rows of a call of the network


@dataclass(frozen=True, eq=False)
class Learned:
    """A learned model with the data that it is measured on.

    Args:
        model: the denoiser; it can be told each of the abstractions.
        classifier: of noisy values, if there is one.
        data: the data.
        source: draws of them, of items kept out of training where these are known.
        abstractions: those studied.
        null: the spare one of random labels, if the model has one.
        held_out: whether the draws are of items that were kept out.
        highest: the largest noise level that the model knows; None: there is none.
        scale: of the data: the root of their mean squared distance from the mean, per coordinate.
        network: what kind of network it is, in a word.
        parameters: how many it has.
        steps: of its training; 0 where that is not known.
        classes: of a pipeline, each value of the attribute with the index and the name of its class.
        untold_calls: network calls of an answer without knowledge; more than 1 where it is a mixture over classes.
    """

    model: Denoiser
    classifier: NoisyClassifier | None
    data: Data
    source: Source
    abstractions: tuple[Abstraction, ...]
    null: Abstraction | None
    held_out: bool
    highest: float | None
    scale: float
    network: str
    parameters: int
    steps: int
    classes: tuple[tuple[str, int, str], ...] = ()
    untold_calls: int = 1

    @property
    def begins_at(self) -> float:
        """The level at which its generations begin."""
        return Spec.sigma_max if self.highest is None else self.highest * (1.0 - 1e-9)

    @property
    def asked(self) -> tuple[Abstraction, ...]:
        """The abstractions that the model is told: those studied, and the null."""
        return self.abstractions if self.null is None else (*self.abstractions, self.null)


def untold_words(calls: int) -> str:
    """What is said of a network that must be told a class; nothing of others."""
    return "" if calls == 1 else f"; no empty class: untold, the mixture over its classes, {calls} calls each"


def open_model(spec: Spec, device: torch.device) -> tuple[Learned, Spec]:
    """Load the model of a specification and its data, and fill in what the specification leaves open.

    Raises: InputError, also where model and data do not fit.
    """
    folder = model_folder(spec.model)
    model = NeuralDenoiser.load(folder, device)
    own = [a for a in model.abstractions if a.name != NULL]
    null = next((a for a in model.abstractions if a.name == NULL), None)
    if not own:
        raise InputError(f"{spec.model}: the model can be told no attribute: train one with labels")
    names = tuple(a.name for a in own)
    settings, asked = _read_card(model, spec.model)
    if spec.data == "scenes":
        side, grain = model.event[-1], bool(model.card.get("grain", "grain" in names))
        if spec.size not in (32, side) or (spec.grain and not grain):
            texture = "with" if grain else "without"
            raise InputError(
                f"size is {spec.size} and grain {spec.grain}: {spec.model} is of scenes of {side} × {side} pixels "
                f"{texture} a grain: leave out --size and --grain"
            )
        spec = replace(spec, size=side, grain=grain)
    spec = _with_ground(spec, str(model.card.get("ground", WHITE)))
    data = load_any(spec.data, asked or names, size=spec.size, grain=spec.grain, ground=spec.ground)
    of = {a.name: a for a in data.abstractions}
    if set(names) - set(of) or (isinstance(data, LabelledData) and len(of) > len(names)):
        raise InputError(f"{spec.data}: it has other attributes than the model was told: pass its own data")
    if data.event != model.event:
        raise InputError(f"{spec.data}: items of shape {data.event}, the model is of {model.event}: pass its own data")
    for a in own:
        if a.values != of[a.name].values:
            raise InputError(f"{spec.data}: {a.name!r} has other values than the model was told: pass its own data")
    chosen = attributes_of(spec.abstractions, asked, names)
    same = model.card.get("fingerprint") == data.fingerprint
    source = source_of(data, settings if same else replace(settings, holdout=0.0), names)
    held_out = isinstance(source, Items) and same and bool(source.kept_out.any())
    if isinstance(source, Items) and same and not held_out:
        null = None  # its labels were trained on: of them the network does know something
    classifier = NoisyClassifier.load(folder, device) if (folder / CLASSIFIER).exists() else None
    if "classifier" in spec.estimators and classifier is None:
        if set(spec.estimators) != set(USUAL_OF_MODEL):
            raise InputError(f"{spec.model}: it has no classifier: leave it out of --estimators, or train with one")
        spec = replace(spec, estimators=tuple(e for e in spec.estimators if e != "classifier"))
    if not set(spec.estimators) & {"score_gap", *BOUNDS}:
        raise InputError(f"estimators are {', '.join(spec.estimators)}: add score_gap or a bound, {', '.join(BOUNDS)}")
    # The denoiser is asked above the first level, too: by a factor of the square root of 2.
    top = settings.sigma_max / 2**0.5
    spec = replace(spec, sigma_max=min(spec.sigma_max, top), sigma_min=max(spec.sigma_min, settings.sigma_min))
    if spec.sigma_min >= spec.sigma_max:
        raise InputError(
            f"the model was trained at sigma {settings.sigma_min:g} to {settings.sigma_max:g}: no level of the study "
            "is among these"
        )
    digest = weights_digest(folder)
    check_same_data(spec, data)
    if spec.model_fingerprint and spec.model_fingerprint != digest:
        raise InputError(f"{spec.model}: the model is not that of the specification: restore it, or start a new study")
    draws = -(-spec.draws // REPLICATES) * REPLICATES
    spec = replace(spec, abstractions=chosen, fingerprint=data.fingerprint, model_fingerprint=digest, draws=draws)
    mine = tuple(next(a for a in data.abstractions if a.name == n) for n in chosen)
    learned = Learned(
        model, classifier, data, source, mine, null, held_out, settings.sigma_max, model.scale,
        model.architecture.kind, model.count(), int(model.card.get("steps", 0)),
    )  # fmt: skip
    return learned, spec


def _with_ground(spec: Spec, ground: str) -> Spec:
    """The specification with the ground that the model's pictures were laid on.

    Raises: InputError where another is asked for.
    """
    if spec.ground not in (WHITE, ground):
        raise InputError(f"{spec.model}: it was trained with --ground {ground}, not {spec.ground}: leave --ground out")
    return replace(spec, ground=ground)


def check_same_data(spec: Spec, data: Data) -> None:
    """Refuse data that are not those of the specification.

    Raises: InputError.
    """
    if spec.fingerprint and spec.fingerprint != data.fingerprint:
        raise InputError(
            f"{spec.data}: the data are not those of the specification: restore them, or start a new study"
        )


def _read_card(model: NeuralDenoiser, name: str) -> tuple[Settings, tuple[str, ...]]:
    """How the model was trained, and the attributes as they were asked for (perhaps with bins)."""
    try:
        return Settings(**model.card["settings"]).check(), tuple(map(str, model.card.get("abstractions", ())))
    except (KeyError, TypeError, InputError) as error:
        raise InputError(f"{name}: its card does not say how it was trained ({error}): train it again") from error


def weights_digest(folder: Path) -> str:
    """Of all weights of a model."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (WEIGHTS, CLASSIFIER):
        if (folder / name).exists():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def draws_for(learned: Learned, n: int, seed: int, use: int, first: int = 0) -> Draws:
    """Draws of the model's data, each with a stream of its own, numbered from ``first``."""
    source, streams = learned.source, [generator(seed, _DRAWS, use, i) for i in range(first, first + n)]
    if isinstance(source, Items):
        items = torch.cat([source.pick(1, g, learned.held_out and use != _PROBED) for g in streams])
        v, labels = source.data.source.take(items), {k: x[items] for k, x in source.labels.items()}
    else:
        items, each = torch.arange(n), [source.held_out(1, g) for g in streams]
        v, labels = torch.cat([x for x, _ in each]), {k: torch.cat([of[k] for _, of in each]) for k in each[0][1]}
    return Draws(items, v, torch.stack([torch.randn(v.shape[1:], generator=g) for g in streams]), labels)


def measure(learned: Learned, spec: Spec, folder: StudyFolder | None, progress: bool, like: Path | None) -> xr.Dataset:
    """All curves of a learned model, and the verdicts on them."""
    sigma = sigma_grid(spec.sigma_max, spec.sigma_min, spec.levels)
    test = draws_for(learned, spec.draws, spec.seed, _TEST)
    fit = draws_for(learned, max(spec.draws // 2, 2), spec.seed, _FIT)
    asked, want, top = learned.asked, set(spec.estimators), learned.highest
    gaps = GapWork(
        learned.model,
        learned.source.held_out if learned.held_out else learned.source.draw,
        {a.name: a.entropy for a in asked},
        sigma,
        target_stderr=spec.target_stderr or None,
        budget=max(2 * spec.budget // (1 + learned.untold_calls), 1) if spec.budget else None,
        allocation=allocation_of(like, [a.name for a in asked]) if like else None,
        seed=spec.seed,
        batch=_BATCH,
        top=top,
    )

    def more(each: int, of_fit: bool, group: int) -> Draws:
        return draws_for(learned, each, spec.seed, _MORE_FIT if of_fit else _MORE, group * each)

    controls = Controls(learned.classifier, test, fit, more, sigma, asked, want, spec.seed)
    asking: dict[str, Asked] = {}
    if "filter" in want:
        asking["filter"] = PathWork(learned.model, controls.both, sigma, asked, spec.seed)
    if "likelihood" in want:
        scale, highest = learned.scale * learned.data.size**0.5, top or float("inf")
        asking["likelihood"] = LikelihoodWork(learned.model, controls.both, sigma, asked, scale, highest, spec.seed)
    if "classifier" in want and learned.classifier is not None:
        asking["classifier"] = controls.seen
    probing: list[ProbeWork] = []
    if "probes" in want:
        train = draws_for(learned, _PROBE_DRAWS, spec.seed, _PROBED)
        probing = probe_works(learned.model, train, test, sigma, learned.abstractions, spec.seed)
    chain = ChainWork(learned.model, test, sigma, learned.abstractions) if len(learned.abstractions) > 1 else None
    exact = None
    if "posterior" in want:
        if not isinstance(learned.data, LabelledData):
            raise InputError("the exact posterior is of a finite set: leave 'posterior' out of --estimators")
        exact = Collected(FiniteDenoiser(learned.data), test, sigma, None)
    along = None
    if OF_PATH in want:
        along = ToldPathWork(learned.model, learned.begins_at, sigma, learned.abstractions, spec.draws, spec.seed)
    bounding = [w for w in asking.values() if w not in controls.works]
    losses = LossWork(
        learned.model, learned.source, sigma, learned.abstractions, bool(learned.classes), learned.untold_calls,
        spec.seed,
    )  # fmt: skip
    of_data = data_bound_work(learned.data, spec, REPLICATES)
    works: list[Work] = [
        w for w in (losses, gaps, *controls.works, *bounding, *probing, chain, along, exact, of_data) if w is not None
    ]
    advance(InTurn(works), learned.data.name, folder, progress)
    wrapping, by_data = losses.say(), data_bounds(of_data, learned.abstractions, REPLICATES)
    measured = gaps.curves()
    if chain is not None:
        chained = {a.name: _chained(chain.residual(a.name), sigma, a) for a in learned.abstractions}
    curves, trusts, extras = [], [], {}
    for a in asked:
        bounds = controls.bounds(a, asking)
        extras[a.name] = bounds
        if a.name == NULL:
            continue
        null = measured.get(NULL)
        curves += bounds
        curves += [controls.sharper(w.curve(a)) for w in probing]
        curves += [by_data[a.name]] if by_data else []
        gap = measured[a.name]
        for name in ("score_gap", "mmse_gap"):
            if name in want:
                curve = getattr(gap, name)
                curves.append(curve)
                trusts.append(
                    judge(
                        curve,
                        bound=bounds[-1] if bounds else None,
                        calibration=gap.calibration,
                        null=None if null is None else getattr(null, name),
                        data_bound=by_data.get(a.name),
                        wrapping=wrapping,
                    )
                )
        if exact is not None:
            curves.append(controls.sharper(posterior(a, sigma, exact.log_posterior(a.name)[:-1])))
    results = _arranged(learned, spec, curves, trusts, measured, extras.get(NULL, []), test)
    results = with_losses(results, losses.losses(), wrapping)
    if chain is not None:
        results = results.assign(
            chain_residual=(("abstraction", "sigma"), np.stack([chained[n].value for n in results.abstraction.values])),
            chain_stderr=(("abstraction", "sigma"), np.stack([chained[n].stderr for n in results.abstraction.values])),
        )
    if along is not None:
        results = with_path(results, [along.of_attribute(a) for a in learned.abstractions])
    for w in probing:
        accuracy = np.stack([w.accuracy(a.name) for a in learned.abstractions])
        learning = np.stack([w.learning(a.name) for a in learned.abstractions])
        results = results.assign(
            {
                f"accuracy_{w.where}": (("abstraction", "sigma"), accuracy),
                f"learning_{w.where}": (("abstraction", "sigma", "share"), learning),
            }
        )
    results.attrs |= {
        # Half of those of the gaps are without knowledge.
        "network_calls": gaps.calls * (1 + learned.untold_calls) // 2
        + (along.calls(learned.untold_calls) if along is not None else 0),
        "trust_rule": rule(
            bound="bound" in results.estimator.values, null=NULL in measured, data_bound=bool(by_data), losses=True
        ),
        "trust_tolerance": TOLERANCE,
        "classified_draws": controls.others,
        "held_out": int(learned.held_out or not isinstance(learned.source, Items)),
    }
    allocation = gaps.allocation
    if allocation is not None:
        results = results.assign(
            {
                f"allocation_{k}": ([f"allocation_{k}_{i}" for i in range(v.ndim)], v)
                for k, v in allocation.state().items()
            }
        )
    return results


def _chained(residual: Float[np.ndarray, "levels draws"], sigma: Float[np.ndarray, " levels"], a: Abstraction) -> Curve:
    """The chain rule's residual, integrated from the top down, nats."""
    per_draw = integral_from_the_top(sigma) @ (residual / sigma[:, None] ** 2)
    return Curve.of_draws(a.name, "chain", sigma, per_draw, a.entropy, kind="estimate")


def _arranged(
    learned: Learned,
    spec: Spec,
    curves: Sequence[Curve],
    trusts: Sequence[Trust],
    measured: Mapping[str, Gaps],
    null_bounds: Sequence[Curve],
    test: Draws,
) -> xr.Dataset:
    """Everything as a Dataset."""
    names = [a.name for a in learned.abstractions]
    of = Draws(test.items.reshape(REPLICATES, -1)[:, 0], torch.empty(0), torch.empty(0))
    results = to_dataset(curves, dict.fromkeys(names, (np.nan, np.nan)), learned.data, of, spec)
    results = with_marks(results, trusts, ("bound", "score_gap", HELDOUT, "mmse_gap"))
    calibration = [measured[n].calibration for n in names]
    results = results.assign(
        calibration=(("abstraction", "sigma"), np.stack([c.value for c in calibration])),
        calibration_stderr=(("abstraction", "sigma"), np.stack([c.stderr for c in calibration])),
    )
    if NULL in measured:
        null = measured[NULL].score_gap
        results = results.assign(null_score_gap=("sigma", null.value), null_score_gap_stderr=("sigma", null.stderr))
    if null_bounds:
        best = null_bounds[-1]
        results = results.assign(null_bound=("sigma", best.value), null_bound_stderr=("sigma", best.stderr))
    results.attrs |= {
        "model": spec.model,
        "model_parameters": learned.parameters,
        "model_steps": learned.steps,
        "model_network": learned.network,
    }
    if learned.classes:
        results.attrs["classes"] = json.dumps(learned.classes, ensure_ascii=False)
    if learned.untold_calls > 1:
        results.attrs |= {"unconditional": "mixture over classes", "unconditional_calls": learned.untold_calls}
    return results
