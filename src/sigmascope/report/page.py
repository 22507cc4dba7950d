"""The page of a study: one file, no script, nothing fetched; every name from the data is escaped."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from sigmascope.report.findings import Findings
from sigmascope.report.gallery import rendered
from sigmascope.report.sections import SECTIONS
from sigmascope.report.sections.lead import title_of

Write = Callable[[str, Callable[[Path], object]], None]
"""Called with a file's name and a function that writes it."""

_CSS = """
:root{color-scheme:light}
body{font:16px/1.55 system-ui,sans-serif;color:#1a1a1a;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0 0 .3rem}h2{font-size:1.15rem;margin:2.2rem 0 .4rem}h3{font-size:1rem;margin:1.6rem 0 .3rem}
img{max-width:100%;height:auto;display:block}figure{margin:0}figcaption,.note{color:#444;font-size:.92rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
th{white-space:nowrap}summary{margin:.5rem 0;cursor:pointer}
pre{background:#f5f5f5;padding:.8rem;overflow-x:auto;font-size:.85rem}
.lead{font-size:1.05rem}
"""


def write_page(write: Write, found: Findings) -> None:
    """Write ``figures/`` as PNG and SVG, then ``report.html``: every section that the findings hold something for.

    Args:
        write: called with a file's name and a function that writes it.
        found: what the study has found.
    """
    shown = [section for section in SECTIONS if section.applies(found)]
    pictures = _drawn(write, {name: drawn for section in shown for name, drawn in section.figures(found).items()})
    page = document(title_of(found), [part for section in shown for part in section.parts(pictures, found)])
    write("report.html", lambda p: p.write_text(page, encoding="utf-8"))


def _drawn(write: Write, figures: Mapping[str, Figure]) -> dict[str, str]:
    """Write figures as PNG and SVG; each as a page holds it, SVG in base 64."""
    pictures = {}
    for name, drawn in figures.items():
        svg, png = rendered(drawn, "svg"), rendered(drawn, "png")
        write(f"figures/{name}.svg", lambda p, b=svg: p.write_bytes(b))  # type: ignore[misc]
        write(f"figures/{name}.png", lambda p, b=png: p.write_bytes(b))  # type: ignore[misc]
        pictures[name] = base64.b64encode(svg).decode()
    return pictures


def document(title: str, parts: Sequence[str]) -> str:
    """A page of these parts, which are HTML; the title is text."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)} – sigmascope</title><style>{_CSS}</style></head><body>{''.join(parts)}</body></html>"
    )
