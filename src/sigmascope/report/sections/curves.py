"""The curves of a study, the level at which each attribute is decided, and pictures of one image."""

from __future__ import annotations

from html import escape

from matplotlib.figure import Figure

from sigmascope.report.by_estimator import bounds_figure, children_figure, model_figure, sampler_figure
from sigmascope.report.explorer import MOST_ATTRIBUTES, explorer_section
from sigmascope.report.figures import curves_figure, strip_figure, strip_levels, windows_figure
from sigmascope.report.findings import MOST_DRAWN, Findings
from sigmascope.report.precision import real_attributes
from sigmascope.report.section import (
    Pictures,
    Section,
    figure,
    of_conditional,
    of_labelled_data,
    of_labels,
    of_sampler,
    onset_table,
    shows,
)
from sigmascope.report.table import plus_minus


def _of_data(pictures: Pictures, findings: Findings) -> list[str]:
    caption = (
        "Each curve is the information, in nats, that the noisy image y = v + σn carries about one attribute. "
        "At 0 nothing is decided. Where a curve reaches its dotted ceiling, the entropy H(A), the noisy image "
        f"determines the attribute. Bands are 95 % intervals of the mean over draws.{_left_out(findings)}"
    )
    caption += _of_numbers(findings)
    if findings.bounded:
        caption += " <strong>All curves are lower bounds.</strong>"
    return [
        figure(pictures["information"], "Information curves", caption),
        *(f'<p class="note">{s}</p>' for s in _saturation(findings)),
    ]


def _of_numbers(findings: Findings) -> str:
    """What is measured of real-valued attributes, where there are some."""
    if not real_attributes(findings.results):
        return ""
    return (
        " Of a real-valued attribute A the curve is the information about A + r N, the attribute known up to its "
        "resolution r, and the ceiling is I(A + r N; A)."
    )


def _figure_of_data(few: Findings) -> Figure:
    most = "ceiling" if real_attributes(few.results) else "H(A)"
    return curves_figure(few.curves, str(few.results.attrs["data_name"]), most)


def _left_out(findings: Findings) -> str:
    """A sentence where figures leave attributes out."""
    count = len(findings.onsets)
    return "" if count <= MOST_DRAWN else f" Figures show the first {MOST_DRAWN} of {count:,} attributes."


def _saturation(findings: Findings) -> list[str]:
    """Why a curve ends below its ceiling, a sentence for each that does."""
    notes = []
    for c in findings.curves:
        limit = float(findings.results.information_limit.sel(attribute=c.attribute))
        error = float(findings.results.information_limit_stderr.sel(attribute=c.attribute))
        name = escape(c.attribute)
        if c.ceiling - limit > max(4 * error, 1e-6):
            notes.append(
                f"{name}: equal images carry different labels, so even the clean image carries only "
                f"{plus_minus(limit, 1.96 * error)} of {c.ceiling:.3f} nats, and the curve ends there."
            )
        elif limit - c.value[-1] > max(4 * float(c.stderr[-1]), 0.02 * c.ceiling):
            notes.append(
                f"{name}: the last level reaches {c.value[-1]:.3f} of {c.ceiling:.3f} nats; a smaller --sigma-min "
                "shows the rest."
            )
    return notes


def _of_model(pictures: Pictures, findings: Findings) -> list[str]:
    caption = (
        "Information in nats that the noisy image carries about each attribute, as far as this model shows it. "
        "Thick: the best lower bound, which holds whatever the error of the network. Thin: a lower bound from the "
        "labelled data alone, without a network. The gaps are estimates that the error of the network can bias; "
        "dotted parts are marked as biased: rely on the bounds there. "
        "Dotted line: the entropy H(A). Bands: 95 %, of the draws alone."
        f"{_of_numbers(findings)}{_left_out(findings)}"
    )
    return [figure(pictures["information"], "Information by a learned model", caption)]


