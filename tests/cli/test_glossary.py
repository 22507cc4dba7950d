"""Every variable and attribute of results is explained by one table, and curves come as a table of pandas."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import sigmascope
from asked import study
from dressing import COLOURS, Exact, dressed, pictures
from sigmascope.core import InputError
from sigmascope.studies import explained
from sigmascope.studies.glossary import ATTRIBUTES, VARIABLES, described
from sigmascope.studies.laws import NOISED, OWN_PATH
from sigmascope.studies.results import to_curves

SMALL = {"draws": 16, "levels": 4, "sigma_max": 8.0, "sigma_min": 0.06}
GAPS = "score_gap,mmse_gap,filter,likelihood,posterior,own_path"


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    path = pictures(tmp_path_factory.mktemp("pictures"))
    made = {
        "exact": study(str(path), pairs=True, estimators="posterior,score_gap", **SMALL),
        "hierarchy": study("hierarchy:v=4,m=2,s=2,L=2", draws=6, levels=4),
        "heldout": study(str(path), law="heldout", **SMALL),
    }
    for name, classes, options in (
        ("model", True, {"estimators": GAPS, "budget": 2500}),
        ("sampler", False, {"estimators": "forks,posterior,own_path", "forks": 6, "steps": 4}),
    ):
        with pytest.MonkeyPatch.context() as patch:
            pipe = dressed(Exact(path, COLOURS), classes)
            patch.setattr("sigmascope.adapters.models.load_pipeline", lambda *_, pipe=pipe, **__: pipe)
            made[name] = study(str(path), attributes="colour", model="diffusers:x", **SMALL, **options)
    return made


@pytest.mark.parametrize("name", ["exact", "hierarchy", "heldout", "model", "sampler"])
def test_every_variable_is_explained(studies, name):
    results = studies[name]
    for variable in map(str, results.variables):
        attrs = results[variable].attrs
        assert all(attrs.get(key) for key in ("units", "long_name", "description")), variable
    assert set(results.attrs) <= set(ATTRIBUTES)
    words = explained(results)
    assert all(f"{variable} [" in words for variable in map(str, results.variables))
    assert all(f"@{key}: " in words for key in results.attrs)


def test_explanations_survive_the_file(studies, tmp_path):
    studies["exact"].to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "results.nc", engine="h5netcdf") as file:
        assert file.information.attrs == studies["exact"].information.attrs
        assert file.information.attrs["units"] == "nats"
        assert file.sigma.attrs["units"] == "sigma"


def test_a_variable_without_an_explanation_would_show(studies):
    results = described(studies["exact"].assign(other=("draw", np.zeros(16))))
    assert "units" not in results.other.attrs
    assert "other" not in VARIABLES


@pytest.mark.parametrize("name", ["exact", "heldout", "model", "sampler"])
def test_curves_as_a_table(studies, name):
    results = studies[name]
    table = sigmascope.to_pandas(results)
    assert list(table) == [
        "attribute", "estimator", "law", "sigma", "value", "stderr", "low", "high", "ceiling", "kind", "trusted",
    ]  # fmt: skip
    curves = [c for e in map(str, results.estimator.values) for c in to_curves(results, e)]
    noised = table[table.law != OWN_PATH]
    assert len(noised) == sum(len(c.sigma) for c in curves)
    for c in curves:
        rows = noised[(noised.attribute == c.attribute) & (noised.estimator == c.estimator)]
        assert np.array_equal(rows.sigma, c.sigma)
        assert np.array_equal(rows.value, c.value, equal_nan=True)
        assert np.allclose(rows.high - rows.low, 2 * 1.96 * c.error, equal_nan=True)
        assert (rows.ceiling == c.ceiling).all()
        assert (rows.kind == c.kind).all()
        if "trusted" in results:
            marks = results.trusted.sel(attribute=c.attribute, estimator=c.estimator).values.astype(bool)
            assert np.array_equal(rows.trusted, marks)
    assert (NOISED in set(table.law)) == (results.attrs.get("law", NOISED) == NOISED)
    assert (OWN_PATH in set(table.law)) == (name in ("model", "sampler"))


def test_a_table_of_other_things_is_refused():
    with pytest.raises(InputError, match="pass a Dataset that a study has made"):
        sigmascope.to_pandas(xr.Dataset())
