"""Results as a table of pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from sigmascope.studies.laws import NOISED, OWN_PATH
from sigmascope.studies.results import path_curves, to_curves

if TYPE_CHECKING:
    import pandas as pd


def to_pandas(results: xr.Dataset) -> pd.DataFrame:
    """All curves of a study as a tidy table, one row for each attribute, estimator and noise level.

    Args:
        results: what :func:`sigmascope.study` returned, or an opened ``results.nc``.

    Returns: a DataFrame with the columns ``attribute``, ``estimator``, ``law`` (where the noisy images come from),
        ``sigma`` (in the unit of the data), ``value``, ``stderr``, ``low`` and ``high`` (the 95 % interval; of a lower
        bound, ``low`` is the end that holds), ``ceiling`` (H(A)), all in nats, ``kind`` (exact, estimate or lower
        bound) and ``trusted`` (False where the study marks the curve as biased).

    Raises: InputError if the Dataset is not that of a study.
    """
    import pandas as pd

    law, doubted = str(results.attrs.get("law", NOISED)), bool(results.attrs.get("wrapping", ""))
    to_curves(results)  # refuses other Datasets
    rows = [(c, law) for name in map(str, results.estimator.values) for c in to_curves(results, name)]
    rows += [(c, OWN_PATH) for c in path_curves(results).values()]
    frames = []
    for curve, law in rows:
        trusted = np.full(len(curve.sigma), not (doubted and law == OWN_PATH))
        if law != OWN_PATH and "trusted" in results:
            marks = results.trusted.sel(attribute=curve.attribute, estimator=curve.estimator)
            trusted = marks.values.astype(bool)
        columns = {
            "attribute": curve.attribute, "estimator": curve.estimator, "law": law, "sigma": curve.sigma,
            "value": curve.value, "stderr": curve.stderr, "low": curve.value - 1.96 * curve.error,
            "high": curve.value + 1.96 * curve.error, "ceiling": curve.ceiling, "kind": curve.kind, "trusted": trusted,
        }  # fmt: skip
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)
