"""The explorer in a browser: every level shows its own numbers, hostile names are text, and nothing is fetched."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from sigmascope.core import Attribute, Curve
from sigmascope.report.explorer import Explored, explorer_section
from sigmascope.report.page import document

NAME = '<script>document.title="stolen"</script>'
VALUE = "</script><img src=x onerror=alert(1)>"
LEVELS, FORKS = 7, 4
SIGMA = np.geomspace(30, 0.05, LEVELS)
MIDDLE = 3  # the curves rise most from level 2 to level 3, and next from there on


def attribute(name, values):
    prior = torch.arange(1, len(values) + 1, dtype=torch.float64)
    return Attribute(name, tuple(values), prior / prior.sum())


ATTRIBUTES = (
    attribute(NAME, [VALUE, "plain & simple"]),
    attribute("__proto__", ["constructor", "\u2028\u2029]]>", "\ud800 alone"]),
    attribute("a name that is far too long for any column of a telephone " * 3, [f"thin {k}" for k in range(20)]),
    attribute("many", [f"value {k}" for k in range(100)]),
)


def explored(event=(3, 5, 6), forks=FORKS, levels=LEVELS, seed=0):
    rng = np.random.default_rng(seed)
    sigma = np.geomspace(30, 0.05, levels)
    labels = {a.name: rng.integers(0, len(a.values), (levels, forks)) for a in ATTRIBUTES}
    labels[NAME][:3] = [0, 1, 0, 1][:forks]
    labels[NAME][3:] = 0  # agree from level 3 on
    labels["many"][2:5] = 17
    labels["many"][5:] = -1  # unknown to all: no agreement
    labels["__proto__"][-1] = 1
    return Explored(
        sigma=sigma,
        tau=np.linspace(1, 0.00001, levels),
        noised=(0.5 + sigma.reshape(-1, *[1] * len(event)) * rng.standard_normal((levels, *event))).astype(np.float32),
        denoised=rng.random((levels, *event)).astype(np.float32),
        children=rng.random((levels, forks, *event)).astype(np.float32),
        labels=labels,
        posterior={a.name: rng.dirichlet(np.full(len(a.values), 0.4), levels) for a in ATTRIBUTES},
        truth={a.name: k for a, k in zip(ATTRIBUTES, (0, 2, 19, 99), strict=True)},
        attributes=ATTRIBUTES,
    )


def curves(levels=LEVELS):
    at = {7: [-0.0001, 0.1, 0.2, 0.6, 0.8, 0.9, 0.95]}.get(levels, np.linspace(0, 1, levels))
    sigma = np.geomspace(30, 0.05, levels)
    return [
        Curve.of_draws(a.name, "posterior", sigma, a.entropy * np.array(at)[:, None] + [[-0.01, 0.01]], a.entropy)
        for a in ATTRIBUTES
    ]


@dataclass
class Opened:
    """A page in a browser, and what it did without being asked."""

    page: Any
    address: str
    requests: list[str]
    messages: list[str]

    def at_level(self, level):
        """Set the slider as a finger does."""
        self.page.locator("#explorer-level").evaluate(
            "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", str(level)
        )


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens a section in a page."""
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def open_it(section, width=390, scripts=True):
            file = tmp_path / "page.html"
            file.write_text(document("t", [section]), encoding="utf-8")
            page = browser.new_page(viewport={"width": width, "height": 800}, java_script_enabled=scripts)
            made = Opened(page, file.as_uri(), [], [])
            page.on("request", lambda r: made.requests.append(r.url))
            page.on("console", lambda m: made.messages.append(m.text))
            page.on("pageerror", lambda e: made.messages.append(str(e)))
            page.on("dialog", lambda d: (made.messages.append(d.message), d.dismiss()))
            page.goto(made.address)
            return made

        yield open_it
        browser.close()


def data_of(section):
    return json.loads(re.search(r'id="explorer-data">(.*?)</script>', section, re.S).group(1))


def pixels(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))).astype(float)