def _of_sampler(pictures: Pictures, findings: Findings) -> list[str]:
    along = (
        " Own path: the same for states along the model's own generation, about the image that it ends with."
        if "path_information" in findings.results
        else ""
    )
    trained = (
        " Classifier: a lower bound by a classifier of noisy images, which was trained on other labelled items."
        if "classifier" in findings.results.estimator
        else ""
    )
    rough = float(findings.results.quadrature_error.sel(estimator="forks").max())
    caption = (
        "Information in nats that the noisy image carries about each attribute. Forks: H(A) minus the entropy of the "
        "labels of the model's own continuations, corrected for bias. Probes: lower bounds by linear classifiers of "
        "noisy images. The data alone: a lower bound by a filter of other labelled items. Exact filter: of the items "
        f"of the data, which it identifies one by one.{trained}{along} Dotted: the entropy H(A). Bands: 95 %, of the "
        f"draws and of the bias of forks that may remain (at most {rough:.2g} nats).{_left_out(findings)}"
    )
    return [figure(pictures["information"], "Information about each attribute", caption)]


def _onsets(pictures: Pictures, findings: Findings) -> list[str]:
    by = ""
    if findings.bounded:
        by = f", by {findings.called(findings.main)}: the true level is the same or a higher one"
    caption = (
        f"The pale bar runs from the level at which 10 % of H(A) is known to that of 90 %{by}. The dot in the full bar "
        "is the level of half, with its 95 % interval; the tick is the level at which information rises fastest. A "
        "hatched bar leaves the range of the study."
    )
    note = (
        f'<p class="note">Intervals: 95 %, by resampling the {findings.results.sizes["draw"]} draws, the same for all '
        "attributes. “P(before next)” is the share of resamples in which the attribute reaches half of its entropy at "
        "a higher noise level than the one below it; near 0.5 the order of the two is open.</p>"
    )
    return [
        figure(pictures["onset"], "Onset windows", caption),
        onset_table(findings.onsets),
        *([] if findings.of_model else [note]),
    ]


def _explorer(pictures: Pictures, findings: Findings) -> list[str]:
    if findings.explored is None:
        return []
    count = len(findings.onsets)
    note = f'<p class="note">The slider shows {MOST_ATTRIBUTES} of {count:,} attributes.</p>'
    return [explorer_section(findings.explored, findings.curves), *([note] if count > MOST_ATTRIBUTES else [])]


def _bounds(pictures: Pictures, findings: Findings) -> list[str]:
    caption = "Each lower bound by itself, and the best of them, broad and pale."
    if cheap := int(findings.results.attrs.get("classified_draws", 0)):
        caption += (
            f" The classifier was run on {cheap:,} further draws, which removes the chance of these from the bounds."
        )
    return [figure(pictures["bounds"], "Lower bounds", caption)]


_CHILDREN = (
    "Top row: one image at falling noise. Below each: continuations by the model. What they share is already decided."
)
_STRIP = (
    "One image under the same noise at nine levels, over the range in which the attributes are decided. Contrast is "
    "reduced as noise grows, so that the picture stays within the range of the screen."
)
CURVES = Section(
    "Information in the noisy image",
    _of_data,
    shows("information", _figure_of_data),
    of_labelled_data,
)
CURVES_OF_MODEL = Section(
    "Information about each attribute", _of_model, shows("information", model_figure), of_conditional
)
CURVES_OF_SAMPLER = Section(
    "curves of a sampler", _of_sampler, shows("information", sampler_figure), of_sampler, headed=False
)
CHILDREN = Section(
    "Continuations of one noisy image",
    lambda pictures, findings: [figure(pictures["children"], "Continuations at falling noise", _CHILDREN)],
    shows("children", lambda few: children_figure(few.results)),
    of_sampler,
)
ONSETS = Section(
    "When each attribute is decided",
    _onsets,
    shows("onset", lambda few: windows_figure(few.onsets, few.curves)),
    of_labels,
)
EXPLORER = Section("explorer", _explorer, applies=lambda findings: findings.explored is not None, headed=False)
BOUNDS = Section(
    "The bounds", _bounds, shows("bounds", bounds_figure), lambda findings: "bound" in findings.results.estimator.values
)
STRIP = Section(
    "One image under noise",
    lambda pictures, findings: [figure(pictures["strip"], "One image at nine noise levels", _STRIP)],
    lambda findings: {
        "strip": strip_figure(*findings.example, strip_levels(findings.onsets, findings.curves[0].sigma))
    },
    lambda findings: not findings.of_sampler,
)
