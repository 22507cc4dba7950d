"""The page of a study: one file that fetches nothing; every name from the data is escaped."""

from __future__ import annotations

import base64
import re
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
:root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fff;--soft:#444;--line:#ddd;--pale:#f4f4f4;--link:#0059a0}
@media(prefers-color-scheme:dark){:root{--ink:#e8e8e8;--paper:#15171a;--soft:#b9bdc2;--line:#3a3e44;--pale:#22252a;
 --link:#8cc5ff}}
*{box-sizing:border-box}
body{font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;
 padding:0 1rem;overflow-wrap:anywhere}
a{color:var(--link)}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .6rem}h2{font-size:1.2rem;margin:2.4rem 0 .4rem}
h3{font-size:1rem;margin:1.6rem 0 .3rem}
figure{margin:.4rem 0 1rem}figcaption,.note{color:var(--soft);font-size:.92rem}
figure img{display:block;height:auto;max-width:100%;width:min(100%,calc(var(--width,432)*1.25pt))}
.scroll{overflow-x:auto}.scroll:focus-visible{outline:2px solid var(--link)}
@media(max-width:40rem){figure .scroll img{max-width:none;width:max(100%,calc(var(--width,432)*.85px))}}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{white-space:nowrap}summary{margin:.5rem 0;cursor:pointer}
pre{background:var(--pale);padding:.8rem;overflow-x:auto;font-size:.85rem;overflow-wrap:normal}
.lead{font-size:1.05rem}
"""
# In a dark page a figure is light on dark, too: what the style of matplotlib draws in black and white is exchanged.
_DARK = (
    b"<style>@media(prefers-color-scheme:dark){svg{fill:#e8e8e8}"
    b'[style*="fill: #ffffff"]{fill:#15171a!important}[style*="stroke: #ffffff"]{stroke:#15171a!important}'
    b'[style*="fill: #000000"]{fill:#e8e8e8!important}[style*="stroke: #000000"]{stroke:#e8e8e8!important}'
    b'[style*="fill: #e6e6e6"],[style*="fill: #ededed"]{fill:#2b2f35!important}%s}</style>'
)
_GREYS = b"".join(
    b'[style*="fill: #%s"]{fill:#c8ccd0!important}[style*="stroke: #%s"]{stroke:#c8ccd0!important}' % (grey, grey)
    for grey in (b"1a1a1a", b"262626", b"333333", b"404040", b"4c4c4c", b"595959", b"666666", b"737373")
)


def write_page(write: Write, findings: Findings) -> None:
    """Write ``figures/`` as PNG and SVG, then ``report.html`` with every section that applies to the findings.

    Args:
        write: called with a file's name and a function that writes it.
        findings: of the study.
    """
    shown = [section for section in SECTIONS if section.applies(findings)]
    pictures = _drawn(write, {name: drawn for section in shown for name, drawn in section.figures(findings).items()})
    page = document(title_of(findings), [part for section in shown for part in section.parts(pictures, findings)])
    write("report.html", lambda p: p.write_text(page, encoding="utf-8"))


def _drawn(write: Write, figures: Mapping[str, Figure]) -> dict[str, str]:
    """Write figures as PNG and SVG; return each as SVG in base 64 for the page."""
    pictures = {}
    for name, drawn in figures.items():
        svg, png = rendered(drawn, "svg"), rendered(drawn, "png")
        write(f"figures/{name}.svg", lambda p, b=svg: p.write_bytes(b))  # type: ignore[misc]
        write(f"figures/{name}.png", lambda p, b=png: p.write_bytes(b))  # type: ignore[misc]
        pictures[name] = for_page(svg)
    return pictures


def for_page(svg: bytes) -> str:
    """A figure in base 64 that turns dark with the page."""
    return base64.b64encode(re.sub(rb"(<svg[^>]*>)", rb"\1" + _DARK % _GREYS, svg, count=1)).decode()


def document(title: str, parts: Sequence[str]) -> str:
    """A page of these parts, which are HTML; the title is text."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)} – sigmascope</title><style>{_CSS}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )
