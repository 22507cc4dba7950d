"""What several kinds of study leave beside their curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Float


def with_keeping(
    results: xr.Dataset,
    kept: Mapping[str, Float[np.ndarray, "levels draws"]],
    sure: Mapping[str, Float[np.ndarray, "levels draws"]] | None = None,
) -> xr.Dataset:
    """The results with the probabilities that a redraw keeps each attribute, and that it can be read off.

    Args:
        results: of :func:`to_dataset`.
        kept: of each attribute, for each draw.
        sure: likewise.
    """
    names = [str(n) for n in results.attribute.values]
    axes = ("attribute", "sigma", "draw")
    results = results.assign(kept_per_draw=(axes, np.stack([kept[n] for n in names])))
    return results if sure is None else results.assign(sure_per_draw=(axes, np.stack([sure[n] for n in names])))
