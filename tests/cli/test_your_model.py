"""The network of examples/your_model.py, on real digits: marks on it, and on three wrong wrappings of it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import sigmascope
from conftest import ROOT
from sigmascope import Foreign, Unit
from sigmascope.noise import Discrete

WRONG = {
    "right": {},
    "pixels from 0 to 1": {"unit": Unit()},
    "another schedule": {"schedule": Discrete.cosine()},
    "another target": {"prediction": "v_prediction"},
}


@pytest.fixture
def build(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from study_your_model import build

    yield build
    for name in ("study_your_model", "your_model"):
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore::sigmascope.information.above.CoarseTopWarning")  # the network is small
@pytest.mark.parametrize("wrong", WRONG)
def test_no_gap_is_trusted_that_the_data_contradict(shared, build, wrong):
    """Not below the bound of the data alone by more than its errors, nor above the entropy."""
    right = build()
    made = {"schedule": right.schedule, "prediction": "epsilon", "unit": right.unit} | WRONG[wrong]
    model = Foreign(right.network, right.event, attribute=right.attributes[0], null=right.null, **made)
    results = sigmascope.study(
        shared / "data" / "mnist-10k.npz", model, attributes="digit", estimators="score_gap,mmse_gap",
        sampling=sigmascope.Sampling(draws=32, levels=8, sigma_max=10.0, sigma_min=0.05),
        options=sigmascope.GapOptions(budget=8000),
    )  # fmt: skip
    one = results.isel(attribute=0)
    bound, ceiling = one.sel(estimator="heldout"), float(one.ceiling)
    assert bool(results.attrs["wrapping"]) == (wrong != "right")
    for name in ("score_gap", "mmse_gap"):
        gap = one.sel(estimator=name)
        error = np.hypot(gap.stderr, bound.stderr)
        below = gap.information + 3 * error + 0.01 * ceiling < bound.information
        above = gap.information > ceiling * 1.1 + 3 * gap.stderr
        assert not (gap.trusted.astype(bool) & (below | above)).any()
        if wrong != "right":
            assert not gap.trusted.any()
