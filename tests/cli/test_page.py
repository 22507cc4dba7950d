"""The page in a browser: it stands alone, fits a phone, and shows hostile names as text."""

from __future__ import annotations

import csv
from html import escape

import numpy as np
import pytest
import xarray as xr
from playwright.sync_api import sync_playwright

from asked import study
from sigmascope.report.panels import items_figure, strongest_pairs
from sigmascope.report.sections.beyond import items_html, pairs_html
from sigmascope.report.table import number

HOSTILE = '<script>document.title="stolen"</script>$\\frac$'


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = rng.random((200, 6, 6, 3)).astype(np.float32)
    labels = {
        HOSTILE: np.arange(200) % 3,
        "a & b": (images[:, :3].mean((1, 2, 3)) > 0.5).astype(int),
        **{f"attribute {i}": rng.integers(0, 3, 200) for i in range(7)},
    }
    out = tmp_path_factory.mktemp("page") / "out"
    study(images, labels=labels, draws=24, levels=16, pairs=True, out=out)
    return out / "report.html"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_page(page_file, chromium):
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        requests, errors = [], []
        page.on("request", lambda r: requests.append(r.url))
        page.on("console", lambda m: errors.append(m.text))
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto(page_file.as_uri())
        assert errors == []
        assert [u for u in requests if not u.startswith("data:")] == [page_file.as_uri()]
        assert page.title() != "stolen"
        assert page.evaluate("document.scripts.length") == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        names = page.locator("tbody th[scope=row], tr th[scope=row]").all_inner_texts()
        assert HOSTILE in names
        assert "a & b" in names
        assert len(names) == 18  # in the table of onsets, and in that of first and last values
        for picture in page.locator("img").all():
            assert picture.evaluate("i => i.complete && i.naturalWidth > 200")
            assert picture.get_attribute("alt")
        heads = page.locator("h2").all_inner_texts()
        assert heads[:2] == ["What the noisy image tells", "When it is decided"]
        added = ["Pairs of attributes", "Which value is decided first", "When it knows the image itself"]
        assert [h for h in heads if h in added] == added
        cells = page.locator("tr", has=page.locator("th[scope=row]", has_text="a & b")).last.locator("td")
        assert [t.split(":")[0] for t in cells.all_inner_texts()] in (["0", "1"], ["1", "0"])
        browser.close()


def test_every_sentence_of_the_page_is_about_these_numbers(page_file):
    results = study(
        np.random.default_rng(1).random((50, 4)).astype(np.float32), labels={"a": np.arange(50) % 2}, draws=8, levels=8
    )
    assert "unit in which the data are stored" in results.attrs["unit_of_sigma"]
    text = page_file.read_text(encoding="utf-8")
    assert "black to white (floats from 0 to 1)" in text
    assert "24 draws, 16 noise levels from 90 to 0.01" in text


def test_values_file_says_what_the_page_says(page_file):
    with (page_file.parent / "values.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    results = xr.load_dataset(page_file.parent / "results.nc", engine="h5netcdf")
    assert len(rows) == results.sizes["value"] == 3 + 2 + 7 * 3
    text = page_file.read_text(encoding="utf-8")
    for name in {r["attribute"] for r in rows}:
        mine = [r for r in rows if r["attribute"] == name]
        halves = [float(r["sigma_50"] or 0.0) for r in mine]
        assert halves == sorted(halves, reverse=True)
        assert [r["order"] for r in mine] == [str(k + 1) for k in range(len(mine))]
        at = np.flatnonzero((results.value_attribute.values == name) & (results.value.values == mine[0]["value"]))
        assert float(results.value_half[at[0]]) == pytest.approx(halves[0], rel=1e-5)
        assert float(mine[0]["ceiling"]) == pytest.approx(float(results.value_ceiling[at[0]]), abs=1e-6)
        assert f"<td>{escape(mine[0]['value'])}: {halves[0]:.2g}"[:-2] in text
    assert HOSTILE not in text
    assert escape(HOSTILE) in text


def test_the_page_says_where_the_item_is_recognised(page_file, tmp_path):
    results = xr.load_dataset(page_file.parent / "results.nc", engine="h5netcdf")
    assert f"Below σ {number(float(results.identified_sigma))} (" in page_file.read_text(encoding="utf-8")
    for sigma, limit, said in [
        (0.0, 1.0, "does not recognise"),
        (np.inf, 1.0, "has already recognised"),
        (0.0, 3.0, "100 % of the draws are of items that have equal copies"),
    ]:
        other = results.assign(identified_sigma=sigma, effective_items_limit=("draw", np.full(24, limit)))
        assert said in items_html({"items": ""}, other)[0]
        assert items_figure(other).axes[0].get_yscale() == "log"


def test_pairs_on_the_page_stand_out_of_their_errors(page_file):
    results = xr.load_dataset(page_file.parent / "results.nc", engine="h5netcdf")
    names = results["first"].values.tolist()
    value = np.zeros((9, 9, 16))
    value[0, 1], value[0, 2], value[1, 2] = np.linspace(0, -0.5, 16), np.linspace(0, 0.02, 16), np.linspace(0, 0.3, 16)
    value[1, 2, 8:] = np.linspace(0.299, 0.3, 8)  # nearly stays where it is
    made = results.assign(
        pair_interaction=(results.pair_interaction.dims, value + value.transpose(1, 0, 2)),
        pair_stderr=(results.pair_stderr.dims, np.full(value.shape, 0.006)),
    )
    assert strongest_pairs(made) == [(names[0], names[1], 15), (names[1], names[2], 8)]
    said = pairs_html({"pairs": "", "pair_curves": ""}, made)[0]
    assert f"told only together of {escape(names[0])} and {escape(names[1])}: 0.5 ± 0.01 nats at σ 0.0100" in said
    assert f"told twice of {escape(names[1])} and {escape(names[2])}: 0.3 ± 0.01 nats" in said
    noise = made.assign(pair_stderr=(made.pair_stderr.dims, np.full(value.shape, 0.2)))
    assert strongest_pairs(noise) == []
    assert "No pair stands out" in pairs_html({"pairs": ""}, noise)[0]
