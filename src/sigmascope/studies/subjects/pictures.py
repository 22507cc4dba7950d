"""Features of the pictures themselves: frequency bands, low-pass parts, gray."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import sigmascope.distributed as distributed
from sigmascope.core import Attribute, InputError, LabelledData
from sigmascope.data import draw_items, load_any
from sigmascope.data.labels import NO_LABELS
from sigmascope.data.loaders import by_word
from sigmascope.data.memory import available_bytes, require
from sigmascope.device import resolve_device
from sigmascope.exact.features import Feature, parse_features, picture_shape, to_frequencies
from sigmascope.exact.field import FULL_ITEMS, Moments, structure_of
from sigmascope.exact.finite.filter import FiniteDenoiser
from sigmascope.information.estimator import PICTURES, Estimator
from sigmascope.information.problems import PictureProblem
from sigmascope.information.resolved import errors_at
from sigmascope.noise import sigma_grid
from sigmascope.studies.costs import line
from sigmascope.studies.extras.resolved import Resolved
from sigmascope.studies.spec import FeatureSpec, Spec
from sigmascope.studies.subjects.base import Joins, Subject, Unjoined, filled
from sigmascope.studies.subjects.extra import Extra

_FEW, _BLOCK = 32, 256  # draws and items that are timed
_EIGEN = 1e-9  # seconds of an eigendecomposition, and of reading a feature off at all levels, for each coordinate cubed


class Pictures(Subject[PictureProblem]):
    """Pictures whose linear features are measured.

    Args:
        data: the pictures.
        features: of them.
        denoiser: their exact filter.
    """

    kind = PICTURES
    attributes = ()

    def __init__(self, data: LabelledData, features: Sequence[Feature], denoiser: FiniteDenoiser) -> None:
        self.data, self.denoiser = data, denoiser
        self.features = tuple(features)

    def problem(self, spec: Spec) -> PictureProblem:
        s = spec.sampling
        return PictureProblem(
            subject=self.data, attributes=(), draws=draw_items(self.data, s.draws, s.seed),
            sigma=sigma_grid(s.sigma_max, s.sigma_min, s.levels), seed=s.seed, estimators=self.estimators(spec),
            features=self.features, denoiser=self.denoiser,
        )  # fmt: skip

    def extras(self, problem: PictureProblem) -> Sequence[Extra]:
        return [Resolved()]

    def beside(self, problem: PictureProblem) -> Sequence[Estimator[Any]]:
        return ()

    def joining(self, problem: PictureProblem) -> Joins:
        return Unjoined()

    def dry_run(self, spec: Spec, reading: float) -> list[str]:
        items, size, s = len(self.data), self.data.size, spec.sampling
        full = structure_of(self.data) == "full"
        operations = 4.0 * items * size * s.draws * s.levels + (2.0 * items * size**2 if full else 0.0)
        needed = _bytes(self.data)
        model = "the full covariance" if full else "the power spectrum"
        return [
            line("data", self.data.words),
            line("attributes", ", ".join(f"{f.name} ({f.size(self.data.event)})" for f in self.features)),
            line("model", f"a Gaussian with {model} of {size:,} coordinates"),
            line("cost", f"{operations:.2g} operations, {s.draws * s.levels:,} exact denoisings"),
            line("time", f"about {reading + self._seconds(spec):.0f} s on this machine"),
            line("memory", f"about {needed / 1e9:.2f} GB more; {available_bytes() / 1e9:.1f} GB is free"),
        ]

    def _seconds(self, spec: Spec) -> float:
        """Time of the study, from a few denoisings and a block of items that are timed now."""
        s, rows = spec.sampling, min(len(self.data), _BLOCK)
        few = min(s.draws, _FEW)
        draws = draw_items(self.data, few, s.seed)
        errors_at(self.denoiser, draws, self.features, s.sigma_max)  # the first call loads libraries
        begun = time.perf_counter()
        errors_at(self.denoiser, draws, self.features, s.sigma_max)
        denoised = time.perf_counter()
        moments = Moments(self.data.event, structure_of(self.data))
        about = to_frequencies(draws.v[:1])[0]
        moments.add(self.data.source.read(0, rows), self.data.weights[:rows], about)
        added = time.perf_counter()
        blocks, size = moments.second.shape[0], float(moments.second.shape[1])
        fitted = (added - denoised) * len(self.data) / rows + _EIGEN * blocks * size**3 * (1 + len(self.features))
        return (denoised - begun) * s.levels * s.draws / few + fitted


def _bytes(data: LabelledData) -> int:
    """Memory of the Gaussian model, about."""
    return 64 * data.size**2 + 10**8 if structure_of(data) == "full" else 64 * data.size + 10**8


def open_pictures(spec: FeatureSpec, out: Path | None = None, progress: bool = False) -> tuple[Subject[Any], Spec]:
    """The pictures of named data, with the features of the specification.

    Raises: InputError, also when the data are not those of the specification.
    """
    w, features = spec.inputs, parse_features(spec.inputs.attributes)  # before the data are read
    if w.data.startswith("<"):
        raise InputError(f"{w.data}: these data came from Python, not from a file: repeat the study there")
    loader = by_word(w.data)
    if loader is not None and not loader.finite:
        raise InputError(f"{w.data}: {features[0].name} is a feature of pictures: pass a finite set of pictures")
    return of_pictures(spec, load_any(w.data, needed(features), size=w.size, grain=w.grain, ground=w.ground))


def needed(features: Sequence[Feature]) -> tuple[str, ...]:
    """The entries with which data are loaded without labels."""
    return (NO_LABELS, *(f.name for f in features))


def with_a_label(data: LabelledData) -> LabelledData:
    """The data with a label that says nothing, since an exact filter has at least one."""
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    rows = torch.arange(len(data)) % 2
    return replace(data, attributes=(Attribute("picture", ("0", "1"), half),), labels={"picture": rows})


def of_pictures(spec: FeatureSpec, data: Any, denoiser: FiniteDenoiser | None = None) -> tuple[Subject[Any], Spec]:
    """The subject of loaded pictures, and the specification with their fingerprint and all features by name.

    Args:
        spec: the study.
        data: labelled data; the labels do not count.
        denoiser: their exact filter; None: it is made here.

    Raises: InputError for data that are no finite set of pictures, or that have a label of the name of a feature.
    """
    w, features = spec.inputs, parse_features(spec.inputs.attributes)
    if not isinstance(data, LabelledData):
        raise InputError(f"{w.data}: {features[0].name} is a feature of pictures: pass a finite set of pictures")
    if spec.fingerprint and spec.fingerprint != data.fingerprint:
        raise InputError(
            f"{w.data}: the data are not those of the specification (fingerprint {data.fingerprint}, expected "
            f"{spec.fingerprint}): restore the file, or delete the line 'fingerprint'"
        )
    if distributed.world() > 1:
        raise InputError(f"{w.data}: features of pictures are measured by one process: run it without torchrun")
    if len(data) < FULL_ITEMS:
        raise InputError(f"{w.data}: it has {len(data)} pictures: a Gaussian model needs at least {FULL_ITEMS}")
    labels = [a.name for a in data.attributes]
    for feature in features:
        if feature.name in labels:
            raise InputError(f"{w.data}: {feature.name!r} is a feature of the pictures and a label: rename the label")
        _, height, width = picture_shape(data.event, feature.name)
        feature.frequencies(height, width)
    if not labels:
        data = with_a_label(data)
    require(_bytes(data), "the Gaussian model of the pictures", "use smaller pictures")
    exact = FiniteDenoiser(data, resolve_device(spec.device)) if denoiser is None else denoiser
    return Pictures(data, features, exact), filled(spec, data, [f.name for f in features])