def shown(page):
    """What the page shows now, read from the drawn elements."""
    return page.evaluate(
        """() => ({
        charts: [...document.querySelectorAll('.explorer .chart')].map((c) => ({
            bars: [...c.querySelectorAll('.bar')].map((b) => {
                const inner = b.getBoundingClientRect(), outer = b.parentElement.getBoundingClientRect();
                const rows = b.parentElement.className === 'track';
                return [parseFloat(b.style.width || b.style.height) / 100,
                        rows ? inner.width / outer.width : inner.height / outer.height];
            }),
            labels: [...c.querySelectorAll('.label')].map((e) => e.textContent),
            printed: [...c.querySelectorAll('.row .p')].map((e) => e.textContent),
            own: [...c.querySelectorAll('.rows > div, .slots > div')].map((e) => e.classList.contains('true')),
            prior: [...c.querySelectorAll('.rows > div, .slots > div')].map(
                (e) => Number(e.style.getPropertyValue('--prior'))),
            nats: c.querySelector('.nats').textContent,
            words: [...c.querySelectorAll('.words')].map((e) => e.textContent),
            name: c.querySelector('b').textContent})),
        read: [...document.querySelectorAll('#explorer-read span')].map((e) => e.textContent),
        spoken: document.getElementById('explorer-level').getAttribute('aria-valuetext'),
        agreed: [...document.querySelectorAll('#explorer-agreed .value')].map((e) => e.textContent),
        sentence: document.getElementById('explorer-agreed').textContent,
        noised: document.getElementById('explorer-noised').src,
        denoised: document.getElementById('explorer-denoised').src,
        children: [...document.querySelectorAll('#explorer-children img')].map((e) => e.src),
        titles: [...document.querySelectorAll('#explorer-children img')].map((e) => e.title.split('\\n')),
        cursor: ['x1', 'x2'].map((n) => Number(document.getElementById('explorer-cursor').getAttribute(n))),
        dots: [...document.querySelectorAll('#explorer-plot circle')].map(
            (e) => [Number(e.getAttribute('cx')), Number(e.getAttribute('cy'))]),
        lines: [...document.querySelectorAll('#explorer-plot .curve')].map(
            (e) => [...e.points].map((p) => [p.x, p.y])),
        })"""
    )


def check_level(page, ex, level):
    """Everything shown is that of this level, computed here from the arrays."""
    now = shown(page)
    sigma = ex.sigma[level]
    read, db, tau = now["read"]
    assert float(read.removeprefix("σ = ")) == pytest.approx(sigma, rel=5e-3)
    assert now["spoken"] == read
    assert db == f"SNR = {-20 * math.log10(sigma):.1f} dB".replace("-", "−")
    assert float(tau.removeprefix("τ = ").replace("−", "-")) == pytest.approx(ex.tau[level], rel=5e-3)
    for a, chart, curve in zip(ex.attributes, now["charts"], curves(len(ex.sigma)), strict=True):
        p, truth = ex.posterior[a.name][level], ex.truth[a.name]
        order = np.arange(len(p)) if len(p) <= 64 else np.argsort(-p, kind="stable")[:16]
        written, drawn = np.array(chart["bars"]).T
        np.testing.assert_allclose(written, p[order], atol=2e-6, rtol=1e-5)
        np.testing.assert_allclose(drawn, p[order], atol=0.012)  # a browser's boxes end on 64ths of a pixel
        assert chart["own"] == [k == truth for k in order]
        assert chart["prior"] == pytest.approx(a.prior.numpy()[order], rel=1e-3)
        assert chart["name"] == a.name
        entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
        open_, known = f"H(A|y) {entropy:.3f}", f"I {curve.value[level] + 0.0:.3f} of {a.entropy:.3f}"
        assert chart["nats"] == f"{known.replace('-0.000', '0.000')} · {open_}"
        if len(order) <= 16:
            assert chart["labels"] == [a.values[k] for k in order]
            assert chart["printed"] == [f"{x:.3f}" for x in np.round(p[order], 12)]
        if len(p) > 16:
            best, own = int(p.argmax()), f"its own: {a.values[truth]}, {p[truth]:.3f}"
            assert chart["words"] == [f"likeliest: {a.values[best]}, {p[best]:.3f}", own]
    agreed = {
        f"{a.name}: {a.values[ex.labels[a.name][level, 0]]}"
        for a in ex.attributes
        if len(set(ex.labels[a.name][level])) == 1 and ex.labels[a.name][level, 0] >= 0
    }
    assert set(now["agreed"]) == agreed
    assert len(now["agreed"]) == len(agreed)
    assert now["sentence"].startswith("All 4 continuations agree in" if agreed else "The 4 continuations agree in noth")
    for k, title in enumerate(now["titles"]):
        its = [(a, ex.labels[a.name][level, k]) for a in ex.attributes]
        assert title == [f"{a.name}: {a.values[v] if v >= 0 else 'unknown'}" for a, v in its]
    for address, v in zip([now["denoised"], *now["children"]], [ex.denoised[level], *ex.children[level]], strict=True):
        np.testing.assert_allclose(pixels(address), 255 * np.moveaxis(v, 0, -1), atol=0.501)
    noisy, y = pixels(now["noised"]), np.moveaxis(ex.noised[level], 0, -1)
    inside = (noisy > 0) & (noisy < 255)
    assert np.corrcoef(noisy[inside], y[inside])[0, 1] > 0.999  # another contrast, the same picture
    x = now["cursor"]
    assert x[0] == x[1]
    for dot, line in zip(now["dots"], now["lines"], strict=True):
        assert dot == pytest.approx(line[level], abs=0.02)
        assert dot[0] == x[0]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("width", [390, 1200])
