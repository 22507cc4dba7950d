"""How a page ends: what to do with the finding, whose information it is, and how it was made."""

from __future__ import annotations

import re
from html import escape

from sigmascope.report.findings import Findings
from sigmascope.report.section import Pictures, Section, of_data

_EXACT = (
    "<p>These numbers are those of the <em>exact filter</em> of this finite data set: the best that any denoiser "
    "trained on exactly these items could know. It has all items in memory, so for natural images it decides as soon "
    "as the nearest item is clear, earlier than a model of the population would (for that, --law heldout gives lower "
    "bounds). What a particular trained network decides may differ.</p>"
)
_BOUND = (
    "<p>These numbers are <em>lower bounds</em> (estimator <code>heldout</code>) for the population that the items "
    "come from: images held out were "
    "classified under noise by a filter made of the rest, with a kernel that was chosen on other draws. The "
    "population's information is at least this much, and may be much more: a better classifier of noisy images would "
    "raise the bound. Where the bound is at 10 % of H(A), the truth is at 10 % or more, up to the bound's own error. "
    "Near copies among the items (augmented pictures, frames of a video) void it: a filter that holds a near copy of a "
    "held-out image knows it.</p>"
)


def _made(pictures: Pictures, found: Findings) -> list[str]:
    a = found.results.attrs
    specification = str(a["specification"])
    return [
        f'<p class="note">sigmascope {escape(str(a["sigmascope_version"]))}; data fingerprint '
        f"<code>{escape(str(a['data_fingerprint']))}</code>. {_repeat(specification)}</p>",
        f"<pre>{escape(specification)}</pre>",
    ]


def _repeat(specification: str) -> str:
    """How to repeat a study."""
    if 'data = "<' in specification:
        return "The data came from Python: the same call of <code>sigmascope.study</code> repeats the numbers."
    again = ""  # what can run code is not taken from a file
    if "\nallow_pickle = true" in specification:
        again += " --allow-pickle"
    labeller = re.search(r'\nlabeller = "([^"\n]+)"', specification)
    if labeller:
        again += f" --labeller {escape(labeller[1])}"
    return (
        "The specification below, in <code>spec.toml</code>, repeats the run to the same numbers with "
        f"<code>sigmascope study --spec spec.toml{again} --out FOLDER</code>."
    )


_METHOD = (
    '<p class="note">Method: Franzese, Martini, Corallo, Papotti, Michiardi, “Latent Abstractions in Generative '
    "Diffusion Models”, Entropy 27(4):371, 2025.</p>"
)
ADVICE = Section("What to do with it", lambda pictures, found: [found.advice])
WHOSE = Section("Whose information", lambda pictures, found: [_BOUND if found.bounded else _EXACT], applies=of_data)
MADE = Section("How it was made", _made)
METHOD = Section("method", lambda pictures, found: [_METHOD], applies=of_data, headed=False)
