"""The page in a browser: it stands alone, fits a phone, and shows hostile names as text."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

import sigmascope

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
    sigmascope.study(images, labels=labels, draws=24, levels=16, out=out)
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
        assert len(names) == 9
        for picture in page.locator("img").all():
            assert picture.evaluate("i => i.complete && i.naturalWidth > 200")
            assert picture.get_attribute("alt")
        heads = page.locator("h2").all_inner_texts()
        assert heads[:2] == ["What the noisy image tells", "When it is decided"]
        browser.close()


def test_every_sentence_of_the_page_is_about_these_numbers(page_file):
    results = sigmascope.study(
        np.random.default_rng(1).random((50, 4)).astype(np.float32), labels={"a": np.arange(50) % 2}, draws=8, levels=8
    )
    assert "unit in which the data are stored" in results.attrs["unit_of_sigma"]
    text = page_file.read_text(encoding="utf-8")
    assert "the unit in which the data are stored" in text
    assert "24 draws, 16 noise levels from 90 to 0.01" in text
