"""The page in a browser: it stands alone, fits a phone, and shows hostile names as text."""

from __future__ import annotations

import csv
import io
import os
import re
from html import escape
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from playwright.sync_api import sync_playwright

from asked import study
from sigmascope.analysis.onset import Onset, Quantity
from sigmascope.core import Curve
from sigmascope.report.panels import items_figure, strongest_pairs
from sigmascope.report.sections.beyond import items_html, pairs_html
from sigmascope.report.sections.lead import summary
from sigmascope.report.table import brief, describe
from sigmascope.studies.results import table_of

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


def check_slider(page):
    """The explorer of the page moves: at the last level the entropies that are left are those of the results."""
    slider = page.locator("#explorer-level")
    last = int(slider.get_attribute("max"))
    seen = []
    for level in (0, last):
        slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", str(level))
        nats = page.locator(".explorer .nats").all_inner_texts()
        seen.append([float(t.rpartition(" ")[2]) for t in nats])
    assert len(seen[0]) == 9  # a chart for each attribute
    assert np.mean(seen[0]) > 0.9
    assert np.mean(seen[1]) < 0.3 * np.mean(seen[0])


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
        assert page.evaluate("document.scripts.length") == 2  # the data and the script of the explorer
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert len(page_file.read_bytes()) < 5e6
        check_slider(page)
        assert errors == []
        assert page.title() != "stolen"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        names = page.locator("tbody th[scope=row], tr th[scope=row]").all_inner_texts()
        assert HOSTILE in names
        assert "a & b" in names
        assert len(names) == 18  # in the table of onsets, and in that of first and last values
        for picture in page.locator("figure .scroll img").all():
            assert picture.evaluate("i => i.complete && i.naturalWidth > 200")
            assert picture.evaluate("i => i.getBoundingClientRect().width / i.naturalWidth") > 0.6  # text stays legible
            assert picture.get_attribute("alt")
        heads = page.locator("h2").all_inner_texts()
        assert heads[:2] == ["Information in the noisy image", "When each attribute is decided"]
        assert heads[2] == "One image, level by level"
        added = ["Pairs of attributes", "Which value is decided first", "When the item is identified"]
        assert [h for h in heads if h in added] == added
        cells = page.locator("tr", has=page.locator("th[scope=row]", has_text="a & b")).last.locator("td")
        assert [t.split(":")[0] for t in cells.all_inner_texts()] in (["0", "1"], ["1", "0"])
        browser.close()


AXE = Path(os.environ.get("AXE_CORE", "/tmp/axe/node_modules/axe-core/axe.min.js"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not there: npm install axe-core, and its path as AXE_CORE")
def test_page_can_be_read_by_all(page_file, chromium, scheme):
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in (390, 1200):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.goto(page_file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.add_script_tag(path=str(AXE))
            found = page.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.nodes[0].html]))")
            assert found == []
        browser.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_page_is_dark_where_the_reader_wants_it(page_file, chromium):
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        light = {}
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
            page.goto(page_file.as_uri())
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            picture = page.locator("figure .scroll img").first
            picture.scroll_into_view_if_needed()
            corner = np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("L"))[2:6, 2:6]
            light[scheme] = (np.mean([int(x) for x in re.findall(r"\d+", ground)[:3]]), corner.mean())
        browser.close()
    assert min(light["light"]) > 240
    assert max(light["dark"]) < 60


def test_the_page_begins_with_three_sentences(page_file):
    text = page_file.read_text(encoding="utf-8")
    lead = re.search(r'<p class="lead">(.*?)</p>', text, re.S)[1]
    results = xr.load_dataset(page_file.parent / "results.nc", engine="h5netcdf")
    table = table_of(results)
    first, last = table[0], table[-1]
    sentences = re.split(r"(?<=[.]) (?=[A-Z])", lead)
    assert len(sentences) == 3
    assert sentences[0].startswith(
        f"Generation decides <strong>{escape(first.attribute)}</strong> first, at noise level"
    )
    assert f"<strong>{escape(last.attribute)}</strong> last, at σ {brief(last.at[1])}" in sentences[0]
    assert "exact for the data up to the chance of 24 draws" in sentences[1]
    assert sentences[2].startswith(("To redraw", "The windows of"))


def curve(kind):
    """A curve of 100 draws, of which the summary reads the kind and the levels."""
    return Curve.of_draws("a", "posterior", np.array([9.0, 1.0, 0.1]), np.zeros((3, 100)), 1.0, kind=kind)


def onset(name, ninety, half, ten, before=float("nan"), state="reached"):
    at = [Quantity(x, 0.9 * x, 1.1 * x) for x in (ten, half, ninety)]
    return Onset(name, 1.0, tuple(at), Quantity(*[float("nan")] * 3), 0.1, before, state)


@pytest.mark.parametrize(
    ("table", "kind", "parts"),
    [
        ([onset("a", 4, 5, 6, 0.99), onset("b", 0.5, 1, 2)], "exact",
         ["<strong>a</strong> first, at noise level σ 5.00 (4.50 to 5.50)", "is settled (in", "between 2.00 and 4"]),
        ([onset("a", 1, 1.5, 6, 0.8), onset("b", 0.5, 1, 2)], "lower bound",
         ["<strong>b</strong> last", "is the same or higher; the order of <strong>a</strong>", "up to σ 1.00; their"]),
        ([onset("a", 4, 5, 6)], "estimate", ["is decided at noise", "errors of the network", "σ 6.00 down to 4.00"]),
        ([onset("a", 0, 0, 0, state="not reached")], "exact", ["No attribute passes half", "exact", "--sigma-max"]),
        ([], "exact", ["marked as biased at some levels"]),  # there is no level to be sure of, and nothing to widen
    ],
)  # fmt: skip
def test_summaries_say_what_the_onsets_say(table, kind, parts):
    sentences = summary(table, [curve(kind)])
    assert len(sentences) == len(parts)
    for sentence, part in zip(sentences, parts, strict=True):
        assert part in sentence
        assert sentence.endswith(".")


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


def test_the_page_says_where_the_item_is_identified(page_file, tmp_path):
    results = xr.load_dataset(page_file.parent / "results.nc", engine="h5netcdf")
    ends = Quantity(*(float(results[f"identified_sigma{end}"]) for end in ("", "_low", "_high")))
    assert f"Below σ {describe(ends)} the item is identified" in page_file.read_text(encoding="utf-8")
    for sigma, limit, said in [
        (0.0, 1.0, "the item is not identified"),
        (np.inf, 1.0, "the item is already identified"),
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
    one, two, three = map(escape, names[:3])
    assert f"needs both attributes is on {one} and {two}: 0.500 ± 0.012 nats at σ 0.01" in said
    assert f"redundant information is on {two} and {three}: 0.299 ± 0.012 nats" in said
    noise = made.assign(pair_stderr=(made.pair_stderr.dims, np.full(value.shape, 0.2)))
    assert strongest_pairs(noise) == []
    assert "No pair differs from 0" in pairs_html({"pairs": ""}, noise)[0]
