"""The jobs of features of pictures: a Gaussian model of the data, and the resolved shares of their exact filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from sigmascope.core import Curve, Denoiser, Draws, InputError, LabelledData
from sigmascope.exact.features import Feature, picture_shape, to_frequencies
from sigmascope.exact.field import (
    AtLevel,
    Corrected,
    FieldFeature,
    GaussianField,
    Moments,
    block_rows,
    correct,
    structure_of,
)
from sigmascope.information.resolved import errors_at, powers

_OTHER_STUDY = "the checkpoint is not of this study: delete checkpoint*.npz and run again"


class FieldJob:
    """Fits a Gaussian model to the pictures, and reads every feature at every level.

    A step adds a block of items; after all items, a step reads one feature at all levels.  A later run fits the model
    again.

    Args:
        data: pictures.
        draws: whose items give the standard errors and the correction of the bias.
        features: of the pictures.
        sigma: decreasing levels.
    """

    def __init__(
        self, data: LabelledData, draws: Draws, features: Sequence[Feature], sigma: Float[np.ndarray, " levels"]
    ) -> None:
        self._data, self._draws, self._features, self._sigma = data, draws, features, sigma
        self._rows = block_rows(data.size)
        self.total = -(-len(data) // self._rows) + len(features)
        self.position = 0
        self._moments = Moments(data.event, structure_of(data))
        self._about = to_frequencies(data.source.read(0, 1))[0]
        self.values: list[list[Corrected]] = []
        self.shares: list[list[float]] = []
        self.rates: list[list[float]] = []

    @property
    def done(self) -> bool:
        return self.position == self.total

    @property
    def field(self) -> GaussianField:
        """The fitted model, once all items are in."""
        if not hasattr(self, "_field"):
            self._field = self._moments.field(self._about)
            del self._moments
        return self._field

    def step(self) -> None:
        """Add the next block of items, or read the next feature."""
        start = self.position * self._rows
        if start < len(self._data):
            stop = min(start + self._rows, len(self._data))
            self._moments.add(self._data.source.read(start, stop), self._data.weights[start:stop], self._about)
        else:
            self._read(self._features[len(self.values)])
        self.position += 1

    def _read(self, feature: Feature) -> None:
        _, height, width = picture_shape(self._data.event, feature.name)
        sample = self.field.whiten(self._draws.v, feature.frequencies(height, width))
        own: FieldFeature = self.field.feature(feature)
        levels: list[AtLevel] = [own.at(float(s)) for s in self._sigma]
        self.values.append([correct(self.field, own, float(s), sample) for s in self._sigma])
        self.shares.append([at.share for at in levels])
        self.rates.append([at.rate for at in levels])

    def curve(self, index: int, sigma: Float[np.ndarray, " levels"]) -> Curve:
        """I(B; Y_sigma) of a feature; its columns show the chance of the items, its ceiling is the last level's."""
        values = self.values[index]
        per_draw = np.stack([v.per_item.numpy() for v in values])
        further = np.array([v.further for v in values])
        name = self._features[index].name
        ceiling = max(values[-1].value, 1e-9)
        return Curve.of_draws(name, "gaussian", sigma, per_draw, ceiling, kind="estimate", quadrature_error=further)

    def state(self) -> dict[str, np.ndarray]:
        """Nothing: the pass over the items is short."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Begin anew."""


class ResolvedJob:
    """Squared errors of a denoiser in every feature, for all draws: a level at a time.

    Args:
        denoiser: D(y, sigma).
        draws: of pictures.
        features: of them.
        sigma: decreasing levels.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        draws: Draws,
        features: Sequence[Feature],
        sigma: Float[np.ndarray, " levels"],
    ) -> None:
        self._denoiser, self._draws, self._features, self._sigma = denoiser, draws, features, sigma
        self._errors: list[np.ndarray] = []
        self.total = len(sigma)

    @property
    def position(self) -> int:
        """Levels done."""
        return len(self._errors)

    @property
    def done(self) -> bool:
        return self.position == self.total

    def step(self) -> None:
        """Denoise all draws at the next level."""
        sigma = float(self._sigma[self.position])
        self._errors.append(errors_at(self._denoiser, self._draws, self._features, sigma))

    def errors(self) -> Float[np.ndarray, "features levels draws"]:
        """Squared error of each draw."""
        return np.stack(self._errors, 1)

    def powers(self) -> Float[np.ndarray, "features draws"]:
        """Squared distance of each draw from the mean."""
        return powers(self._draws, self._features)

    def state(self) -> dict[str, np.ndarray]:
        """The errors of the levels done."""
        return {"resolved": np.stack(self._errors)} if self._errors else {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on after the levels of a state."""
        errors = state.get("resolved", np.empty((0, len(self._features), len(self._draws))))
        if errors.shape[1:] != (len(self._features), len(self._draws)) or len(errors) > self.total:
            raise InputError(_OTHER_STUDY)
        self._errors = list(errors)
