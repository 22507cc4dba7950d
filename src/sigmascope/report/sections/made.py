"""The end of a page: what to do with the results, which law they describe, and how they were made."""

from __future__ import annotations

import re
from html import escape

from sigmascope.report.findings import Findings
from sigmascope.report.section import Pictures, Section, of_data, of_labelled_data, of_labels

_EXACT = (
    "<p>The numbers are those of the <em>exact filter</em> of this finite data set: the most that any denoiser trained "
    "on exactly these items could extract. The filter holds every item, so for natural images it decides as soon as "
    "the nearest item stands out, earlier than a model of the population would (for that, --law heldout gives lower "
    "bounds). A particular trained network may decide elsewhere.</p>"
)
_BOUND = (
    "<p>The numbers are <em>lower bounds</em> (estimator <code>heldout</code>) for the population that the items come "
    "from: held-out images were classified under noise by a filter of the other images, whose kernel was chosen on "
    "separate draws. The information in the population is at least this much and may be much more; a better classifier "
    "of noisy images would raise the bound. Where the bound is at 10 % of H(A), the truth is at 10 % or more, up to "
    "the error of the bound. Near copies among the items (augmented pictures, frames of a video) make the bound "
    "invalid: a filter that holds a near copy of a held-out image identifies it.</p>"
)


def _made(pictures: Pictures, findings: Findings) -> list[str]:
    a = findings.results.attrs
    specification = str(a["specification"])
    return [
        f'<p class="note">sigmascope {escape(str(a["sigmascope_version"]))}; data fingerprint '
        f"<code>{escape(str(a['data_fingerprint']))}</code>. {_repeat(specification)}</p>",
        f'<pre tabindex="0">{escape(specification)}</pre>',
    ]


def _repeat(specification: str) -> str:
    """How to repeat the study."""
    if 'data = "<' in specification:
        return "The data came from Python: the same call of <code>sigmascope.study</code> repeats the numbers."
    if 'model = "<' in specification:
        return "The model came from Python: the same call of <code>sigmascope.study</code> repeats the numbers."
    again = ""  # options that can run code are not read from a file
    function = re.search(r'\nmodel = "([A-Za-z_][\w.]*:[A-Za-z_]\w*)"', specification)
    if function:
        again += f" --model {escape(function[1])}"
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
ADVICE = Section("What to do with it", lambda pictures, findings: [findings.advice], applies=of_labels)
LAW = Section(
    "What the numbers describe",
    lambda pictures, findings: [_BOUND if findings.bounded else _EXACT],
    applies=of_labelled_data,
)
MADE = Section("How it was made", _made)
METHOD = Section("method", lambda pictures, findings: [_METHOD], applies=of_data, headed=False)
