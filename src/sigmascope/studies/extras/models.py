"""Variables of results of a network, beside its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sigmascope.core import Curve, InputError
from sigmascope.information.allocation import Allocation
from sigmascope.information.estimator import PATH_ESTIMATOR
from sigmascope.information.estimators.posterior import DATA
from sigmascope.information.jobs import Job
from sigmascope.information.jobs.losses import LossJob
from sigmascope.information.jobs.networks import ChainJob
from sigmascope.information.jobs.training import ClassifierTraining
from sigmascope.information.problems import ModelProblem
from sigmascope.information.reals import precision
from sigmascope.learn.classifying import ClassifierTrainer
from sigmascope.learn.settings import NULL, NULL_NUMBER
from sigmascope.noise import integral_from_the_top
from sigmascope.studies.laws import OWN_PATH
from sigmascope.studies.reading import read_study
from sigmascope.studies.results import further_error
from sigmascope.studies.subjects.extra import Extra, Jobless, Jobs

LOSSES = "losses"
"""Key of the job of the denoising losses."""
_PROBES = "probes:"


class Losses(Extra):
    """The denoising losses per coordinate, and whether they show that the network is wrapped wrongly."""

    first = True

    def __init__(self, make: Any) -> None:
        self._make = make

    def jobs(self, problem: Any) -> Mapping[str, Job]:
        return {LOSSES: problem.job(LOSSES, self._make)}

    def add(self, results: xr.Dataset, problem: Any, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        job: LossJob = done[LOSSES]
        losses = job.losses()
        results.attrs["wrapping"] = job.warning()
        if losses is None:  # too few items
            return results
        each = {"": losses.network, "_over_linear": losses.network - losses.linear[None]}
        each["_over_unconditional"] = losses.network - losses.network[:1]
        alone = {"_linear": losses.linear, "_mean": np.broadcast_to(losses.mean, losses.linear.shape)}
        variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
        for names, axes in ((each, ("loss_condition", "loss_sigma")), (alone, ("loss_sigma",))):
            for name, x in names.items():
                variables[f"loss{name}"] = (axes, x.mean(-1))
                variables[f"loss{name}_stderr"] = (axes, x.std(-1, ddof=1) / x.shape[-1] ** 0.5)
        return results.assign(variables).assign_coords(loss_condition=list(losses.conditions), loss_sigma=losses.sigma)


class TrainedClassifier(Extra):
    """The training of a classifier for the study, before everything that is measured with it."""

    first = True

    def __init__(self, trainer: ClassifierTrainer) -> None:
        self._trainer = trainer

    def jobs(self, problem: Any) -> Mapping[str, Job]:
        return {"training": problem.job("training", lambda: ClassifierTraining(self._trainer))}

    def add(self, results: xr.Dataset, problem: Any, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        results.attrs["classifier_steps"] = self._trainer.done
        return results


class OwnPath(Jobless):
    """Curves along the model's own path."""

    def add(self, results: xr.Dataset, problem: Any, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        if PATH_ESTIMATOR not in done:
            return results
        paths, reals = [done[PATH_ESTIMATOR].result_for(a) for a in problem.attributes], _reals(problem)
        each, drawn = ("attribute", "sigma"), ("attribute", "sigma", "path_draw")
        of_path = [p.curve for p in paths]
        variables = {
            "path_information": (each, _with_unknown([c.value for c in of_path], reals)),
            "path_stderr": (each, _with_unknown([c.stderr for c in of_path], reals)),
            "path_quadrature_error": (each, _with_unknown([further_error(c) for c in of_path], reals)),
            "path_information_per_draw": (drawn, _with_unknown([c.per_draw for c in of_path], reals)),
            "path_ceiling": (("attribute",), _with_unknown([np.asarray(c.ceiling) for c in of_path], reals)),
        }
        kept, sure = [p.kept for p in paths if p.kept is not None], [p.sure for p in paths if p.sure is not None]
        if kept and sure:
            variables |= {"path_kept_per_draw": (drawn, np.stack(kept)), "path_sure_per_draw": (drawn, np.stack(sure))}
        results = results.assign(
            {name: (axes, values, {"law": OWN_PATH}) for name, (axes, values) in variables.items()}
        )
        results["path_information"].attrs["by"] = "forks" if kept else "gap"
        return results


class Chain(Extra):
    """The residual of the chain rule for each attribute, integrated from the top down."""

    def jobs(self, problem: ModelProblem) -> Mapping[str, Job]:
        if len(problem.studied) < 2:
            return {}

        def make() -> ChainJob:
            return ChainJob(problem.model, problem.test, problem.sigma, problem.studied)

        return {"chain": problem.job("chain", make)}

    def add(self, results: xr.Dataset, problem: ModelProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        if "chain" not in done:
            return results
        weights, sigma = integral_from_the_top(problem.sigma), problem.sigma
        chained = [
            Curve.of_draws(
                a.name, "chain", sigma, weights @ (done["chain"].residual(a.name) / sigma[:, None] ** 2), np.nan,
                kind="estimate",
            )
            for a in problem.studied
        ]  # fmt: skip
        return results.assign(
            chain_residual=(("attribute", "sigma"), np.stack([c.value for c in chained])),
            chain_stderr=(("attribute", "sigma"), np.stack([c.stderr for c in chained])),
        )


class RealValues(Jobless):
    """Resolution, unit and ceiling of the real-valued attributes, and how precisely the exact filter of the data knows
    them, where it is measured.

    Args:
        ceilings: the ceiling of each attribute, and its standard error.
    """

    def __init__(self, ceilings: Mapping[str, tuple[float, float]]) -> None:
        self._ceilings = ceilings

    def add(self, results: xr.Dataset, problem: ModelProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        count, reals = len(problem.attributes), problem.real_attributes
        none = [np.nan] * count
        results = results.assign(
            resolution=("attribute", none + [a.resolution for a in reals]),
            period=("attribute", none + [a.period or np.nan for a in reals]),
            precision_unit=("attribute", [""] * count + [a.unit for a in reals]),
            ceiling_stderr=("attribute", [self._ceilings[a.name][1] for a in problem.studied]),
        )
        if DATA not in done:
            return results
        known = [precision(done[DATA].real(a.name).squared_error[:-1]) for a in reals]
        unknown = np.full((count, len(problem.sigma)), np.nan)
        return results.assign(
            precision=(("attribute", "sigma"), np.concatenate([unknown, [value for value, _ in known]])),
            precision_stderr=(("attribute", "sigma"), np.concatenate([unknown, [error for _, error in known]])),
        )


class OfProbes(Jobless):
    """The accuracy of probes, and their bounds with fewer draws to train on."""

    def add(self, results: xr.Dataset, problem: ModelProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        names, reals = [a.name for a in problem.attributes], _reals(problem)
        for job in (job for key, job in done.items() if key.startswith(_PROBES)):
            accuracy = _with_unknown([job.accuracy(n) for n in names], reals)
            learning = _with_unknown([job.learning(n) for n in names], reals)
            results = results.assign(
                {
                    f"accuracy_{job.where}": (("attribute", "sigma"), accuracy),
                    f"learning_{job.where}": (("attribute", "sigma", "share"), learning),
                }
            )
        return results


def _reals(problem: Any) -> int:
    """The number of real-valued attributes, which come last in results."""
    return len(getattr(problem, "real_attributes", ()))


def _with_unknown(rows: Sequence[np.ndarray], unknown: int) -> np.ndarray:
    """The rows of attributes, and so many more of NaN for those that are not measured."""
    return np.stack([*rows, *([np.full_like(rows[0], np.nan, dtype=np.float64)] * unknown)])


class OfGaps(Extra):
    """An extra that reads the job of the gaps."""

    def jobs(self, problem: ModelProblem) -> Mapping[str, Job]:
        return {"gaps": problem.job("gaps", problem.gap_job)}


class Calibration(OfGaps):
    """The difference of the two gaps, and the gap and bound of random labels."""

    def add(self, results: xr.Dataset, problem: ModelProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        measured = done["gaps"].curves()
        differences = [measured[a.name].calibration for a in problem.studied]
        results = results.assign(
            calibration=(("attribute", "sigma"), np.stack([c.value for c in differences])),
            calibration_stderr=(("attribute", "sigma"), np.stack([c.stderr for c in differences])),
        )
        best = next((c for c in curves if c.attribute == NULL and c.estimator == "bound"), None)
        for name, c in (
            ("null_score_gap", measured[NULL].score_gap if NULL in measured else None),
            ("null_bound", best),
            ("null_number_score_gap", measured[NULL_NUMBER].score_gap if NULL_NUMBER in measured else None),
        ):
            if c is not None:
                results = results.assign({name: ("sigma", c.value), f"{name}_stderr": ("sigma", c.stderr)})
        return results


class DrawsOfGaps(OfGaps):
    """The draws that the gaps were measured on, so that another model can be measured on the same."""

    def add(self, results: xr.Dataset, problem: ModelProblem, done: Jobs, curves: Sequence[Curve]) -> xr.Dataset:
        allocation = done["gaps"].allocation
        state = {} if allocation is None else allocation.state()
        return results.assign(
            {f"allocation_{k}": ([f"allocation_{k}_{i}" for i in range(v.ndim)], v) for k, v in state.items()}
        )


def allocation_of(study: Path, names: Sequence[str]) -> Allocation:
    """The allocation of an earlier study, so that two models are measured on the same draws.

    Raises: InputError where there is none, or it has other attributes.
    """
    path = study / "results.nc" if study.is_dir() else study
    file = read_study(path, "pass a study of a model")
    stored = {str(k): v.values for k, v in file.data_vars.items() if str(k).startswith("allocation_")}
    nulls = {"null_score_gap": NULL, "null_number_score_gap": NULL_NUMBER}
    measured = [*map(str, file.attribute.values), *(name for of, name in nulls.items() if of in file)]
    if not stored or measured != list(names):
        raise InputError(f"{path}: no study of a model with the attributes {', '.join(names)}: pass one to --like")
    try:
        return Allocation.from_state({k.removeprefix("allocation_"): v for k, v in stored.items()})
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise InputError(f"{path}: its draws cannot be read: pass a study of a model to --like") from error
