"""A section of the page with a slider over the noise levels of one image.

Names and values come from files of strangers.  They stand in the page once, as JSON in which nothing can end the
element that holds it, and the script writes them as text only.  Nothing is fetched.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from sigmascope.core import Attribute, Curve
from sigmascope.report.figures import sigma_ticks, style_of
from sigmascope.report.table import number

MOST_ATTRIBUTES = 12
_LIKELIEST, _BARS = 16, 64  # of an attribute of more values than _BARS, the _LIKELIEST are drawn
_SIDE, _POINTS = 64, 256  # pixels of a side, and points of a line, to which larger values are reduced
_DASHES = {"-": "", "--": "6 3", "-.": "7 2 2 2", ":": "1.5 2.5"}  # of style_of, as SVG writes them
_WIDTH, _HEIGHT = 360, 230  # of the curves, in units that are about a pixel of a phone
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 8, 16, 36

_CSS = """
.explorer{--bar:#f1f1f1;--tick:#777}
@media(prefers-color-scheme:dark){.explorer{--bar:#2b2f35;--tick:#9aa0a6}}
.explorer p{margin:0}.explorer .note{margin:.1rem 0 .5rem}
.explorer .control{position:sticky;top:0;z-index:1;background:var(--paper);border-bottom:1px solid var(--line);
 padding:.4rem 0 .5rem;margin-bottom:.9rem}
.explorer .ends{display:flex;justify-content:space-between;font-size:.85rem;color:var(--soft);line-height:1.2}
.explorer .read{display:flex;flex-wrap:wrap;gap:0 clamp(.75rem,3vw,2rem);
 font-variant-numeric:tabular-nums;white-space:nowrap}
.explorer .read span{min-width:5.6rem}.explorer .read span:nth-child(2){min-width:8rem}
.explorer input{display:block;width:100%;margin:.1rem 0;height:1.9rem;accent-color:#0072b2;touch-action:pan-y}
.explorer .pair,.explorer .children{display:grid;gap:.5rem;
 grid-template-columns:repeat(var(--columns,2),minmax(0,1fr))}
.explorer img{width:100%;aspect-ratio:var(--ratio);object-fit:var(--fit);image-rendering:pixelated;
 background:var(--bar)}
.explorer figcaption{margin-top:.2rem;line-height:1.3}
.explorer .children{margin-top:.9rem}
.explorer .agreed{margin-top:.5rem;font-size:.92rem;line-height:1.75;overflow-wrap:anywhere}
.explorer .agreed span{background:var(--bar);border-radius:.25rem;padding:.1rem .4rem;margin-right:.25rem;
 unicode-bidi:isolate;-webkit-box-decoration-break:clone;box-decoration-break:clone}
.explorer .curves{margin-top:1rem}.explorer .curves>svg{display:block;width:100%;height:auto;cursor:ew-resize;
 touch-action:pan-y;font:10.5px system-ui,sans-serif;fill:var(--soft);user-select:none}
.explorer .grid{stroke:var(--line)}.explorer .axis{stroke:var(--tick);fill:none}
.explorer #explorer-cursor{stroke:var(--ink)}
.explorer .legend{display:flex;flex-wrap:wrap;gap:0 1rem;font-size:.85rem;color:var(--soft);padding-left:.2rem}
.explorer .legend span{display:inline-flex;align-items:center;min-width:0;max-width:100%}
.explorer .swatch{flex:none;width:22px;height:8px;margin-right:.4rem}
.explorer b,.explorer .label,.explorer .legend i,.explorer .nats,.explorer .words{overflow:hidden;
 text-overflow:ellipsis;white-space:nowrap;unicode-bidi:isolate;font-style:normal}
.explorer .charts{columns:15rem 2;column-gap:2rem;margin-top:1.2rem;font-size:.85rem;
 font-variant-numeric:tabular-nums}
.explorer .chart{break-inside:avoid;padding-bottom:.95rem}
.explorer .head{display:flex;align-items:center;border-bottom:1px solid var(--line)}
.explorer .head b{min-width:0;font-weight:600;font-size:.95rem}
.explorer .nats,.explorer .words{color:var(--soft)}.explorer .nats{padding-top:.2rem}
.explorer .rows{padding-top:.1rem}
.explorer .row{display:grid;grid-template-columns:min(7.5rem,var(--label)) minmax(0,1fr) 2.7rem;
 align-items:center;gap:0 .5rem;height:1.2rem;line-height:1.2rem}
.explorer .row .label::before{content:"●";visibility:hidden;font-size:.6rem;margin-right:.3rem;vertical-align:.1em}
.explorer .true .label{font-weight:600}.explorer .row.true .label::before{visibility:visible}
.explorer .row .p{text-align:right;color:var(--soft)}.explorer .row.true .p{color:inherit;font-weight:600}
.explorer .track{position:relative;height:.72rem;background:var(--bar)}
.explorer .track i,.explorer .slot i{position:absolute;left:0;bottom:0;background:var(--colour);opacity:.5}
.explorer .row .track i{height:100%}.explorer .true i{opacity:1}
.explorer .track::after{content:"";position:absolute;top:-2px;bottom:-2px;width:1px;background:var(--tick);
 left:calc(100%*var(--prior))}
.explorer .slots{display:flex;gap:1px;height:3.6rem;margin:.45rem 0 .5rem}
.explorer .slot{position:relative;flex:1;min-width:0;background:var(--bar)}.explorer .slot i{width:100%}
.explorer .slot.true{box-shadow:0 4px 0 var(--ink)}
.explorer .slot::after{content:"";position:absolute;left:0;right:0;height:1px;background:var(--tick);
 bottom:calc(100%*var(--prior))}
@media(min-width:52rem){
 .explorer .both{display:grid;grid-template-columns:minmax(0,22.5rem) minmax(0,1fr);gap:0 2.2rem;align-items:start}
 .explorer .charts{margin-top:0;column-gap:1.6rem}}
"""


@dataclass(frozen=True, eq=False)
class Explored:
    """One noisy image at many levels.

    Args:
        sigma: decreasing noise levels.
        noised: the image with noise.
        denoised: its posterior mean.
        children: continuations from the noisy image.
        labels: for each attribute, the index of the value of each continuation; -1 where unknown.
        posterior: for each attribute, p(a | y).
        truth: for each attribute, the index of the image's own value; -1 where unknown.
        attributes: in order.
        tau: decreasing noise intensity of a schedule at the levels; None where there is no schedule.
        mean_draws: items drawn from the posterior whose mean is ``denoised``; 0 where it is the mean over all items.
    """

    sigma: Float[np.ndarray, " levels"]
    noised: Float[np.ndarray, "levels *event"]
    denoised: Float[np.ndarray, "levels *event"]
    children: Float[np.ndarray, "levels forks *event"]
    labels: Mapping[str, Int[np.ndarray, "levels forks"]]
    posterior: Mapping[str, Float[np.ndarray, "levels values"]]
    truth: Mapping[str, int]
    attributes: Sequence[Attribute]
    tau: Float[np.ndarray, " levels"] | None = None
    mean_draws: int = 0


def explorer_section(explored: Explored, curves: Sequence[Curve]) -> str:
    """HTML of the section: its style, markup, data and script.  A page holds at most one of them.

    Args:
        explored: the image, its levels, and the posteriors at each.
        curves: information curves; for each attribute of ``explored`` the first curve of its name is drawn.
    """
    last, forks = len(explored.sigma) - 1, explored.children.shape[1]
    drawn = [next((c for c in curves if c.attribute == a.name), None) for a in explored.attributes]
    bound = any(c is not None and c.kind == "lower bound" for c in drawn)
    screen = _Screen(explored)
    plot, data = _plot(explored, drawn), _data(explored, drawn, screen)
    # Also & and >: the text is then the same to every parser of HTML and XML.  ASCII holds no U+2028.
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    script = files("sigmascope.report").joinpath("explorer.js").read_text(encoding="utf-8")
    ends = [f"{s:.3g}" for s in (explored.sigma[0], explored.sigma[last])]
    columns = 4 if forks <= 8 else 8
    reduced = " Pictures are reduced in size." if screen.step > 1 else ""
    sampled = f" Its posterior mean is that of {explored.mean_draws:,} items drawn from p(v | y)."
    reduced = f"{sampled if explored.mean_draws else ''}{reduced}"
    continued = f" Below them: {forks} continuations, images drawn from p(v | y)." if forks else ""
    return f"""<style>{_CSS}</style><h2>One image, level by level</h2>
<noscript><p class="note">With JavaScript, a slider over the noise level shows here one image with noise, its posterior
mean, its continuations, and the posterior of each attribute.</p></noscript>
<div class="explorer" id="explorer-body" style="--ratio:{screen.ratio:.4g};--fit:{screen.fit}" hidden>
<p class="note">Move the slider, or the line in the curves. Bars: p(a | y), the exact posterior of each value given this
one noisy image; ● marks the image’s own value, the grey tick the prior. H(A|y) is the entropy that is left, and I the
information{" (a lower bound)" if bound else ""}, an average over images; both in nats.{continued}{reduced}</p>
<div class="control"><p class="read" id="explorer-read"><span></span><span></span><span></span></p>
<input type="range" id="explorer-level" min="0" max="{last}" step="1" value="{data["first"]}" autocomplete="off">
<p class="ends"><span>{ends[0]}</span><label for="explorer-level">noise level σ</label><span>{ends[1]}</span></p></div>
<div class="both"><div><div class="pair">
<figure><img id="explorer-noised" alt=""><figcaption>y: the noisy image</figcaption></figure>
<figure><img id="explorer-denoised" alt=""><figcaption>E[V | y]: denoised</figcaption></figure></div>
<div class="children" id="explorer-children" style="--columns:{columns}"></div>
<p class="agreed" id="explorer-agreed"></p>
<div class="curves">{plot}<div class="legend" id="explorer-legend"></div></div></div>
<div class="charts" id="explorer-charts"></div></div></div>
<script type="application/json" id="explorer-data">{text}</script><script>{script}</script>"""


def _data(explored: Explored, curves: Sequence[Curve | None], screen: _Screen) -> dict[str, Any]:
    """The data of the script: numbers, names, and each picture once."""
    pictures: dict[str, int] = {}  # children are often the same

    def picture(v: np.ndarray, *, noisy: bool = False) -> int:
        return pictures.setdefault(screen.drawn(v, noisy), len(pictures))

    attributes = [_attribute(explored, k, c) for k, c in enumerate(curves)]
    places = [{v: j for j, v in enumerate(a.pop("kept"))} | {-1: -1} for a in attributes]
    labelled = [(k, explored.labels[a.name]) for k, a in enumerate(explored.attributes) if a.name in explored.labels]
    levels = []
    for j, sigma in enumerate(explored.sigma):
        labels = [(k, [places[k][int(v)] for v in label[j]]) for k, label in labelled]
        read = [f"σ = {number(float(sigma))}", f"SNR = {_fixed(-20 * math.log10(sigma), 1)} dB"]
        read.append("" if explored.tau is None else f"τ = {_short(explored.tau[j])}")
        level = {
            "read": read,
            "x": _x(explored, sigma),
            "noised": picture(explored.noised[j], noisy=True),
            "denoised": picture(explored.denoised[j]),
            "children": [picture(v) for v in explored.children[j]],
            "labels": [[(k, label[i]) for k, label in labels] for i in range(explored.children.shape[1])],
            "agreed": [(k, label[0]) for k, label in labels if len(set(label)) == 1 and label[0] >= 0],
        }
        levels.append(level)
    first = _first(explored, [c for c in curves if c is not None])
    return {
        "likeliest": _LIKELIEST, "first": first, "levels": levels, "attributes": attributes, "pictures": list(pictures)
    }  # fmt: skip


def _attribute(explored: Explored, index: int, curve: Curve | None) -> dict[str, Any]:
    """One attribute for the script; of many values, those that are ever likely, true, or a continuation's."""
    a = explored.attributes[index]
    p, prior, truth = explored.posterior[a.name], a.prior.numpy(), explored.truth[a.name]
    likeliest = np.argsort(-p, axis=1, kind="stable")[:, :_LIKELIEST] if p.shape[1] > _BARS else None
    kept = np.arange(p.shape[1])
    if likeliest is not None:
        named = [likeliest.ravel(), np.array([truth]), np.ravel(explored.labels.get(a.name, []))]
        kept = np.unique(np.concatenate(named)).astype(int)
        kept = kept[kept >= 0]
    shown = p if likeliest is None else np.take_along_axis(p, likeliest, 1)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
    value = None if curve is None else _at_levels(explored, curve)
    (colour, dash), top = style_of(index), _top(explored)
    return {
        "name": a.name,
        "values": [a.values[k] for k in kept],
        "colour": _ink(colour),
        "dash": _DASHES[dash],
        "posterior": [[float(f"{x:.6g}") for x in row] for row in shown],
        "order": None if likeliest is None else np.searchsorted(kept, likeliest).tolist(),
        "prior": [float(f"{x:.4g}") for x in prior[kept]],
        "truth": int(np.searchsorted(kept, truth)) if truth >= 0 else -1,
        "own": [float(f"{x:.4g}") for x in p[:, truth]],
        "ceiling": _fixed(a.entropy, 3),
        "open": [_fixed(x, 3) for x in entropy],
        "information": None if value is None else [_fixed(x, 3) for x in value],
        "height": None if value is None else [_y(x, top) for x in value],
        "kept": kept.tolist(),
    }


def _ink(colour: str) -> str:
    """A colour in the page: black is the ink, which is light on a dark page."""
    return "var(--ink)" if colour == "#000000" else colour


def _fixed(x: float, digits: int) -> str:
    """A number for a reader: a true minus, and none before zero."""
    return f"{round(float(x), digits) + 0.0:.{digits}f}".replace("-", "−")


def _short(x: float) -> str:
    return number(float(x)) if x == 0 or 1e-4 <= abs(x) < 1e6 else f"{x:.2e}".replace("-", "−")


def _at_levels(explored: Explored, curve: Curve) -> np.ndarray:
    """The curve at the levels of the explorer, by linear interpolation in ln sigma."""
    finite = np.isfinite(curve.value)
    if not finite.any():
        return np.zeros(len(explored.sigma))
    return np.asarray(np.interp(-np.log(explored.sigma), -np.log(curve.sigma[finite]), curve.value[finite]))


def _first(explored: Explored, curves: Sequence[Curve]) -> int:
    """The first level shown: the end of the steepest step of the curves that has the steeper step beyond it."""
    if not curves or len(explored.sigma) < 3:
        return len(explored.sigma) // 2
    step = np.diff(np.sum([_at_levels(explored, c) for c in curves], axis=0), prepend=np.nan, append=np.nan)
    step = np.nan_to_num(step, nan=-np.inf)  # step[j] leads to level j
    largest = int(step.argmax())
    return largest if step[largest + 1] >= step[largest - 1] else largest - 1


class _Screen:
    """How the values of one image are drawn: all on one scale, so that they can be compared."""

    def __init__(self, explored: Explored) -> None:
        event = explored.noised.shape[1:]
        self.is_picture = len(event) == 3 and event[0] in (1, 3) and min(event[1:]) > 1
        self.is_table = len(event) == 2 and min(event) > 1
        self.step = -(-max(event[1:]) // _SIDE) if self.is_picture else 1
        self.ratio = min(max(event[2] / event[1], 0.5), 4.0) if self.is_picture else 1.6
        self.fit = "fill" if self.is_table else "contain"
        clean = explored.children if explored.children.shape[1] else explored.denoised[:, None]
        self.middle = float(clean[-1].mean())
        self.spread = max(float(np.mean([v.std() for v in clean[-1]])), 1e-9)
        low, high = float(clean.min()), float(clean.max())
        if self.is_picture and low > -0.2 and high < 1.2:
            low, high = 0.0, 1.0  # as pictures are kept; what a model overshoots is cut
        elif not self.is_picture and not self.is_table:
            low, high = min(low, self.middle - 3 * self.spread, 0.0), max(high, self.middle + 3 * self.spread, 0.0)
        self.low, self.high = low, max(high, low + 1e-9)

    def drawn(self, v: np.ndarray, noisy: bool) -> str:
        """A value as a data URL of an image."""
        v = self._reduced(v)
        if noisy:  # contrast is reduced to that of a clean image, to stay within the range of the screen
            v = self.middle + (v - self.middle) * min(1.0, self.spread / max(float(v.std()), 1e-9))
        scaled = np.clip((np.asarray(v, dtype=np.float64) - self.low) / (self.high - self.low), 0.0, 1.0)
        if not self.is_picture and not self.is_table:
            return _address("svg+xml", self._line(scaled.reshape(-1)).encode())
        grey = np.round(255 * (1.0 - scaled.T if self.is_table else np.moveaxis(scaled, 0, -1))).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(grey[..., 0] if grey.shape[2:] == (1,) else grey).save(buffer, "PNG", optimize=True)
        return _address("png", buffer.getvalue())

    def _reduced(self, v: np.ndarray) -> np.ndarray:
        """A value small enough for the page: means of blocks of pixels, or of stretches of a line."""
        if self.is_picture and self.step > 1:
            rows, columns = (n // self.step * self.step for n in v.shape[1:])
            blocks = v[:, :rows, :columns].reshape(len(v), rows // self.step, self.step, columns // self.step, -1)
            return np.asarray(blocks.mean((2, 4)))
        if not self.is_picture and not self.is_table and v.size > _POINTS:
            return np.array([part.mean() for part in np.array_split(v.reshape(-1), _POINTS)])
        return v

    def _line(self, scaled: np.ndarray) -> str:
        x, y = np.linspace(4, 156, 2 * len(scaled) + 1)[1::2], 96 - 92 * scaled
        zero = 96 - 92 * (0.0 - self.low) / (self.high - self.low)
        few = len(scaled) <= 8
        path = " ".join(
            f"M{a:.1f} {zero:.1f}V{b:.1f}" if few else f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 100"><path d="M0 {zero:.1f}H160" stroke="#bbb"/>'
            f'<path d="{path if few else "M" + path}" fill="none" stroke="{style_of(0)[0]}" '
            f'stroke-width="{10 if few else 1.2}"/></svg>'
        )


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _top(explored: Explored) -> float:
    return 1.04 * max([1e-6, *(a.entropy for a in explored.attributes)])


def _x(explored: Explored, sigma: float) -> float:
    """The position of a level in the plot."""
    high, low = math.log(explored.sigma[0]), math.log(explored.sigma[-1])
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * (high - math.log(sigma)) / max(high - low, 1e-9), 2)


def _y(nats: float, top: float) -> float:
    return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * min(max(float(nats) / top, -0.02), 1.0), 2)


def _plot(explored: Explored, curves: Sequence[Curve | None]) -> str:
    """The curves over the levels of the explorer, with 95 % bands and ceilings; names are left to the script."""
    top, right, floor = _top(explored), _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    unit = 10.0 ** math.floor(math.log10(top / 2))
    step = unit * next(m for m in (1, 2, 5, 10) if unit * m >= top / 5)
    for k in range(int(top / step) + 1):
        y = _y(k * step, top)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{k * step:g}</text>')
    low, high = float(explored.sigma[-1]), float(explored.sigma[0])
    for s in sigma_ticks(low, high, 8):
        x = _x(explored, s)
        parts.append(f'<path class="axis" d="M{x} {floor}v4"/>')
        parts.append(f'<text x="{x}" y="{floor + 15}" text-anchor="middle">{s:g}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {floor}H{right}"/>')
    parts.append(f'<text x="{_LEFT - 5}" y="{_TOP - 6}" text-anchor="middle">nats</text>')
    parts.append(f'<text x="{right}" y="{_HEIGHT - 4}" text-anchor="end">noise level σ, falling →</text>')
    for ceiling in sorted({_y(a.entropy, top) for a in explored.attributes}):
        parts.append(f'<path class="axis" d="M{_LEFT} {ceiling}H{right}" stroke-dasharray="1 3"/>')
    for k, c in enumerate(curves):
        if c is None:
            continue
        colour, dash = style_of(k)
        inside = np.isfinite(c.value) & (c.sigma <= high * (1 + 1e-9)) & (c.sigma >= low * (1 - 1e-9))
        across = [_x(explored, s) for s in c.sigma[inside]]
        value, half = c.value[inside], np.nan_to_num(1.96 * c.error[inside])
        above, below = (
            [f"{a} {_y(v, top)}" for a, v in zip(across, end, strict=True)] for end in (value + half, value - half)
        )
        line = " ".join(f"{a} {_y(v, top)}" for a, v in zip(across, value, strict=True))
        colour = _ink(colour)
        parts.append(f'<polygon points="{" ".join(above + below[::-1])}" style="fill:{colour}" opacity=".18"/>')
        parts.append(
            f'<polyline class="curve" points="{line}" style="fill:none;stroke:{colour}" stroke-width="1.7" '
            f'stroke-dasharray="{_DASHES[dash]}"/>'
        )
    parts.append(f'<line id="explorer-cursor" y1="{_TOP - 6}" y2="{floor}" stroke-width="1.2"/>')
    head = f'<svg id="explorer-plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
    words = "Information about each attribute over the noise level, in nats"
    return f'{head}aria-label="{words}">{"".join(parts)}</svg>'