def test_every_level_shows_its_own_numbers(opened, width):
    ex = explored()
    section = explorer_section(ex, curves())
    o = opened(section, width)
    page = o.page
    slider = page.locator("#explorer-level")
    assert slider.input_value() == str(MIDDLE)
    check_level(page, ex, MIDDLE)
    heights = {page.evaluate("document.documentElement.scrollHeight")}
    slider.focus()
    for level in range(MIDDLE + 1, LEVELS):
        page.keyboard.press("ArrowRight")
        check_level(page, ex, level)
    for level in (0, LEVELS - 1, 1, 2):
        o.at_level(level)
        check_level(page, ex, level)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        heights.add(page.evaluate("document.documentElement.scrollHeight"))
    assert len(heights) == 1, "the layout jumps"
    box = page.locator("#explorer-plot").bounding_box()
    page.locator("#explorer-plot").click(position={"x": box["width"] - 12, "y": 40})
    check_level(page, ex, LEVELS - 1)
    assert page.get_by_label("noise level σ").count() == 1
    columns = page.evaluate(
        "new Set([...document.querySelectorAll('.both > *')].map(e => e.getBoundingClientRect().left)).size"
    )
    assert columns == (1 if width == 390 else 2)
    assert o.messages == []
    assert [u for u in o.requests if not u.startswith("data:")] == [o.address]
    assert page.title() == "t – sigmascope"
    assert page.locator("img").count() == 2 + FORKS
    assert page.evaluate("document.scripts.length") == 2
    assert NAME in page.locator("#explorer-legend").inner_text()


def test_nothing_of_a_strangers_file_is_markup():
    section = explorer_section(explored(), curves())
    assert section.count("<script") == section.count("</script") == 2
    assert "onerror=alert" in section  # it is there, as text
    held = re.search(r'id="explorer-data">(.*?)</script>', section, re.S).group(1)
    assert not set("<>&\u2028\u2029") & set(held)
    assert held.isascii()
    assert data_of(section)["attributes"][0]["values"][0] == VALUE
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?://(?!www\.w3\.org/2000)", section
    )


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("event", [(1, 4, 4), (5, 7), (30,), (2,), (2, 3, 4)])
def test_values_that_are_no_pictures(opened, event):
    ex = explored(event, forks=0 if event == (2,) else FORKS)
    o = opened(explorer_section(ex, []))
    for level in (0, LEVELS - 1):
        o.at_level(level)
        for picture in o.page.locator(".explorer img").all():
            assert picture.evaluate("i => i.decode().then(() => i.naturalWidth > 1 && i.clientHeight > 40)")
    assert o.page.locator(".explorer img").count() == 2 + (0 if event == (2,) else FORKS)
    assert o.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert o.messages == []
    assert o.page.locator(".nats").first.inner_text().startswith("H(A|y)")  # no curve, no I


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_without_scripts_it_says_what_it_would_show(opened):
    page = opened(explorer_section(explored(), curves()), scripts=False).page
    assert "With JavaScript, a slider over the noise level" in page.locator("noscript").inner_text()
    assert not page.locator("#explorer-body").is_visible()


def test_large_values_are_reduced():
    for event in ((3, 200, 130), (5000,)):
        ex = explored(event)
        section = explorer_section(ex, curves())
        assert len(section) < 1.5e6
        assert ("reduced in size" in section) == (len(event) == 3)
    first = data_of(explorer_section(explored((3, 200, 130)), curves()))
    assert pixels(first["pictures"][first["levels"][0]["noised"]]).shape == (50, 32, 3)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_without_labels_or_a_schedule_nothing_is_said_of_them(opened):
    ex = replace(explored(), labels={}, tau=None)
    o = opened(explorer_section(ex, curves()))
    now = shown(o.page)
    assert now["read"][2] == ""
    assert now["sentence"] == ""
    assert o.messages == []


def test_contrast_of_noisy_pictures_is_that_of_clean_ones():
    ex = explored((1, 40, 40))
    data = data_of(explorer_section(ex, curves()))
    clean = np.mean([v.std() for v in ex.children[-1]])
    for level in data["levels"]:
        picture = pixels(data["pictures"][level["noised"]]) / 255
        assert picture.std() <= 1.02 * clean
        assert abs(picture.mean() - 0.5) < 0.1
    assert picture.std() < 0.3 * clean  # of σ 0.05 on grey: contrast is never raised


def test_a_page_of_many_pictures_stays_small():
    ex = explored((3, 64, 64), levels=32)  # noise in every picture: none can be smaller than this
    section = explorer_section(ex, curves(32))
    assert len(section) < 3.4e6
    same = explored((3, 64, 64), levels=32)
    same.children[:] = same.children[:1, :1]
    assert len(explorer_section(same, curves(32))) < 1.3e6  # a picture that comes again is held once


def test_curves_of_other_levels_are_read_between_their_own():
    ex = explored()
    c = curves()[0]
    half = c.at_levels(np.array([0, 2, 4, 6]))
    data = data_of(explorer_section(ex, [half]))
    assert [a["information"] is None for a in data["attributes"]] == [False, True, True, True]
    assert float(data["attributes"][0]["information"][3]) == pytest.approx((c.value[2] + c.value[4]) / 2, abs=6e-4)


@pytest.mark.parametrize("limit", [2e8, 0.0])
def test_one_reading_of_the_data_is_the_exact_filter(limit, monkeypatch):
    """Its posteriors are the filter's, the last continuations the item itself, and its mean is near the filter's."""
    from sigmascope.data import draw_items, from_array
    from sigmascope.exact.finite.filter import FiniteDenoiser
    from sigmascope.information.laws import measure, problem_of
    from sigmascope.studies import exploring

    monkeypatch.setattr(exploring, "_EXACT_MEAN", limit)
    rng = np.random.default_rng(0)
    images = rng.random((700, 5, 5))
    labels = {"half": images.mean((1, 2)) > 0.5, "corner": (4 * images[:, 0, 0]).astype(int)}
    data = from_array(images, labels, weights=rng.random(700))
    exact, draws = FiniteDenoiser(data), draw_items(data, 32, 0)
    curves = measure(problem_of(exact, draws, np.geomspace(20, 0.02, 9), ("half", "corner"), ("posterior",)))
    shown = exploring.explore(exact, data.attributes, draws, curves, 0)
    level = torch.from_numpy(shown.sigma)
    y = draws.v[0].double() + level.reshape(-1, 1, 1, 1) * draws.noise[0].double()
    for a in data.attributes:
        np.testing.assert_allclose(shown.posterior[a.name], exact.log_posterior(y, level, a.name).exp(), atol=2e-4)
    spread = float(torch.as_tensor(images).std())
    assert shown.mean_draws == (0 if limit else 1024)
    assert np.abs(shown.denoised - exact(y, level).numpy()).max() < (1e-5 if limit else 6 * spread / 32)
    assert (shown.children[-1] == draws.v[0].float().numpy()).all()  # one item is left
    assert ("1,024 items" in explorer_section(shown, curves)) == (limit == 0)
